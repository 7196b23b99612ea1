"""`database_export.json` byte by byte, in both styles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest

from autoexport.formats.json_document import JsonDocument, JsonStyle
from tests.trees import Dataset, Project, built, sample

GOLDEN = Path(__file__).parents[1] / "golden"
STYLES: tuple[JsonStyle, ...] = ("records", "pretty")

CONTRACT = """\
{
  "export_info": {"format_version": 2, "timestamp": "2024-01-20T10:30:00Z", "total_projects": 1, "total_datasets": 1, "total_images": 1, "total_annotations": 2, "total_labels": 1},
  "projects": [
    {
      "id": 1, "name": "Vehicle Detection", "description": null, "project_type": "Object Detection",
      "created_at": "2024-01-15T09:00:00", "updated_at": "2024-01-15T09:00:00",
      "dataset_count": 1, "image_count": 1, "labeled_image_count": 1, "annotation_count": 2,
      "labels": [{"id": 1, "name": "car", "color": "#ff0000", "annotation_count": 2}],
      "datasets": [
        {
          "id": 1, "project_id": 1, "name": "Training Set", "description": null, "created_at": "...", "updated_at": "...",
          "image_count": 1, "labeled_image_count": 1, "annotation_count": 2,
          "splits": {"train": 1, "val": 0, "test": 0, "unassigned": 0},
          "label_counts": {"car": 2},
          "images": [
            {"id": 7, "filename": "a.jpg", "original_filename": "a.jpg", "file_path": "img/a.jpg", "width": 640, "height": 480, "format": "JPEG", "file_size": 57407, "split": "train", "status": "dataset", "is_labeled": true, "is_auto_labeled": false, "is_verified": false, "created_at": "...", "updated_at": "...", "annotation_count": 2, "annotations": [
              {"id": 1, "type": "bbox", "label": "car", "label_id": 1, "confidence": 0.98, "bbox": {"x_min": 1.0, "y_min": 2.0, "x_max": 3.0, "y_max": 4.0}, "polygon": null, "is_auto_generated": true, "is_verified": false, "model_id": "yolov8n", "created_at": "...", "updated_at": "..."},
              {"id": 2, "type": "polygon", "label": "car", "label_id": 1, "confidence": null, "bbox": null, "polygon": [[1, 2], [3, 4], [5, 6]], "is_auto_generated": false, "is_verified": true, "model_id": null, "created_at": "...", "updated_at": "..."}
            ]}
          ]
        }
      ]
    }
  ]
}
"""  # noqa: E501  (the example of the contract, as it stands there)


def example() -> list[Project]:
    """The rows of the contract's example."""
    dots = {"created_at": "...", "updated_at": "..."}
    nine = {"created_at": "2024-01-15 09:00:00", "updated_at": "2024-01-15 09:00:00"}
    box = {"box_0": 1.0, "box_1": 2.0, "box_2": 3.0, "box_3": 4.0}
    car = {"label": "car", "label_id": 1, **dots}
    annotations = [
        {
            "id": 1,
            **car,
            "confidence": 0.98,
            **box,
            "is_auto_generated": 1,
            "is_verified": 0,
            "model_id": "yolov8n",
        },
        {"id": 2, **car, "polygon": "[[1,2],[3,4],[5,6]]", "is_auto_generated": 0, "is_verified": 1},
    ]
    image = {
        "id": 7, "filename": "a.jpg", "original_filename": "a.jpg", "file_path": "img/a.jpg", "width": 640,
        "height": 480, "format": "JPEG", "file_size": 57407, "split": "train", "status": "dataset",
        "is_labeled": 1, "is_auto_labeled": 0, "is_verified": 0, **dots, "annotations": annotations,
    }  # fmt: skip
    return [
        Project(
            {"id": 1, "name": "Vehicle Detection", "project_type": "Object Detection", **nine},
            [{"id": 1, "name": "car", "color": "#ff0000"}],
            [Dataset({"id": 1, "name": "Training Set", **dots}, [image])],
        )
    ]


def keys(node: Any) -> Any:
    """The shape of a document: every key in order, lists by their first item."""
    if isinstance(node, dict):
        return {name: keys(item) for name, item in node.items()}
    return [keys(item) for item in node[:1]] if isinstance(node, list) else None


def refuse(word: str) -> None:
    raise AssertionError(f"{word} is no JSON")


def test_the_example_of_the_contract() -> None:
    """Its rows give its bytes."""
    assert built(example()).written(JsonDocument()).decode() == CONTRACT


def test_pretty_is_indented_by_two_throughout() -> None:
    """The pretty style is what a JSON library writes with an indentation of two."""
    written = built(example()).written(JsonDocument("pretty"))
    assert written == orjson.dumps(json.loads(CONTRACT), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


@pytest.mark.parametrize("style", STYLES)
def test_golden_files(style: JsonStyle) -> None:
    """The bytes are those that were reviewed once, and readers of both libraries understand them."""
    written = built(sample()).written(JsonDocument(style))
    assert written == (GOLDEN / f"database_export.{style}.json").read_bytes()
    assert orjson.loads(written) == json.loads(written, parse_constant=refuse)


def test_both_styles_say_the_same() -> None:
    """They differ in spaces only, down to the order of keys and the spelling of numbers."""
    whole = built(sample())
    records, pretty = (whole.written(JsonDocument(style)) for style in STYLES)
    again = orjson.dumps(orjson.loads(records), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    assert pretty == again


def test_every_key_is_always_there() -> None:
    """A database with few columns gives the same keys as one with all columns, in the same order."""
    full = json.loads(CONTRACT)
    bare = [Project({"id": 1}, [{"id": 1}], [Dataset({"id": 1}, [{"id": 1, "annotations": [{"id": 1}]}])])]
    poor = json.loads(built(bare).written(JsonDocument()))
    image = poor["projects"][0]["datasets"][0]["images"][0]
    assert image["annotations"][0].pop("bbox", 0) is None
    full["projects"][0]["datasets"][0]["images"][0]["annotations"][0].pop("bbox")
    full["projects"][0]["datasets"][0]["label_counts"] = {}
    assert json.dumps(keys(poor)) == json.dumps(keys(full))
    assert image["filename"] is None
    assert image["annotations"][0]["type"] == "classification"


@pytest.mark.parametrize("style", STYLES)
def test_nothing_to_export(style: JsonStyle) -> None:
    """An empty database, an empty project, an empty dataset."""
    assert json.loads(built([]).written(JsonDocument(style)))["projects"] == []
    written = built([Project({"id": 1}), Project({"id": 2}, [], [Dataset({"id": 1})])]).written(
        JsonDocument(style)
    )
    first, second = json.loads(written)["projects"]
    assert (first["labels"], first["datasets"]) == ([], [])
    (dataset,) = second["datasets"]
    assert (dataset["images"], dataset["label_counts"]) == ([], {})
    assert dataset["splits"] == {"train": 0, "val": 0, "test": 0, "unassigned": 0}


def test_a_record_is_a_line() -> None:
    """Every image's head, every annotation and every label list is one line that can be grepped."""
    lines = built(sample()).written(JsonDocument()).decode().split("\n")
    assert sum(line.startswith('            {"id": "a-') for line in lines) == 3
    annotations = [line for line in lines if line.startswith("              {")]
    assert [json.loads(line.rstrip(","))["id"] for line in annotations] == [1, 2, 3, 4, 9]
    assert sum(line.startswith('      "labels": [') and line.endswith("],") for line in lines) == 2


def test_names_are_counted_in_the_order_of_code_points() -> None:
    """Labels by code point, not by dictionary; splits first the four, then other words in that order."""
    images = [
        {"id": number, "split": word, "annotations": [{"id": number, "label": word}]}
        for number, word in enumerate(["é", "z", "a", "Z", "\U0001f600", "\uffee", "unassigned", "test", "valid"])
    ]
    written = json.loads(built([Project({"id": 1}, [], [Dataset({"id": 1}, images)])]).written(JsonDocument()))
    (dataset,) = written["projects"][0]["datasets"]
    assert list(dataset["label_counts"]) == sorted(dataset["label_counts"])
    assert list(dataset["splits"].items()) == [
        ("train", 0), ("val", 1), ("test", 1), ("unassigned", 1),
        ("Z", 1), ("a", 1), ("z", 1), ("é", 1), ("\uffee", 1), ("\U0001f600", 1),
    ]  # fmt: skip


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(
    "stored", ["0", "false", '""', "{}", "[]", "-0.0", '"a\\\\:b,c"', '{"\\"": [1, {"x:": ","}]}']
)
def test_polygons_that_are_none(stored: str, style: JsonStyle) -> None:
    """Whatever JSON stands in the polygon column is written, alone in its block or not."""
    for others in ([], [{"id": 2, "polygon": "[[1, 2]]"}], [{"id": 2}]):
        images = [{"id": 1, "annotations": [{"id": 1, "polygon": stored}, *others]}]
        written = built([Project({"id": 1}, [], [Dataset({"id": 1}, images)])]).written(JsonDocument(style))
        (image,) = json.loads(written)["projects"][0]["datasets"][0]["images"]
        assert json.dumps(image["annotations"][0]["polygon"]) == json.dumps(json.loads(stored))
        assert image["annotations"][0]["type"] == ("polygon" if json.loads(stored) else "classification")


def test_a_polygon_of_fifty_megabytes() -> None:
    """It is written whole, on one line."""
    points = 2_500_000
    polygon = "[" + ",".join(["[123456.5,1234.25]"] * points) + "]"
    images = [{"id": 1, "annotations": [{"id": 1, "polygon": polygon}]}]
    written = built([Project({"id": 1}, [], [Dataset({"id": 1}, images)])]).written(JsonDocument())
    assert written.count(b"[123456.5, 1234.25]") == points
    assert written.count(b"\n") < 40
