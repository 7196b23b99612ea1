"""The contract of an output format."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from autoexport.model.blocks import Block, BlockRef
from autoexport.model.tree import DatasetNode, ProjectNode, Tree


class Format(Protocol):
    """One published file: how a block looks in it, and what stands around the blocks.

    A format does no I/O. Blocks are separated by `separator`, which belongs to no block, so that
    the places where blocks are cut do not show in the file.
    """

    file_name: str
    has_blocks: bool

    def rows(self, tree: Tree) -> int:
        """How many rows the file has, for the manifest; of a tree, how many images."""
        ...

    separator: bytes
    """What stands between two blocks."""

    def block(self, block: Block, project: ProjectNode, dataset: DatasetNode) -> tuple[bytes, int]:
        """The bytes of a block, and how many cells of it were guarded."""
        ...

    def image_at(self, body: bytes, offset: int) -> str:
        """The id, as it is written, of the image that a byte of a block's body belongs to."""
        ...

    def assemble(self, tree: Tree) -> Iterator[bytes | BlockRef]:
        """The whole file in order: bytes, and references where a block's bytes go."""
        ...

    def guarded(self, tree: Tree) -> int:
        """How many cells outside the blocks were guarded."""
        ...
