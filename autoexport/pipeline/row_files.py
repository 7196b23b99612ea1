"""Lays out the files of formats that cut their rows by a rule of their own: opens the files that they read."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from autoexport.formats.contract import RowFormat
from autoexport.model.scratch import Scratch
from autoexport.publishing.identity import FileIdentity
from autoexport.publishing.layout import Layout
from autoexport.publishing.row_layout import lay_out_rows
from autoexport.publishing.splice import changed_meanwhile, open_published


class _OpenFile:
    """An open file; without a descriptor, an empty one."""

    def __init__(self, name: str, descriptor: int | None) -> None:
        self.length = 0 if descriptor is None else os.fstat(descriptor).st_size
        self._name = name
        self._descriptor = descriptor

    def read(self, offset: int, length: int) -> bytes:
        """Read from the file. Raises `PublishError` if it is too short."""
        data = os.pread(self._descriptor, length, offset) if self._descriptor is not None else b""
        if len(data) < length:
            raise changed_meanwhile(self._name)
        return data


def lay_out_row_file(
    output: RowFormat,
    rows: Layout,
    spool: int | None,
    directory: Path,
    known: FileIdentity | None,
    scratch: Scratch,
) -> Layout:
    """Lay out the file of a `RowFormat` from the layout of its rows. Raises `PublishError`, `OSError`.

    `spool` is the descriptor of the rendered blocks. Kept rows need a published file of the identity `known`.
    """
    with _published(rows, directory, known) as published:
        name = rows.file_name
        return lay_out_rows(output, rows, _OpenFile(name, spool), _OpenFile(name, published), scratch)


@contextlib.contextmanager
def _published(rows: Layout, directory: Path, known: FileIdentity | None) -> Iterator[int | None]:
    """The descriptor of the published file, if rows of it are kept. It is the same file before and after."""
    if not rows.kept_bytes:
        yield None
        return
    with open_published(directory / rows.file_name, known) as descriptor:
        yield descriptor
