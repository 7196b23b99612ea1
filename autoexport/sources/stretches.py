"""Cuts all images into stretches of about equal weight, which several processes read from one snapshot."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from autoexport.model.blocks import Place, Stretch

if TYPE_CHECKING:  # A copy of a SQLite file is begun before SQLAlchemy is loaded.
    from autoexport.sources.reader import SnapshotReader

SAMPLED_IMAGES = 10_000
"""From so many images on, a sample says where to cut. Numbering 200,000 images took 0.4 s."""

_SAMPLE, _LEAST_SAMPLE = 2_000, 200
"""So many rows of each table are asked for, and so many have to be found."""

_IMAGE_WEIGHT = 2
"""An image takes about as long to read and render as so many annotations."""

_KINDS = frozenset({"integer", "text", "uuid", "binary"})
"""The kinds of keys by which images may be cut: every database compares them as it sorts them."""


def uncuttable(reader: SnapshotReader) -> str:
    """Why the images cannot be read in stretches; empty if they can. The reader has counted the rows."""
    tables = reader.tables
    for logical in tables.chain:
        mapped = tables.mapped[logical]
        if mapped.table.query is not None or mapped.table.kind != "table":
            return f"{logical} are not a table"
    level = tables.dataset_level()
    for logical in ("images", level) if level else ("images",):
        if logical in tables.keyless:
            return f"some {logical} have no key"
        if tables.key_column(logical).kind not in _KINDS:
            return f"the keys of {logical} are of an unusual type"
    if not tables.is_primary_key("images") and tables.key_column("images").nullable:
        return "images may have no key"
    if level and not tables.is_primary_key(level) and tables.key_column(level).nullable:
        return f"{level} may have no key"
    return ""


async def stretches(reader: SnapshotReader, most: int) -> list[Stretch]:
    """At most so many stretches, in order. Raises `SourceError`."""
    images, annotations, _ = reader.counted
    places: list[Place] = []
    if images >= SAMPLED_IMAGES:
        places = await _sampled(reader, most, {"images": _IMAGE_WEIGHT * images, "annotations": annotations})
    if not places and (numbers := sorted({images * part // most for part in range(1, most)} - {0, images})):
        async for rows in reader.snapshot.stream(reader.statements.numbered_images(numbers)):
            places += [(row[0], row[1]) for row in rows]  # type: ignore[misc]
    return [Stretch(after, to) for after, to in pairwise([None, *places, None])]


async def _sampled(reader: SnapshotReader, most: int, weights: dict[str, int]) -> list[Place]:
    """The places that cut a sample of rows into parts of equal weight; none if there is no good sample.

    `weights` are the weights of all rows of a logical table together.
    """
    mapped = [logical for logical in weights if logical in reader.tables.mapped]
    statement = reader.statements.sampled_places(mapped, _SAMPLE)
    if statement is None:
        return []
    sample: list[tuple[str, Place]] = []
    async for rows in reader.snapshot.stream(statement):
        sample += [(str(row[0]), (row[1], row[2])) for row in rows]  # type: ignore[misc]
    counts = Counter(logical for logical, _ in sample)
    if counts["images"] < _LEAST_SAMPLE:
        return []
    begins = list(accumulate(weights[logical] / counts[logical] for logical, _ in sample))
    cuts = (bisect_left(begins, begins[-1] * part / most) for part in range(1, most))
    return list(dict.fromkeys(sample[cut][1] for cut in cuts))
