"""Applications that keep all regions of an image in one document: LabelU and Geti, without configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import run_autoexport
from tests.databases import Connection
from tests.properties.comparison import Exporting
from tests.trials import everything_in

CANARY = "canary-documents-77f0"
_AT = "2026-05-04 10:01:00"

LABELU = f"""
CREATE TABLE task (id INTEGER PRIMARY KEY, name VARCHAR(64), description VARCHAR(64), tips VARCHAR(64),
  config TEXT, media_type VARCHAR(32), created_at TIMESTAMP, updated_at TIMESTAMP, deleted_at TIMESTAMP);
CREATE TABLE task_attachment (id INTEGER PRIMARY KEY, filename VARCHAR(256), url VARCHAR(256), path VARCHAR(256));
CREATE TABLE task_sample (id INTEGER PRIMARY KEY, inner_id INTEGER, task_id INTEGER REFERENCES task (id),
  file_id INTEGER REFERENCES task_attachment (id), data TEXT, state VARCHAR(32), created_at TIMESTAMP,
  updated_at TIMESTAMP, deleted_at TIMESTAMP);
CREATE TABLE task_pre_annotation (id INTEGER PRIMARY KEY, task_id INTEGER, file_id INTEGER, data TEXT);
INSERT INTO task_attachment VALUES (1, 'a.png', '/x?sig={CANARY}', 'upload/1/a.png');
INSERT INTO task_attachment VALUES (2, 'b.png', '{CANARY}', 'b.png');
INSERT INTO task_pre_annotation VALUES (1, 1, 1, '{CANARY}');
"""
GETI = f"""
CREATE TABLE sources (id TEXT PRIMARY KEY, config_data TEXT);
CREATE TABLE projects (id TEXT PRIMARY KEY NOT NULL, name VARCHAR(255), task_type VARCHAR(50),
  exclusive_labels BOOLEAN, created_at TIMESTAMP, updated_at TIMESTAMP);
CREATE TABLE media (id TEXT PRIMARY KEY NOT NULL, project_id TEXT REFERENCES projects (id), type VARCHAR(50),
  name VARCHAR(255), format VARCHAR(50), width INTEGER, height INTEGER, video_id TEXT, frame_index INTEGER,
  size INTEGER, created_at TIMESTAMP, updated_at TIMESTAMP);
CREATE TABLE dataset_items (id TEXT PRIMARY KEY NOT NULL REFERENCES media (id), project_id TEXT,
  annotation_data JSON, user_reviewed BOOLEAN, prediction_model_id TEXT, subset VARCHAR(20),
  created_at TIMESTAMP, updated_at TIMESTAMP);
CREATE TABLE labels (id TEXT PRIMARY KEY NOT NULL, project_id TEXT REFERENCES projects (id), name VARCHAR(255),
  color VARCHAR(7), hotkey VARCHAR(10));
INSERT INTO sources VALUES ('s', '{CANARY}');
INSERT INTO projects VALUES ('p', 'Parts', 'detection', NULL, '{_AT}', '{_AT}');
INSERT INTO labels VALUES ('l1', 'p', 'bolt', '#ff0000', 'b'), ('l2', 'p', 'nut', '#00ff00', 'n');
"""


def exported(url: str, directory: Path) -> dict[str, Any]:
    """The exported tree, without a leak; `verify` agrees with the files."""
    told = ("--database-url", url, "--export-dir", str(directory))
    done = run_autoexport(*told)
    assert done.exit_code == 0, done.stderr
    assert run_autoexport("verify", *told).exit_code == 0
    assert CANARY not in done.stdout + done.stderr
    assert CANARY.encode() not in everything_in([directory])
    tree: dict[str, Any] = json.loads((directory / "database_export.json").read_bytes())
    return tree


def sample(connection: Connection, key: int, file: int, result: dict[str, Any], state: str = "DONE") -> None:
    """Insert a sample of LabelU; its result is JSON in a string of JSON."""
    data = json.dumps({"result": json.dumps(result), "urls": {"1": CANARY}})
    row = (key, key, file, data, state, _AT, _AT)
    connection.execute("INSERT INTO task_sample VALUES (?, ?, 1, ?, ?, ?, ?, ?, NULL)", *row)


@pytest.fixture
def labelu(bare_database: tuple[str, Connection]) -> tuple[str, Connection]:
    """A database of LabelU: two samples, of which one was skipped, and a task about sound."""
    url, connection = bare_database
    connection.script(LABELU)
    attributes = [{"key": "Car", "value": "car", "color": "#ff6600"}, {"key": "Bus", "value": "bus"}]
    config = json.dumps(
        {"tools": [{"tool": "rectTool", "config": {"attributes": attributes}}, {"tool": "tagTool"}]}
    )
    for key, kind in ((1, "IMAGE"), (2, "AUDIO")):
        connection.execute("INSERT INTO task VALUES (?, ?, NULL, ?, ?, ?, ?, ?, NULL)",
                           key, f"Task {key}", CANARY, config, kind, _AT, _AT)  # fmt: skip
    corners = {name: {"x": 1, "y": 2.5} for name in ("tl", "tr", "br", "bl")}
    sample(connection, 1, 1, {
        "width": 640, "height": 480, "rotate": 0,
        "rectTool": {"result": [{"id": "r", "x": 1.5, "y": 2, "width": 10, "height": 20, "label": "car",
                                 "attributes": {"colour": "red"}}]},
        "polygonTool": {"result": [{"id": "p", "points": [{"x": 1, "y": 2}, {"x": 3, "y": 4}, {"x": 5, "y": 6}]}]},
        "lineTool": {"result": [{"id": "l", "points": [{"x": 1, "y": 2}, {"x": 3, "y": 4}], "label": "bus"}]},
        "pointTool": {"result": [{"x": 7, "y": 8}]},
        "cuboidTool": {"result": [{"id": "c", "front": corners, "back": corners}]},
        "tagTool": {"result": [{"id": "t", "value": {"weather": ["rain", "wind"]}}]},
        "textTool": {"result": [{"id": "x", "value": {"note": "two"}}]},
        "relationTool": {"result": [{"id": "rel"}]},
    })  # fmt: skip
    sample(connection, 2, 2, {"width": 9, "height": 8, "rectTool": {"result": [{"id": "s"}]}}, "SKIPPED")
    return url, connection


def test_the_tree_of_labelu(labelu: tuple[str, Connection], tmp_path: Path) -> None:
    """Every tool gives annotations; a skipped sample has a size and none."""
    (project,) = exported(labelu[0], tmp_path / "exports")["projects"]
    assert [(label["name"], label["color"], label["annotation_count"]) for label in project["labels"]] == [
        ("bus", None, 1), ("car", "#ff6600", 1), ("rain", None, 1),
    ]  # fmt: skip
    first, second = project["datasets"][0]["images"]
    assert (first["filename"], first["file_path"], first["width"], first["is_labeled"]) == (
        "a.png", "upload/1/a.png", 640, True,
    )  # fmt: skip
    assert (second["width"], second["status"], second["annotations"]) == (9, "SKIPPED", [])
    box, polygon, line, point, cuboid, tag, text = first["annotations"]
    assert (box["id"], box["bbox"], box["attributes"]) == (
        "1:r", {"x_min": 1.5, "y_min": 2, "x_max": 11.5, "y_max": 22}, {"colour": "red"},
    )  # fmt: skip
    assert (polygon["polygon"], polygon["bbox"], polygon["label"]) == ([[1, 2], [3, 4], [5, 6]], None, None)
    assert (line["type"], line["points"]) == ("polyline", [[1, 2], [3, 4]])
    assert (point["id"], point["points"]) == ("1:pointTool-0", [[7, 8]])
    assert (cuboid["type"], cuboid["points"]) == ("cuboid", [[1, 2.5]] * 8)
    assert (tag["type"], tag["label"], tag["attributes"]) == (
        "classification", "rain", {"weather": ["rain", "wind"]},
    )  # fmt: skip
    assert (text["type"], text["label"], text["attributes"]) == ("text", None, {"note": "two"})


async def test_changes_of_labelu(labelu: tuple[str, Connection], tmp_path: Path) -> None:
    """Also in the tables that only a query joins; each export equals a full one."""
    url, connection = labelu
    exporting = Exporting(url, tmp_path)
    await exporting.export()
    for statement in (
        "UPDATE task_sample SET state = 'DONE' WHERE id = 2",
        "UPDATE task_attachment SET filename = 'c.png' WHERE id = 2",
        "UPDATE task SET config = '{}' WHERE id = 1",
        "UPDATE task_sample SET data = 'no JSON' WHERE id = 1",
        "UPDATE task SET media_type = 'AUDIO' WHERE id = 1",
        "UPDATE task SET media_type = 'IMAGE'",
        "UPDATE task_sample SET deleted_at = created_at WHERE id = 2",
        "DELETE FROM task_sample WHERE id = 1",
    ):
        connection.execute(statement)
        assert (await exporting.export()).outcome.published, statement


@pytest.fixture
def geti(bare_database: tuple[str, Connection]) -> tuple[str, Connection]:
    """A database of Geti: an image, a frame of a video, the video, and an image without an item."""
    url, connection = bare_database
    connection.script(GETI)
    media = [
        ("m1", "image", "a", None),
        ("v", "video", "b", None),
        ("m2", "video_frame", "b", 5),
        ("m3", "image", "c", 0),
    ]
    for key, kind, name, frame in media:
        connection.execute("INSERT INTO media VALUES (?, 'p', ?, ?, 'jpg', 640, 480, NULL, ?, 9, ?, ?)",
                           key, kind, name, frame, _AT, _AT)  # fmt: skip
    turned = {"type": "rotated_rectangle", "x": 50, "y": 50, "width": 20, "height": 10, "angle": 90}
    corners = [{"x": 1, "y": 2}, {"x": 3, "y": 4}, {"x": 5, "y": 6}]
    both = [{"id": "l1"}, {"id": "l2"}]
    annotations = [
        {"shape": {"type": "rectangle", "x": 10, "y": 20, "width": 30, "height": 40}, "labels": [{"id": "l1"}]},
        {"shape": {"type": "polygon", "points": corners}, "labels": both, "confidences": [0.5, 0.25]},
        {"shape": {"type": "full_image"}, "labels": both, "confidences": [0.5, 0.25]},
        {"shape": turned, "labels": [{"id": "gone"}]},
        {"shape": {"type": "ellipse", "x": 0, "y": 0, "width": 4, "height": 2}, "labels": []},
        {"shape": {"type": "keypoint", "points": corners[:1]}, "labels": [{"id": "l1"}]},
        {"shape": {"type": "rectangle"}, "labels": [{"id": "l1"}]},
    ]  # fmt: skip
    item = "INSERT INTO dataset_items VALUES (?, 'p', ?, ?, ?, ?, ?, ?)"
    connection.execute(item, "m1", json.dumps(annotations), True, None, "training", _AT, _AT)
    connection.execute(item, "m2", json.dumps(annotations[:1]), False, "model-1", "unassigned", _AT, _AT)
    return url, connection


def test_the_tree_of_geti(geti: tuple[str, Connection], tmp_path: Path) -> None:
    """Media with an item are images; labels are named by id; a model makes annotations automatic."""
    (project,) = exported(geti[0], tmp_path / "exports")["projects"]
    assert [(label["id"], label["annotation_count"]) for label in project["labels"]] == [("l1", 6), ("l2", 1)]
    first, frame = project["datasets"][0]["images"]
    assert [first[key] for key in ("id", "filename", "split", "is_verified")] == ["m1", "a", "train", True]
    assert [frame[key] for key in ("id", "split", "is_verified")] == ["m2", None, False]
    box, polygon, whole, other, turned, ellipse, point, broken = first["annotations"]
    assert (box["label"], box["label_id"], box["bbox"]["y_max"], box["is_auto_generated"]) == (
        "bolt",
        "l1",
        60,
        False,
    )
    assert (polygon["confidence"], polygon["attributes"]) == (0.5, {"labels": ["bolt", "nut"]})
    assert [(each["id"], each["label"], each["confidence"]) for each in (whole, other)] == [
        ("m1:2", "bolt", 0.5), ("m1:2:1", "nut", 0.25),
    ]  # fmt: skip
    assert (turned["label"], turned["polygon"][0], turned["rotation"]) == (None, [55, 40], 90)
    assert (ellipse["type"], ellipse["bbox"]["x_max"], ellipse["label"]) == ("ellipse", 4, None)
    assert (point["type"], point["points"]) == ("keypoints", [[1, 2]])
    assert (broken["type"], broken["bbox"]) == ("classification", None)
    (predicted,) = frame["annotations"]
    assert (predicted["is_auto_generated"], predicted["model_id"]) == (True, "model-1")


async def test_changes_of_geti(geti: tuple[str, Connection], tmp_path: Path) -> None:
    """A label that gets another name changes the annotations that name it by id."""
    url, connection = geti
    exporting = Exporting(url, tmp_path)
    await exporting.export()
    for statement in (
        "UPDATE labels SET name = 'screw' WHERE id = 'l1'",
        "UPDATE dataset_items SET annotation_data = '[]' WHERE id = 'm2'",
        "UPDATE media SET name = 'd' WHERE id = 'm1'",
        "UPDATE dataset_items SET annotation_data = NULL WHERE id = 'm1'",
        "DELETE FROM dataset_items WHERE id = 'm2'",
    ):
        connection.execute(statement)
        assert (await exporting.export()).outcome.published, statement
