"""Cuts all images into stretches of about equal weight, which several processes read from one snapshot."""

from __future__ import annotations

from itertools import pairwise

from autoexport.model.blocks import Place, Stretch
from autoexport.sources.reader import SnapshotReader

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
    images, *_ = reader.counted
    numbers = sorted({images * part // most for part in range(1, most)} - {0, images})
    places: list[Place] = []
    if numbers:
        async for rows in reader.snapshot.stream(reader.statements.numbered_images(numbers)):
            places += [(row[0], row[1]) for row in rows]  # type: ignore[misc]
    return [Stretch(after, to) for after, to in pairwise([None, *places, None])]
