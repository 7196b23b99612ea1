"""Expands the rows of a block: documents become columns of images, and columns of N annotations a row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Mapping as ReadOnly
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any

from autoexport.model.blocks import BlockRows
from autoexport.model.catalog import Scalar
from autoexport.values.expand import dialect
from autoexport.values.expand.contract import REGION_FIELDS, Facts, Region, Regions
from autoexport.values.expand.geometry import written
from autoexport.values.json_columns import parse
from autoexport.values.scalars import names, numbers, texts
from autoexport.values.urls import cut_urls

_LENGTHS = ("x_min", "y_min", "x_max", "y_max")
Columns = dict[str, Sequence[Any]]


@dataclass(slots=True)
class ExpandedRows:
    """The rows of a block after expansion.

    `images` are stored columns of the images that are published, `rows` the stored columns of their annotations'
    rows. `counts` has the number of regions of each of these rows, `regions` their columns as they are published.
    `spans` is the number of regions of each published image. `hidden` counts images that are not published.
    """

    images: Columns
    rows: Columns
    counts: list[int]
    regions: Columns
    spans: list[int]
    hidden: int = 0
    repaired: int = 0

    def repeated(self, column: Sequence[Any]) -> list[Any]:
        """A column of the stored rows with each value as often as its row has regions."""
        return [*chain.from_iterable(map(repeat, column, self.counts))]


def expand(rows: BlockRows, expanders: ReadOnly[str, str], facts: Facts) -> ExpandedRows:
    """Expand the documents of a block. `expanders` are the names of dialects by logical table.

    `facts` are those about the project of the block.
    """
    images: Columns = dict(rows.images.columns())
    annotations: Columns = dict(rows.annotations.columns())
    spans = rows.spans
    kept: list[bool] | None = None
    repaired = 0
    if "images" in expanders and images:
        kept, repaired = _read_images(images, expanders["images"], facts)
    if "annotations" not in expanders:
        return _of_rows(images, annotations, spans, kept, repaired)
    documents = annotations.pop("document", ())
    shown = annotations.pop("kept", None)
    read = dialect(expanders["annotations"]).read_regions
    found: list[Regions] = []
    for document in documents:
        parsed, bad = parse(document)
        regions = read(parsed, facts) if parsed is not None else Regions()
        repaired += bad + regions.repaired
        found.append(regions)
    if images:
        _sizes(images, found, spans)
    if shown is not None:
        for regions, flag in zip(found, shown, strict=True):
            if not flag:
                regions.regions.clear()
    if kept is not None and not all(kept):
        flags = [*chain.from_iterable(map(repeat, kept, spans))]
        found = _chosen(found, flags)
        annotations = {name: _chosen(column, flags) for name, column in annotations.items()}
        images = {name: _chosen(column, kept) for name, column in images.items()}
        spans = _chosen(spans, kept)
    counts = [len(regions.regions) for regions in found]
    columns, unfit = _columns(texts(annotations.get("id", ()))[0], found)
    return ExpandedRows(
        images=images,
        rows=annotations,
        counts=counts,
        regions=columns,
        spans=_summed(counts, spans),
        hidden=len(rows.spans) - len(spans),
        repaired=repaired + unfit,
    )


def _of_rows(
    images: Columns, annotations: Columns, spans: Sequence[int], kept: Sequence[bool] | None, repaired: int
) -> ExpandedRows:
    """Rows of which only the images had documents: every row is one annotation."""
    flags = kept if kept is not None else [True] * len(spans)
    of_rows = [*chain.from_iterable(map(repeat, flags, spans))]
    annotations = {name: _chosen(column, of_rows) for name, column in annotations.items()}
    left = _chosen(spans, flags)
    chosen: Columns = {name: _chosen(column, flags) for name, column in images.items()}
    return ExpandedRows(chosen, annotations, [1] * sum(left), {}, left, len(spans) - len(left), repaired)


def _read_images(images: Columns, name: str, facts: Facts) -> tuple[list[bool], int]:
    """Replace the documents of the images by the fields that they give; which rows are images, and repairs."""
    read = dialect(name).read_image
    documents = images.pop("document", ())
    kept, total, fields = [], 0, dict[str, list[Scalar]]()
    for index, document in enumerate(documents):
        parsed, bad = parse(document)
        total += bad
        given = read(parsed, facts) if read is not None else {}
        kept.append(given is not None)
        for field, value in (given or {}).items():
            fields.setdefault(field, [None] * len(documents))[index] = value
    images.update(fields)
    return kept, total


def _sizes(images: Columns, found: Sequence[Regions], spans: Sequence[int]) -> None:
    """Fill in the size of each image from its rows: the largest that one of them names."""
    for field in ("width", "height"):
        if field in images:
            continue
        column, first = [], 0
        for span in spans:
            sizes = [getattr(regions, field) for regions in found[first : first + span]] if span else []
            column.append(max((size for size in sizes if size is not None), default=None))
            first += span
        images[field] = column


def _columns(ids: Sequence[Any], found: Sequence[Regions]) -> tuple[Columns, int]:
    """The columns of all regions, and how many numbers were none that JSON can hold."""
    regions: Iterable[Region] = chain.from_iterable(each.regions for each in found)
    columns: Columns = dict(zip(REGION_FIELDS, zip(*regions, strict=True), strict=False))
    if not columns:
        columns = dict.fromkeys(REGION_FIELDS, ())
    of_row = chain.from_iterable(map(repeat, ids, (len(each.regions) for each in found)))
    columns["id"] = [f"{row}:{part}" for row, part in zip(of_row, columns.pop("part"), strict=True)]
    total = 0
    for side in _LENGTHS:
        columns[side], repaired = numbers(columns[side])
        total += repaired
    columns["label"], repaired = names(cut_urls(columns["label"])[0])
    total += repaired
    columns["attributes"] = [written(value) if value else None for value in columns["attributes"]]
    columns["boxed"] = [side is not None for side in columns["x_min"]]
    return columns, total


def _summed(counts: Sequence[int], spans: Sequence[int]) -> list[int]:
    sums, first = [], 0
    for span in spans:
        sums.append(sum(counts[first : first + span]))
        first += span
    return sums


def _chosen(column: Sequence[Any], flags: Sequence[bool]) -> list[Any]:
    return [value for value, flag in zip(column, flags, strict=True) if flag]
