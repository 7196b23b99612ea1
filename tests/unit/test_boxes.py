"""Boxes in every way they are stored, read as corners."""

from __future__ import annotations

from typing import Any

import pytest

from autoexport.model.mapping import BoxFormat, BoxReading
from autoexport.values.boxes import CORNERS, corners
from tests.trees import mapping

NO_BOX = (None, None, None, None)


def read(
    reading: BoxReading, *boxes: Any, box_format: BoxFormat | None = None
) -> tuple[list[Any], list[bool], int]:
    """The corners of each box, which of them are boxes, and how many values were repaired."""
    if reading == "json":
        columns: dict[str, Any] = {"box_json": boxes}
    else:
        columns = {f"box_{place}": column for place, column in enumerate(zip(*boxes, strict=True))}
    found, repaired = corners(columns, mapping(reading, box_format), len(boxes))
    return list(zip(*(found[name] for name in CORNERS), strict=True)), list(found["boxed"]), repaired


def test_corners_are_copied() -> None:
    """Corners stay what they are, whole numbers and fractions, also outside of the image."""
    assert read("corners", (1, 2.5, 3, 4.0), (-12.5, 0, 10000, 0.1)) == (
        [(1, 2.5, 3, 4.0), (-12.5, 0, 10000, 0.1)], [True, True], 0
    )  # fmt: skip


def test_no_box_where_there_is_none() -> None:
    """Four nulls are no box; a box that lacks a corner keeps the others."""
    assert read("corners", NO_BOX, (1, 2, 3, 4), (1, None, 3, 4)) == (
        [NO_BOX, (1, 2, 3, 4), (1, None, 3, 4)], [False, True, True], 0
    )  # fmt: skip


def test_corners_that_are_no_numbers() -> None:
    """Infinities are null and counted, text is as stored and counted."""
    assert read("corners", (float("inf"), 2, 3, 4), (1, "wide", 3, 4)) == (
        [(None, 2, 3, 4), (1, "wide", 3, 4)], [True, True], 2
    )  # fmt: skip


def test_origin_and_size() -> None:
    """The far corner is computed, in the units of the source."""
    assert read("origin", (10, 20, 30, 40), (0.5, 0.25, 0.25, 0.5)) == (
        [(10, 20, 40, 60), (0.5, 0.25, 0.75, 0.75)], [True, True], 0
    )  # fmt: skip


def test_centre_and_size() -> None:
    """Both corners are computed."""
    assert read("center", (0.5, 0.5, 0.5, 0.25)) == ([(0.25, 0.375, 0.75, 0.625)], [True], 0)


def test_numbers_stored_as_text_are_reckoned_with() -> None:
    """PostgreSQL's `numeric` arrives as text."""
    assert read("origin", ("10.50", "20", "1.00", "2")) == ([(10.5, 20, 11.5, 22)], [True], 0)


@pytest.mark.parametrize(
    ("box", "repaired"),
    [
        (NO_BOX, 0),
        ((1, 2, None, 4), 1),
        ((None, None, 3, 4), 1),
        ((float("inf"), 2, 3, 4), 1),
        ((float("inf"), float("inf"), None, 4), 2),
        ((1, "wide", 3, 4), 1),
        ((1.5e308, 0, 1.5e308, 1), 1),
    ],
)
def test_what_cannot_be_computed_is_no_box(box: Any, repaired: int) -> None:
    """Half a box is none; every bad value is counted once, a box that merely lacks some counts one."""
    assert read("origin", box, (1, 2, 3, 4)) == ([NO_BOX, (1, 2, 4, 6)], [False, True], repaired)


def test_integers_at_the_limit() -> None:
    """A sum beyond 64 bits becomes a float, which can be written."""
    ((_, _, far, _),), boxed, repaired = read("origin", (2**63 - 1, 0, 2**63 - 1, 1))
    assert (far, type(far), boxed, repaired) == (float(2**64), float, [True], 0)


@pytest.mark.parametrize(
    "stored",
    [
        '{"x_min": 1, "y_min": 2, "x_max": 4, "y_max": 6}',
        '{"xmin": 1, "ymin": 2, "xmax": 4, "ymax": 6}',
        '{"xMin": 1, "yMin": 2, "xMax": 4, "yMax": 6}',
        '{"x1": 1, "y1": 2, "x2": 4, "y2": 6, "score": "high"}',
        '{"left": 1, "top": 2, "right": 4, "bottom": 6}',
        '{"x": 1, "y": 2, "width": 3, "height": 4}',
        '{"x": 1, "y": 2, "w": 3, "h": 4}',
        '{"left": 1, "top": 2, "width": 3, "height": 4}',
        '{"cx": 2.5, "cy": 4, "w": 3, "h": 4}',
        '{"cx": 2.5, "cy": 4, "width": 3, "height": 4}',
        '{"x_center": 2.5, "y_center": 4, "width": 3, "height": 4}',
        '{"x": 1, "y": 2, "w": 3, "h": 4, "width": 640, "height": 480}',
        '{"x": 1, "y": 2, "width": 3, "height": 4, "rotation": 0, "label": "car"}',
        '{"x": 1, "y": 2, "width": 3, "height": 4, "angle": 360.0}',
        '{"x1": 4, "y1": 2, "x2": 4, "y2": 6, "x3": 1, "y3": 6, "x4": 1, "y4": 3}',
        '{"x1": 1, "y1": 2, "x2": 4, "y2": 6, "x3": null, "y3": null}',
        '{"x0": 4, "y0": 2, "x1": 2, "y1": 6, "x2": 1, "y2": 3}',
        '{"x0": 1, "y0": 2, "x1": 4, "y1": 6}',
    ],
)
def test_objects_are_read_by_their_keys(stored: str) -> None:
    """The keys say what the numbers are, whatever is said about lists."""
    assert read("json", stored, box_format="xyxy") == ([(1, 2, 4, 6)], [True], 0)


@pytest.mark.parametrize(
    ("box_format", "expected"),
    [("xyxy", (10, 20, 30, 40)), ("xywh", (10, 20, 40, 60)), ("cxcywh", (-5.0, 0.0, 25.0, 40.0))],
)
def test_lists_are_read_as_configured(box_format: BoxFormat, expected: tuple[Any, ...]) -> None:
    """A list of four means what `box_format` says."""
    assert read("json", "[10, 20, 30, 40]", box_format=box_format) == ([expected], [True], 0)


@pytest.mark.parametrize(
    ("stored", "repaired"),
    [
        ("[10, 20, 30, 40]", 1),  # ambiguous
        ('{"x": 1, "y": 2}', 1),
        ('{"x": 1, "y": 2, "width": 3, "height": 4, "rotation": 0.5}', 1),
        ('{"x": 1, "y": 2, "width": 3, "height": 4, "angle": "90"}', 1),
        ('{"x1": 1, "y1": 2, "x2": 4, "y2": 6, "x3": 2}', 1),
        ('{"x1": 1, "y1": 2, "x2": 4, "y2": 6, "x3": 2, "y3": "?"}', 1),
        ('{"x1": 1, "y1": 2, "x2": 4, "y2": 6, "x3": 2, "y4": 2}', 1),
        ('{"x": 1, "y": 2, "width": "3", "height": true}', 1),
        ('{"x": NaN, "y": 2, "width": 3, "height": 4}', 1),
        ('{"x": 1e308, "y": 2, "width": 1e308, "height": 4}', 1),
        ("not json", 1),
        ("7", 1),
        ("null", 0),
        ("", 0),
        (None, 0),
    ],
)
def test_json_that_is_no_box(stored: str | None, repaired: int) -> None:
    """What cannot be read is no box, and each counts one."""
    assert read("json", stored, '{"x1": 1, "y1": 2, "x2": 3, "y2": 4}') == (
        [NO_BOX, (1, 2, 3, 4)], [False, True], repaired
    )  # fmt: skip


@pytest.mark.parametrize("box_format", ["xyxy", "xywh", "cxcywh"])
def test_lists_of_other_lengths(box_format: BoxFormat) -> None:
    """Only four numbers are a box."""
    assert read("json", "[1, 2, 3]", '[1, 2, 3, "4"]', "[1, 2, 3, 4, 5]", box_format=box_format)[1:] == (
        [False, False, False], 3
    )  # fmt: skip


def test_no_annotations_and_no_boxes() -> None:
    """A block without annotations, and a database without boxes, have empty columns and none in them."""
    assert corners({}, mapping("json"), 0) == ({**{name: [] for name in CORNERS}, "boxed": []}, 0)
    found, repaired = corners({}, mapping(None), 2)
    assert (found, repaired) == ({**{name: [None, None] for name in CORNERS}, "boxed": [False, False]}, 0)
