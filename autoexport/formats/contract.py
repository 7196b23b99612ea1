"""The contract of an output format, and the declaration that its module makes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from autoexport.config.options import Option
from autoexport.model.blocks import Block, BlockRef, Guarded, SectionRef
from autoexport.model.tree import DatasetNode, ProjectNode, Section, Tree

Owner = tuple[ProjectNode, DatasetNode]
"""The project and the dataset of a block."""

SHAPES = "shape_fields"
"""The option that no setting has: the fields of `SHAPE_FIELDS` that annotations have in this database."""

FormatOptions = Mapping[str, Any]
"""The value of every declared option by name. All are plain scalars, so that a rendering process can get them."""


class Format(Protocol):
    """Encodes the blocks of one published file, and the text around them.

    A format does no I/O. `separator` stands between two blocks and belongs to neither, so that the file does not
    show where the blocks were cut.
    """

    file_name: str
    has_blocks: bool

    separator: bytes
    """The bytes between two blocks."""

    def rows(self, tree: Tree) -> int:
        """The number of rows in the file, for the manifest. The rows of the JSON tree are its images."""
        ...

    def block(self, block: Block, project: ProjectNode, dataset: DatasetNode) -> tuple[bytes, int]:
        """The bytes of a block, and the number of its guarded cells."""
        ...

    def image_at(self, body: bytes, offset: int) -> str:
        """The id, as the file has it, of the image at this byte of a block's body."""
        ...

    def assemble(self, tree: Tree) -> Iterator[bytes | BlockRef | SectionRef]:
        """The whole file in order: bytes, and a reference for each block, or each section of a `SectionFormat`."""
        ...

    def guarded(self, tree: Tree) -> int:
        """The number of guarded cells outside the blocks."""
        ...


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """One file of a `FileSetFormat`: its path in the export directory, its rows and its text in order."""

    name: str
    rows: int
    text: Iterable[bytes | BlockRef]


@runtime_checkable
class FileSetFormat(Protocol):
    """A format of several files, which depend on the tree, and of several parts for each block. No format has to.

    Its `file_name` is the folder of its files. Its `separator` stands between two parts that follow one another
    and are not empty; `files` does not yield it.
    """

    file_name: str

    part_count: int
    """The number of parts of each block."""

    patterns: tuple[str, ...]
    """The paths that its files may have, as patterns of `glob`. Others than the published ones are removed."""

    published_tallies: tuple[str, ...]
    """The names of those tallies that count published rows. The others count what was left out or changed."""

    def parts(
        self, block: Block, project: ProjectNode, dataset: DatasetNode
    ) -> tuple[list[bytes], Mapping[str, int]]:
        """The parts of a block, and its tallies for `Counts`."""
        ...

    def files(self, tree: Tree) -> Iterator[PublishedFile]:
        """All files in the order of publication. The text of each is taken before the next file."""
        ...

    def left_out(self, tree: Tree) -> dict[str, int]:
        """The number of rows that no file has, by reason."""
        ...


@runtime_checkable
class NarrowFormat(Protocol):
    """A format that does not publish every field of images and annotations. No format has to be one.

    If all formats are such, only these fields are read, and those that are counted.
    """

    fields: Mapping[str, frozenset[str]]
    """The fields on which its bytes depend, for the logical tables `images` and `annotations`."""


@dataclass(frozen=True, slots=True)
class PublishedFolder:
    """A folder of a `FolderFormat` with a file for each image: its path, which ends with `/`, and its sums.

    `rows` is the number of its files, `bytes` their size. `digest` does not depend on their order.
    """

    name: str
    rows: int
    bytes: int
    digest: str


@runtime_checkable
class FolderFormat(Protocol):
    """A `FileSetFormat` that also has a small file for each image, in folders. No format has to."""

    folder_part: int
    """The part of a block that holds its small files. It is in none of the format's `files`."""

    def folder_files(self, body: bytes, project: ProjectNode) -> Iterator[tuple[str, bytes]]:
        """The small files in such a part: the path of each in the export directory, and its bytes."""
        ...

    def folders(self, tree: Tree) -> Iterator[PublishedFolder]:
        """All folders, for the manifest."""
        ...


def part_count(output: Format) -> int:
    """The number of parts that each block has in a format."""
    return output.part_count if isinstance(output, FileSetFormat) else int(output.has_blocks)


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


RowRange = tuple[bool, int, int]
"""Whether rows are fresh, else in the published file; the number of rows before them there, and their number."""


class Readable(Protocol):
    """A file that a format reads: the fresh rows, or the published file."""

    @property
    def length(self) -> int:
        """In bytes; 0 if there is no such file."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """So many bytes from this offset."""
        ...


@dataclass(frozen=True, slots=True)
class Copied:
    """A byte range of the published file, and its CRC-32."""

    offset: int
    length: int
    crc: int


@runtime_checkable
class RowFormat(Protocol):
    """A format that cuts its file by a rule of its own, wherever blocks end. No format has to.

    Its blocks are rendered to rows, which are in the file in another form; `separator` is empty. So the ledger has
    the places of its blocks as numbers of rows, not of bytes.
    """

    file_name: str

    def measure(self, body: bytes) -> int:
        """The number of rows that `Format.block` rendered to these bytes."""
        ...

    def groups(self, ranges: Iterable[RowRange], fresh: Readable, published: Readable) -> Iterator[bytes | Copied]:
        """The whole file in order, which holds the rows of these ranges: bytes, and parts of the published file.

        `fresh` has the rendered blocks, one after the other.
        """
        ...


@runtime_checkable
class EncoderFormat(Protocol):
    """A format whose bytes depend on an encoder of its own, of which versions may differ. No format has to."""

    def encoder(self) -> tuple[str, str]:
        """The name of the encoder, and a digest of what it makes of some values."""
        ...


@runtime_checkable
class RecordFormat(Protocol):
    """A format whose bytes tell which records changed. No format has to."""

    def images_in(self, body: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The JSON of the id, and the bytes, of each image of a block."""
        ...

    def nodes_in(self, text: bytes) -> Iterator[tuple[str, bytes, bytes]]:
        """The nodes of a section, from its text without its blocks: table, JSON of the id, values.

        The id of a label is a pair of its project's and its own, or its name if it has none.
        """
        ...


@dataclass(frozen=True, slots=True)
class Output:
    """The declaration of a format: the option that turns it on, its other options and its file names.

    The file name of a `FileSetFormat` is its folder, and `patterns` are those of its files.

    `make` returns a `Format` for each file. It gets the values of all options.
    """

    switch: Option
    options: tuple[Option, ...]
    file_names: tuple[str, ...]
    make: Callable[[FormatOptions], Sequence[Format]]
    patterns: tuple[str, ...] = ()
