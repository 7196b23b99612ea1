"""YOLO data sets: readers take them, no list names a missing label file, and only what changed is written."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from globox import AnnotationSet

from autoexport.publishing import label_files
from tests.applications import create_sqlite, fill_sqlite
from tests.hostile import write_hostile
from tests.outputs import listed_label_files
from tests.readers import read_as_ultralytics, validate, write_png
from tests.trials import Trial

SPLITS = ("train", "val", "test", "unassigned")


def exported(url: str, directory: Path, **settings: Any) -> Trial:
    """An export with YOLO data sets, verified."""
    trial = Trial(url, directory, **({"export_yolo": True} | settings))
    trial.export()
    assert trial.differences() == []
    return trial


def data_sets(directory: Path) -> list[Path]:
    """The folders of all data sets that name images."""
    return sorted(path.parent for path in directory.glob("yolo/*/data.yaml"))


def images_of(data_set: Path) -> list[tuple[Path, list[list[float]]]]:
    """The images of all lists of a data set, with their rows."""
    splits = [split for split in SPLITS if (data_set / f"{split}.txt").exists()]
    return [item for split in splits for item in read_as_ultralytics(data_set, split)]


@pytest.fixture
def application(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """The application's database with the sample rows: sizes and own paths for all images."""
    with closing(create_sqlite(tmp_path / "app.db")) as connection:
        fill_sqlite(connection)
        connection.execute(
            "UPDATE images SET width = 640, height = 480, is_labeled = 1, file_path = 'p/' || id || '.png'"
        )
        yield connection


def test_readers_take_an_application(application: sqlite3.Connection, tmp_path: Path) -> None:
    """panlabel validates the data sets, and globox reads the same boxes from them as from COCO."""
    root = tmp_path / "images"
    for (path,) in application.execute("SELECT file_path FROM images").fetchall():
        write_png(root / path, 640, 480)
    trial = exported(f"sqlite:///{tmp_path}/app.db", tmp_path / "exports", image_root=str(root))
    assert data_sets(trial.directory)
    for data_set in data_sets(trial.directory):
        assert (data_set / "images").resolve() == root
        validate(data_set, "yolo")
        images = images_of(data_set)
        assert all(image.is_file() for image, _ in images)
        boxes = {}
        for path in (trial.directory / "coco" / data_set.name / "annotations").iterdir():
            for item in AnnotationSet.from_coco(path):
                boxes[item.image_id] = sorted({(box.label, *box.ltrb) for box in item.boxes})
        names = (data_set / "classes.txt").read_text().splitlines()
        assert {str(image.relative_to(data_set / "images")) for image, _ in images} == boxes.keys()
        for image, _ in images:
            label = data_set / "labels" / image.relative_to(data_set / "images").with_suffix(".txt")
            read = AnnotationSet.from_yolo_v5(label.parent, image_folder=image.parent, image_extension=".png")
            found = sorted(
                (names[int(box.label)], *box.ltrb)
                for box in read[image.name].boxes  # type: ignore[arg-type]
            )
            expected = boxes[str(image.relative_to(data_set / "images"))]
            assert [row[0] for row in found] == [row[0] for row in expected]
            for row, other in zip(found, expected, strict=True):
                assert row[1:] == pytest.approx(other[1:], abs=1e-4)


@pytest.mark.parametrize("task", ["detect", "segment"])
def test_no_bad_row_in_a_hostile_database(task: str, tmp_path: Path) -> None:
    """Every row is one that ultralytics takes, and names of classes are text for YAML."""
    write_hostile(tmp_path / "hostile.db")
    trial = exported(f"sqlite:///{tmp_path}/hostile.db", tmp_path / "exports", yolo_task=task)
    rows = [rows for data_set in data_sets(trial.directory) for _, rows in images_of(data_set)]
    assert len(rows) > 10
    assert {len(row) > 6 for own in rows for row in own} == {task == "segment"}

    for data_set in data_sets(trial.directory):
        lines = (data_set / "data.yaml").read_text().partition("names:\n")[2].splitlines()
        published = json.loads((data_set / "classes.json").read_bytes())["classes"]
        # A JSON string is a quoted scalar of YAML 1.2 ("10.2 JSON Schema").
        assert [json.loads(line.split(": ", 1)[1]) for line in lines] == published
        assert [int(line.split(":")[0]) for line in lines] == list(range(len(published)))
    left_out = json.loads((trial.directory / "manifest.json").read_bytes())["left_out"]["yolo"]
    assert left_out["images_with_the_path_of_another"] > 0
    assert left_out["boxes_without_size"] > 0


def test_readers_take_a_hostile_database(tmp_path: Path) -> None:
    """panlabel validates the data sets of hostile names and shapes, and globox reads as many boxes."""
    write_hostile(tmp_path / "hostile.db")
    root = tmp_path / "images"
    root.mkdir()
    trial = exported(f"sqlite:///{tmp_path}/hostile.db", tmp_path / "exports", image_root=str(root))
    read = 0
    for data_set in data_sets(trial.directory):
        images = images_of(data_set)
        for image, _ in images:
            write_png(root / image.relative_to(data_set / "images"), 640, 480)
        validate(data_set, "yolo")
        for image, rows in images:
            label = data_set / "labels" / image.relative_to(data_set / "images").with_suffix(".txt")
            suffix = image.suffix
            found = AnnotationSet.from_yolo_v5(label.parent, image_folder=image.parent, image_extension=suffix)
            assert len(found[image.name].boxes) == len(rows)
            read += len(rows)
    assert read > 10


def test_only_changed_label_files_are_written(application: sqlite3.Connection, tmp_path: Path) -> None:
    """A changed box writes one label file, in place of the old one, and no list."""
    trial = exported(f"sqlite:///{tmp_path}/app.db", tmp_path / "exports")
    before = {path: os.stat(path) for path in trial.directory.glob("yolo/**/*.txt")}
    application.execute(
        "UPDATE annotations SET x_min = 5, y_min = 6, x_max = 55.5, y_max = 66 WHERE id = ("
        "SELECT a.id FROM annotations a JOIN images i ON a.image_id = i.id JOIN datasets d ON d.id = i.dataset_id"
        " JOIN projects p ON p.id = d.project_id WHERE a.x_min IS NOT NULL ORDER BY a.id LIMIT 1)"
    )
    assert trial.export().published
    now = {path: os.stat(path) for path in trial.directory.glob("yolo/**/*.txt")}
    changed = [path for path in now if now[path].st_ino != before[path].st_ino]
    assert len(changed) == 1
    assert "labels" in changed[0].parts
    assert trial.differences() == []
    assert not trial.export().published


def test_a_label_file_that_no_list_names_stays_for_a_while(
    application: sqlite3.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes with the first export after the grace time, unless a list names it again; others' files stay."""
    trial = exported(f"sqlite:///{tmp_path}/app.db", tmp_path / "exports")
    first = listed_label_files(trial.directory)
    keys = [key for (key,) in application.execute("SELECT id FROM images ORDER BY id").fetchall()]
    application.executemany(
        "UPDATE images SET file_path = 'q/' || id || '.png' WHERE id = ?", [(key,) for key in keys]
    )
    trial.export()
    second = listed_label_files(trial.directory)
    assert not first & second
    assert all((trial.directory / name).exists() for name in first | second)
    application.execute("UPDATE images SET file_path = 'p/' || id || '.png' WHERE id = ?", (keys[0],))
    trial.export()
    third = listed_label_files(trial.directory)
    foreign = trial.directory / min(first).rsplit("/", 1)[0] / "labels.cache"
    foreign.write_bytes(b"of a reader")
    monkeypatch.setattr(label_files, "GRACE_S", 0.0)
    trial.export()
    assert {name for name in first | second if (trial.directory / name).exists()} == third
    assert foreign.exists()
    assert not (trial.state / "unlisted").exists()


def test_a_project_that_is_gone(
    application: sqlite3.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lists go at once, its label files and its link after the grace time."""
    trial = exported(f"sqlite:///{tmp_path}/app.db", tmp_path / "exports", image_root=str(tmp_path))
    application.execute("DELETE FROM projects")
    trial.export()
    assert not data_sets(trial.directory)
    assert list(trial.directory.glob("yolo/*/labels/**/*.txt"))
    monkeypatch.setattr(label_files, "GRACE_S", 0.0)
    trial.export()
    assert not list(trial.directory.glob("yolo/*"))


def test_a_missing_label_file_is_written_by_a_full_export(application: sqlite3.Connection, tmp_path: Path) -> None:
    """`verify` names it, and `--full` writes it again."""
    trial = exported(f"sqlite:///{tmp_path}/app.db", tmp_path / "exports")
    name = min(listed_label_files(trial.directory))
    (trial.directory / name).unlink()
    assert trial.differences() == [f"{name}: not as the database gives it"]
    assert trial.export(full=True).published
    assert trial.differences() == []


def test_a_reader_meets_no_missing_label_file(application: sqlite3.Connection, tmp_path: Path) -> None:
    """While images come, go, move and change, a reader that lists and opens in a loop finds every label file."""
    trial = exported(f"sqlite:///{tmp_path}/app.db", tmp_path / "exports")
    ended, failed, read = threading.Event(), [], [0]

    def loop() -> None:
        while not ended.is_set():
            for path in trial.directory.glob("yolo/*/train.txt"):
                try:
                    read[0] += len(read_as_ultralytics(path.parent, "train"))
                except (AssertionError, OSError) as error:
                    # The data set itself may be gone between two looks; its label files may not.
                    if not isinstance(error, FileNotFoundError) or "labels" in str(error.filename):
                        failed.append(error)

    reader = threading.Thread(target=loop)
    reader.start()
    try:
        for number in range(25):
            application.execute(
                "UPDATE images SET file_path = ? || id || '.png', split_section = ?",
                (f"r{number}/", ("train", "val")[number % 2]),
            )
            application.execute("UPDATE annotations SET x_min = ?, y_min = 1, x_max = 300, y_max = 200", (number,))
            trial.export()
    finally:
        ended.set()
        reader.join()
    assert read[0] > 0
    assert not failed, failed[:3]
