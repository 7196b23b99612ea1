"""Exports to real S3 servers: readers that follow the manifest find whole sets, and what did not change stays."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
import sqlite3
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import obstore
import pytest

from autoexport import Settings
from autoexport.commands.demo import make_database
from autoexport.pipeline.exporter import Outcome, run_once
from autoexport.pipeline.job import opened_job
from autoexport.pipeline.verification import differences
from tests.acceptance.readme import OF_A_BUCKET, PUBLISHING, blocks
from tests.conftest import program_environment, run_autoexport
from tests.deadlines import deadline_s
from tests.object_stores import KEY_ID, SECRET, USUAL_SERVERS, Bucket, shared_server
from tests.outputs import ALL_OUTPUTS

TO_A_BUCKET = {**ALL_OUTPUTS, "export_yolo": False}


@pytest.fixture(scope="module", params=USUAL_SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[Bucket]:
    """A running server of each kind."""
    with shared_server(request.param) as bucket:
        yield bucket


@pytest.fixture
def bucket(server: Bucket, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """A bucket that this process finds by the usual variables, with a prefix for this test alone."""
    for name, value in server.variables.items():
        monkeypatch.setenv(name, value)
    server.prefix = f"exports/test-{os.urandom(4).hex()} é"
    return server


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """The demo's database."""
    path = tmp_path / "app.db"
    make_database(path)
    return path


def settings_of(bucket: Bucket, app: Path, **more: object) -> Settings:
    """The settings of an export of this database to the bucket."""
    return Settings(database_url=str(app), export_directory=bucket.url(), **{**TO_A_BUCKET, **more})  # type: ignore[arg-type]


def export(settings: Settings, *, full: bool = False) -> Outcome:
    """Export once."""
    return asyncio.run(run_once(settings, full=full))


CHANGE = "UPDATE images SET filename = 'changed.jpg' WHERE id = (SELECT min(id) FROM images)"


def change(app: Path, sql: str = CHANGE) -> None:
    """Commit a change of one image."""
    with closing(sqlite3.connect(app)) as connection, connection:
        connection.execute(sql)


def drift(settings: Settings) -> list[str]:
    """The differences that `verify` finds."""

    async def compare() -> list[str]:
        async with opened_job(settings) as job:
            return await differences(job)

    return asyncio.run(compare())


def local_files(settings: Settings, bucket: Bucket) -> dict[str, bytes]:
    """The copies in the working directory of the files that the bucket has."""
    return {name: (settings.export_directory / name).read_bytes() for name in bucket.files()}


def test_a_set_is_published_changed_and_verified(bucket: Bucket, app: Path) -> None:
    """Every file of the manifest is there. A change replaces some; the others keep their keys."""
    settings = settings_of(bucket, app)
    assert export(settings).published
    assert bucket.files() == local_files(settings, bucket)
    first = bucket.manifest()
    assert first["object_store"]["previous"] is None
    assert drift(settings) == []
    change(app)
    outcome = export(settings)
    assert outcome.published
    assert outcome.manifest.mode == "incremental"
    assert bucket.files() == local_files(settings, bucket)
    second = bucket.manifest()
    assert (second["generation"], second["object_store"]["previous"]) == (2, first["object_store"]["key"])
    for name in ("projects.csv", "datasets.csv"):
        assert second["files"][name] == first["files"][name]
    for name in ("images.csv", "database_export.json"):
        assert second["files"][name]["key"] != first["files"][name]["key"]
    assert drift(settings) == []
    old = json.loads(bytes(obstore.get(bucket.store(), first["object_store"]["key"]).bytes()))
    assert old == first


def test_what_did_not_change_is_not_written(bucket: Bucket, app: Path) -> None:
    """An export without a change makes no object, and leaves the manifest as it is."""
    settings = settings_of(bucket, app)
    export(settings)
    keys, before = bucket.listed(), obstore.head(bucket.store(), "manifest.json")
    outcome = export(settings)
    assert (outcome.published, outcome.changed_files) == (False, ())
    assert (bucket.listed(), obstore.head(bucket.store(), "manifest.json")) == (keys, before)


def test_a_lost_working_directory_changes_nothing(bucket: Bucket, app: Path) -> None:
    """Without local state, an unchanged database is not published; a change continues generation and history."""
    settings = settings_of(bucket, app)
    export(settings)
    change(app)
    export(settings)
    keys, before = bucket.listed(), bucket.manifest()
    old = {name: body for name, body in bucket.files().items() if name in ("history.csv", "changes.jsonl")}
    shutil.rmtree(settings.export_directory)
    outcome = export(settings)
    assert (outcome.published, outcome.manifest.generation) == (False, 2)
    assert (bucket.listed(), bucket.manifest()) == (keys, before)
    assert drift(settings) == []
    change(app, "UPDATE images SET filename = 'x' WHERE id = (SELECT max(id) FROM images)")
    assert export(settings).manifest.generation == 3
    files = bucket.files()
    assert files["history.csv"].count(b"\n") == 4
    assert [json.loads(line)["generation"] for line in files["changes.jsonl"].splitlines()] == [1, 2, 3]
    assert all(files[name].startswith(old[name]) for name in old)
    assert drift(settings) == []


def test_classes_keep_their_ids_without_the_working_directory(bucket: Bucket, app: Path) -> None:
    """A class that is gone from the database keeps its id, although only the bucket still knows it."""
    settings = settings_of(bucket, app)
    export(settings)
    change(app, "DELETE FROM annotations WHERE class_name = 'car'")
    change(app, "DELETE FROM labels WHERE name = 'car'")
    export(settings)
    name = "coco/Street Scenes/classes.json"
    before, keys = bucket.files()[name], bucket.listed()
    assert json.loads(before)["classes"][0] == "car"
    shutil.rmtree(settings.export_directory)
    assert not export(settings).published
    assert bucket.listed() == keys
    shutil.rmtree(settings.export_directory)
    change(app)
    assert export(settings).published
    assert bucket.files()[name] == before


def test_classes_in_the_order_of_another_exporter_are_taken_over(bucket: Bucket, app: Path) -> None:
    """Blocks that this exporter rendered have the ids of its own order, so it renders them again."""
    one = settings_of(bucket, app, working_directory="one")
    other = settings_of(bucket, app, working_directory="two", classes="pedestrian, car")
    export(one)
    change(app)
    export(other)
    assert json.loads(bucket.files()["coco/Street Scenes/classes.json"])["classes"][0] == "pedestrian"
    change(app, "UPDATE images SET filename = 'x' WHERE id = (SELECT max(id) FROM images)")
    assert export(one).published
    assert json.loads(bucket.files()["coco/Street Scenes/classes.json"])["classes"][0] == "pedestrian"
    assert drift(one) == []
    change(app, "UPDATE images SET filename = 'y' WHERE id = (SELECT max(id) FROM images)")
    assert export(one).manifest.mode == "incremental"
    assert drift(one) == []


@pytest.mark.parametrize("damage", ["removed", "edited", "garbage"])
def test_a_manifest_that_was_tampered_with_is_repaired(bucket: Bucket, app: Path, damage: str) -> None:
    """The next export writes it again, with the keys that it had, and uploads nothing else."""
    settings = settings_of(bucket, app)
    export(settings)
    keys, before = bucket.listed(), bucket.manifest()
    edited = {**before, "counts": {**before["counts"], "images": 4711}}
    if damage == "removed":
        obstore.delete(bucket.store(), "manifest.json")
    else:
        body = json.dumps(edited) if damage == "edited" else "{"
        obstore.put(bucket.store(), "manifest.json", body.encode())
    assert drift(settings) != []
    assert export(settings).published
    after = bucket.manifest()
    for own in (before, after):
        del own["object_store"]
    assert after == before
    assert drift(settings) == []
    assert {key for key in bucket.listed() if not key.endswith("manifest.json")} <= set(keys)


def test_damaged_objects_are_found_and_replaced(bucket: Bucket, app: Path) -> None:
    """`verify` names a file that is missing, short or changed; a full export uploads them all again."""
    settings = settings_of(bucket, app)
    export(settings)
    entries = bucket.manifest()["files"]
    store = bucket.store()
    obstore.delete(store, entries["projects.csv"]["key"])
    obstore.put(store, entries["datasets.csv"]["key"], b"short")
    same_size = bytes(obstore.get(store, entries["images.csv"]["key"]).bytes()).replace(b"Night", b"Nacht", 1)
    obstore.put(store, entries["images.csv"]["key"], same_size)
    assert [line.partition(":")[0] for line in drift(settings)] == ["projects.csv", "datasets.csv", "images.csv"]
    assert export(settings, full=True).published
    assert drift(settings) == []
    assert bucket.files() == local_files(settings, bucket)


def test_a_manifest_of_another_program_is_kept_aside(bucket: Bucket, app: Path) -> None:
    """Its bytes stay under another name."""
    obstore.put(bucket.store(), "manifest.json", b'{"name": "a web application"}')
    export(settings_of(bucket, app))
    kept = obstore.get(bucket.store(), "manifest.json.before-autoexport").bytes()
    assert bytes(kept) == b'{"name": "a web application"}'
    assert bucket.files()


def test_the_program_that_reads_a_set_reads_the_bucket(
    bucket: Bucket, app: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The program of the documents gets the files, and says so if they do not fit."""
    settings = settings_of(bucket, app)
    export(settings)
    (block,) = [block for block in blocks("python", PUBLISHING) if OF_A_BUCKET in block.text]
    program = block.text.replace("s3://BUCKET/PREFIX", bucket.url())
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")  # the reader's own setting: its server is on this machine
    names: dict[str, Any] = {}
    exec(program, names)
    named = bucket.manifest()["files"]
    assert capsys.readouterr().out == "4 projects\n"
    assert names["files"] == {name: body for name, body in bucket.files().items() if name in named}
    obstore.put(bucket.store(), named["images.csv"]["key"], b"changed")
    with pytest.raises(RuntimeError, match="do not fit their manifest"):
        exec(program, {})


def test_the_commands_of_the_documents_run(bucket: Bucket, app: Path, tmp_path: Path) -> None:
    """They check the bucket, and export to it."""
    (block,) = [block for block in blocks("bash", PUBLISHING) if OF_A_BUCKET in block.text]
    for line in block.text.replace("s3://BUCKET/PREFIX", shlex.quote(bucket.url())).splitlines():
        python, module, program, *arguments = shlex.split(line)
        assert (python, module, program) == ("python", "-m", "autoexport")
        done = run_autoexport(*arguments, cwd=tmp_path, env=bucket.variables)
        assert done.exit_code == 0, done.stderr
    assert bucket.files()


def test_the_commands_speak_of_the_bucket(bucket: Bucket, app: Path, tmp_path: Path) -> None:
    """check, export, status, changes and verify work with the URL, and show no secret."""
    place = ["--database-url", str(app), "--export-dir", bucket.url(), "--log-level", "debug"]
    shown = []

    def run(*arguments: str) -> str:
        done = run_autoexport(*arguments, *place, cwd=tmp_path, env=bucket.variables)
        assert done.exit_code == 0, done.stderr
        shown.extend([done.stdout, done.stderr])
        return done.stdout

    assert run("check").startswith("Ready")
    assert bucket.listed() == []
    assert not (tmp_path / "autoexport_working").exists()
    assert run().startswith(f"Exported to {bucket.url()}\n")
    assert "Nothing has changed" in run()
    assert f"Export in {bucket.url()}" in run("status")
    assert json.loads(run("changes", "--since", "0"))["full"]
    assert run("verify") == f"{bucket.url()} matches the database, byte for byte.\n"
    text = "".join(shown) + "".join(
        path.read_text(errors="replace") for path in (tmp_path / "autoexport_working").rglob("*") if path.is_file()
    )
    assert SECRET not in text
    assert KEY_ID not in text


_MEASURE = """
import asyncio, resource, sys
from autoexport.config.object_url import parse_object_url
from autoexport.publishing.object_store.upload import Upload, upload
url, path, size, crc = sys.argv[1:]
file = Upload(path, "g/1-0123456789abcdef/large.json", int(size), int(crc), "application/json")
asyncio.run(upload(parse_object_url(url), [file], lambda: None))
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def test_an_upload_takes_little_memory(bucket: Bucket, tmp_path: Path) -> None:
    """The process that uploads a file of 200 MB stays below 100 MB."""
    path, crc, size = tmp_path / "large.json", 0, 200 << 20
    with path.open("wb") as file:
        for _ in range(size >> 20):
            piece = os.urandom(1 << 20)
            crc = zlib.crc32(piece, crc)
            file.write(piece)
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, bucket.url(), str(path), str(size), str(crc)],
        env=program_environment(bucket.variables), capture_output=True, text=True, check=False,
        timeout=deadline_s(60),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 100 << 10
    assert obstore.head(bucket.store(), "g/1-0123456789abcdef/large.json")["size"] == size
