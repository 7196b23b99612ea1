"""A sample in the schema of Label Studio: two projects, whose answers are JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from autoexport.commands.samples import Row

SCHEMA = """
CREATE TABLE project (id integer NOT NULL PRIMARY KEY AUTOINCREMENT, title varchar(50), description text,
    label_config text, created_at datetime NOT NULL, updated_at datetime NOT NULL, deleted_at datetime);
CREATE TABLE task (id integer NOT NULL PRIMARY KEY AUTOINCREMENT, data text NOT NULL, created_at datetime NOT NULL,
    updated_at datetime NOT NULL, is_labeled bool NOT NULL, inner_id bigint,
    project_id integer REFERENCES project (id));
CREATE TABLE task_completion (id integer NOT NULL PRIMARY KEY AUTOINCREMENT, result text,
    was_cancelled bool NOT NULL, ground_truth bool NOT NULL, created_at datetime NOT NULL,
    updated_at datetime NOT NULL, task_id integer REFERENCES task (id));
CREATE INDEX task_project_id ON task (project_id);
CREATE INDEX task_completion_task_id ON task_completion (task_id)
"""

_BOXES = """<View>
  <Image name="image" value="$image"/>
  <RectangleLabels name="label" toName="image">
    <Label value="pallet" background="#FFA39E"/><Label value="forklift" background="#D4380D"/>
    <Label value="person"/>
  </RectangleLabels>
  <Choices name="light" toName="image"><Choice value="day"/><Choice value="night"/></Choices>
  <TextArea name="note" toName="image" perRegion="true"/>
</View>"""
_OUTLINES = """<View>
  <Image name="photo" value="$photo"/>
  <PolygonLabels name="outline" toName="photo"><Label value="wood" background="#006400"/></PolygonLabels>
  <KeyPointLabels name="gate" toName="photo"><Label value="gate"/></KeyPointLabels>
</View>"""

_SIZE = {"original_width": 1280, "original_height": 720, "image_rotation": 0}
_START = datetime(2024, 1, 15, 9, 0)  # noqa: DTZ001 - stored times have no zone
_TASKS = 12


def rows() -> Iterator[Row]:
    """Every fourth task has no answer yet, every fifth answer was cancelled."""
    yield "project", (1, "Warehouse", "Two cameras in the hall", _BOXES, _time(0), _time(1), None)
    yield "project", (2, "Forêt – été", None, _OUTLINES, _time(2), _time(3), None)
    for key in range(1, 2 * _TASKS + 1):
        project = 1 if key <= _TASKS else 2
        data = (
            {"image": f"/data/upload/1/hall_{key:03}.jpg"} if project == 1 else {"photo": f"s3://forest/{key}.tif"}
        )
        answered = key % 4 != 0
        yield "task", (key, json.dumps(data), _time(key * 10), _time(key * 10 + 7), answered, key, project)
        if answered:
            results = list(_boxes(key) if project == 1 else _outlines(key))
            moment = _time(key * 10 + 5)
            yield "task_completion", (key, json.dumps(results), key % 5 == 0, key % 3 == 0, moment, moment, key)


def _boxes(key: int) -> Iterator[dict[str, Any]]:
    for number in range(1 + key % 3):
        label = ("pallet", "forklift", "person")[(key + number) % 3]
        place = {"x": 5 + key * 3 % 50, "y": 10 + number * 20, "width": 12.5, "height": 15}
        turn = 30 if label == "forklift" else 0
        value = {**place, "rotation": turn, "rectanglelabels": [label]}
        yield _result("rectanglelabels", "label", f"{key}_{number}", value)
        if label == "forklift":
            yield _result("textarea", "note", f"{key}_{number}", {**place, "rotation": turn, "text": ["parked"]})
    yield _result("choices", "light", f"{key}_light", {"choices": ["night" if key % 5 == 1 else "day"]})


def _outlines(key: int) -> Iterator[dict[str, Any]]:
    left, top = 10 + key * 2 % 40, 15 + key * 3 % 30
    points = [[left, top], [left + 30, top + 5], [left + 35, top + 40], [left + 5, top + 45.5]]
    yield _result("polygonlabels", "outline", f"{key}_wood", {"points": points, "polygonlabels": ["wood"]})
    if key % 2:
        yield _result("keypointlabels", "gate", f"{key}_gate",
                      {"x": left, "y": top, "width": 0.5, "keypointlabels": ["gate"]})  # fmt: skip


def _result(kind: str, control: str, part: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"id": part, "type": kind, "from_name": control, "to_name": "image", **_SIZE, "value": value}


def _time(minutes: int) -> str:
    return f"{_START + timedelta(minutes=minutes)}.000000"
