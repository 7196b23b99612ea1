"""A block's rows to its bytes in every file: the work of a rendering process, or of a thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import xxhash

from autoexport.boxes import BoxMapping
from autoexport.ledger import pack
from autoexport.model import BlockRows, DatasetNode, ProjectNode
from autoexport.render import render

if TYPE_CHECKING:
    from autoexport.contracts import Format


@dataclass(slots=True)
class Bodies:
    """A block as it is published: its bytes in each format that has blocks, and what the ledger keeps of it."""

    bodies: list[bytes]
    packed: bytes
    ids: int


def bodies_of(
    rows: BlockRows, mapping: BoxMapping, outputs: Sequence[Format], project: ProjectNode, dataset: DatasetNode
) -> Bodies:
    """Render a block and write it in each of these formats."""
    block = render(rows, mapping)
    bodies = []
    for output in outputs:
        body, guarded = output.block(block, project, dataset)
        bodies.append(body)
        block.counts.guarded += guarded
    hashes = (xxhash.xxh3_64_intdigest(str(key).encode("utf-8", "surrogateescape")) for key in rows.image_keys())
    return Bodies(bodies, pack(block.counts), sum(hashes) % 2**64)
