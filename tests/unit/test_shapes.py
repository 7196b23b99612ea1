"""Shapes beyond boxes and polygons: turned boxes, points, masks, attributes, tracks."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoexport.formats.json_document import JsonDocument, JsonStyle
from autoexport.mapping.description import describe
from autoexport.mapping.mapper import map_catalog
from autoexport.model.catalog import Catalog, Column, Table
from autoexport.model.mapping import SHAPE_FIELDS
from autoexport.values.turned import hull, rectangle, turned
from tests.trees import Dataset, Project, built, rendered

OLD_KEYS = [
    "id", "type", "label", "label_id", "confidence", "bbox", "polygon", "is_auto_generated", "is_verified",
    "model_id", "created_at", "updated_at",
]  # fmt: skip
BOX = {"box_0": 40, "box_1": 20, "box_2": 80, "box_3": 60}
COORDINATES = st.floats(-1e4, 1e4, allow_nan=False)


def annotations_of(rows: list[dict[str, Any]], style: JsonStyle = "records") -> list[dict[str, Any]]:
    """These rows as the annotations of one published image."""
    project = Project(
        {"id": 1, "name": "p"}, [], [Dataset({"id": 1, "name": "d"}, [{"id": 1, "annotations": rows}])]
    )
    document = json.loads(built([project]).written(JsonDocument(style)))
    published: list[dict[str, Any]] = document["projects"][0]["datasets"][0]["images"][0]["annotations"]
    return published


@pytest.mark.parametrize("style", ["records", "pretty"])
def test_new_keys_are_in_all_annotations_or_in_none(style: JsonStyle) -> None:
    """The mapping decides, not the row, and the old keys stay where they were."""
    plain = annotations_of([{"id": 1, **BOX}, {"id": 2}], style)
    assert [list(annotation) for annotation in plain] == [OLD_KEYS, OLD_KEYS]
    rows: list[dict[str, Any]] = [
        {"id": 1, **BOX, "attributes": '{"colour":"blue, dark"}', "track_id": 7, "frame": 3, "keyframe": 1},
        {"id": 2, "type": "mask", "mask": '{"format": "rle", "rle": [0, 1]}'},
        {"id": 3, "points": "[[5, 6.5]]", "rotation": None},
    ]
    first, second, third = annotations_of(rows, style)
    assert list(first) == list(second) == list(third) == [*OLD_KEYS, *SHAPE_FIELDS]
    assert (first["type"], first["attributes"]) == ("bbox", {"colour": "blue, dark"})
    assert (first["track_id"], first["frame"], first["keyframe"]) == (7, 3, True)
    assert (second["type"], second["mask"]) == ("mask", {"format": "rle", "rle": [0, 1]})
    assert (third["type"], third["points"], third["rotation"]) == ("points", [[5, 6.5]], None)
    (only,) = annotations_of([{"id": 1, "frame": 2}], style)
    assert list(only) == [*OLD_KEYS, "frame"]


@pytest.mark.parametrize(
    "word", ["keypoints", "points", "polyline", "ellipse", "mask", "cuboid", "skeleton", "text"]
)
def test_more_words_for_the_type(word: str) -> None:
    """They are published as stored; any other word is replaced by one that the shapes give."""
    first, second = annotations_of([{"id": 1, "type": word, **BOX}, {"id": 2, "type": f"{word}!", **BOX}])
    assert (first["type"], second["type"]) == (word, "bbox")


def test_a_turned_box_has_corners_and_their_hull() -> None:
    """About its centre, clockwise, exactly for quarter turns; a whole turn is none."""
    turns = [90, 0, -90.0, 360, 45, None, "90"]
    quarter, straight, back, whole, slanted, unknown, worded = annotations_of(
        [{"id": number, **BOX, "box_2": 100, "rotation": turn} for number, turn in enumerate(turns)]
    )
    assert (quarter["type"], quarter["bbox"]) == ("polygon", {"x_min": 50, "y_min": 10, "x_max": 90, "y_max": 70})
    assert quarter["polygon"] == [[90, 10], [90, 70], [50, 70], [50, 10]]
    assert back["polygon"] == [[50, 70], [50, 10], [90, 10], [90, 70]]
    for annotation in (straight, whole, unknown):
        assert (annotation["type"], annotation["polygon"], annotation["bbox"]["x_min"]) == ("bbox", None, 40)
    assert slanted["polygon"][0] == pytest.approx([62.928932, 4.644661])
    assert worded["polygon"] == quarter["polygon"]
    assert [a["rotation"] for a in (quarter, straight, back, whole)] == [90, 0, -90, 360]


def test_what_is_not_turned() -> None:
    """A polygon of its own stays; so do the boxes of ellipses and masks, and rows without a box."""
    kept = "[[1, 2], [3, 4], [5, 6]]"
    rows: list[dict[str, Any]] = [
        {"id": 1, **BOX, "rotation": 30, "polygon": kept},
        {"id": 2, **BOX, "rotation": 30, "type": "ellipse", "polygon": None},
        {"id": 3, "rotation": 30},
        {"id": 4, **BOX, "box_2": None, "rotation": 30},
    ]
    own, ellipse, none, half = annotations_of(rows)
    assert (own["type"], own["polygon"]) == ("polygon", json.loads(kept))
    assert (ellipse["type"], ellipse["polygon"], ellipse["bbox"]["x_max"]) == ("ellipse", None, 80)
    assert (none["type"], none["bbox"], none["polygon"]) == ("classification", None, None)
    assert (half["polygon"], half["bbox"]["x_min"]) == (None, 40)


@given(COORDINATES, COORDINATES, st.floats(0, 1e3), st.floats(0, 1e3), st.floats(-720, 720, allow_nan=False))
def test_turning_keeps_lengths(x: float, y: float, width: float, height: float, degrees: float) -> None:
    """The sides of a turned box are as long as before, and its hull holds all corners."""
    corners = turned(rectangle(x, y, x + width, y + height), (x, y), degrees)
    sides = [((a - c) ** 2 + (b - d) ** 2) ** 0.5 for (a, b), (c, d) in pairwise(corners)]
    assert sides == pytest.approx([width, height, width], abs=1e-4)
    x_min, y_min, x_max, y_max = hull(corners)
    assert all(x_min <= across <= x_max and y_min <= down <= y_max for across, down in corners)


def test_shapes_are_mapped_only_if_configured() -> None:
    """By name alone, no unit and no sense would be known; `check` lists what is mapped."""
    images = Table("images", None, "table", (Column("id", "integer"), Column("filename", "text")), ("id",))
    names = ("id", "image_id", "x_min", "y_min", "x_max", "y_max", "rotation", "points", "frame")
    annotations = Table("annotations", None, "table", tuple(Column(name, "integer") for name in names), ("id",))
    catalog = Catalog((images, annotations))
    found = map_catalog(catalog)
    assert not set(SHAPE_FIELDS) & set(found.annotations.fields if found.annotations else ())
    assert any("turned boxes" in warning for warning in found.warnings)
    assert not any("rotation" in name for name in found.not_found)
    told = map_catalog(catalog, {"annotations": {"columns": {"rotation": "rotation", "frame": "frame"}}})
    assert told.annotations is not None
    assert {"rotation", "frame"} <= set(told.annotations.fields)
    assert ("annotations", "rotation", "rotation") in describe(told)
    assert not [warning for warning in told.warnings if "turned" in warning]
    text = replace(annotations, columns=(*annotations.columns, Column("track", "text")))
    tracked = map_catalog(Catalog((images, text)), {"annotations": {"columns": {"track_id": "track"}}})
    assert tracked.annotations is not None
    assert tracked.annotations.fields["track_id"].name == "track"


def test_counts_know_the_new_types() -> None:
    """A label counts whichever shape it is drawn with."""
    block = rendered([{"id": 1, "annotations": [{"label": "a", "points": "[[1, 2]]"}, {"label": "a"}]}])
    assert block.counts.labels == {"a": 2}
