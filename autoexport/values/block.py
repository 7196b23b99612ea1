"""Applies the value rules to the rows of a block and counts its images, annotations and labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from autoexport.model.blocks import Block, BlockRows, Counts
from autoexport.model.catalog import Scalar
from autoexport.model.mapping import KeepQuery
from autoexport.values import scalars
from autoexport.values.boxes import CORNERS, BoxMapping, corners
from autoexport.values.expand import dialect
from autoexport.values.expand.contract import NO_FACTS, Dialect, Facts
from autoexport.values.expand.rows import ExpandedRows, expand
from autoexport.values.json_columns import documents
from autoexport.values.polygons import points, polygons
from autoexport.values.turned import turn_boxes
from autoexport.values.urls import cut_urls
from autoexport.values.worded import numbers_in_words

Rule = Callable[[Sequence[Scalar]], scalars.Ruled]

IMAGE_RULES: dict[str, Rule] = {
    "id": scalars.texts,
    "filename": scalars.texts,
    "original_filename": scalars.texts,
    "file_path": scalars.texts,
    "width": scalars.numbers,
    "height": scalars.numbers,
    "format": scalars.texts,
    "file_size": scalars.numbers,
    "split": scalars.splits,
    "status": scalars.texts,
    "is_labeled": scalars.flags,
    "is_auto_labeled": scalars.flags,
    "is_verified": scalars.flags,
    "created_at": scalars.times,
    "updated_at": scalars.times,
}
ANNOTATION_RULES: dict[str, Rule] = {
    "id": scalars.texts,
    "type": scalars.texts,
    "label": scalars.names,
    "label_id": scalars.texts,
    "confidence": scalars.numbers,
    "polygon": polygons,
    "is_auto_generated": scalars.flags,
    "is_verified": scalars.flags,
    "model_id": scalars.texts,
    "created_at": scalars.times,
    "updated_at": scalars.times,
}
SHAPE_RULES: dict[str, Rule] = {
    "rotation": scalars.numbers,
    "points": points,
    "mask": documents,
    "attributes": documents,
    "track_id": scalars.texts,
    "frame": scalars.numbers,
    "keyframe": scalars.flags,
}
"""The rules of the columns that a block has only where the mapping has them."""

PARENT_RULES: dict[str, Rule] = {
    "id": scalars.texts,
    "name": scalars.names,
    "description": scalars.texts,
    "project_type": scalars.texts,
    "color": scalars.texts,
    "created_at": scalars.times,
    "updated_at": scalars.times,
}
_TEXT_RULES = (scalars.texts, scalars.names, scalars.splits)

UNASSIGNED = "unassigned"
_EMPTY_SHAPES = {b"[]", b"{}", b'""', b"0", b"0.0", b"-0.0", b"false"}
_TYPES = {
    "bbox", "polygon", "classification", "points", "keypoints", "polyline", "ellipse", "mask", "cuboid",
    "skeleton", "text",
}  # fmt: skip


@dataclass(slots=True)
class Mended:
    """How many values the rules repaired, and how many URLs lost a part that may be secret."""

    repaired: int = 0
    redacted: int = 0


class RowMapping(BoxMapping, Protocol):
    """What the value rules need of the mapping."""

    @property
    def keep_query(self) -> KeepQuery:
        """The query parameters of URLs that stay, by logical table and field."""
        ...

    @property
    def expand(self) -> dict[str, str]:
        """The dialects of documents, by logical table."""
        ...


def render(rows: BlockRows, mapping: RowMapping, facts: Facts = NO_FACTS) -> Block:
    """Compute all published columns of these rows, and the counts. `facts` are those about their project."""
    documents = any(name in mapping.expand for name in ("images", "annotations"))
    expanded = expand(rows, mapping.expand, facts) if documents else None
    stored_images = expanded.images if expanded else rows.images.columns()
    spans = expanded.spans if expanded else rows.spans
    worded: dict[str, Rule] = dict.fromkeys(mapping.worded, numbers_in_words)
    keep = mapping.keep_query.get("images", {})
    images, of_images = _ruled(stored_images, _replaced(IMAGE_RULES, worded), len(spans), keep)
    annotations, of_annotations = _annotations(rows, expanded, mapping, worded)
    _derive_names(images)
    if "is_labeled" not in stored_images:
        images["is_labeled"] = [span > 0 for span in spans]
    return Block(
        images=images,
        annotations=annotations,
        spans=spans,
        counts=Counts(
            images=len(spans),
            labeled=images["is_labeled"].count(True),
            annotations=sum(spans),
            splits=_counted(images["split"], UNASSIGNED),
            labels=_counted(annotations["label"]),
            repaired=of_images.repaired + of_annotations.repaired + (expanded.repaired if expanded else 0),
            redacted=of_images.redacted + of_annotations.redacted,
            hidden_images=expanded.hidden if expanded else 0,
            added_annotations=sum(spans) - sum(rows.spans),
        ),
    )


def _annotations(
    rows: BlockRows, expanded: ExpandedRows | None, mapping: RowMapping, worded: dict[str, Rule]
) -> tuple[dict[str, Sequence[Any]], Mended]:
    """The published columns of the annotations, and what the rules changed."""
    stored = expanded.rows if expanded else rows.annotations.columns()
    length = len(expanded.counts) if expanded else sum(rows.spans)
    keep = mapping.keep_query.get("annotations", {})
    shapes = {name: rule for name, rule in SHAPE_RULES.items() if name in rows.annotations.fields}
    annotations, mended = _ruled(stored, _replaced({**ANNOTATION_RULES, **shapes}, worded), length, keep)
    if expanded and "annotations" in mapping.expand:
        given, repaired = _region_columns(expanded, dialect(mapping.expand["annotations"]), stored)
        own = annotations.keys() - given.keys()
        annotations = {**{name: expanded.repeated(annotations[name]) for name in own}, **given}
        mended.repaired += repaired
        return annotations, mended
    boxes, repaired = corners(stored, mapping, length)
    mended.repaired += repaired
    annotations.update(boxes)
    types: Sequence[str] = _types(annotations)
    if "rotation" in shapes:
        types = turn_boxes(annotations, types, CORNERS)
    annotations["type"] = types
    return annotations, mended


def _region_columns(
    expanded: ExpandedRows, read: Dialect, stored: Mapping[str, Sequence[Scalar]]
) -> tuple[dict[str, Sequence[Any]], int]:
    """The columns that the regions give. A confidence is only read where the table has one: people give none."""
    regions = expanded.regions
    names = ["id", "type", "label", "polygon", *CORNERS, "boxed", *read.shape_fields]
    given: dict[str, Sequence[Any]] = {name: regions[name] for name in names}
    for name, value in read.constants.items():
        if name not in stored:
            given[name] = [value] * len(regions["id"])
    if "confidence" in stored:
        of_rows = expanded.repeated(stored["confidence"])
        pairs = zip(regions["confidence"], of_rows, strict=True)
        given["confidence"], repaired = scalars.numbers([row if own is None else own for own, row in pairs])
        return given, repaired
    return given, 0


def ruled_parent(
    row: dict[str, Scalar], fields: Sequence[str], keep: Mapping[str, Sequence[str]]
) -> tuple[dict[str, Any], Mended]:
    """Apply the value rules to a row of a small table. `keep` are the query parameters that stay, by field."""
    columns = {name: [value] for name, value in row.items()}
    ruled, mended = _ruled(columns, {name: PARENT_RULES[name] for name in fields}, 1, keep)
    return {name: column[0] for name, column in ruled.items()}, mended


def _replaced(rules: dict[str, Rule], worded: dict[str, Rule]) -> dict[str, Rule]:
    return {name: worded.get(name, rule) for name, rule in rules.items()} if worded else rules


def _ruled(
    columns: Mapping[str, Sequence[Scalar]],
    rules: Mapping[str, Rule],
    length: int,
    keep: Mapping[str, Sequence[str]],
) -> tuple[dict[str, Sequence[Any]], Mended]:
    """Apply a rule to each column; a column that the database lacks is None in all `length` rows."""
    ruled: dict[str, Sequence[Any]] = {}
    mended = Mended()
    nulls = [None] * length
    for name, rule in rules.items():
        if name not in columns:
            ruled[name] = nulls
            continue
        column = columns[name]
        if rule in _TEXT_RULES:
            column, redacted = cut_urls(column, keep.get(name, ()))
            mended.redacted += redacted
        ruled[name], repaired = rule(column)
        mended.repaired += repaired
    return ruled, mended


def _derive_names(images: dict[str, Sequence[Any]]) -> None:
    """Derive a missing file name from the last part of the path."""
    if None in images["filename"]:
        images["filename"] = [
            path.replace("\\", "/").rsplit("/", 1)[-1] if name is None and isinstance(path, str) else name
            for name, path in zip(images["filename"], images["file_path"], strict=True)
        ]


def _types(annotations: dict[str, Sequence[Any]]) -> list[str]:
    """The stored type if it is a published one, else the type derived from the shapes."""
    stored = annotations["type"]
    if _TYPES.issuperset(stored):
        return stored  # type: ignore[return-value]
    polygons_, boxed = annotations["polygon"], annotations["boxed"]
    derived = [
        "polygon" if shape and shape not in _EMPTY_SHAPES else "bbox" if box else "classification"
        for shape, box in zip(polygons_, boxed, strict=True)
    ]
    for word in ("points", "mask"):
        if word in annotations:
            weaker = ("classification",) if word == "points" else ("bbox", "points", "classification")
            derived = [
                word if shape and kind in weaker else kind
                for kind, shape in zip(derived, annotations[word], strict=True)
            ]
    if stored.count(None) == len(stored):
        return derived
    return [
        word if isinstance(word, str) and word in _TYPES else replacement
        for word, replacement in zip(stored, derived, strict=True)
    ]


def _counted(column: Sequence[str | None], name_of_null: str | None = None) -> Counter[str]:
    """Count each name; nulls are counted under `name_of_null`, or not at all without one."""
    counted: Counter[Any] = Counter(column)
    nulls = counted.pop(None, 0)
    if nulls and name_of_null:
        counted[name_of_null] += nulls
    return counted
