"""Applies the value rules to the rows of a block and counts its images, annotations and labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, Protocol

from autoexport.model.blocks import Block, BlockRows, Counts
from autoexport.model.catalog import Scalar
from autoexport.model.mapping import KeepQuery
from autoexport.values import scalars
from autoexport.values.boxes import CORNERS, BoxMapping, corners
from autoexport.values.expand import dialect
from autoexport.values.expand.contract import NO_FACTS, Dialect, Facts
from autoexport.values.expand.rows import ExpandedRows, expand
from autoexport.values.mended import Mended
from autoexport.values.naming import derive_names
from autoexport.values.rules import ANNOTATION_RULES, IMAGE_RULES, PARENT_RULES, SHAPE_RULES, Rule
from autoexport.values.turned import turn_boxes
from autoexport.values.urls import cut_urls
from autoexport.values.worded import numbers_in_words

_TEXT_RULES = (scalars.texts, scalars.names, scalars.splits)

UNASSIGNED = "unassigned"
_EMPTY_SHAPES = {b"[]", b"{}", b'""', b"0", b"0.0", b"-0.0", b"false"}
_TYPES = {
    "bbox", "polygon", "classification", "points", "keypoints", "polyline", "ellipse", "mask", "cuboid",
    "skeleton", "text",
}  # fmt: skip


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
    """Compute all published columns of the rows of one block, and the counts. `facts` are those of its project."""
    block, counts = render_together(rows, mapping, facts)
    (block.counts,) = counts
    return block


def render_together(rows: BlockRows, mapping: RowMapping, facts: Facts = NO_FACTS) -> tuple[Block, list[Counts]]:
    """Compute all published columns of the rows of several blocks at once, and the counts of each block.

    Where documents are expanded, there is only one block; `facts` are those about its project.
    """
    worded: dict[str, Rule] = dict.fromkeys(mapping.worded, numbers_in_words)
    if any(name in mapping.expand for name in ("images", "annotations")):
        return _render_expanded(rows, mapping, worded, facts)
    lengths = [length for _, length in rows.blocks()]
    of_images = _slices(lengths)
    ends = [0, *accumulate(rows.spans)]
    of_annotations = [slice(ends[part.start], ends[part.stop]) for part in of_images]
    mended = [Mended() for _ in lengths]
    images = _images(rows.images.columns(), rows.spans, mapping, worded, of_images, mended)
    stored = rows.annotations.columns()
    annotations = _annotations(stored, rows.annotations.fields, mapping, worded, of_annotations, mended)
    boxes, repaired_boxes = corners(stored, mapping, ends[-1])
    if repaired_boxes:
        for part, own in zip(of_annotations, mended, strict=True):
            columns = {name: column[part] for name, column in stored.items()}
            own.repaired += corners(columns, mapping, part.stop - part.start)[1]
    annotations.update(boxes)
    types: Sequence[str] = _types(annotations)
    if "rotation" in annotations:
        types = turn_boxes(annotations, types, CORNERS)
    annotations["type"] = types
    counts = [
        _counts(images, annotations, *parts) for parts in zip(of_images, of_annotations, mended, strict=True)
    ]
    return Block(images, annotations, rows.spans), counts


def _render_expanded(
    rows: BlockRows, mapping: RowMapping, worded: dict[str, Rule], facts: Facts
) -> tuple[Block, list[Counts]]:
    """Render a block some of whose rows hold documents."""
    expanded = expand(rows, mapping.expand, facts)
    spans, mended = expanded.spans, Mended(expanded.repaired)
    everything = [slice(0, len(spans))]
    images = _images(expanded.images, spans, mapping, worded, everything, [mended])
    stored, of_rows = expanded.rows, [slice(0, len(expanded.counts))]
    annotations = _annotations(stored, rows.annotations.fields, mapping, worded, of_rows, [mended])
    if "annotations" in mapping.expand:
        given, repaired = _region_columns(expanded, dialect(mapping.expand["annotations"]), stored)
        own = annotations.keys() - given.keys()
        annotations = {**{name: expanded.repeated(annotations[name]) for name in own}, **given}
    else:
        boxes, repaired = corners(stored, mapping, len(expanded.counts))
        annotations.update(boxes)
        annotations["type"] = _types(annotations)
    mended.repaired += repaired
    counts = _counts(images, annotations, everything[0], slice(0, sum(spans)), mended)
    counts.hidden_images = expanded.hidden
    counts.added_annotations = sum(spans) - sum(rows.spans)
    return Block(images, annotations, spans), [counts]


def _images(
    stored: Mapping[str, Sequence[Scalar]],
    spans: Sequence[int],
    mapping: RowMapping,
    worded: dict[str, Rule],
    parts: Sequence[slice],
    mended: Sequence[Mended],
) -> dict[str, Sequence[Any]]:
    keep = mapping.keep_query.get("images", {})
    images = _ruled(stored, _replaced(IMAGE_RULES, worded), keep, parts, mended)
    derive_names(images)
    if "is_labeled" not in stored:
        images["is_labeled"] = [span > 0 for span in spans]
    return images


def _annotations(
    stored: Mapping[str, Sequence[Scalar]],
    fields: Sequence[str],
    mapping: RowMapping,
    worded: dict[str, Rule],
    parts: Sequence[slice],
    mended: Sequence[Mended],
) -> dict[str, Sequence[Any]]:
    """The columns of annotations without boxes and derived types; those of shapes only if the mapping has them."""
    shapes = {name: rule for name, rule in SHAPE_RULES.items() if name in fields}
    rules, keep = _replaced({**ANNOTATION_RULES, **shapes}, worded), mapping.keep_query.get("annotations", {})
    return _ruled(stored, rules, keep, parts, mended)


def _counts(
    images: dict[str, Sequence[Any]],
    annotations: dict[str, Sequence[Any]],
    own: slice,
    below: slice,
    mended: Mended,
) -> Counts:
    """The counts of the block with these images and annotations."""
    sizes = zip(images["width"][own], images["height"][own], strict=True)
    return Counts(
        images=own.stop - own.start,
        labeled=images["is_labeled"][own].count(True),
        annotations=below.stop - below.start,
        splits=_counted(images["split"][own], UNASSIGNED),
        labels=_counted(annotations["label"][below]),
        repaired=mended.repaired,
        redacted=mended.redacted,
        verified=images["is_verified"][own].count(True),
        unsized=sum(not (width and height) for width, height in sizes),
    )


def _region_columns(
    expanded: ExpandedRows, read: Dialect, stored: Mapping[str, Sequence[Scalar]]
) -> tuple[dict[str, Sequence[Any]], int]:
    """The columns that the regions give. A confidence is only read where the table has one: people give none."""
    regions = expanded.regions
    names = ["id", "type", "label", "polygon", *CORNERS, "boxed", *read.shape_fields]
    names += ["label_id"] if read.labels_by_id else []
    given: dict[str, Sequence[Any]] = {name: regions[name] for name in names}
    for name, value in read.constants.items():
        if name not in stored:
            given[name] = [value] * len(regions["id"])
    if "confidence" not in stored:
        return given, 0
    pairs = zip(regions["confidence"], expanded.repeated(stored["confidence"]), strict=True)
    given["confidence"], repaired = scalars.numbers([row if own is None else own for own, row in pairs])
    return given, repaired


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


def image_names(stored: Mapping[str, Sequence[Scalar]], length: int, keep: KeepQuery) -> dict[str, Sequence[Any]]:
    """The published key, name, path and label state of `length` images."""
    rules = {name: IMAGE_RULES[name] for name in ("id", "filename", "file_path", "is_labeled")}
    images = _ruled(stored, rules, keep.get("images", {}), [slice(0, length)], [Mended()])
    derive_names(images)
    return images


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
