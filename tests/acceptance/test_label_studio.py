"""A database of Label Studio is exported without configuration: tree, changes, secrets."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from autoexport.formats import outputs
from autoexport.incremental import plan
from autoexport.rendering import renderer
from autoexport.sources import block_size
from tests import label_studio
from tests.conftest import run_autoexport
from tests.databases import Connection
from tests.label_studio import BOXES, CANARY, add_answer, add_project, add_task, rectangle, result
from tests.properties.comparison import Exporting, without_waiting_for_the_disk
from tests.trials import everything_in

STEPS = 40


@pytest.fixture
def studio(bare_database: tuple[str, Connection]) -> tuple[str, Connection]:
    """The URL of a database with the tables of Label Studio, without projects, and a session."""
    url, connection = bare_database
    label_studio.create(connection, url.partition(":")[0])
    return url, connection


def exported(url: str, directory: Path, *arguments: str) -> dict[str, Any]:
    """The projects of the exported tree, by name; `verify` agrees with the files."""
    told = ("--database-url", url, "--export-dir", str(directory))
    done = run_autoexport(*told, *arguments, "--log-level", "debug")
    assert done.exit_code == 0, done.stderr
    assert CANARY not in done.stdout + done.stderr
    assert run_autoexport("verify", *told, *arguments).exit_code == 0
    tree = json.loads((directory / "database_export.json").read_bytes())
    return {project["name"]: project for project in tree["projects"]}


def test_the_tree_of_a_project(studio: tuple[str, Connection], tmp_path: Path) -> None:
    """Tasks are images, results are annotations in pixels, labels are those of the configuration."""
    url, connection = studio
    add_project(connection, 1, "Yard", BOXES)
    url_of_image = "https://u:pw@cam.example.org/d/1.jpg?X-Amz-Signature=aa"
    add_task(connection, 1, 1, {"image": url_of_image, "other": CANARY})
    add_task(connection, 2, 1, {"image": "/data/local-files/?d=dock/2.jpg"})
    add_task(connection, 3, 1, {"text": "no image"})
    note = result("textarea", {"text": ["bent"]}, "r10-20", from_name="note")
    light = result("choices", {"choices": ["day", "dark"]}, "c", from_name="light")
    relation = {"type": "relation", "from_id": "r10-20", "to_id": "c", "direction": "right"}
    turned = rectangle("Fork & lift", 50, 25, width=10, height=25, rotation=90)
    add_answer(connection, 5, 1, [rectangle("Pallet"), turned, note, relation, light], ground_truth=1)
    add_answer(connection, 6, 2, [rectangle("Pallet")], was_cancelled=1)
    connection.execute("UPDATE task SET is_labeled = ? WHERE id = 1", True)
    project = exported(url, tmp_path / "exports")["Yard"]
    assert [(label["name"], label["color"], label["annotation_count"]) for label in project["labels"]] == [
        ("Fork & lift", None, 1), ("Never used", None, 0), ("Pallet", "#FFA39E", 1), ("dark", None, 1),
        ("day", None, 1),
    ]  # fmt: skip
    (dataset,) = project["datasets"]
    first, second = dataset["images"]
    assert (first["file_path"], first["filename"]) == ("https://cam.example.org/d/1.jpg", "1.jpg")
    assert (first["width"], first["height"], first["is_labeled"]) == (800, 400, True)
    # An answer that was cancelled has no annotations, and yet tells the size of the image.
    assert (second["filename"], second["width"], second["annotations"]) == ("2.jpg", 800, [])
    box, slanted, day, dark = first["annotations"]
    assert (box["id"], box["type"], box["label"], box["attributes"]) == (
        "5:r10-20", "bbox", "Pallet", {"note": ["bent"]},
    )  # fmt: skip
    assert box["bbox"] == {"x_min": 80, "y_min": 80, "x_max": 320, "y_max": 240}
    assert (box["is_verified"], box["is_auto_generated"], box["confidence"]) == (True, False, None)
    assert slanted["polygon"] == [[400, 100], [400, 180], [300, 180], [300, 100]]
    assert slanted["bbox"] == {"x_min": 300, "y_min": 100, "x_max": 400, "y_max": 180}
    assert [(each["id"], each["type"], each["label"]) for each in (day, dark)] == [
        ("5:c", "classification", "day"), ("5:c:1", "classification", "dark"),
    ]  # fmt: skip
    manifest = json.loads((tmp_path / "exports" / "manifest.json").read_bytes())
    assert (manifest["counts"]["images"], manifest["counts"]["annotations"]) == (2, 4)
    assert (manifest["orphans"], manifest["redacted"]) == ({"images": 0, "annotations": 0}, 1)


def test_check_names_the_preset_and_how_to_leave_it(studio: tuple[str, Connection], tmp_path: Path) -> None:
    """It says what is read, and `preset = false` finds tables by their names alone."""
    url, connection = studio
    label_studio.fill(connection)
    told = ("--database-url", url, "--export-dir", str(tmp_path / "exports"))
    done = run_autoexport("check", "--verbose", *told, cwd=tmp_path)
    assert done.exit_code == 0
    assert "Label Studio" in done.stdout
    assert "preset = false" in done.stdout
    assert "NOT was_cancelled" in done.stdout
    (tmp_path / "autoexport.toml").write_text("preset = false\n")
    assert run_autoexport(*told, cwd=tmp_path).exit_code == 2
    assert CANARY not in done.stdout + done.stderr


def test_an_older_version(studio: tuple[str, Connection], tmp_path: Path) -> None:
    """Before projects could be deleted, and before answers could be ground truth."""
    url, connection = studio
    connection.execute("ALTER TABLE project DROP COLUMN deleted_at")
    connection.execute("ALTER TABLE task_completion DROP COLUMN ground_truth")
    add_project(connection, 1, "Yard", BOXES)
    add_task(connection, 1, 1, {"image": "a.jpg"})
    connection.execute(
        "INSERT INTO task_completion (id, task_id, result, was_cancelled, created_at, updated_at)"
        " VALUES (1, 1, ?, ?, '2026-05-04', '2026-05-04')",
        json.dumps([rectangle("Pallet")]), False,
    )  # fmt: skip
    (image,) = exported(url, tmp_path / "exports")["Yard"]["datasets"][0]["images"]
    assert [(each["label"], each["is_verified"]) for each in image["annotations"]] == [("Pallet", None)]


def test_one_part_is_overruled(studio: tuple[str, Connection], tmp_path: Path) -> None:
    """A condition of one's own in place of the preset's: cancelled answers, too."""
    url, connection = studio
    label_studio.fill(connection)
    connection.execute("UPDATE task_completion SET was_cancelled = ?", True)
    config = tmp_path / "own.toml"
    assert exported(url, tmp_path / "exports")["Boxes"]["annotation_count"] == 0
    config.write_text('[tables.annotations]\nwhere = "id > 0 AND lead_time IS NULL"\n')
    assert exported(url, tmp_path / "own", "--config", str(config))["Boxes"]["annotation_count"] == 20
    config.write_text('[tables.annotations]\nwhere = "no_such_column = 1"\n')
    done = run_autoexport("--database-url", url, "--export-dir", str(tmp_path / "bad"), "--config", str(config))
    assert (done.exit_code, "no_such_column" in done.stderr) == (2, True)
    assert "tables.annotations.where" in done.stderr


@pytest.mark.parametrize("seed", [1, 2])
async def test_every_change_is_found(
    studio: tuple[str, Connection], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """After each of some random changes, an incremental export writes what a full one writes."""
    monkeypatch.setattr(block_size, "LEAST_BLOCK_IMAGES", 4)
    monkeypatch.setattr(block_size, "BLOCK_IMAGES", 4)
    monkeypatch.setattr(block_size, "PIECE_BYTES", 2_000)
    monkeypatch.setattr(plan, "SMALL_IMAGES", 2)
    monkeypatch.setattr(os, "fsync", without_waiting_for_the_disk)
    url, connection = studio
    label_studio.fill(connection)
    exporting = Exporting(url, tmp_path)
    await exporting.export()
    chance, modes = random.Random(seed), set()
    for _ in range(STEPS):
        for _ in range(chance.choice([1, 1, 3])):
            chance.choice(label_studio.STEPS)(connection, chance)
        modes.add((await exporting.export()).outcome.manifest.mode)
    assert "incremental" in modes
    assert CANARY.encode() not in everything_in([tmp_path / "exports"])


async def test_other_tables_cost_nothing(studio: tuple[str, Connection], tmp_path: Path) -> None:
    """A commit to a table that is not read renders no image, and changes no file."""
    url, connection = studio
    label_studio.fill(connection)
    exporting = Exporting(url, tmp_path)
    await exporting.export()
    connection.execute("UPDATE htx_user SET last_activity = ?", "2026-06-01 00:00:00")
    outcome = (await exporting.export()).outcome
    assert (outcome.published, outcome.reason) == (False, "0 images may have changed")


def test_predictions_on_request(studio: tuple[str, Connection], tmp_path: Path) -> None:
    """Beside the answers, with the model and its confidence."""
    url, connection = studio
    add_project(connection, 1, "Yard", BOXES)
    add_task(connection, 1, 1, {"image": "a.jpg"})
    add_answer(connection, 1, 1, [rectangle("Pallet")])
    insert = (
        "INSERT INTO prediction (result, score, model_version, created_at, updated_at, task_id)"
        " VALUES (?, 0.5, 'yolo', ?, ?, 1)"
    )
    at = "2026-05-04 08:01:00"
    connection.execute(
        insert, json.dumps([rectangle("Pallet"), {**rectangle("Pallet", 1), "score": 0.75}]), at, at
    )
    (tmp_path / "own.toml").write_text("predictions = true\n")
    told = ("--config", str(tmp_path / "own.toml"))
    (image,) = exported(url, tmp_path / "exports", *told)["Yard"]["datasets"][0]["images"]
    keys = ("is_auto_generated", "model_id", "confidence")
    assert [(each["id"].partition(":")[0], *(each[key] for key in keys)) for each in image["annotations"]] == [
        ("1", False, None, None), ("prediction", True, "yolo", 0.5), ("prediction", True, "yolo", 0.75),
    ]  # fmt: skip


async def test_every_format_and_the_rendering_process(
    studio: tuple[str, Connection], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all outputs on, a process renders documents as threads do, also around rows that are no images."""
    monkeypatch.setattr(renderer, "PROCESS_FROM_ROWS", 1)
    monkeypatch.setattr(block_size, "LEAST_BLOCK_IMAGES", 4)
    monkeypatch.setattr(block_size, "BLOCK_IMAGES", 4)
    monkeypatch.setattr(block_size, "PIECE_BYTES", 1_000)
    url, connection = studio
    label_studio.fill(connection)
    switches = {output.switch.name: True for output in outputs()}
    exporting = Exporting(url, tmp_path, **switches)
    chance = random.Random(5)
    for step in (None, label_studio.STEPS[2], label_studio.STEPS[9], label_studio.STEPS[8]):
        if step is not None:
            step(connection, chance)
        await exporting.export()
    assert CANARY.encode() not in everything_in([tmp_path / "exports"])


def test_check_counts_configurations_that_cannot_be_read(studio: tuple[str, Connection], tmp_path: Path) -> None:
    """One that is no XML, or XML that is not safe to read; an empty one is none."""
    url, connection = studio
    told = ("check", "--database-url", url, "--export-dir", str(tmp_path / "exports"))
    add_project(connection, 1, "Yard", BOXES)
    add_project(connection, 2, "Empty", "")
    assert "cannot be read" not in run_autoexport(*told).stdout
    add_project(connection, 3, "Broken", "<View><Image")
    assert "label_config of 1 project cannot be read" in run_autoexport(*told).stdout
    unsafe = '<!DOCTYPE a [<!ENTITY b "c">]><View>&b;</View>'
    add_project(connection, 4, "Unsafe", unsafe)
    done = run_autoexport(*told)
    assert done.exit_code == 0
    assert "label_config of 2 projects cannot be read" in done.stdout
