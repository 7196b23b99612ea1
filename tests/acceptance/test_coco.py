"""COCO files: independent readers take them, ids and categories are stable, nothing vanishes silently."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from autoexport import Settings
from autoexport.errors import ConfigurationError
from autoexport.formats import chosen_formats, outputs
from autoexport.pipeline.mapped import narrowed
from tests.applications import SCHEMA, create_sqlite, fill_sqlite
from tests.hostile import MANY, write_hostile
from tests.readers import check_coco
from tests.trials import Trial
from tests.unit.test_mapping import mapped


def exported(url: str, directory: Path, **settings: Any) -> Trial:
    """An export with COCO files, verified."""
    trial = Trial(url, directory, export_coco=True, **settings)
    trial.export()
    assert trial.differences() == []
    return trial


def coco_files(directory: Path) -> list[Path]:
    """All COCO files of an export."""
    return sorted(directory.glob("coco/*/annotations/instances_*.json"))


def manifest(trial: Trial) -> dict[str, Any]:
    """The published manifest."""
    content: dict[str, Any] = json.loads((trial.directory / "manifest.json").read_bytes())
    return content


@pytest.fixture
def application(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """The application's database with the sample rows, with sizes for all images."""
    with closing(create_sqlite(tmp_path / "app.db")) as connection:
        fill_sqlite(connection)
        connection.execute("UPDATE images SET width = 640, height = 480, is_labeled = 1")
        yield connection


def folder_of(directory: Path, project: int) -> str:
    """The folder of a project."""
    (found,) = [
        path.parts[-2]
        for path in directory.glob("coco/*/classes.json")
        if json.loads(path.read_bytes())["project_id"] == project
    ]
    return found


def categories(directory: Path, project: str) -> dict[str, int]:
    """The categories of a project by name, the same in each of its files."""
    found = [
        json.loads(path.read_bytes())["categories"] for path in coco_files(directory) if path.parts[-3] == project
    ]
    assert found
    assert all(other == found[0] for other in found)
    ids = {row["name"]: row["id"] for row in found[0]}
    assert sorted(ids.values()) == list(range(1, len(ids) + 1))
    published = json.loads((directory / "coco" / project / "classes.json").read_bytes())
    assert [ids[name] for name in published["classes"]] == list(range(1, len(ids) + 1))
    return ids


@pytest.mark.parametrize("text_keys", [True, False], ids=["text keys", "integer keys"])
def test_readers_take_a_hostile_database(text_keys: bool, tmp_path: Path) -> None:
    """Of each file, panlabel, hotcoco and pycocotools read all rows, and find the truth equal to itself."""
    write_hostile(tmp_path / "hostile.db", text_keys=text_keys)
    trial = exported(f"sqlite:///{tmp_path}/hostile.db", tmp_path / "exports", include_unlabeled=True)
    files = coco_files(trial.directory)
    assert len({path.parts[-3] for path in files}) == 12
    rows = [row for path in files for row in check_coco(path)["annotations"]]
    assert {type(row["source_id"]) for row in rows} == {str if text_keys else int}
    assert text_keys or all(row["id"] == row["source_id"] for row in rows)
    # Every annotation is in a file, or counted under a reason.
    left_out = manifest(trial)["left_out"]["coco"]
    whole = Trial(f"sqlite:///{tmp_path}/hostile.db", tmp_path / "sized", export_coco=True)
    assert left_out["annotations_without_label"] > 0
    with closing(sqlite3.connect(tmp_path / "hostile.db")) as connection:
        connection.execute("UPDATE images SET width = 640, height = 480")
        (stored,) = connection.execute("SELECT count(*) FROM annotations").fetchone()
        connection.commit()
    whole.export()
    reasons = manifest(whole)["left_out"]["coco"]
    lost = sum(
        reasons[name] for name in reasons if name.startswith("annotations_") or name == "boxes_without_size"
    )
    published = sum(len(json.loads(path.read_bytes())["annotations"]) for path in coco_files(whole.directory))
    assert published + lost == stored
    assert len(categories(whole.directory, "a_b-2")) >= len(MANY)


def test_an_application(application: sqlite3.Connection, tmp_path: Path) -> None:
    """Its files are taken, too, with hashed ids, and each label is in each file."""
    trial = exported(f"sqlite:///{tmp_path}/app.db", tmp_path / "exports")
    for path in coco_files(trial.directory):
        document = check_coco(path)
        assert manifest(trial)["files"][str(path.relative_to(trial.directory))]["rows"] == len(document["images"])
    assert len(coco_files(trial.directory)) > 1


def test_categories_never_change_their_id(application: sqlite3.Connection, tmp_path: Path) -> None:
    """Whatever happens to labels, the categories of the others keep their ids; a full export keeps them too."""
    application.execute("DELETE FROM labels")
    for number, name in enumerate(("car", "person", "bus"), 5):
        application.execute("INSERT INTO labels (id, name, project_id) VALUES (?, ?, 1)", (number, name))
    application.execute("UPDATE annotations SET class_name = 'zebra' WHERE id = (SELECT min(id) FROM annotations)")
    url = f"sqlite:///{tmp_path}/app.db"
    trial = exported(url, tmp_path / "exports")
    project = folder_of(trial.directory, 1)
    first = categories(trial.directory, project)
    assert list(first)[:3] == ["car", "person", "bus"]
    steps = (
        "INSERT INTO labels (id, name, project_id) VALUES (1, 'ant', 1)",
        "DELETE FROM labels WHERE name = 'car'",
        "UPDATE labels SET name = 'people' WHERE name = 'person'",
        "UPDATE annotations SET class_name = 'aardvark' WHERE id = (SELECT max(id) FROM annotations)",
        "UPDATE images SET split_section = 'test' WHERE id = (SELECT min(id) FROM images)",
        "UPDATE projects SET name = 'another name' WHERE id = 1",
    )
    known = first
    for step in steps:
        application.execute(step)
        outcome = trial.export()
        assert outcome.published
        project = folder_of(trial.directory, 1)
        now = categories(trial.directory, project)
        assert now.items() >= known.items(), step
        known = now
        assert trial.differences() == []
    assert {"ant", "people"} < set(known)
    assert not list((trial.directory / "coco").glob(f"{'Vehicle'}*"))
    before = trial.contents()
    trial.export(full=True)
    assert trial.contents() == before


def test_a_key_becomes_text(tmp_path: Path) -> None:
    """A migration from integer to text keys gives every row of the table another id, and no category."""
    write_hostile(tmp_path / "app.db", text_keys=False)
    trial = exported(f"sqlite:///{tmp_path}/app.db", tmp_path / "exports")
    before = {path: json.loads(path.read_bytes()) for path in coco_files(trial.directory)}
    with closing(sqlite3.connect(tmp_path / "app.db")) as connection, connection:
        connection.execute("UPDATE annotations SET id = 'a-' || id WHERE id = (SELECT max(id) FROM annotations)")
    outcome = trial.export()
    assert outcome.reason == "the integer ids changed"
    for path, old in before.items():
        new = json.loads(path.read_bytes())
        assert (new["categories"], new["images"]) == (old["categories"], old["images"])
        assert not {row["id"] for row in new["annotations"]} & {row["id"] for row in old["annotations"]}
    assert trial.differences() == []


def test_nothing_changed_nothing_written(application: sqlite3.Connection, tmp_path: Path) -> None:
    """Neither a second export nor a change of what COCO does not have touches a file of it."""
    trial = exported(f"sqlite:///{tmp_path}/app.db", tmp_path / "exports")
    before = {path: path.stat().st_mtime_ns for path in coco_files(trial.directory)}
    assert not trial.export().published
    application.execute("UPDATE projects SET description = 'new'")
    assert trial.export().published
    assert {path: path.stat().st_mtime_ns for path in coco_files(trial.directory)} == before


def test_switching_it_on_and_off(application: sqlite3.Connection, tmp_path: Path) -> None:
    """Either costs a full export, which says so; the files stay when the output is off."""
    url, directory = f"sqlite:///{tmp_path}/app.db", tmp_path / "exports"
    Trial(url, directory, export_coco=False).export()
    assert Trial(url, directory, export_coco=True).export().reason == "the settings changed"
    files = coco_files(directory)
    off = Trial(url, directory, export_coco=False).export()
    assert off.reason == "the settings changed"
    assert coco_files(directory) == files
    assert json.loads((directory / "manifest.json").read_bytes())["left_out"].keys() == {"yolo"}


def test_a_split_or_a_project_that_is_gone(application: sqlite3.Connection, tmp_path: Path) -> None:
    """Their files and folders go, and no other file does."""
    trial = exported(f"sqlite:///{tmp_path}/app.db", tmp_path / "exports")
    (trial.directory / "coco" / "notes.txt").write_text("mine")
    application.execute("UPDATE images SET split_section = 'train'")
    trial.export()
    assert {path.name for path in coco_files(trial.directory)} == {"instances_train.json"}
    application.execute("DELETE FROM projects")
    trial.export()
    assert [path.name for path in (trial.directory / "coco").iterdir()] == ["notes.txt"]


def test_classes_that_were_restored(application: sqlite3.Connection, tmp_path: Path) -> None:
    """A backup of `classes.json` in an empty directory is an input, and is not moved aside."""
    url = f"sqlite:///{tmp_path}/app.db"
    backup = tmp_path / "exports" / "coco" / "old name" / "classes.json"
    backup.parent.mkdir(parents=True)
    backup.write_text('{"project_id": 1, "classes": ["first", "second"]}')
    trial = exported(url, tmp_path / "exports")
    project = folder_of(trial.directory, 1)
    assert list(categories(trial.directory, project))[:2] == ["first", "second"]
    assert not list(trial.directory.rglob("*.before-autoexport"))
    assert not backup.exists()


def test_pinned_classes(application: sqlite3.Connection, tmp_path: Path) -> None:
    """The setting wins over the order of the labels; a bad one is refused."""
    url = f"sqlite:///{tmp_path}/app.db"
    trial = exported(url, tmp_path / "exports", classes=["zz", "a, b"])
    project = folder_of(trial.directory, 1)
    assert list(categories(trial.directory, project))[:2] == ["zz", "a, b"]
    with pytest.raises(ConfigurationError, match="classes"):
        Trial(url, tmp_path / "exports", classes="[1]")


@pytest.mark.parametrize(
    ("units", "factor"), [("normalized", (1 / 640, 1 / 480)), ("percent", (100 / 640, 100 / 480))]
)
def test_units(units: str, factor: tuple[float, float], application: sqlite3.Connection, tmp_path: Path) -> None:
    """Boxes and polygons in other units give the same pixels."""
    shape = [[8, 6], [16, 6], [16, 12]]
    store = "UPDATE annotations SET x_min = ?, y_min = ?, x_max = ?, y_max = ?, segmentation = ?"
    application.execute(store, (8, 6, 16, 12, json.dumps(shape)))
    url = f"sqlite:///{tmp_path}/app.db"
    pixels = exported(url, tmp_path / "pixels")
    across, down = factor
    scaled = [[x * across, y * down] for x, y in shape]
    application.execute(store, (8 * across, 6 * down, 16 * across, 12 * down, json.dumps(scaled)))
    others = exported(url, tmp_path / units, box_units=units)
    for path in coco_files(pixels.directory):
        other = json.loads((others.directory / path.relative_to(pixels.directory)).read_bytes())
        for left, right in zip(json.loads(path.read_bytes())["annotations"], other["annotations"], strict=True):
            assert right["bbox"] == pytest.approx(left["bbox"])
            assert right["area"] == pytest.approx(left["area"]) == 24
            assert right["segmentation"][0] == pytest.approx(left["segmentation"][0])


def test_alone_it_reads_only_its_columns(application: sqlite3.Connection, tmp_path: Path) -> None:
    """The files are the same as beside all other outputs. A change in another column publishes nothing."""
    both = exported(str(tmp_path / "app.db"), tmp_path / "both")
    on = {output.switch.name: output.switch.name in ("export_coco", "export_yolo") for output in outputs()}
    alone = Trial(str(tmp_path / "app.db"), tmp_path / "alone", **on)
    assert alone.export().published
    assert [path.read_bytes() for path in coco_files(both.directory)] == [
        path.read_bytes() for path in coco_files(alone.directory)
    ]
    assert manifest(both)["counts"] == manifest(alone)["counts"]
    application.execute("UPDATE annotations SET model_id = 'another', confidence = 0.5")
    assert not alone.export().published
    assert alone.differences() == []
    assert both.export().published
    application.execute("UPDATE annotations SET x_max = 5.5 WHERE x_min < 5")
    assert alone.export().published
    assert alone.differences() == []


def test_fields_that_no_file_needs_are_not_mapped() -> None:
    """Only if all formats say what they need; queries and documents are left as they are."""
    mapping = mapped(SCHEMA)
    options = Settings(export_json=False, export_csv=False, export_coco=True).format_options
    narrow = narrowed(mapping, chosen_formats(options))
    assert narrow.annotations is not None
    assert {"id", "label", "polygon", "box_3"} <= narrow.annotations.fields.keys()
    assert not {"confidence", "created_at"} & {*narrow.annotations.fields, *narrow.images.fields}
    assert narrowed(mapping, chosen_formats({**options, "export_csv": True})) is mapping
