"""Applies the value rules to the rows of a block and counts its images, annotations and labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

from autoexport.model.blocks import Block, BlockRows, Counts
from autoexport.model.catalog import Scalar
from autoexport.values import scalars
from autoexport.values.boxes import BoxMapping, corners
from autoexport.values.json_columns import documents

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
    "polygon": documents,
    "is_auto_generated": scalars.flags,
    "is_verified": scalars.flags,
    "model_id": scalars.texts,
    "created_at": scalars.times,
    "updated_at": scalars.times,
}
PARENT_RULES: dict[str, Rule] = {
    "id": scalars.texts,
    "name": scalars.names,
    "description": scalars.texts,
    "project_type": scalars.texts,
    "color": scalars.texts,
    "created_at": scalars.times,
    "updated_at": scalars.times,
}
UNASSIGNED = "unassigned"
_EMPTY_SHAPES = {b"[]", b"{}", b'""', b"0", b"0.0", b"-0.0", b"false"}
_TYPES = {"bbox", "polygon", "classification"}


def render(rows: BlockRows, mapping: BoxMapping) -> Block:
    """Compute all published columns of the rows of one block, and the counts."""
    block, counts = render_together(rows, mapping)
    (block.counts,) = counts
    return block


def render_together(rows: BlockRows, mapping: BoxMapping) -> tuple[Block, list[Counts]]:
    """Compute all published columns of the rows of several blocks at once, and the counts of each block."""
    lengths = [length for _, length in rows.blocks()]
    of_images = _slices(lengths)
    ends = [0, *accumulate(rows.spans)]
    of_annotations = [slice(ends[part.start], ends[part.stop]) for part in of_images]
    repaired = [0] * len(lengths)
    stored_images, stored_annotations = rows.images.columns(), rows.annotations.columns()
    images = _ruled(stored_images, IMAGE_RULES, of_images, repaired)
    annotations = _ruled(stored_annotations, ANNOTATION_RULES, of_annotations, repaired)
    boxes, repaired_boxes = corners(stored_annotations, mapping, ends[-1])
    if repaired_boxes:
        for index, part in enumerate(of_annotations):
            own = {name: column[part] for name, column in stored_annotations.items()}
            repaired[index] += corners(own, mapping, part.stop - part.start)[1]
    annotations.update(boxes)
    _derive_names(images)
    if "is_labeled" not in stored_images:
        images["is_labeled"] = [span > 0 for span in rows.spans]
    annotations["type"] = _types(annotations)
    labeled, splits, labels = images["is_labeled"], images["split"], annotations["label"]
    counts = [
        Counts(
            images=length,
            labeled=labeled[own].count(True),
            annotations=below.stop - below.start,
            splits=_counted(splits[own], UNASSIGNED),
            labels=_counted(labels[below]),
            repaired=repairs,
        )
        for length, own, below, repairs in zip(lengths, of_images, of_annotations, repaired, strict=True)
    ]
    return Block(images, annotations, rows.spans), counts


def _slices(lengths: Sequence[int]) -> list[slice]:
    ends = list(accumulate(lengths))
    return list(map(slice, [0, *ends], ends))


def ruled_parent(row: dict[str, Scalar], fields: Sequence[str]) -> tuple[dict[str, Any], int]:
    """Apply the value rules to a row of a small table. Also returns the number of repaired values."""
    ruled, repaired = ruled_parents({name: [value] for name, value in row.items()}, fields, 1)
    return {name: column[0] for name, column in ruled.items()}, repaired


def ruled_parents(
    columns: dict[str, Sequence[Scalar]], fields: Sequence[str], length: int
) -> tuple[dict[str, Sequence[Any]], int]:
    """Apply the value rules to rows of a small table, by column. Also returns the number of repaired values."""
    repaired = [0]
    rules = {name: PARENT_RULES[name] for name in fields}
    return _ruled(columns, rules, [slice(0, length)], repaired), repaired[0]


def _ruled(
    columns: dict[str, Sequence[Scalar]], rules: dict[str, Rule], parts: Sequence[slice], repaired: list[int]
) -> dict[str, Sequence[Any]]:
    """Apply a rule to each column, and add the repaired values of each part to `repaired`.

    A column that the database lacks is None in all rows.
    """
    ruled: dict[str, Sequence[Any]] = {}
    nulls = [None] * parts[-1].stop
    for name, rule in rules.items():
        if name not in columns:
            ruled[name] = nulls
            continue
        ruled[name], total = rule(columns[name])
        if total and len(parts) == 1:
            repaired[0] += total
        elif total:
            # Rare: the rule says how many values it repaired, but not where.
            for index, part in enumerate(parts):
                repaired[index] += rule(columns[name][part])[1]
    return ruled


def _derive_names(images: dict[str, Sequence[Any]]) -> None:
    """Derive a missing file name from the last part of the path."""
    if None in images["filename"]:
        images["filename"] = [
            path.replace("\\", "/").rsplit("/", 1)[-1] if name is None and isinstance(path, str) else name
            for name, path in zip(images["filename"], images["file_path"], strict=True)
        ]


def _types(annotations: dict[str, Sequence[Any]]) -> list[str]:
    """The stored type if it is one of the three, else the type derived from polygon and box."""
    stored = annotations["type"]
    if _TYPES.issuperset(stored):
        return stored  # type: ignore[return-value]
    shapes, boxed = annotations["polygon"], annotations["boxed"]
    derived = [
        "polygon" if shape and shape not in _EMPTY_SHAPES else "bbox" if box else "classification"
        for shape, box in zip(shapes, boxed, strict=True)
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
