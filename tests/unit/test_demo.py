"""The sample database, its export, and `check` on it."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from autoexport.cli import main
from autoexport.commands import check as check_command
from autoexport.commands.demo import make_database
from autoexport.commands.samples import SAMPLES
from autoexport.errors import AutoexportError, ConfigurationError, PublishError, SourceError
from autoexport.sources.sqlite import check_notes as notes
from autoexport.sources.sqlite.check_notes import check_notes
from tests.conftest import run_autoexport

pytestmark = pytest.mark.usefixtures("log_setup_put_back")


def dump(database: Path) -> list[str]:
    """Everything in a database, as SQL."""
    with closing(sqlite3.connect(database)) as connection:
        return list(connection.iterdump())


def change(database: Path, statement: str) -> None:
    """Commit one statement."""
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(statement)


def files(directory: Path) -> dict[str, bytes]:
    """The published files."""
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


# --- the database --------------------------------------------------------------------------------


def test_the_sample_database_is_always_the_same(tmp_path: Path) -> None:
    """Made twice, made over a changed one: the same rows."""
    make_database(tmp_path / "a.db")
    make_database(tmp_path / "b.db")
    first = dump(tmp_path / "a.db")
    assert first == dump(tmp_path / "b.db")
    change(tmp_path / "b.db", "DELETE FROM images")
    make_database(tmp_path / "b.db")
    assert first == dump(tmp_path / "b.db")


def test_the_sample_database_is_lively(tmp_path: Path) -> None:
    """Boxes, polygons, classifications, all splits, names outside ASCII, empty datasets and projects."""
    make_database(tmp_path / "a.db")
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection:

        def count(statement: str) -> int:
            return int(connection.execute(f"SELECT count(*) FROM {statement}").fetchone()[0])

        assert count("projects") >= 3
        assert count("annotations WHERE x_min IS NOT NULL AND segmentation IS NULL") > 10
        assert count("annotations WHERE segmentation IS NOT NULL") > 10
        assert count("annotations WHERE x_min IS NULL AND segmentation IS NULL") > 5
        assert count("(SELECT DISTINCT split_section FROM images)") == 4
        assert count("datasets WHERE id NOT IN (SELECT dataset_id FROM images)") == 1
        assert count("projects WHERE id NOT IN (SELECT project_id FROM datasets)") == 1
        assert count("images WHERE id NOT IN (SELECT image_id FROM annotations)") > 3
        names = [row[0] for row in connection.execute("SELECT name FROM projects UNION SELECT name FROM datasets")]
        assert sum(not name.isascii() for name in names) >= 4
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        assert count("annotations JOIN images ON images.id = image_id WHERE x_max > width OR y_max > height") == 0


def _other_database(path: Path) -> None:
    change(path, "CREATE TABLE precious (a)")


def _no_database(path: Path) -> None:
    path.write_text("precious text")


def _directory(path: Path) -> None:
    path.mkdir()


def _nothing_yet(path: Path) -> None:
    path.touch()


@pytest.mark.parametrize("make", [_other_database, _no_database, _directory, _nothing_yet])
def test_a_foreign_file_is_refused_and_not_touched(make: object, tmp_path: Path) -> None:
    """Only a file that bears the demo's mark is reset."""
    path = tmp_path / "database.db"
    make(path)  # type: ignore[operator]
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(ConfigurationError, match="not a demo database") as caught:
        make_database(path)
    assert "demo DIR" in caught.value.hint
    assert (path.read_bytes() if path.is_file() else None) == before
    assert [item.name for item in tmp_path.iterdir()] == ["database.db"]


def test_a_demo_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    """A file in place of the directory, and another program in the middle of a transaction."""
    (tmp_path / "file").touch()
    with pytest.raises(PublishError, match="cannot be created"):
        make_database(tmp_path / "file" / "database.db")
    make_database(tmp_path / "a.db")
    before = dump(tmp_path / "a.db")
    with closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(AutoexportError, match="cannot be written") as caught:
            make_database(tmp_path / "a.db", busy_s=0.0)
        assert caught.value.hint
    assert dump(tmp_path / "a.db") == before


# --- the command ---------------------------------------------------------------------------------


def test_an_application_that_needs_a_server_has_no_sample(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One clear line, and another sample to try; nothing is created."""
    assert main(["demo", "--application", "cvat"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "error: CVAT keeps its data in PostgreSQL, and a sample is a SQLite file."
    assert len(lines) == 2
    assert "demo --application label_studio" in lines[1]
    assert list(tmp_path.iterdir()) == []


def test_demo_makes_a_database_and_its_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says where they are and what to try next; the summary names each file."""
    assert main(["demo", "here there"]) == 0
    out = capsys.readouterr().out
    directory = tmp_path / "here there" / "database_exports"
    document = json.loads((directory / "database_export.json").read_text())
    assert document["export_info"]["total_projects"] == len(document["projects"]) == 4
    types = {
        annotation["type"]
        for project in document["projects"]
        for dataset in project["datasets"]
        for image in dataset["images"]
        for annotation in image["annotations"]
    }
    assert types == {"bbox", "polygon", "classification"}
    for name in ("database_export.json", "projects.csv", "datasets.csv", "images.csv"):
        assert name in out
        assert f"{(directory / name).stat().st_size:,}" in out
    assert "'here there/database.db'" in out
    assert "autoexport check 'here there/database.db' \\\n    --export-dir 'here there/database_exports'\n" in out


def test_a_second_demo_in_the_same_place_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same rows, so nothing is written; after a change, the first state is published again."""
    assert main(["demo"]) == 0
    before = files(tmp_path / "autoexport_demo" / "database_exports")
    capsys.readouterr()
    assert main(["demo"]) == 0
    assert "Nothing has changed" in capsys.readouterr().out
    assert files(tmp_path / "autoexport_demo" / "database_exports") == before
    change(tmp_path / "autoexport_demo" / "database.db", "UPDATE projects SET name = 'Renamed'")
    assert main(["--database-url", "autoexport_demo/database.db",
                 "--export-dir", "autoexport_demo/database_exports"]) == 0  # fmt: skip
    assert b"Renamed" in (tmp_path / "autoexport_demo" / "database_exports" / "projects.csv").read_bytes()
    assert main(["demo"]) == 0
    after = files(tmp_path / "autoexport_demo" / "database_exports")
    assert after["projects.csv"] == before["projects.csv"]


def test_demo_keeps_to_its_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever database, directories and mapping are configured for the real thing."""
    monkeypatch.setenv("DB_EXPORT_DATABASE_URL", "postgresql://reader@nowhere.invalid/db")
    monkeypatch.setenv("DB_EXPORT_EXPORT_DIRECTORY", str(tmp_path / "real"))
    monkeypatch.setenv("DB_EXPORT_STATE_DIRECTORY", str(tmp_path / "state"))
    Path("autoexport.toml").write_text('[tables.images]\ntable = "asset"\n')
    assert main(["demo", "d"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["autoexport.toml", "d"]


def test_demo_refuses_a_foreign_database(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, two lines, nothing exported."""
    (tmp_path / "d").mkdir()
    _other_database(tmp_path / "d" / "database.db")
    assert main(["demo", "d"]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("error: ")
    assert second.startswith("hint: ")
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["database.db"]


# --- check ---------------------------------------------------------------------------------------


def test_check_shows_the_mapping_and_leaves_nothing_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The verdict first; the columns of the fields and the reading of boxes if asked for. No file is left."""
    make_database(tmp_path / "app.db")
    assert main(["check", "--database-url", "app.db"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0] == "Ready: an export to database_exports would read 46 images and 88 annotations."
    assert "split_section" not in out
    assert "wait" not in out, "nothing of a cost too small to notice"
    assert out.splitlines()[-1].endswith("autoexport check --verbose --database-url app.db")
    assert main(["check", "--verbose", "app.db"]) == 0
    out = capsys.readouterr().out
    assert "split_section" in out
    assert "x_min, y_min, x_max, y_max: corners" in out
    assert "dataset_id → datasets.id" in out
    assert "has no index" not in out
    assert [path.name for path in tmp_path.iterdir()] == ["app.db"]


def test_check_warns_about_missing_indexes_and_orphans(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the statement that would help, and how many rows are exported nowhere; the exit code stays 0.

    An index that would spare less than 0.1 s is not missed.
    """
    make_database(tmp_path / "app.db")
    monkeypatch.setattr(check_command, "_SCAN_ROWS_PER_S", 88 / 0.1)
    change(tmp_path / "app.db", "DROP INDEX ix_annotations_image_id")
    change(tmp_path / "app.db", "DELETE FROM datasets WHERE name = 'Night'")
    assert main(["check", "--database-url", "app.db"]) == 0
    out = capsys.readouterr().out
    assert "CREATE INDEX ix_annotations_image_id ON annotations (image_id);" in out
    assert "ix_images_dataset_id" not in out
    assert "warning: 8 images are orphans and not exported" in out
    assert "annotations are orphans and not exported" in out
    assert out.splitlines()[0].startswith("Ready, 3 warnings: ")
    assert max(map(len, out.splitlines()[:-1])) <= 80
    monkeypatch.setattr(check_command, "_SCAN_ROWS_PER_S", 2_000_000)
    assert main(["check", "--database-url", "app.db"]) == 0
    assert "has no index" not in capsys.readouterr().out


def test_check_warns_about_label_ids_that_name_no_label(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those without a row in the labels, and those whose row has another name; the demo has neither."""
    make_database(tmp_path / "app.db")
    with closing(sqlite3.connect(tmp_path / "app.db")) as connection:
        joined = "annotations JOIN labels ON labels.id = class_id AND name = class_name"
        assert connection.execute(f"SELECT count(*) FROM {joined}").fetchone() == (88,)
    change(tmp_path / "app.db", "UPDATE annotations SET class_id = 99 WHERE class_name = 'car'")
    change(tmp_path / "app.db", "UPDATE annotations SET class_id = 1 WHERE class_name = 'Apfel'")
    assert main(["check", "app.db"]) == 0
    out = capsys.readouterr().out
    with closing(sqlite3.connect(tmp_path / "app.db")) as connection:
        (count,) = connection.execute(
            "SELECT count(*) FROM annotations WHERE class_name IN ('car', 'Apfel')"
        ).fetchone()
    assert f"does not refer to labels.id: {count}" in out
    lines = [line.strip() for line in out.splitlines()]
    start = lines.index("[tables.annotations.columns]")
    Path("autoexport.toml").write_text("\n".join(lines[start : start + 2]))
    assert main(["check", "app.db"]) == 0
    assert "label_id is" not in capsys.readouterr().out


def test_check_warns_about_the_export_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file in its place, or the export of another database in it."""
    make_database(tmp_path / "app.db")
    (tmp_path / "file").touch()
    assert main(["check", "--database-url", "app.db", "--export-dir", "file"]) == 0
    out = capsys.readouterr().out
    assert "file is not a directory" in out
    assert out.splitlines()[0] == "Blocked, 1 warning: an export to file would fail."
    assert main(["demo", "d"]) == 0
    capsys.readouterr()
    assert main(["check", "--database-url", "app.db", "--export-dir", "d/database_exports"]) == 0
    assert "another database (database.db)" in capsys.readouterr().out


def test_check_states_the_journal_mode(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And how long a copy may keep a writer waiting, if that is 0.1 s or more."""
    make_database(tmp_path / "app.db")
    assert main(["check", "--database-url", "app.db"]) == 0
    assert "MB in rollback-journal mode (delete)." in capsys.readouterr().out
    monkeypatch.setattr(notes, "_WORTH_S", 0.0)
    assert main(["check", "--database-url", "app.db"]) == 0
    out = capsys.readouterr().out
    assert "0.5 s per GB" in out
    assert "rollback" in out
    change(tmp_path / "app.db", "PRAGMA journal_mode=WAL")
    assert main(["check", "--database-url", "app.db"]) == 0
    assert "WAL" in capsys.readouterr().out


def test_sqlite_files_are_described_by_their_journal_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait in rollback-journal mode, none in WAL mode; garbage is an error of ours."""
    monkeypatch.setattr(notes, "_WORTH_S", 0.0)
    make_database(tmp_path / "app.db")
    (line,) = check_notes(tmp_path / "app.db")
    assert "rollback-journal mode (delete)" in line
    assert "0.5 s per GB" in line
    change(tmp_path / "app.db", "PRAGMA journal_mode=WAL")
    (line,) = check_notes(tmp_path / "app.db")
    assert "in WAL mode: writers never wait" in line
    (tmp_path / "g.db").write_bytes(b"garbage" * 1000)
    with pytest.raises(SourceError, match="not a SQLite database"):
        check_notes(tmp_path / "g.db")


def test_names_from_the_database_do_not_control_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`check` and `verify` escape control characters in the names of tables and projects."""
    assert main(["demo", "d"]) == 0
    database = tmp_path / "d" / "database.db"
    change(
        database, 'CREATE TABLE "regions\x1b[31m" (id INTEGER PRIMARY KEY, img REFERENCES images, polygon JSON)'
    )
    change(database, "UPDATE projects SET name = 'Red\x1b[31m' WHERE id = 1")
    change(database, "UPDATE images SET filename = 'other.jpg'")
    options = ["--database-url", "d/database.db", "--export-dir", "d/database_exports"]
    capsys.readouterr()
    assert main(["check", *options]) == 0
    checked = capsys.readouterr().out
    assert main(["verify", *options]) == 3
    verified = capsys.readouterr().out
    assert "regions\\x1b[31m looks like annotations" in checked
    assert "Red\\x1b[31m" in verified
    assert "\x1b" not in checked + verified


@pytest.mark.parametrize("application", sorted(SAMPLES))
def test_the_sample_of_an_application(application: str, tmp_path: Path) -> None:
    """It is in the schema of the application, found by its preset, the same each time, and can be reset."""
    done = run_autoexport("demo", "--application", application, cwd=tmp_path)
    assert done.exit_code == 0, done.stderr
    folder = tmp_path / f"autoexport_demo_{application}"
    tree = json.loads((folder / "database_exports" / "database_export.json").read_bytes())
    assert tree["export_info"]["total_annotations"] > 10
    database = str(folder / "database.db")
    checked = run_autoexport("check", "--verbose", database, "--export-dir", str(folder / "database_exports"))
    assert "preset = false" in checked.stdout
    before = dump(folder / "database.db")
    assert run_autoexport("demo", "--application", application, cwd=tmp_path).exit_code == 0
    assert dump(folder / "database.db") == before
