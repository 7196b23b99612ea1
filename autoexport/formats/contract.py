"""The contract of an output format, and what its module declares."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from autoexport.config.options import Option
from autoexport.model.blocks import Block, BlockRef, Guarded, SectionRef
from autoexport.model.tree import DatasetNode, ProjectNode, Section, Tree

Owner = tuple[ProjectNode, DatasetNode]
"""The project and the dataset of a block."""

FormatOptions = Mapping[str, Any]
"""The value of every declared option by its name: Python's own scalars, which cross to a rendering process."""


class Format(Protocol):
    """One published file: how a block looks in it, and what stands around the blocks.

    A format does no I/O. Blocks are separated by `separator`, which belongs to no block, so that
    the places where blocks are cut do not show in the file.
    """

    file_name: str
    has_blocks: bool

    separator: bytes
    """The bytes between two blocks."""

    def rows(self, tree: Tree) -> int:
        """The number of rows in the file, for the manifest; for the JSON tree, its images."""
        ...

    def block(self, block: Block, project: ProjectNode, dataset: DatasetNode) -> tuple[bytes, int]:
        """The bytes of a block, and the number of its cells that were guarded."""
        ...

    def image_at(self, body: bytes, offset: int) -> str:
        """The id, as it is written, of the image that a byte of a block's body belongs to."""
        ...

    def assemble(self, tree: Tree) -> Iterator[bytes | BlockRef | SectionRef]:
        """The whole file in order: bytes, and references where a block's bytes go, or the text of a section of a
        `SectionFormat`."""
        ...

    def guarded(self, tree: Tree) -> int:
        """The number of guarded cells outside the blocks."""
        ...


@runtime_checkable
class BatchFormat(Protocol):
    """A format that can render many small blocks at once, for less than each alone. No format has to."""

    def blocks(
        self, block: Block, lengths: Sequence[int], owners: Sequence[Owner]
    ) -> tuple[list[bytes], list[int]]:
        """The bytes of each block, and the number of its guarded cells, as `Format.block` returns them.

        `block` holds the values of all; `lengths` are the numbers of images of each.
        """
        ...


@runtime_checkable
class SectionFormat(Protocol):
    """A format that renders sections by themselves: those that did not change are kept. No format has to.

    Its `assemble` yields a reference for each section where the tree has `parts`; the text around them may depend
    on the tree's time stamp and counts, that of a section may not. Its `guarded` is only asked about trees
    without `parts`.
    """

    def section(self, section: Section) -> Iterator[bytes | BlockRef | Guarded]:
        """The text of a section in order, with the number of guarded cells in it."""
        ...


@dataclass(frozen=True, slots=True)
class Output:
    """What the module of a format declares: the option that turns it on, its other options, its files.

    `make` returns a `Format` for each file, from the values of all options.
    """

    switch: Option
    options: tuple[Option, ...]
    file_names: tuple[str, ...]
    make: Callable[[FormatOptions], Sequence[Format]]
