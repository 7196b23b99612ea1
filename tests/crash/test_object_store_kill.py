"""An exporter that is killed at any request leaves the old set in the store, and the next start the new one."""

from __future__ import annotations

import csv
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from autoexport.commands.demo import make_database
from tests.conftest import program_environment
from tests.deadlines import deadline_s
from tests.object_store_proxy import Decision, proxied
from tests.object_stores import SERVERS, Bucket, add_annotations, shared_server

LARGE = 17_000
"""So many annotations make a file that is uploaded in several parts."""

STEPS = {"ministack": 4, "moto": 6}
"""How many requests lie between two kills: each takes two starts."""


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[Bucket]:
    """A running server of each kind."""
    with shared_server(request.param) as bucket:
        yield bucket


def start(bucket: Bucket, app: Path) -> subprocess.Popen[str]:
    """Start an export in a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "autoexport", str(app), "--export-dir", bucket.url(), "--log-level", "debug"],
        cwd=app.parent, env=program_environment({**bucket.variables, "DB_EXPORT_OBJECT_GRACE": "0"}),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip


def export(bucket: Bucket, app: Path) -> str:
    """Export to the end; what it printed."""
    with start(bucket, app) as process:
        output, _ = process.communicate(timeout=deadline_s(60))
    assert process.returncode == 0, output
    return output


def rename(app: Path, name: str) -> None:
    """Change a project and its images, so that every kind of file changes."""
    with closing(sqlite3.connect(app)) as connection, connection:
        connection.execute("UPDATE projects SET name = ? WHERE id = (SELECT min(id) FROM projects)", (name,))


def published_name(bucket: Bucket) -> str:
    """The name in the files of the set that readers find, which is whole."""
    files = bucket.files()
    (project, *_) = json.loads(files["database_export.json"])["projects"]
    row = next(csv.DictReader(files["projects.csv"].decode().splitlines()))
    assert row["project_name"] == project["name"]
    return str(project["name"])


@pytest.mark.timeout(400)
def test_the_next_start_is_right(server: Bucket, tmp_path: Path) -> None:
    """Killed ahead of each request in turn, the exporter and its upload leave a whole set: the old or the new one.

    The next start publishes the change, and removes everything that no kept manifest names.
    """
    app = tmp_path / "app.db"
    make_database(app)
    server.prefix = f"kill-{os.urandom(4).hex()}"
    add_annotations(app, LARGE)
    export(server, app)
    killed = 0
    for number in range(1, 60, STEPS[server.kind]):
        before, after = published_name(server), f"after kill {number}"
        rename(app, after)
        process: subprocess.Popen[str] | None = None

        def decide(count: int, line: str) -> Decision:
            if count == number:  # noqa: B023
                assert process is not None  # noqa: B023
                os.killpg(process.pid, signal.SIGKILL)  # noqa: B023
                return "cut"
            return "pass"

        with proxied(server, decide) as proxy:
            process = start(proxy.bucket, app)
            with process:
                process.communicate(timeout=deadline_s(60))
            requests = list(proxy.requests)
        assert published_name(server) in (before, after)
        if process.returncode != -signal.SIGKILL:
            assert (process.returncode, published_name(server)) == (0, after)
            break
        killed += 1
        export(server, app)
        assert published_name(server) == after
    else:
        pytest.fail("the exporter makes too many requests")
    assert killed >= 14 // STEPS[server.kind]
    assert sum("partNumber" in line for line in requests) >= 2
    check_swept(server)


def check_swept(bucket: Bucket) -> None:
    """Check that the last three manifests and their files are all that there is."""
    named = {"manifest.json"}
    manifest = bucket.manifest()
    for _ in range(3):
        entries = (manifest["files"] | manifest["beside"]).values()
        named |= {manifest["object_store"]["key"], *(entry["key"] for entry in entries)}
        previous = manifest["object_store"]["previous"]
        manifest = bucket.object(previous) if previous in bucket.listed() else {}
    assert manifest == {}
    assert set(bucket.listed()) == named
