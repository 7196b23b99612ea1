"""`images.jsonl` byte by byte: a line for each image, points in numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars
import pytest

from autoexport.formats.json_lines import JsonLines
from tests.trees import Dataset, Project, built, sample

GOLDEN = Path(__file__).parents[1] / "golden"
CORNERS = ("x_min", "y_min", "x_max", "y_max")


def written(*images: dict[str, Any]) -> bytes:
    """The lines of one dataset."""
    return built([Project({"id": 1, "name": "p"}, [], [Dataset({"id": 2, "name": "d"}, list(images))])]).written(
        JsonLines()
    )


def bare(text: str) -> str:
    """The text without the sign of an exponent, which orjson writes since 3.11.7."""
    return text.replace("e+", "e")


def annotation(**stored: Any) -> str:
    """The text of one annotation."""
    line = written({"id": 1, "annotations": [{"id": 1, **stored}]}).decode()
    return bare(line[line.index('"annotations": [') + len('"annotations": [') : -len("]}\n")])


def test_golden_file() -> None:
    """The bytes are those that were reviewed once."""
    assert built(sample()).written(JsonLines()) == (GOLDEN / "images.jsonl").read_bytes()


def test_nothing_to_export() -> None:
    """No image is no line; an image without annotations has an empty list."""
    assert built([]).written(JsonLines()) == b""
    (line,) = written({"id": 1}).splitlines()
    record = json.loads(line)
    assert record["annotations"] == []
    assert record["annotation_count"] == 0


def test_every_key_is_always_there() -> None:
    """The keys and their order do not depend on the columns of the database."""
    records = [json.loads(line) for line in built(sample()).written(JsonLines()).splitlines()]
    records += [json.loads(written({"id": 1, "annotations": [{"id": 1}]}))]
    assert len({tuple(record) for record in records}) == 1
    assert list(records[0])[-6:] == [
        "project_id", "project_name", "dataset_id", "dataset_name", "annotation_count", "annotations",
    ]  # fmt: skip
    assert len({tuple(item) for record in records for item in record["annotations"]}) == 1


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (1, "1.0"), (-7, "-7.0"), (0.5, "0.5"), (1e16, "1.0e16"), (5e-324, "5.0e-324"), (-0.0, "-0.0"),
        (None, "null"),
        ("12", "12.0"), ("1.10", "1.10"), ("1e5", "1.0e5"), ("wide", '"wide"'), ("a 5", '"a 5"'),
        (2**53 + 1, "9007199254740993.0"), (True, "true"),
    ],
)  # fmt: skip
def test_numbers_have_a_point(stored: Any, expected: str) -> None:
    """Whatever else is in the column."""
    for other in (None, 0.5, 3, "x"):
        images = [{"id": 1, "annotations": [{"id": 1, "confidence": stored}, {"id": 2, "confidence": other}]}]
        first = written(*images).decode().partition('"confidence": ')[2].partition(", ")[0]
        assert bare(first) == expected


def test_corners_have_a_point() -> None:
    """Each corner of a box is a number with a point."""
    box = {"box_0": 1, "box_1": 2.5, "box_2": 1e16, "box_3": 4}
    assert '"bbox": {"x_min": 1.0, "y_min": 2.5, "x_max": 1.0e16, "y_max": 4.0}' in annotation(**box)
    assert '"bbox": null' in annotation()


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ("[[1, 2.5], [-3, 4]]", "[[1.0, 2.5], [-3.0, 4.0]]"),
        ('[{"x": 1, "tag": "a 5, [6]", "7": 8}]', '[{"x": 1.0, "tag": "a 5, [6]", "7": 8.0}]'),
        ("[[[1, 2], [3, 4]]]", "[[[1.0, 2.0], [3.0, 4.0]]]"),
        ("[1e300, 1e5]", "[1.0e300, 100000.0]"),
        ("[12345678901234567890123]", "[12345678901234567890123.0]"),
        ("0", "0.0"),
        ("-5", "-5.0"),
        ('"5"', '"5"'),
        ("[]", "[]"),
        ("true", "true"),
    ],
)
def test_polygons_have_points(stored: str, expected: str) -> None:
    """Every number has one and no string changes, whatever else is in the column."""
    for other in (None, "[[1, 2], [3, 4]]", '{"tag": "5"}'):
        images = [{"id": 1, "annotations": [{"id": 1, "polygon": stored}, {"id": 2, "polygon": other}]}]
        first = written(*images).decode().partition('"polygon": ')[2].partition(', "is_auto_generated"')[0]
        assert bare(first) == expected


def test_types_that_are_inferred_fit_later_lines() -> None:
    """A reader that looks at the first lines alone takes numbers for floats, so it can read the others."""
    whole = {"box_0": 1, "box_1": 2, "box_2": 3, "box_3": 4, "confidence": 1, "polygon": "[[1, 2], [3, 4]]"}
    broken = {"box_0": 1.5, "box_1": 2.5, "box_2": 3.5, "box_3": 4, "confidence": 0.5, "polygon": "[[1.5, 2]]"}
    images = [{"id": n, "annotations": [{"id": n, **(whole if n < 50 else broken)}]} for n in range(60)]
    frame = polars.read_ndjson(written(*images), infer_schema_length=10)
    (last,) = frame["annotations"][-1]
    assert last["bbox"] == dict(zip(CORNERS, (1.5, 2.5, 3.5, 4.0), strict=True))
    assert (last["confidence"], last["polygon"]) == (0.5, [[1.5, 2.0]])


def test_the_image_of_a_byte() -> None:
    """The id of the line, as the file has it."""
    (body,) = built(
        [Project({"id": 1}, [], [Dataset({"id": 1}, [{"id": 'a,"b'}, {"id": 7, "filename": '{"id": 1'}])])]
    ).bodies(JsonLines())
    assert JsonLines().image_at(body, 0) == '"a,\\"b"'
    assert JsonLines().image_at(body, len(body) - 2) == "7"
