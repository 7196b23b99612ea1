"""Reads Parquet files, and computes their rows from the JSON tree without package code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet

Row = dict[str, Any]

PARENTS = ("project_id", "project_name", "dataset_id", "dataset_name")
IMAGE_NUMBERS = ("width", "height", "file_size")
IMAGE_TEXTS = (
    "filename",
    "file_path",
    "split",
    "original_filename",
    "format",
    "status",
    "created_at",
    "updated_at",
)
ANNOTATION_TEXTS = ("type", "label", "label_id", "model_id", "created_at", "updated_at")
CORNERS = ("x_min", "y_min", "x_max", "y_max")


def parquet_rows(path: Path) -> list[Row]:
    """The rows of a file, with polygons parsed."""
    return with_polygons(pyarrow.parquet.read_table(path).to_pylist())


def with_polygons(rows: list[Row]) -> list[Row]:
    """The rows with parsed polygons."""
    for row in rows:
        if row.get("polygon") is not None:
            row["polygon"] = json.loads(row["polygon"])
    return rows


def expected_parquet(document: Row, name: str) -> list[Row]:
    """The rows that the tree of database_export.json gives."""
    if name == "images.parquet":
        return [_image(above, image) for above, image in _images(document)]
    return [
        _annotation(above, image, annotation)
        for above, image in _images(document)
        for annotation in image["annotations"]
    ]


def _images(document: Row) -> Iterator[tuple[Row, Row]]:
    for project in document["projects"]:
        for dataset in project["datasets"]:
            values = (project["id"], project["name"], dataset["id"], dataset["name"])
            above = dict(zip(PARENTS, map(_text, values), strict=True))
            for image in dataset["images"]:
                yield above, image


def _image(above: Row, image: Row) -> Row:
    row = {"image_id": _text(image["id"]), **above, **{name: _text(image[name]) for name in IMAGE_TEXTS}}
    row |= {name: _integer(image[name]) for name in IMAGE_NUMBERS}
    flags = ("is_labeled", "is_auto_labeled", "is_verified")
    return row | {name: image[name] for name in flags} | {"annotation_count": image["annotation_count"]}


def _annotation(above: Row, image: Row, annotation: Row) -> Row:
    row = {"annotation_id": _text(annotation["id"]), "image_id": _text(image["id"]), **above}
    row |= {name: _text(image[name]) for name in ("filename", "split")}
    row |= {name: _text(annotation[name]) for name in ANNOTATION_TEXTS}
    box = annotation["bbox"] or dict.fromkeys(CORNERS)
    row |= {name: _double(value) for name, value in {**box, "confidence": annotation["confidence"]}.items()}
    return row | {name: annotation[name] for name in ("is_auto_generated", "is_verified", "polygon")}


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else orjson.dumps(value).decode()


def _integer(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        return None
    return int(value) if -(2**63) <= value < 2**63 else None


def _double(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None
