"""Applies the value rules to the rows of a block and counts its images, annotations and labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol

from autoexport.model.blocks import Block, BlockRows, Counts
from autoexport.model.catalog import Scalar
from autoexport.model.mapping import KeepQuery
from autoexport.values import scalars
from autoexport.values.boxes import CORNERS, BoxMapping, corners
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

    def __add__(self, other: Mended) -> Mended:
        return Mended(self.repaired + other.repaired, self.redacted + other.redacted)


class RowMapping(BoxMapping, Protocol):
    """What the value rules need of the mapping."""

    @property
    def keep_query(self) -> KeepQuery:
        """The query parameters of URLs that stay, by logical table and field."""
        ...


def render(rows: BlockRows, mapping: RowMapping) -> Block:
    """Compute all published columns of the rows of one block, and the counts."""
    block, counts = render_together(rows, mapping)
    (block.counts,) = counts
    return block


def render_together(rows: BlockRows, mapping: RowMapping) -> tuple[Block, list[Counts]]:
    """Compute all published columns of the rows of several blocks at once, and the counts of each block."""
    lengths = [length for _, length in rows.blocks()]
    of_images = _slices(lengths)
    ends = [0, *accumulate(rows.spans)]
    of_annotations = [slice(ends[part.start], ends[part.stop]) for part in of_images]
    mended = [Mended() for _ in lengths]
    stored_images, stored_annotations = rows.images.columns(), rows.annotations.columns()
    worded: dict[str, Rule] = dict.fromkeys(mapping.worded, numbers_in_words)
    keep = mapping.keep_query
    images = _ruled(stored_images, _replaced(IMAGE_RULES, worded), keep.get("images", {}), of_images, mended)
    shapes = {name: rule for name, rule in SHAPE_RULES.items() if name in rows.annotations.fields}
    rules, kept = _replaced({**ANNOTATION_RULES, **shapes}, worded), keep.get("annotations", {})
    annotations = _ruled(stored_annotations, rules, kept, of_annotations, mended)
    boxes, repaired_boxes = corners(stored_annotations, mapping, ends[-1])
    if repaired_boxes:
        for part, own in zip(of_annotations, mended, strict=True):
            columns = {name: column[part] for name, column in stored_annotations.items()}
            own.repaired += corners(columns, mapping, part.stop - part.start)[1]
    annotations.update(boxes)
    _derive_names(images)
    if "is_labeled" not in stored_images:
        images["is_labeled"] = [span > 0 for span in rows.spans]
    types: Sequence[str] = _types(annotations)
    if "rotation" in shapes:
        types = turn_boxes(annotations, types, CORNERS)
    annotations["type"] = types
    labeled, splits, labels = images["is_labeled"], images["split"], annotations["label"]
    counts = [
        Counts(
            images=length,
            labeled=labeled[own].count(True),
            annotations=below.stop - below.start,
            splits=_counted(splits[own], UNASSIGNED),
            labels=_counted(labels[below]),
            repaired=repairs.repaired,
            redacted=repairs.redacted,
        )
        for length, own, below, repairs in zip(lengths, of_images, of_annotations, mended, strict=True)
    ]
    return Block(images, annotations, rows.spans), counts


def _slices(lengths: Sequence[int]) -> list[slice]:
    ends = list(accumulate(lengths))
    return list(map(slice, [0, *ends], ends))


def ruled_parents(
    columns: Mapping[str, Sequence[Scalar]], fields: Sequence[str], length: int, keep: Mapping[str, Sequence[str]]
) -> tuple[dict[str, Sequence[Any]], Mended]:
    """Apply the value rules to `length` rows of a small table, by column.

    `keep` are the query parameters of URLs that stay, by field.
    """
    mended = Mended()
    rules = {name: PARENT_RULES[name] for name in fields}
    return _ruled(columns, rules, keep, [slice(0, length)], [mended]), mended


def _replaced(rules: dict[str, Rule], worded: dict[str, Rule]) -> dict[str, Rule]:
    return {name: worded.get(name, rule) for name, rule in rules.items()} if worded else rules


def _ruled(
    columns: Mapping[str, Sequence[Scalar]],
    rules: Mapping[str, Rule],
    keep: Mapping[str, Sequence[str]],
    parts: Sequence[slice],
    mended: Sequence[Mended],
) -> dict[str, Sequence[Any]]:
    """Apply a rule to each column, and add the mended values of each part to `mended`.

    A column that the database lacks is None in all rows.
    """
    ruled: dict[str, Sequence[Any]] = {}
    nulls = [None] * parts[-1].stop
    for name, rule in rules.items():
        if name not in columns:
            ruled[name] = nulls
            continue
        ruled[name], total = _apply(rule, columns[name], keep.get(name, ()))
        if len(parts) == 1:
            _count(mended[0], total)
        elif total.repaired or total.redacted:
            # The rules say how many values they mended, but not where.
            for part, own in zip(parts, mended, strict=True):
                _count(own, _apply(rule, columns[name][part], keep.get(name, ()))[1])
    return ruled


def _apply(rule: Rule, column: Sequence[Scalar], keep: Sequence[str]) -> tuple[Sequence[Any], Mended]:
    redacted = 0
    if rule in _TEXT_RULES:
        column, redacted = cut_urls(column, keep)
    ruled, repaired = rule(column)
    return ruled, Mended(repaired, redacted)


def _count(mended: Mended, more: Mended) -> None:
    mended.repaired += more.repaired
    mended.redacted += more.redacted


def image_names(
    stored: Mapping[str, Sequence[Scalar]], length: int, keep: Mapping[str, Sequence[str]]
) -> dict[str, Sequence[Any]]:
    """The published key, name, path and label state of `length` images, from stored columns."""
    rules = {name: IMAGE_RULES[name] for name in ("id", "filename", "file_path", "is_labeled")}
    images = _ruled(stored, rules, keep, [slice(0, length)], [Mended()])
    _derive_names(images)
    return images


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
