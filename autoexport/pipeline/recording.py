"""Records rendered blocks: which images they hold, and where their bytes are."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from autoexport.model import packing
from autoexport.model.blocks import BlockRecord, BlockRows
from autoexport.model.catalog import Key
from autoexport.model.sections import BlockRecords
from autoexport.rendering.spool import Rendered


def order_of(record: BlockRecord) -> tuple[Key, Key]:
    """The key by which the blocks of the tree are sorted."""
    return record.dataset, record.first


def keys_of(rows: BlockRows, digests: Sequence[str], first: list[Key]) -> bytes:
    """Dataset, first and last image, and digest of the parents of each block that ends in these rows, packed.

    `first` holds the first image of a block that began in earlier rows.
    """
    images, end = rows.image_keys(), 0
    keys = []
    for index, ((dataset, length), digest) in enumerate(zip(rows.blocks(), digests, strict=True), 1):
        begun, end = end, end + length
        if not first:
            first.append(images[begun])
        if rows.ends or index < len(digests):
            keys.append((dataset, first.pop(), images[end - 1], digest))
    return packing.pack(keys)


def record(records: BlockRecords, keys: deque[bytes], rendered: Iterator[Rendered]) -> None:
    """Record the rendered blocks, and free their packed keys one after the other."""
    while keys:
        for dataset, first, last, parents in packing.unpack(keys.popleft()):
            made = next(rendered)
            records.append(BlockRecord(dataset, first, last, made.packed, parents, made.ids, made.parts))
