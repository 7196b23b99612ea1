"""Turns the columns of a block into the columns of the Parquet files.

The schema is the same for every database, but for the columns of `SHAPE_SCHEMA`, which only some have.
Keys and times are text as in the JSON file, because a database may have keys and times of several types. Sizes are
whole numbers and all other numbers are doubles. A value of another type is null.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, repeat
from typing import Any

from autoexport.formats.parquet_codec import BOOL, DOUBLE, INT64, TEXT
from autoexport.model.blocks import Block
from autoexport.model.tree import DatasetNode, ProjectNode
from autoexport.values.scalars import as_floats, encode

Column = list[Any]
_INT64 = range(-(2**63), 2**63)

_PARENTS = {"project_id": TEXT, "project_name": TEXT, "dataset_id": TEXT, "dataset_name": TEXT}
IMAGE_SCHEMA = {
    "image_id": TEXT, "filename": TEXT, "file_path": TEXT, **_PARENTS, "width": INT64, "height": INT64,
    "file_size": INT64, "split": TEXT, "annotation_count": INT64, "is_labeled": BOOL, "original_filename": TEXT,
    "format": TEXT, "status": TEXT, "is_auto_labeled": BOOL, "is_verified": BOOL, "created_at": TEXT,
    "updated_at": TEXT,
}  # fmt: skip
"""The columns of images.parquet and their types: those of images.csv."""

ANNOTATION_SCHEMA = {
    "annotation_id": TEXT, "image_id": TEXT, "filename": TEXT, **_PARENTS, "split": TEXT, "type": TEXT,
    "label": TEXT, "label_id": TEXT, "confidence": DOUBLE, "x_min": DOUBLE, "y_min": DOUBLE, "x_max": DOUBLE,
    "y_max": DOUBLE, "polygon": TEXT, "is_auto_generated": BOOL, "is_verified": BOOL, "model_id": TEXT,
    "created_at": TEXT, "updated_at": TEXT,
}  # fmt: skip
"""The columns of annotations.parquet and their types: those of annotations.csv. The polygon is JSON."""

SHAPE_SCHEMA = {
    "rotation": DOUBLE, "points": TEXT, "mask": TEXT, "attributes": TEXT, "track_id": TEXT, "frame": INT64,
    "keyframe": BOOL,
}  # fmt: skip
"""The last columns of annotations.parquet, of which a database has some or none. The second to fourth are JSON."""

DOCUMENTS = ("polygon", "points", "mask", "attributes")
DISTINCT = ("annotation_id", "file_path", "original_filename", "polygon", "points", "mask")
"""The columns whose values are mostly different from one another."""

_OF_THE_IMAGE = ("filename", "split")


def image_columns(block: Block, project: ProjectNode, dataset: DatasetNode) -> Iterator[Column]:
    """The columns of images.parquet for a block."""
    parents = _parents(project, dataset)
    for name, kind in IMAGE_SCHEMA.items():
        if name in parents:
            yield parents[name] * len(block.spans)
        elif name == "annotation_count":
            yield block.spans
        else:
            yield _CONVERTERS[kind](block.images["id" if name == "image_id" else name])


def annotation_schema(shapes: Sequence[str]) -> dict[str, str]:
    """The columns of annotations.parquet and their types, with those of these fields."""
    return {**ANNOTATION_SCHEMA, **{name: SHAPE_SCHEMA[name] for name in shapes}}


def annotation_columns(
    shapes: Sequence[str], block: Block, project: ProjectNode, dataset: DatasetNode
) -> Iterator[Column]:
    """The columns of annotations.parquet for a block, with those of these fields."""
    parents = _parents(project, dataset)
    for name, kind in annotation_schema(shapes).items():
        if name in parents:
            yield parents[name] * sum(block.spans)
        elif name == "image_id" or name in _OF_THE_IMAGE:
            values = texts(block.images["id" if name == "image_id" else name])
            yield [*chain.from_iterable(map(repeat, values, block.spans))]
        elif name in DOCUMENTS:
            yield [None if text is None else text.decode() for text in block.annotations[name]]
        else:
            yield _CONVERTERS[kind](block.annotations["id" if name == "annotation_id" else name])


def _parents(project: ProjectNode, dataset: DatasetNode) -> Mapping[str, Column]:
    above = [("project", project.values), ("dataset", dataset.values)]
    return {f"{level}_{name}": texts([values[name]]) for level, values in above for name in ("id", "name")}


def texts(column: Sequence[Any]) -> Column:
    """The column as text, as it is published in the Parquet files."""
    if {*map(type, column)} <= {str, type(None)}:
        return list(column)
    return [value if value is None or isinstance(value, str) else _text(value) for value in column]


def _text(value: Any) -> str:
    """The text of a value that is none: as JSON writes it, without the quotes of a time."""
    return encode(value).decode().strip('"')


def _doubles(column: Sequence[Any]) -> Column:
    if {*map(type, column)} <= {float, type(None)}:
        return list(column)
    return [None if value is None else float(value) for value in as_floats(column)]


def _integers(column: Sequence[Any]) -> Column:
    if {*map(type, column)} <= {int, type(None)}:
        return [value if value is None or value in _INT64 else None for value in column]
    return [_integer(value) for value in column]


def _integer(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and value in _INT64 else None


_CONVERTERS: Mapping[str, Callable[[Sequence[Any]], Column]] = {
    TEXT: texts, DOUBLE: _doubles, INT64: _integers, BOOL: list,
}  # fmt: skip
