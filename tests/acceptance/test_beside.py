"""The files beside the exported ones: written with a publish, never without, and nothing depends on them."""

from __future__ import annotations

import csv
import json
import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from autoexport.cli import main
from tests.applications import create_sqlite, fill_sqlite
from tests.trials import Trial

BESIDE = ("index.html", "history.csv", "progress.jsonl", "changes.jsonl")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    create_sqlite(tmp_path / "app.sqlite3").close()
    connection = sqlite3.connect(tmp_path / "app.sqlite3", isolation_level=None)
    fill_sqlite(connection)
    yield connection
    connection.close()


@pytest.fixture
def trial(tmp_path: Path, database: sqlite3.Connection) -> Trial:
    return Trial(str(tmp_path / "app.sqlite3"), tmp_path / "exports", export_coco=False)


def manifest(trial: Trial) -> dict[str, object]:
    content: dict[str, object] = json.loads((trial.directory / "manifest.json").read_bytes())
    return content


def history(trial: Trial) -> list[dict[str, str]]:
    with (trial.directory / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def stamps(trial: Trial) -> dict[str, tuple[int, int, int]]:
    """Inode and times of modification and change of each public file."""
    found = {path.name: path.stat() for path in trial.directory.iterdir() if path.is_file()}
    return {name: (status.st_ino, status.st_mtime_ns, status.st_ctime_ns) for name, status in found.items()}


def change(database: sqlite3.Connection) -> None:
    database.execute("UPDATE images SET is_verified = NOT coalesce(is_verified, 0)")


def test_the_manifest_lists_them_apart(trial: Trial) -> None:
    """Their sizes and digests are right, and `files` does not name them."""
    trial.export()
    content = manifest(trial)
    beside = content["beside"]
    assert isinstance(beside, dict)
    assert sorted(beside) == sorted(BESIDE)
    assert not set(beside) & set(content["files"])  # type: ignore[call-overload]
    for name, record in beside.items():
        text = (trial.directory / name).read_bytes()
        assert record == {"bytes": len(text), "digest": f"crc32:{zlib.crc32(text):08x}"}


def test_nothing_changed_nothing_written(trial: Trial, database: sqlite3.Connection) -> None:
    """Neither an export without a change nor one of a change that no file shows touches them."""
    trial.export()
    before = stamps(trial)
    assert not trial.export().published
    assert not trial.export(full=True).published
    database.execute("CREATE TABLE another (id INTEGER)")
    assert not trial.export().published
    assert stamps(trial) == before


def test_each_publish_has_a_row(trial: Trial, database: sqlite3.Connection) -> None:
    """The counts are those of the rows, whether sections were kept or not."""
    modes = set()
    for number in range(1, 6):
        if number > 1:
            database.execute(
                "UPDATE images SET split_type = ?, is_labeled = ?, is_verified = ? WHERE rowid % ? = 0",
                (("val", "test", None, "train")[number % 4], number % 2, number % 2, number),
            )
        assert trial.export().published
        rows = history(trial)
        assert [int(row["generation"]) for row in rows] == list(range(1, number + 1))
        tree = json.loads((trial.directory / "database_export.json").read_bytes())
        datasets = [dataset for project in tree["projects"] for dataset in project["datasets"]]
        images = [image for dataset in datasets for image in dataset["images"]]
        expected = {
            "projects": len(tree["projects"]),
            "datasets": len(datasets),
            "images": len(images),
            "labeled_images": sum(image["is_labeled"] is True for image in images),
            "verified_images": sum(image["is_verified"] is True for image in images),
            "annotations": sum(len(image["annotations"]) for image in images),
            **{
                f"{split}_count": sum(dataset["splits"][split] for dataset in datasets)
                for split in ("train", "val", "test", "unassigned")
            },
        }
        assert {name: int(rows[-1][name]) for name in expected} == expected
        assert rows[-1]["timestamp"].replace(" ", "T") == tree["export_info"]["timestamp"]
        modes.add(rows[-1]["mode"])
    assert "full" in modes


@pytest.mark.parametrize("name", BESIDE)
def test_their_contents_do_not_matter_but_their_absence_does(trial: Trial, name: str) -> None:
    """`verify` ignores an edited one. It reports a missing one, and the next export writes it again."""
    trial.export()
    path = trial.directory / name
    path.write_bytes(b"edited")
    assert trial.differences() == []
    assert not trial.export().published
    path.unlink()
    assert trial.differences() == [f"{name}: it is missing"]
    assert trial.export().published
    assert path.exists()
    assert trial.differences() == []
    assert not trial.export().published


def test_the_history_survives_a_lost_ledger(trial: Trial, database: sqlite3.Connection) -> None:
    """Its rows stay when the next export is a full one, and when the generations begin again."""
    trial.export()
    change(database)
    (trial.state / "ledger.json").unlink()
    trial.export()
    assert [row["generation"] for row in history(trial)] == ["1", "2"]
    change(database)
    (trial.state / "ledger.json").unlink()
    (trial.directory / "manifest.json").unlink()
    trial.export()
    assert [row["generation"] for row in history(trial)] == ["1", "2", "1"]


def test_a_lost_manifest_makes_no_backups_of_them(trial: Trial, database: sqlite3.Connection) -> None:
    """The ledger knows that the directory is ours."""
    trial.export()
    (trial.directory / "manifest.json").unlink()
    change(database)
    trial.export()
    assert trial.leftovers() == []


def test_files_of_another_program_are_kept(trial: Trial) -> None:
    """A page that stood there before gets another name, once."""
    trial.directory.mkdir()
    for name in BESIDE:
        (trial.directory / name).write_bytes(b"mine")
    trial.export()
    for name in BESIDE:
        assert (trial.directory / f"{name}.before-autoexport").read_bytes() == b"mine"
    assert len(history(trial)) == 1


def test_each_can_be_switched_off(tmp_path: Path, trial: Trial, database: sqlite3.Connection) -> None:
    """The manifest then lists the other one only, no data file is touched, and the old file stays as it is."""
    trial.export()
    data = stamps(trial)["images.csv"]
    other = Trial(str(tmp_path / "app.sqlite3"), trial.directory, export_coco=False, export_page=False)
    assert other.export().published
    assert stamps(trial)["images.csv"] == data
    assert list(manifest(other)["beside"]) == ["history.csv", "changes.jsonl"]  # type: ignore[call-overload]
    with capture_logs() as told:
        assert not other.export().published
    assert [event["file"] for event in told if event["event"] == "export.left_alone"] == [
        "index.html", "progress.jsonl"
    ]  # fmt: skip
    (trial.directory / "index.html").write_text("a page of another program")
    with capture_logs() as told:
        assert not other.export().published
    assert [event["file"] for event in told if event["event"] == "export.left_alone"] == ["progress.jsonl"]
    (trial.directory / "progress.jsonl").unlink()
    page = stamps(trial)["index.html"]
    change(database)
    with capture_logs() as told:
        other.export()
    assert not [event for event in told if event["event"] == "export.left_alone"]
    assert stamps(trial)["index.html"] == page
    neither = Trial(
        str(tmp_path / "app.sqlite3"), tmp_path / "b", export_coco=False, export_page=False, export_history=False
    )
    neither.export()
    assert manifest(neither)["beside"] == {}
    assert not {*BESIDE} & {path.name for path in neither.directory.iterdir()}


def test_the_command_says_what_changed(
    trial: Trial, database: sqlite3.Connection, capfd: pytest.CaptureFixture[str]
) -> None:
    """`changes --since` names the image of each commit, and says when it cannot know."""

    def asked(since: int) -> dict[str, object]:
        assert main(["changes", "--since", str(since), "--export-dir", str(trial.directory)]) == 0
        record: dict[str, object] = json.loads(capfd.readouterr().out)
        return record

    # Each dataset is a block, and few are in one page: if more than half of them change, the export is full.
    for number in range(100):
        key = f"extra {number}"
        database.execute(
            "INSERT INTO datasets (id, name, project_id) SELECT ?, ?, min(id) FROM projects", (key, key)
        )
        database.execute(
            "INSERT INTO images (id, filename, original_filename, file_path, dataset_id, width, height, "
            "file_size) VALUES (?, 'a', 'a', ?, ?, 1, 1, 1)",
            (f"extra image {number:02}", "a" * 900, f"extra {number}"),
        )
    trial.export()
    images = ["extra image 03", "extra image 17"]
    for image in images:
        database.execute("UPDATE images SET file_size = coalesce(file_size, 0) + 1 WHERE id = ?", (image,))
        outcome = trial.export()
        assert not outcome.full, outcome.reason
    nothing = {"count": 0, "ids": []}
    for since in (1, 2):
        told = asked(since)
        wanted = images[since - 1 :]
        assert told["full"] is False
        assert told["images"] == {
            "added": nothing, "changed": {"count": len(wanted), "ids": wanted}, "removed": nothing
        }  # fmt: skip
        assert told["datasets"] == told["labels"] == dict.fromkeys(("added", "changed", "removed"), nothing)
    assert asked(0)["full"] is True
    assert asked(3)["images"] == dict.fromkeys(("added", "changed", "removed"), nothing)


def test_the_command_needs_files(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Without a manifest it says so in one line; a wrong number is a wrong flag."""
    assert main(["changes", "--since", "1", "--export-dir", str(tmp_path)]) == 1
    assert "manifest.json" in capfd.readouterr().err
    assert main(["changes", "--since", "x"]) == 2
