"""The ledger is read as it was written, and an export does not use one that does not fit."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from autoexport.incremental import ledger
from autoexport.incremental.ledger import Ledger, load_ledger, save_ledger
from autoexport.incremental.position import load_position, save_position
from autoexport.model.blocks import BlockRecord, Counts, Part, pack
from autoexport.model.catalog import Key
from autoexport.model.scratch import MemoryScratch, Stored
from autoexport.model.sections import SectionPlace, SectionRecord, Sums
from autoexport.publishing.directory import DirectoryTarget
from autoexport.publishing.identity import FileIdentity

ENCODERS = {"JSON": "e"}
COUNTS = Counts(3, 2, 5, Counter({"train": 2, "花": 1}), Counter({"car": 4, "": 1}), 1, 2)


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A directory with a published file."""
    (tmp_path / "images.csv").write_bytes(b"id\n1\n")
    return tmp_path


def section(datasets: list[Key], *blocks: BlockRecord) -> SectionRecord:
    """A section of these blocks in three files, the first of which has no blocks."""
    lines: list[Any] = [datasets]
    for block in blocks:
        parts = [(part.offset, part.length, part.crc) for part in block.parts]
        counts = orjson.Fragment(block.packed)
        lines.append([block.dataset, block.first, block.last, counts, block.parents, block.ids, parts])
    body = b",\n".join(map(orjson.dumps, lines))
    scratch = MemoryScratch()
    places = [SectionPlace(7 * at, 2**40, 2**32 - 1, 3) for at in range(3)]
    stored = Stored(scratch, scratch.append(body), len(body))
    return SectionRecord("digest", "counted", not blocks, Sums(3, 2, 5, 1, 2, 2**64 - 1, 4, 2), places, stored)


def same(left: Ledger | None, right: Ledger) -> bool:
    """Whether two ledgers say the same, wherever the bodies of their sections are."""
    if left is None:
        return False
    described = [
        [(own.digest, own.counted, own.empty, own.sums, own.places, own.body.read()) for own in ledger.sections]
        for ledger in (left, right)
    ]
    return described[0] == described[1] and replace(left, sections=()) == replace(right, sections=())


def ledger_of(directory: Path) -> Ledger:
    """A ledger of that directory with two blocks."""
    parts = [Part(10, 20, 2**32 - 1), Part(0, 5, 0)]
    return Ledger(
        database="d",
        settings="s",
        mapping="m",
        generation=7,
        timestamp="2025-01-01T00:00:00Z",
        files={"images.csv": FileIdentity.of(directory / "images.csv", 99)},
        tables={"images": "images"},
        unpublished={"images": 1, "annotations": 0},
        kinds=("str", "str"),
        block_files=[1, 2],
        sections=[
            section(
                ["a", "é"],
                BlockRecord("a", "1", "9", pack(COUNTS), "p", 2**64 - 1, parts),
                BlockRecord("é", "x", "\U0001f600", pack(Counts()), "q", 0, parts),
            ),
            section([]),
        ],
        encoders=ENCODERS,
    )


# --- round trip ------------------------------------------------------------------------------------


def test_a_ledger_comes_back_as_it_was(published: Path) -> None:
    """With keys of any text, sums up to 2^64 and counts of any word."""
    made = ledger_of(published)
    save_ledger(published, made, iter([b"po", b"sition"]))
    loaded = load_ledger(published)
    assert same(loaded, made)
    assert loaded is not None
    first, second = loaded.blocks()
    assert (first.counts, first.ids, first.last) == (COUNTS, 2**64 - 1, "9")
    # Offsets are those in the file: the section begins at 7 in one and at 14 in the other.
    assert [part.offset for part in first.parts] == [17, 14]
    assert (second.dataset, second.last) == ("é", "\U0001f600")
    assert next(iter(loaded.sections)).datasets() == ["a", "é"]
    assert list(next(iter(loaded.sections)).label_counts()) == [{"car": 4, "": 1}, {}]
    position = load_position(published, 7)
    assert position is not None
    assert b"".join(position) == b"position"


def test_number_keys_come_back_as_numbers(published: Path) -> None:
    """Beyond 2^53, too."""
    made = ledger_of(published)
    block = next(made.blocks())
    made.sections = [section([-1, 2**63 - 1], replace(block, dataset=-1, first=2**53 + 1))]
    save_ledger(published, made, None)
    loaded = load_ledger(published)
    assert same(loaded, made)
    assert loaded is not None
    assert [(block.dataset, block.first) for block in loaded.blocks()] == [(-1, 2**53 + 1)]


def test_a_ledger_without_blocks_comes_back(published: Path) -> None:
    """An empty database has one."""
    made = ledger_of(published)
    made.sections = []
    save_ledger(published, made, None)
    assert same(load_ledger(published), made)


def test_a_section_can_be_read_when_another_ledger_has_taken_the_name(published: Path) -> None:
    """The sections that an export keeps are copied from the old ledger to the new one."""
    save_ledger(published, ledger_of(published), None)
    loaded = load_ledger(published)
    assert loaded is not None
    save_ledger(published, replace(loaded, generation=8), None)
    newer = load_ledger(published)
    assert same(newer, replace(ledger_of(published), generation=8))
    assert same(loaded, ledger_of(published))


def test_it_is_private(published: Path) -> None:
    """No other user may read counts and keys of the database."""
    save_ledger(published, ledger_of(published), iter([b""]))
    for name in ("ledger.json", "position"):
        assert stat.S_IMODE((published / name).stat().st_mode) == 0o600


# --- position --------------------------------------------------------------------------------------


def test_a_position_of_another_generation_is_not_given(published: Path) -> None:
    """Neither an older nor a newer one."""
    save_position(published, 7, iter([b"x"]))
    assert load_position(published, 6) is None
    assert load_position(published, 8) is None
    assert load_position(published, 70) is None


def test_no_position_is_none(published: Path) -> None:
    """After an export that could not have one, the one before it is gone, too."""
    assert load_position(published, 7) is None
    save_ledger(published, ledger_of(published), iter([b"x"]))
    save_ledger(published, ledger_of(published), None)
    assert load_position(published, 7) is None


def test_a_position_that_is_a_link_is_not_followed(published: Path) -> None:
    """The file of another user is not read."""
    save_position(published, 7, iter([b"x"]))
    (published / "position").rename(published / "elsewhere")
    (published / "position").symlink_to(published / "elsewhere")
    assert load_position(published, 7) is None


def test_a_link_in_place_of_the_position_is_replaced(published: Path) -> None:
    """Even by the position that it leads to."""
    save_position(published, 7, iter([b"x"]))
    (published / "position").rename(published / "elsewhere")
    (published / "position").symlink_to(published / "elsewhere")
    save_position(published, 7, iter([b"x"]))
    assert b"".join(load_position(published, 7) or ()) == b"x"


def test_an_unchanged_position_is_left_alone(published: Path) -> None:
    """A check without changes writes nothing; any difference, at the end too, is written."""
    save_position(published, 7, iter([b"x", b"y"]))
    before = FileIdentity.of(published / "position", 0)
    save_position(published, 7, iter([b"xy"]))
    assert FileIdentity.of(published / "position", 0) == before
    for pieces in ([b"x"], [b"x", b"y", b"z"], [b"z", b"y"], [b"xy", b""]):
        save_position(published, 7, iter(pieces))
        assert b"".join(load_position(published, 7) or ()) == b"".join(pieces)


def test_a_position_that_is_cut_short_is_given_as_it_is(published: Path) -> None:
    """The source checks whether it is complete; a part of the head is no position."""
    save_position(published, 7, iter([b"xyz"]))
    os.truncate(published / "position", 21)
    assert b"".join(load_position(published, 7) or ()) == b"x"
    os.truncate(published / "position", 10)
    assert load_position(published, 7) is None


def test_a_crash_between_the_two_files_never_leaves_a_newer_position(
    published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A position that is newer than its ledger would hide what happened in between; an older one hides nothing."""
    save_ledger(published, ledger_of(published), iter([b"older"]))
    replaced: list[str] = []
    real = os.replace

    def crash_after_one(source: str, target: str, **more: int) -> None:
        if replaced:
            raise KeyboardInterrupt
        real(source, target, **more)
        replaced.append(Path(target).name)

    monkeypatch.setattr(os, "replace", crash_after_one)
    monkeypatch.setattr(os, "rename", crash_after_one)
    newer = ledger_of(published)
    newer.unpublished = {"images": 2, "annotations": 5}
    with pytest.raises(KeyboardInterrupt):
        save_ledger(published, newer, iter([b"newer"]))
    monkeypatch.undo()
    loaded = load_ledger(published)
    assert loaded is not None
    position = load_position(published, loaded.generation)
    assert position is None or b"".join(position) == b"older" or loaded.unpublished == newer.unpublished


# --- damage ----------------------------------------------------------------------------------------


def test_what_is_no_ledger_is_none(published: Path) -> None:
    """Missing, empty, cut anywhere, of another shape: a full export, never an error."""
    assert load_ledger(published) is None
    save_ledger(published, ledger_of(published), None)
    path = published / "ledger.json"
    whole = path.read_bytes()
    for size in range(len(whole.rstrip())):
        path.write_bytes(whole[:size])
        assert load_ledger(published) is None
    for text in (b"[]", b"null", b"1", b"{}", b'{"version": 1}', b"\xff\xfe"):
        path.write_bytes(text)
        assert load_ledger(published) is None
    path.unlink()
    path.mkdir()
    assert load_ledger(published) is None


def test_a_ledger_of_another_version_is_none(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may mean something else."""
    monkeypatch.setattr(ledger, "LEDGER_VERSION", ledger.LEDGER_VERSION + 1)
    save_ledger(published, ledger_of(published), None)
    assert load_ledger(published) is not None
    monkeypatch.undo()
    assert load_ledger(published) is None


def test_a_ledger_that_was_edited_is_none(published: Path) -> None:
    """One digit of an offset, a count, a key: it would still be well formed, and the files would be wrong."""
    save_ledger(published, ledger_of(published), None)
    path = published / "ledger.json"
    text = path.read_bytes()
    places = [place for place, byte in enumerate(text) if chr(byte).isdigit()]
    for place in places:
        path.write_bytes(text[:place] + (b"1" if text[place : place + 1] != b"1" else b"2") + text[place + 1 :])
        assert load_ledger(published) is None, text[max(0, place - 20) : place + 20]


def identify(directory: Path) -> Callable[[str, int], FileIdentity | None]:
    """The identities of the files that lie in a directory."""
    return DirectoryTarget(directory, directory / ".autoexport").identify


# --- fit -------------------------------------------------------------------------------------------


def test_a_ledger_that_fits(published: Path) -> None:
    """There is no reason against it."""
    assert ledger_of(published).misfit("d", "s", "m", ENCODERS, identify(published)) is None


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (("x", "s", "m", ENCODERS), "another database"),
        (("d", "x", "m", ENCODERS), "settings"),
        (("d", "s", "x", ENCODERS), "mapping"),
        (("d", "s", "m", {"JSON": "x"}), "the JSON encoder changed"),
    ],
)
def test_a_ledger_of_something_else(
    published: Path, other: tuple[str, str, str, dict[str, str]], reason: str
) -> None:
    """Another database, other settings, other columns: the reason says which."""
    assert reason in (ledger_of(published).misfit(*other, identify(published)) or "")


def test_a_ledger_of_an_earlier_version(published: Path) -> None:
    """It has no fingerprints of encoders, and other digests: the reason says so, not that a setting changed."""
    made = replace(ledger_of(published), encoders={}, settings="of an earlier version")
    assert made.misfit("d", "s", "m", ENCODERS, identify(published)) == "an earlier version wrote the ledger"


def _append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


def _edit_secretly(path: Path) -> None:
    times = path.stat()
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def _copy_over(path: Path) -> None:
    times = path.stat()
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize("edit", [_append, _edit_secretly, _copy_over, Path.unlink])
def test_a_published_file_that_another_program_changed(published: Path, edit: Callable[[Path], None]) -> None:
    """Its size, its time of change, its inode or its absence shows that; the reason names the file."""
    made = ledger_of(published)
    edit(published / "images.csv")
    assert "images.csv" in (made.misfit("d", "s", "m", ENCODERS, identify(published)) or "")
