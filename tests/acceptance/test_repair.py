"""Whatever a user does to the published or the private files, the next start or change repairs it."""

from __future__ import annotations

import asyncio
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from autoexport.errors import ConfigurationError
from autoexport.incremental import plan
from autoexport.publishing import directory
from autoexport.publishing.crc32 import digest
from autoexport.publishing.splice import Staged, stage
from tests.applications import create_sqlite, fill_sqlite
from tests.databases import SqliteDatabase
from tests.properties.comparison import Exporting, without_waiting_for_the_disk
from tests.trials import Trial

PUBLISHED = ("database_export.json", "projects.csv", "datasets.csv", "images.csv")
PRIVATE = (".autoexport/ledger.json", ".autoexport/position")
CHANGE = "UPDATE annotations SET x_min = x_min + 1 WHERE id = (SELECT min(id) FROM annotations)"

Damage = Callable[[Path], object]


def append(path: Path) -> None:
    """Add a line, as an editor does."""
    with path.open("ab") as file:
        file.write(b"edited\n")


def overwrite(path: Path) -> None:
    """Change a byte near the end and keep the size."""
    with path.open("r+b") as file:
        file.seek(-3, os.SEEK_END)
        file.write(b"~")


def overwrite_secretly(path: Path) -> None:
    """Change a byte, keep the size, and put the modification time back."""
    status = path.stat()
    overwrite(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def truncate(path: Path) -> None:
    """Cut the file in the middle."""
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    """Remove all contents."""
    os.truncate(path, 0)


def delete(path: Path) -> None:
    """Delete the file."""
    path.unlink()


def replace_by_other(path: Path) -> None:
    """Put another file of the same size under its name."""
    other = path.with_name("other")
    other.write_bytes(b"x" * path.stat().st_size)
    other.replace(path)


def replace_by_same(path: Path) -> None:
    """Put a copy of the file under its name, as `rsync` or a restore does."""
    other = path.with_name("other")
    shutil.copy2(path, other)
    other.replace(path)


def replace_by_link(path: Path) -> None:
    """Move the file elsewhere, and put a symbolic link to it under its name."""
    elsewhere = Path.cwd() / f"elsewhere-{path.name}"
    shutil.move(path, elsewhere)
    path.symlink_to(elsewhere)


DAMAGES = (
    append, overwrite, overwrite_secretly, truncate, empty, delete, replace_by_other, replace_by_same,
    replace_by_link,
)  # fmt: skip


@pytest.fixture
def sqlite_database(tmp_path: Path) -> Iterator[SqliteDatabase]:
    """The application's database with the sample rows; its journal makes no difference here."""
    connection = create_sqlite(tmp_path / "application.sqlite3")
    fill_sqlite(connection)
    connection.close()
    database = SqliteDatabase(tmp_path / "application.sqlite3")
    yield database
    database.close()


@pytest.fixture
def exporting(sqlite_database: SqliteDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Exporting:
    """An exporter that has published fully and then incrementally, although the database is small."""
    monkeypatch.setattr(plan, "MOST_DIRTY", 1.0)
    monkeypatch.setattr(os, "fsync", without_waiting_for_the_disk)
    exporting = Exporting(sqlite_database.url, tmp_path)
    asyncio.run(exporting.export())
    sqlite_database.execute(CHANGE)
    asyncio.run(exporting.export())
    return exporting


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_start_repairs_a_published_file(exporting: Exporting, damage: Damage) -> None:
    """Without any change in the database, a start repairs any published file."""
    for name in PUBLISHED:
        damage(exporting.directory / name)
        # A link is replaced, whatever it leads to.
        asyncio.run(exporting.export(repairing=damage is replace_by_link))
    assert not asyncio.run(exporting.export()).outcome.published


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_change_repairs_every_published_file(
    exporting: Exporting, sqlite_database: SqliteDatabase, damage: Damage
) -> None:
    """A change that alters one file repairs the others as well."""
    for name in PUBLISHED:
        damage(exporting.directory / name)
    sqlite_database.execute(CHANGE)
    assert asyncio.run(exporting.export()).outcome.published


@pytest.mark.parametrize("damage", [*DAMAGES[:4], *DAMAGES[5:8]], ids=lambda damage: damage.__name__)
def test_a_start_repairs_the_manifest(exporting: Exporting, damage: Damage) -> None:
    """A start repairs the manifest, and its generation never goes back."""
    path = exporting.directory / "manifest.json"
    good = orjson.loads(path.read_bytes())
    damage(path)
    asyncio.run(exporting.export(repairing=True))
    repaired = orjson.loads(path.read_bytes())
    for varying in ("timestamp", "duration_seconds", "rendered_images", "mode", "kept_bytes", "rendered_bytes"):
        del good[varying], repaired[varying]
    for record in (good, repaired):
        del record["files"]["database_export.json"]["digest"]  # it covers the time stamp, too
    # They tell of the publishes: each one writes them again.
    assert repaired.pop("beside").keys() == good.pop("beside").keys()
    assert repaired.pop("generation") >= good.pop("generation")
    assert repaired == good


def test_a_start_repairs_a_manifest_that_says_something_else(exporting: Exporting) -> None:
    """A manifest that is well formed but wrong is repaired."""
    path = exporting.directory / "manifest.json"
    record = orjson.loads(path.read_bytes())
    images = record["counts"]["images"]
    record["counts"]["images"] = images + 1
    path.write_bytes(orjson.dumps(record))
    asyncio.run(exporting.export(repairing=True))
    assert orjson.loads(path.read_bytes())["counts"]["images"] == images


def test_what_is_written_to_a_file_during_an_export_is_not_taken_for_ours(
    exporting: Exporting, sqlite_database: SqliteDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user saves images.csv, which needs no change, while another file is written.

    The next export notices the edit, even if the size is the same.
    """
    images = exporting.directory / "images.csv"
    whole = images.read_bytes()

    def stage_and_edit(*arguments: Any, **options: Any) -> Staged:
        staged = stage(*arguments, **options)
        if staged.temp.parent == images.parent:
            images.write_bytes(whole[:-2] + b"#\n")
        return staged

    with monkeypatch.context() as patched:
        patched.setattr(directory, "stage", stage_and_edit)
        sqlite_database.execute("UPDATE annotations SET x_min = 12.5 WHERE id = (SELECT min(id) FROM annotations)")
        with pytest.raises(AssertionError, match=r"images\.csv is not what"):
            asyncio.run(exporting.export())
    shutil.rmtree(tmp_path / "fresh")
    assert asyncio.run(exporting.export(repairing=True)).outcome.published
    assert images.read_bytes() == whole


def test_an_output_that_is_switched_off_and_on_again(sqlite_database: SqliteDatabase, tmp_path: Path) -> None:
    """Its files are ours and are replaced, also after exports without them; one that was edited is kept."""
    exports = tmp_path / "exports"
    trial = Trial(sqlite_database.url, exports)
    trial.export()
    without = Trial(sqlite_database.url, exports, export_csv=False)
    for name in ("once", "twice"):
        sqlite_database.execute("UPDATE projects SET name = ?", name)
        without.export()
    (exports / "datasets.csv").write_text("by hand")
    trial.export()
    assert "twice" in (exports / "projects.csv").read_text()
    assert [path.name for path in exports.glob("*.before-autoexport")] == ["datasets.csv.before-autoexport"]


@pytest.mark.parametrize("export_json", [True, False])
def test_an_export_of_the_first_format_is_taken_over(
    sqlite_database: SqliteDatabase, tmp_path: Path, export_json: bool
) -> None:
    """One full export: the generation counts on, no file is kept aside, and the next one has nothing to do."""
    exports = tmp_path / "exports"
    trial = Trial(sqlite_database.url, exports, export_json=export_json)
    trial.export()
    expected = trial.contents()
    manifest = orjson.loads((exports / "manifest.json").read_bytes())
    if export_json:
        path = exports / "database_export.json"
        text = path.read_bytes().replace(b'"format_version": 2', b'"format_version": 1', 1)
        path.write_bytes(text)
        manifest["files"]["database_export.json"]["digest"] = digest(zlib.crc32(text))
    manifest = {
        "format_version": 1,
        **{name: value for name, value in manifest.items() if name != "format_version"},
    }
    manifest["generation"] = 7
    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    (exports / "manifest.json").write_bytes(orjson.dumps(manifest, option=options))
    (exports / ".autoexport" / "ledger.json").write_bytes(b'{"version":1}')
    outcome = trial.export()
    assert (outcome.manifest.generation, outcome.manifest.format_version) == (8, 2)
    assert outcome.manifest.mode == "full"
    assert trial.contents() == expected
    assert not list(exports.glob("*.before-autoexport"))
    assert not trial.export().published


def test_files_of_another_directory_are_not_ours(sqlite_database: SqliteDatabase, tmp_path: Path) -> None:
    """With a separate state directory and another export directory, foreign files in it are kept."""
    first = Trial(sqlite_database.url, tmp_path / "first", state_directory=tmp_path / "state")
    first.export()
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "projects.csv").write_text("by hand")
    second = Trial(sqlite_database.url, tmp_path / "second", state_directory=tmp_path / "state")
    second.export()
    assert (tmp_path / "second" / "projects.csv.before-autoexport").read_text() == "by hand"
    assert second.contents() == first.contents()


def test_a_database_at_another_place(sqlite_database: SqliteDatabase, tmp_path: Path) -> None:
    """A moved database looks like another one of the same name; the hint says what to do, and it works."""
    trial = Trial(sqlite_database.url, tmp_path / "exports")
    trial.export()
    sqlite_database.close()
    (tmp_path / "moved").mkdir()
    path = Path(sqlite_database.url.removeprefix("sqlite:///"))
    moved = Trial(f"sqlite:///{shutil.copy(path, tmp_path / 'moved')}", tmp_path / "exports")
    with pytest.raises(ConfigurationError, match="belongs to another database than this") as raised:
        moved.export()
    ledger = trial.state / "ledger.json"
    assert str(ledger) in raised.value.hint
    ledger.unlink()
    assert not moved.export().published
    assert moved.differences() == []


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("name", PRIVATE)
def test_a_damaged_private_file_is_no_danger(
    exporting: Exporting, sqlite_database: SqliteDatabase, name: str, damage: Damage
) -> None:
    """A ledger or position that was edited, cut, deleted or replaced means at most a full export."""
    for changed in (False, True):
        damage(exporting.directory / name)
        if changed:
            sqlite_database.execute(CHANGE)
        assert asyncio.run(exporting.export()).outcome.published == changed
        sqlite_database.execute(CHANGE)
        done = asyncio.run(exporting.export())
        assert done.manifest["mode"] == "incremental", done.outcome.reason


@pytest.mark.parametrize("changed", [False, True], ids=["start", "change"])
def test_an_old_ledger_is_not_believed(
    exporting: Exporting, sqlite_database: SqliteDatabase, tmp_path: Path, changed: bool
) -> None:
    """A state directory restored from a backup does not match today's files and means a full export."""
    state = exporting.directory / ".autoexport"
    shutil.copytree(state, tmp_path / "backup")
    sqlite_database.execute(CHANGE)
    asyncio.run(exporting.export())
    shutil.rmtree(state)
    (tmp_path / "backup").rename(state)
    if changed:
        sqlite_database.execute(CHANGE)
    assert asyncio.run(exporting.export(repairing=True)).outcome.manifest.mode == "full"


def test_an_old_position_is_not_believed(exporting: Exporting, sqlite_database: SqliteDatabase) -> None:
    """A position of an earlier publish beside the ledger of the last one means a full export."""
    position = exporting.directory / ".autoexport" / "position"
    earlier = position.read_bytes()
    sqlite_database.execute(CHANGE)
    asyncio.run(exporting.export())
    position.write_bytes(earlier)
    sqlite_database.execute(CHANGE)
    assert asyncio.run(exporting.export()).manifest["mode"] == "full"


@pytest.mark.parametrize("what", [".", ".autoexport"])
def test_a_deleted_directory_comes_back(exporting: Exporting, what: str) -> None:
    """The export directory or the state directory may be deleted at any time."""
    shutil.rmtree(exporting.directory / what)
    asyncio.run(exporting.export())
    assert not asyncio.run(exporting.export()).outcome.published


def test_a_killed_publish_is_caught_up_with(
    exporting: Exporting, sqlite_database: SqliteDatabase, tmp_path: Path
) -> None:
    """New files beside an old manifest and ledger, as a crash between the renames leaves them, are repaired."""
    kept = {name: (exporting.directory / name).read_bytes() for name in (*PRIVATE, "manifest.json", "images.csv")}
    sqlite_database.execute("UPDATE images SET filename = 'other.png'")
    asyncio.run(exporting.export())
    for name, content in kept.items():
        (exporting.directory / name).write_bytes(content)
    asyncio.run(exporting.export())
    assert not asyncio.run(exporting.export()).outcome.published
