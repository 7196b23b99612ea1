"""Finds the images and nodes that a publish changes, by the old and new bytes of the blocks that were rendered."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import xxhash

from autoexport.formats.contract import Format, RecordFormat, SectionFormat, part_count
from autoexport.model.blocks import BlockRecord, Part
from autoexport.model.catalog import Key
from autoexport.overview.change_log import TABLES, Difference, compare
from autoexport.pipeline.generation import Generation

MOST_IMAGES = 100_000
"""So many images are compared: each takes 0.2 KB. Of more, it is only said that they changed."""

MOST_TEXT_BYTES = 16 << 20


class TooManyChangesError(Exception):
    """So much was rendered that a comparison would take too much memory."""


def record_format(formats: tuple[Format, ...]) -> Format | None:
    """The format whose bytes tell which records changed; None if it is switched off."""
    return next((output for output in formats if isinstance(output, RecordFormat)), None)


def differences(generation: Generation, directory: Path) -> dict[str, Difference] | None:
    """The differences to the published files in `directory`, by table; None if they cannot be known.

    Call it before the files are replaced. Raises `OSError`.
    """
    output = record_format(tuple(generation.formats))
    if generation.ledger is None or output is None or not isinstance(output, SectionFormat):
        return None
    published = os.open(directory / output.file_name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        return _Comparison(generation, output, published).run()
    except TooManyChangesError:
        return None
    finally:
        os.close(published)


class _Comparison:
    def __init__(self, generation: Generation, output: Format, published: int) -> None:
        formats = list(generation.formats)
        self._generation = generation
        self._output = output
        self._published = published
        self._file = formats.index(output)
        self._part = sum(part_count(other) for other in formats[: self._file])

    def run(self) -> dict[str, Difference]:
        generation, index = self._generation, self._part
        assert generation.ledger is not None  # noqa: S101 - `differences` has asked
        old: dict[str, dict[bytes, int]] = {table: {} for table in TABLES}
        new: dict[str, dict[bytes, int]] = {table: {} for table in TABLES}
        fresh = (record for record in generation.records if record.parts[index].fresh)
        kept = {record.parts[index].offset for record in generation.records if not record.parts[index].fresh}
        (spool,) = generation.spooled[index : index + 1]
        self._add_blocks(new["images"], fresh, spool.descriptor)
        for section in generation.sections.replaced():
            blocks = list(section.blocks(generation.ledger.block_files))
            replaced = (record for record in blocks if record.parts[index].offset not in kept)
            self._add_blocks(old["images"], replaced, self._published)
            place = section.places[self._file]
            parts = sorted((record.parts[index] for record in blocks), key=lambda part: part.offset)
            self._add_nodes(old, self._text(place.offset, place.offset + place.length, parts))
        texts = generation.sections.texts[self._file]
        assert texts is not None  # noqa: S101 - it is a SectionFormat
        for text in texts.fresh():
            self._add_nodes(new, text)
        return {table: compare(old[table], new[table]) for table in TABLES}

    def _add_blocks(self, images: dict[bytes, int], records: Iterator[BlockRecord], source: int) -> None:
        for record in records:
            if len(images) + record.counts.images > MOST_IMAGES:
                raise TooManyChangesError
            part = record.parts[self._part]
            for image, text in self._images(os.pread(source, part.length, part.offset)):
                # An image that moves to another dataset has changed, although its own bytes are the same. Ids need
                # not be unique.
                images[image] = images.get(image, 0) + _fingerprint(record.dataset, text)

    def _images(self, body: bytes) -> Iterator[tuple[bytes, bytes]]:
        assert isinstance(self._output, RecordFormat)  # noqa: S101
        return self._output.images_in(body)

    def _add_nodes(self, nodes: dict[str, dict[bytes, int]], text: bytes) -> None:
        assert isinstance(self._output, RecordFormat)  # noqa: S101
        if len(text) > MOST_TEXT_BYTES:
            raise TooManyChangesError
        for table, key, own in self._output.nodes_in(text):
            nodes[table][key] = nodes[table].get(key, 0) + xxhash.xxh3_64_intdigest(own)

    def _text(self, begin: int, end: int, parts: list[Part]) -> bytes:
        """The published text of a section without its blocks and the separators between them."""
        pieces = []
        for part in [*parts, Part(end, 0, 0)]:
            if part.offset - begin > len(self._output.separator) or not part.length:
                pieces.append(os.pread(self._published, part.offset - begin, begin))
            begin = part.offset + part.length
        return b"".join(pieces)


def _fingerprint(dataset: Key, text: bytes) -> int:
    return xxhash.xxh3_64_intdigest(text, xxhash.xxh32_intdigest(repr(dataset).encode("utf-8", "surrogateescape")))
