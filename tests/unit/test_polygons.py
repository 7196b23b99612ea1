"""Polygons in the dialects of other applications become lists of points."""

from __future__ import annotations

import json
from typing import Any

import pytest

from autoexport.values.json_columns import documents
from autoexport.values.polygons import points, polygons

SQUARE = [[0, 0], [4, 0], [4, 4.5], [0, 4]]
HOLE = [[1, 1], [2, 1], [1, 2]]


def read(*column: Any) -> tuple[list[Any], int]:
    """The parsed polygons of a column, and the number of repaired values."""
    ruled, repaired = polygons(column)
    return [None if text is None else json.loads(text) for text in ruled], repaired


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ("[0,0,4,0,4,4.5,0,4]", SQUARE),
        ("[0, 0, 4, 0, 4, 4.5, 0, 4]", SQUARE),
        ("0,0,4,0,4,4.5,0,4", SQUARE),
        ("0,0;4,0;4,4.5;0,4", SQUARE),
        ("0,0 4,0 4,4.5 0,4", SQUARE),
        ("[[0,0,4,0,4,4.5,0,4]]", SQUARE),
        ("[[0, 0, 4, 0, 4, 4.5, 0, 4], [1, 1, 2, 1, 1, 2]]", [SQUARE, HOLE]),
        ('[{"x": 0, "y": 0}, {"x": 4, "y": 0}, {"x": 4, "y": 4.5}, {"x": 0, "y": 4}]', SQUARE),
        ('[{"y":0,"x":0},{"x":4,"y":0},{"x":4,"y":4.5,"z":1},{"x":0,"y":4}]', SQUARE),
        (json.dumps([[{"x": x, "y": y} for x, y in SQUARE]]), SQUARE),
        (json.dumps([[{"x": x, "y": y} for x, y in ring] for ring in (SQUARE, HOLE)]), [SQUARE, HOLE]),
        (json.dumps({"type": "Polygon", "coordinates": [SQUARE]}), SQUARE),
        (json.dumps({"type": "Polygon", "coordinates": [SQUARE, HOLE]}), [SQUARE, HOLE]),
        (json.dumps({"coordinates": [[SQUARE], [HOLE]], "type": "MultiPolygon"}), [SQUARE, HOLE]),
        (json.dumps({"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [SQUARE]}}), SQUARE),
        (
            json.dumps({"type": "Polygon", "coordinates": [[[0, 0, 9], [4, 0, 9], [1, 2, 9]]]}),
            [[0, 0], [4, 0], [1, 2]],
        ),
    ],
)
def test_other_dialects(stored: str, expected: Any) -> None:
    """They are written as points on one line, alone and among ordinary ones."""
    assert read(stored) == ([expected], 0)
    assert read(json.dumps(SQUARE), None, stored, "null") == ([SQUARE, None, expected, None], 0)
    (text,), _ = polygons([stored])
    assert documents([text.decode()]) == ([text], 0)


@pytest.mark.parametrize(
    "stored",
    [
        json.dumps(SQUARE),
        "[[1,2],[3,4]]",
        "[[1, 2, 0.5], [3, 4, 0.5], [5, 6, 0.5]]",
        "[1, 2, 3, 4]",
        "[1, 2, 9.5]",
        "[]",
        '[1, 2, 3, 4, 5, "6"]',
        '{"type": "Point", "coordinates": [1, 2]}',
        '{"points": [1, 2, 3, 4, 5, 6]}',
        '[{"x": 1, "y": 2}, {"x": 3}]',
        '[{"x": 1, "y": 2}, [3, 4]]',
        '[[{"x": 1, "y": 2}], [3, 4]]',
        '[[{"x": 1, "y": "2"}]]',
        '[{"x": 1, "y": 12345678901234567890}]',
        "[[[1, 2], [3, 4], [5, 6]]]",
        "[1, 2, 3, 4, 5, 12345678901234567890]",
        "not json",
        "1.2.3, 4, 5, 6, 7, 8",
        7,
        b"[1]",
    ],
)
def test_everything_else_takes_the_rule_of_json(stored: Any) -> None:
    """Points, circles, lists of points and text stay as they were."""
    assert polygons([stored, None]) == documents([stored, None])


@pytest.mark.parametrize(
    "stored",
    [
        "[1, 2, 3, 4, 5, 6, 7]",
        '{"type": "Polygon", "coordinates": [[1, 2], [3, 4]]}',
        '{"type": "Polygon", "coordinates": null}',
        '{"type": "MultiPolygon", "coordinates": [[[["a", 2]]]]}',
        '{"type": "Polygon", "coordinates": []}',
    ],
)
def test_what_looks_like_a_polygon_and_is_none(stored: str) -> None:
    """It stays as stored and is counted."""
    assert read(stored, json.dumps(SQUARE)) == ([json.loads(stored), SQUARE], 1)


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ("[5, 6]", [[5, 6]]),
        ("[5,6,7.5,8]", [[5, 6], [7.5, 8]]),
        ("[[5, 6]]", [[5, 6]]),
        ("[1, 2, 3, 4, 5, 6]", [[1, 2], [3, 4], [5, 6]]),
        ('[{"x": 5, "y": 6}]', [[5, 6]]),
        ("[5, 6, 7]", [5, 6, 7]),
        ("null", None),
    ],
)
def test_points(stored: str, expected: Any) -> None:
    """A flat list of two or four numbers is one point or two, and not a polygon."""
    (text, none), repaired = points([stored, None])
    assert (None if text is None else json.loads(text), none, repaired) == (expected, None, 0)
