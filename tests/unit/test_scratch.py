"""Bytes come back from a scratch as they were appended, wherever its pieces and windows end."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoexport.model import scratch
from autoexport.model.scratch import MemoryScratch, Stored
from autoexport.rendering import spool
from autoexport.rendering.spool import ScratchFile


@given(st.lists(st.binary(max_size=40), max_size=20), st.data())
def test_any_range_can_be_read(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], data: st.DataObject
) -> None:
    """Also a range that was appended in several steps, of which some are in the file and some in memory."""
    state: Path = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(spool, "_HELD_BYTES", 50)
        patched.setattr(spool, "_WINDOW_BYTES", 16)
        with closing(ScratchFile(state)) as file:
            whole = b""
            for piece in pieces:
                assert file.append(piece) == len(whole)
                whole += piece
                begin = data.draw(st.integers(0, len(whole)))
                end = data.draw(st.integers(begin, len(whole)))
                assert file.read(begin, end - begin) == whole[begin:end]


@given(st.binary(max_size=60), st.lists(st.sampled_from([b"a", b"b", b",", b"\n", b",\n"]), max_size=40))
def test_stored_bytes_are_split_as_bytes_are(before: bytes, parts: list[bytes]) -> None:
    """A separator may lie across two pieces."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(scratch, "_PIECE_BYTES", 3)
        memory = MemoryScratch()
        memory.append(before)
        text = b"".join(parts)
        stored = Stored(memory, memory.append(text), len(text))
        assert list(stored.split(b",\n")) == text.split(b",\n")
        assert b"".join(stored.pieces()) == stored.read() == text
