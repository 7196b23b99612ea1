"""Rows to blocks: applies the value rules to the rows of a block and counts what is in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
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
_NO_SHAPE = {b"[]", b"{}", b'""', b"0", b"0.0", b"-0.0", b"false"}
_TYPES = {"bbox", "polygon", "classification"}


def render(rows: BlockRows, mapping: BoxMapping) -> Block:
    """The block of these rows: every published column, and the counts."""
    stored, stored_annotations = rows.images.columns(), rows.annotations.columns()
    images, repaired = _ruled(stored, IMAGE_RULES, len(rows.spans))
    annotations, more = _ruled(stored_annotations, ANNOTATION_RULES, sum(rows.spans))
    boxes, unread = corners(stored_annotations, mapping, sum(rows.spans))
    annotations.update(boxes)
    _derive_names(images)
    if "is_labeled" not in stored:
        images["is_labeled"] = [span > 0 for span in rows.spans]
    annotations["type"] = _types(annotations)
    return Block(
        images=images,
        annotations=annotations,
        spans=rows.spans,
        counts=Counts(
            images=len(rows.spans),
            labeled=images["is_labeled"].count(True),
            annotations=sum(rows.spans),
            splits=_counted(images["split"], UNASSIGNED),
            labels=_counted(annotations["label"]),
            repaired=repaired + more + unread,
        ),
    )


def ruled_parent(row: dict[str, Scalar], fields: Sequence[str]) -> tuple[dict[str, Any], int]:
    """A row of a small table after the value rules, and how many of its values were repaired."""
    ruled, repaired = _ruled(
        {name: [value] for name, value in row.items()}, {name: PARENT_RULES[name] for name in fields}, 1
    )
    return {name: column[0] for name, column in ruled.items()}, repaired


def _ruled(
    columns: dict[str, Sequence[Scalar]], rules: dict[str, Rule], length: int
) -> tuple[dict[str, Sequence[Any]], int]:
    ruled: dict[str, Sequence[Any]] = {}
    repaired = 0
    nothing = [None] * length
    for name, rule in rules.items():
        if name in columns:
            ruled[name], bad = rule(columns[name])
            repaired += bad
        else:
            ruled[name] = nothing
    return ruled, repaired


def _derive_names(images: dict[str, Sequence[Any]]) -> None:
    """A file name that is not stored is the last part of the path."""
    if None in images["filename"]:
        images["filename"] = [
            path.replace("\\", "/").rsplit("/", 1)[-1] if name is None and isinstance(path, str) else name
            for name, path in zip(images["filename"], images["file_path"], strict=True)
        ]


def _types(annotations: dict[str, Sequence[Any]]) -> list[str]:
    """The source's own word where it is one of the three, else what the annotation has."""
    words = annotations["type"]
    if _TYPES.issuperset(words):
        return words  # type: ignore[return-value]
    shapes, boxed = annotations["polygon"], annotations["boxed"]
    derived = [
        "polygon" if shape and shape not in _NO_SHAPE else "bbox" if box else "classification"
        for shape, box in zip(shapes, boxed, strict=True)
    ]
    if words.count(None) == len(words):
        return derived
    return [
        word if isinstance(word, str) and word in _TYPES else other
        for word, other in zip(words, derived, strict=True)
    ]


def _counted(column: Sequence[str | None], nameless: str | None = None) -> Counter[str]:
    """How often each name is there, and null if it has a name here."""
    counted: Counter[Any] = Counter(column)
    missing = counted.pop(None, 0)
    if missing and nameless:
        counted[nameless] += missing
    return counted
