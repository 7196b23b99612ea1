"""Rows become blocks: every published field is there, and everything is counted."""

from __future__ import annotations

from typing import Any

import pytest

from autoexport.model.catalog import Scalar
from autoexport.model.mapping import ANNOTATION_FIELDS, IMAGE_FIELDS
from autoexport.values.block import ANNOTATION_RULES, IMAGE_RULES, PARENT_RULES, ruled_parents
from autoexport.values.mended import Mended
from tests.trees import rendered


def test_every_field_is_there() -> None:
    """Fields that the database does not have are null, in as many rows as there are."""
    block = rendered([{"id": 1, "annotations": [{"id": 1}]}, {"id": 2}])
    assert set(block.images) == set(IMAGE_FIELDS)
    assert {name: column for name, column in block.images.items() if name not in ("id", "is_labeled")} == (
        {name: [None, None] for name in IMAGE_FIELDS if name not in ("id", "is_labeled")}
    )
    assert set(ANNOTATION_FIELDS) - {"box_0", "box_1", "box_2", "box_3", "box_json"} <= set(block.annotations)
    assert all(len(column) == 1 for column in block.annotations.values())


def test_every_field_has_a_rule() -> None:
    """The rules name the fields of the model and no others."""
    assert set(IMAGE_RULES) == set(IMAGE_FIELDS)
    assert {*ANNOTATION_RULES, "box_0", "box_1", "box_2", "box_3", "box_json"} == set(ANNOTATION_FIELDS)
    assert set(PARENT_RULES) >= {"id", "name", "color"}


def test_counts() -> None:
    """Images, labelled ones, annotations, splits and labels are counted from the rows."""
    block = rendered(
        [
            {"id": 1, "split": "training", "is_labeled": 1, "annotations": [{"label": "b"}, {"label": "a"}]},
            {"id": 2, "split": None, "is_labeled": 0, "annotations": [{"label": "b"}, {"label": None}]},
            {"id": 3, "split": "", "is_labeled": None},
            {"id": 4, "split": "unassigned", "is_labeled": 1},
            {"id": 5, "split": "spare", "is_labeled": "perhaps", "annotations": [{"label": 7}]},
        ]
    )
    counts = block.counts
    assert (counts.images, counts.labeled, counts.annotations, counts.repaired) == (5, 2, 5, 1)
    assert counts.splits == {"train": 1, "unassigned": 3, "spare": 1}
    assert counts.labels == {"b": 2, "a": 1, "7": 1}


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        ({}, "classification"),
        ({"box_0": 0, "box_1": 0, "box_2": 0, "box_3": 0}, "bbox"),
        ({"box_0": 0, "polygon": "[[1, 2]]"}, "polygon"),
        ({"box_0": 0, "polygon": "[]"}, "bbox"),
        ({"box_0": 0, "polygon": "null"}, "bbox"),
        ({"type": "classification", "polygon": "[[1, 2]]"}, "classification"),
        ({"type": "bbox", "polygon": "[[1, 2]]"}, "bbox"),
        ({"type": "polygon"}, "polygon"),
        ({"type": "Polygon", "box_0": 0}, "bbox"),
        ({"type": "rectangle", "polygon": "[[1, 2]]"}, "polygon"),
        ({"type": 1}, "classification"),
        ({"type": None, "box_0": 0}, "bbox"),
    ],
)
def test_types(annotation: dict[str, Any], expected: str) -> None:
    """The source's own word where it has one of the three, else a polygon, else a box, else a class."""
    block = rendered([{"id": 1, "annotations": [annotation, {"type": "bbox"}]}])
    assert list(block.annotations["type"]) == [expected, "bbox"]


def test_without_a_flag_annotations_tell() -> None:
    """A database that does not say which images are labelled: those that have an annotation."""
    block = rendered([{"id": 1, "annotations": [{"id": 1}]}, {"id": 2}])
    assert (block.images["is_labeled"], block.counts.labeled) == ([True, False], 1)


def test_names_from_paths() -> None:
    """A file name that is not stored is the last part of the path."""
    paths = [{"file_path": path} for path in ("a/b.jpg", "c:\\d\\e.png", None, "f")]
    assert list(rendered(paths).images["filename"]) == ["b.jpg", "e.png", None, "f"]
    assert list(rendered([{"filename": "own", "file_path": "a/b.jpg"}]).images["filename"]) == ["own"]


def test_repaired_values_are_counted_once_each() -> None:
    """Of images, annotations and boxes together."""
    block = rendered(
        [
            {
                "id": 1,
                "width": float("inf"),
                "is_verified": "?",
                "annotations": [
                    {"confidence": float("-inf"), "polygon": "[NaN, NaN]", "box_0": "x", "box_1": 1},
                ],
            }
        ]
    )
    assert block.counts.repaired == 6


def test_rows_of_small_tables() -> None:
    """A project, a dataset or a label: the same rules for one row."""
    row: dict[str, Scalar] = {
        "id": 1,
        "name": 5,
        "description": b"\x00",
        "created_at": "2024-01-15 09:00:00+01:00",
        "other": "secret",
    }
    columns = {name: [value] for name, value in row.items()}
    ruled, mended = ruled_parents(columns, ("id", "name", "description", "created_at", "updated_at"), 1, {})
    values = {name: column[0] for name, column in ruled.items()}
    assert mended == Mended()
    assert list(values) == ["id", "name", "description", "created_at", "updated_at"]
    assert str(values.pop("created_at")) == "2024-01-15 08:00:00+00:00"
    assert values == {"id": 1, "name": "5", "description": "AA==", "updated_at": None}
