"""A store that refuses, answers slowly or dies costs one clear line; the old set stays, and no help is needed."""

from __future__ import annotations

import os
import sqlite3
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import obstore
import pytest

from autoexport.commands.demo import make_database
from tests.conftest import Finished, run_autoexport
from tests.daemon import Daemon, wait_until
from tests.object_store_proxy import Decision, proxied, status
from tests.object_stores import KEY_ID, SECRET, Bucket, add_annotations, serving, shared_server

POLICY = """{"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Principal": "*", "Action": "s3:PutObject",
"Resource": "arn:aws:s3:::%s/*"}]}"""


@pytest.fixture(scope="module")
def server() -> Iterator[Bucket]:
    """A running server."""
    with shared_server("ministack") as bucket:
        yield bucket


@pytest.fixture
def bucket(server: Bucket) -> Bucket:
    """A bucket with a prefix for this test alone."""
    server.prefix = f"faults-{os.urandom(4).hex()}"
    return server


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """The demo's database."""
    make_database(tmp_path / "app.db")
    return tmp_path / "app.db"


def export(bucket: Bucket, app: Path, command: str = "", **variables: str) -> Finished:
    """Run an export, or another command."""
    return run_autoexport(
        *filter(None, [command]), "--database-url", str(app), "--export-dir", bucket.url(),
        "--log-level", "warning", cwd=app.parent, env={**bucket.variables, **variables}, timeout_s=200,
    )  # fmt: skip


def change(app: Path, name: str) -> None:
    """Rename a project."""
    with closing(sqlite3.connect(app)) as connection, connection:
        connection.execute("UPDATE projects SET name = ? WHERE id = (SELECT min(id) FROM projects)", (name,))


def refused(done: Finished, code: int = 1) -> str:
    """The one line of the error; there is a hint after it, and no secret, no answer of a server, no traceback."""
    assert done.exit_code == code, done.stderr
    lines = done.stderr.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["error", "hint"], done.stderr
    assert not any(word in done.stderr for word in (SECRET, KEY_ID, "<Error>", "Debug", "http://"))
    return lines[0].removeprefix("error: ")


# --- who may not ---------------------------------------------------------------------------------


def test_wrong_credentials_are_refused_in_one_line(app: Path, tmp_path: Path) -> None:
    """The server knows no such key. `check` says so too."""
    with serving("moto", tmp_path, INITIAL_NO_AUTH_ACTION_COUNT="1") as bucket:
        assert refused(export(bucket, app)).startswith(f"{bucket.url()} refuses this program when reading (")
        done = export(bucket, app, "check")
        assert done.stdout.startswith("Blocked, 1 warning")
        assert "refuses this program when reading" in " ".join(done.stdout.split())


def test_a_bucket_that_may_only_be_read_is_found_by_check(app: Path, tmp_path: Path) -> None:
    """The first export writes a probe before it reads the database; later ones keep the old set."""
    with serving("moto", tmp_path) as bucket:
        deny(bucket)
        assert "refuses this program when writing" in refused(export(bucket, app))
        done = export(bucket, app, "check")
        assert done.stdout.startswith("Blocked, 1 warning")
        deny(bucket, lift=True)
        assert export(bucket, app, "check").stdout.startswith("Ready")
        assert export(bucket, app).exit_code == 0
        before = bucket.manifest(), bucket.files()
        deny(bucket)
        change(app, "changed")
        assert "refuses this program when uploading" in refused(export(bucket, app))
        assert (bucket.manifest(), bucket.files()) == before
        deny(bucket, lift=True)
        assert export(bucket, app).exit_code == 0
        assert b"changed" in bucket.files()["projects.csv"]


def deny(bucket: Bucket, *, lift: bool = False) -> None:
    """Let nothing be written to the bucket, or lift that."""
    url = f"{bucket.endpoint}/{bucket.name}?policy"
    body = None if lift else (POLICY % bucket.name).encode()
    method, headers = "DELETE" if lift else "PUT", {"Content-Type": "application/json"}
    urllib.request.urlopen(urllib.request.Request(url, data=body, method=method, headers=headers)).close()


def test_a_missing_bucket_is_told(bucket: Bucket, app: Path) -> None:
    """It has no such bucket."""
    bucket = Bucket(bucket.kind, bucket.port, "no-such-bucket", bucket.log, bucket.pid)
    assert refused(export(bucket, app)) == f"The bucket of {bucket.url()} does not exist."


def test_missing_credentials_are_told(bucket: Bucket, app: Path) -> None:
    """Nothing is asked of another machine for long."""
    done = run_autoexport(
        str(app), "--export-dir", bucket.url(), "--log-level", "warning", cwd=app.parent,
        env={"AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": bucket.endpoint}, timeout_s=100,
    )  # fmt: skip
    assert refused(done) == f"No credentials for {bucket.url()} were found."


def test_a_server_without_conditions_is_refused(bucket: Bucket, app: Path) -> None:
    """Exporters would mix their files there. It ignores If-None-Match, as some compatible stores do."""
    with proxied(bucket, lambda _count, _line: "pass", drop=b"if-none-match") as proxy:
        assert "ignores the conditions of a write" in refused(export(proxy.bucket, app))
    assert bucket.listed() == []


# --- a server in trouble -------------------------------------------------------------------------

TROUBLES: dict[str, Decision] = {
    "unavailable": status(503, "Service Unavailable"),
    "broken": status(500, "Internal Server Error"),
    "cut": "cut",
}


REQUESTS = {
    "look": ("GET", "/manifest.json"),
    "list": ("GET", "list-type"),
    "small file": ("PUT", "/projects.csv"),
    "part": ("PUT", "partNumber=2"),
    "copy of the manifest": ("PUT", "/manifest.json"),
    "manifest": ("PUT", "{prefix}/manifest.json"),
}
"""The beginning and a part of the request at which the trouble begins."""


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("request_name", REQUESTS)
def test_a_dying_server_costs_one_line(bucket: Bucket, app: Path, trouble: str, request_name: str) -> None:
    """From some request on it answers nothing useful; the old set stays. The next export is right."""
    if request_name == "part":
        add_annotations(app, 17_000)
    assert export(bucket, app).exit_code == 0
    before = bucket.manifest(), bucket.files()
    change(app, "changed")
    method, part = REQUESTS[request_name]
    dead = False

    def decide(_count: int, line: str) -> Decision:
        nonlocal dead
        dead = dead or (line.startswith(method) and part.format(prefix=bucket.prefix) in line)
        return TROUBLES[trouble] if dead else "pass"

    with proxied(bucket, decide) as proxy:
        assert f"{bucket.url()} " in refused(export(proxy.bucket, app))
    assert dead
    assert (bucket.manifest(), bucket.files()) == before
    assert export(bucket, app).exit_code == 0
    assert b"changed" in bucket.files()["projects.csv"]


def test_a_server_that_does_not_answer_is_given_up(bucket: Bucket, app: Path) -> None:
    """It takes the connection and is silent: after some time one line says so."""
    with proxied(bucket, lambda _count, _line: "hang") as proxy:
        message = refused(export(proxy.bucket, app))
    assert message == f"{bucket.url()} does not answer when reading."


@pytest.mark.parametrize("kind", ["ministack", "moto"])
def test_a_lost_answer_is_no_lost_race(kind: str, app: Path, tmp_path: Path) -> None:
    """The server replaces the manifest, and the answer is lost. So it refuses the second try, after a success."""
    with serving(kind, tmp_path) as bucket:
        assert export(bucket, app).exit_code == 0
        change(app, "changed")
        lost = []

        def decide(_count: int, line: str) -> Decision:
            if line.startswith("PUT") and line.endswith(f"{bucket.prefix}/manifest.json") and not lost:
                lost.append(line)
                return "lose the answer"
            return "pass"

        with proxied(bucket, decide) as proxy:
            done = export(proxy.bucket, app)
        assert (done.exit_code, done.stderr, len(lost)) == (0, "", 1)
        assert (bucket.manifest()["generation"], len(bucket.files()) > 3) == (2, True)
        assert "Nothing has changed" in export(bucket, app).stdout


def test_a_daemon_recovers_by_itself(bucket: Bucket, app: Path, tmp_path: Path) -> None:
    """While the store is away, one line is logged; afterwards the change is published, and no line says more."""
    away = False

    def decide(_count: int, _line: str) -> Decision:
        return "cut" if away else "pass"

    working = tmp_path / "working"
    with proxied(bucket, decide) as proxy:
        variables = {**proxy.bucket.variables, "DB_EXPORT_WORKING_DIRECTORY": str(working)}
        with Daemon(
            f"sqlite:///{app}", working, "--export-dir", bucket.url(), interval_s=0.2, env=variables
        ) as daemon:
            daemon.wait_for("export.published")
            before = bucket.manifest(), bucket.files()
            away = True
            change(app, "changed")
            (event,) = daemon.wait_for("cycle.failed")
            assert "does not answer" in event["error"]
            daemon.wait_for_report(lambda report: report.failures >= 2, "it has tried twice")
            assert (bucket.manifest(), bucket.files()) == before
            away = False
            daemon.wait_for("cycle.recovered")
            wait_until(lambda: bucket.manifest()["generation"] == 2, "the change is published")
            assert len(daemon.events("cycle.failed")) == 1
    assert b"changed" in bucket.files()["projects.csv"]


# --- settings ------------------------------------------------------------------------------------


def test_wrong_settings_are_refused_before_anything_is_done(bucket: Bucket, app: Path) -> None:
    """YOLO, an endpoint without TLS elsewhere, a URL without a bucket: exit 2, and nothing is made."""
    places = sorted(path.name for path in app.parent.iterdir())
    assert "no manifest could make them one set" in refused(export(bucket, app, DB_EXPORT_EXPORT_YOLO="true"), 2)
    for command in ("check", "--monitor"):
        assert "no manifest" in refused(export(bucket, app, command, DB_EXPORT_EXPORT_YOLO="true"), 2)
    assert "is http" in refused(export(bucket, app, AWS_ENDPOINT_URL="http://store.example:9000"), 2)
    done = run_autoexport(str(app), "--export-dir", "s3://user:secret@b/p", cwd=app.parent)
    assert (done.exit_code, "secret" in done.stderr) == (2, False)
    assert sorted(path.name for path in app.parent.iterdir()) == places
    assert bucket.listed() == []


def test_another_database_is_refused(bucket: Bucket, app: Path) -> None:
    """A prefix that holds the export of another database is left alone."""
    assert export(bucket, app).exit_code == 0
    before = bucket.listed()
    other = app.with_name("other.db")
    make_database(other)
    message = refused(export(bucket, other, DB_EXPORT_WORKING_DIRECTORY="other"), 2)
    assert message == f"{bucket.url()} holds the export of another database (app.db)."
    shown = " ".join(export(bucket, other, "check", DB_EXPORT_WORKING_DIRECTORY="other").stdout.split())
    assert shown.startswith("Blocked, 1 warning")
    assert f"warning: {message.removesuffix('.')}: set --export-dir." in shown
    assert bucket.listed() == before


def test_a_missing_package_is_told(bucket: Bucket, app: Path) -> None:
    """With the command that installs it."""
    (app.parent / "sitecustomize.py").write_text("import sys\nsys.modules['obstore'] = None\n")
    path = os.pathsep.join([str(app.parent), str(Path(__file__).parents[2])])
    done = export(bucket, app, PYTHONPATH=path)
    assert refused(done, 2) == "Object stores need a package that is not installed: obstore."
    assert "python -m pip install 'autoexport[object-store]'" in done.stderr


def test_replaced_files_stay_for_the_time_of_grace(bucket: Bucket, app: Path) -> None:
    """Then those of all but the last three manifests are removed, and what no manifest names."""
    for number in range(5):
        change(app, f"name {number}")
        assert export(bucket, app).exit_code == 0
    assert len([key for key in bucket.listed() if key.endswith("projects.csv")]) == 5
    stray = "g/4-0123456789abcdef/projects.csv"
    others = ["g/other/projects.csv", "notes.txt"]
    for key in (stray, *others):
        obstore.put(bucket.store(), key, b"x")
    change(app, "last")
    assert export(bucket, app, DB_EXPORT_OBJECT_GRACE="0").exit_code == 0
    left = [key for key in bucket.listed() if key.endswith("projects.csv")]
    assert [key.partition("-")[0] for key in left] == ["g/4", "g/5", "g/6", "g/other/projects.csv"]
    assert "notes.txt" in bucket.listed()
    assert stray not in left
