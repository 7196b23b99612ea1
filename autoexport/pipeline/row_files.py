"""Makes the files of formats that cut their rows by a rule of their own, and lays them out."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from autoexport.formats.contract import FormatOptions, RowFormat
from autoexport.publishing.identity import FileIdentity
from autoexport.publishing.layout import Layout
from autoexport.publishing.row_layout import lay_out_rows, row_ranges
from autoexport.publishing.splice import changed_meanwhile, open_published
from autoexport.rendering import row_process
from autoexport.rendering.row_groups import RowFiles, write_groups
from autoexport.runtime.files import close_nameless, create_nameless
from autoexport.runtime.interpreter import is_interpreter


class RowFileSet:
    """The files of one export, each made once: encoding takes time, and they do not depend on the time stamp.

    `state` is the private directory, where new bytes are kept in files without names until `close`. `directory`
    holds the published files. `options` are those of the formats. `cpu_s` is the processor time of worker
    processes in seconds.
    """

    def __init__(self, options: FormatOptions, state: Path, directory: Path) -> None:
        self.cpu_s = 0.0
        self.options = options
        self._state = state
        self._directory = directory
        self._made: dict[str, tuple[Layout, int]] = {}

    def descriptor(self, file_name: str) -> int | None:
        """The descriptor of the new bytes of a file; None if it was not made."""
        made = self._made.get(file_name)
        return made[1] if made is not None else None

    def layout(self, file_name: str) -> Layout | None:
        """The layout of a file; None if it was not made."""
        made = self._made.get(file_name)
        return made[0] if made is not None else None

    def make(self, output: RowFormat, rows: Layout, spool: int, known: FileIdentity | None) -> Layout:
        """Make a file from the layout of its rows. Raises `PublishError`, `RenderError`, OSError.

        `spool` is the descriptor of the rendered blocks. Kept rows need a published file of the identity `known`.
        """
        target = create_nameless(self._state / f"spool-{secrets.token_hex(8)}")
        try:
            with self._published(rows, known) as published:
                pieces = self._pieces(output, rows, RowFiles(spool, published, target))
            layout = lay_out_rows(rows, pieces, 1)
        except BaseException:
            close_nameless(target)
            raise
        self._made[rows.file_name] = layout, target
        return layout

    def _pieces(self, output: RowFormat, rows: Layout, files: RowFiles) -> list[tuple[bool, int, int, int]]:
        ranges = list(row_ranges(rows))
        large = sum(length for *_, length in ranges) >= row_process.PROCESS_FROM_ROWS
        if large and any(fresh for fresh, *_ in ranges) and is_interpreter():
            made = row_process.write_groups_apart(output, self.options, ranges, files)
            if made is not None:
                pieces, cpu_s = made
                self.cpu_s += cpu_s
                return pieces
            os.ftruncate(files.target, 0)
            os.lseek(files.target, 0, os.SEEK_SET)
        return write_groups(output, ranges, files)

    @contextlib.contextmanager
    def _published(self, rows: Layout, known: FileIdentity | None) -> Iterator[int | None]:
        """The descriptor of the published file, if rows of it are kept: the same file before and after."""
        try:
            if not rows.kept_bytes:
                yield None
                return
            with open_published(self._directory / rows.file_name, known) as descriptor:
                yield descriptor
        except EOFError as error:
            raise changed_meanwhile(rows.file_name) from error

    def close(self) -> None:
        """Remove everything that was made."""
        while self._made:
            _, (_, descriptor) = self._made.popitem()
            close_nameless(descriptor)
