"""The common part of formats whose file is a header and the blocks of all images, in the order of the tree."""

from __future__ import annotations

from collections.abc import Iterator

from autoexport.model.blocks import BlockRef, Guarded, SectionRef
from autoexport.model.tree import Section, Tree


class BlockFile:
    """A header, then the blocks, with nothing between them."""

    file_name = ""
    has_blocks = True
    separator = b""

    def header(self) -> bytes:
        """The bytes before the blocks."""
        return b""

    def assemble(self, tree: Tree) -> Iterator[bytes | BlockRef | SectionRef]:
        """The header, then the blocks of all datasets."""
        yield self.header()
        if tree.parts is None:
            for project in tree.projects:
                for piece in self.section(Section("projects", [project])):
                    if not isinstance(piece, Guarded):
                        yield piece
            return
        for part in tree.parts:
            if isinstance(part, int):
                yield SectionRef(part)
            else:
                head, below = part
                yield SectionRef(head)
                yield from map(SectionRef, below)

    def section(self, section: Section) -> Iterator[bytes | BlockRef | Guarded]:
        """The blocks of all datasets of a section."""
        if section.kind != "head":
            for project in section.projects:
                for dataset in project.datasets:
                    yield from map(BlockRef, dataset.blocks)

    def guarded(self, tree: Tree) -> int:
        """None: every guarded cell is in a block."""
        return 0
