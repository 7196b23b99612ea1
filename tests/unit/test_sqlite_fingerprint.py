"""Fingerprints of a private copy: each rule by which a page or a row counts as changed."""

from __future__ import annotations

import os
import sqlite3
import struct
import tracemalloc
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from autoexport.errors import PublishError, SourceError
from autoexport.model.blocks import Everything
from autoexport.sources.sqlite.fingerprint import (
    Difference,
    Fingerprint,
    TableRoot,
    changed_ranges,
    compare,
    fingerprint,
    rowid_ranges,
)
from autoexport.sources.sqlite.page_scan import PageNotes

SCHEMA = b"the same schema"


@dataclass
class Copy:
    """An open private copy, what is noted of its pages, and its fingerprint."""

    fd: int
    connection: sqlite3.Connection
    notes: PageNotes
    pages: Fingerprint

    def ranges(self, difference: Difference) -> dict[str, list[tuple[int, int]]] | Everything:
        """The rowid ranges of a difference that was made with this copy's fingerprint."""
        found = changed_ranges(self.connection, self.fd, self.pages, difference)
        return found if isinstance(found, Everything) else {table: list(own) for table, own in found.items()}


@contextmanager
def copied(source: sqlite3.Connection, path: Path, tables: tuple[str, ...] = ("t",)) -> Iterator[Copy]:
    """A private copy made as the program makes it, fingerprinted."""
    with closing(sqlite3.connect(path)) as target:
        source.backup(target)
    fd = os.open(path, os.O_RDONLY)
    url = f"file:{path}?mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(url, uri=True)) as connection, closing(PageNotes(path.parent)) as notes:
            roots = connection.execute("SELECT name, rootpage FROM sqlite_master WHERE type = 'table'").fetchall()
            mapped = [TableRoot(name, root) for name, root in sorted(roots) if name in tables]
            yield Copy(fd, connection, notes, fingerprint(fd, mapped, SCHEMA, notes))
    finally:
        os.close(fd)
        path.unlink()


def positions(source: sqlite3.Connection, path: Path, tables: tuple[str, ...] = ("t",)) -> list[bytes]:
    """The pieces of a fingerprint taken now."""
    with copied(source, path, tables) as copy:
        return list(copy.pages.pieces())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where private copies go."""
    return tmp_path / "copy.db"


@pytest.fixture
def source(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A database with a table of 3000 rows on some 150 leaves; freed pages keep their bytes."""
    with closing(sqlite3.connect(tmp_path / "source.db", isolation_level=None)) as connection:
        connection.executescript("PRAGMA page_size = 1024; PRAGMA secure_delete = OFF; PRAGMA synchronous = OFF")
        connection.executescript("CREATE TABLE t (n INTEGER, v TEXT); CREATE TABLE other (v)")
        rows = ((i, f"{i:040}") for i in range(1, 3001))
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO t VALUES (?, ?)", rows)
        connection.execute("COMMIT")
        yield connection


def test_nothing_changed_is_identical_whatever_page_1_says(source: sqlite3.Connection, path: Path) -> None:
    """Counters and user values of the header change page 1 and nothing else."""
    before = positions(source, path)
    source.execute("PRAGMA user_version = 7")
    with copied(source, path) as copy:
        difference = compare(before, copy.pages)
        assert difference.identical
        assert copy.ranges(difference) == {"t": []}


def test_one_changed_row_gives_one_leaf_and_a_narrow_range(source: sqlite3.Connection, path: Path) -> None:
    """An update in place dirties the leaf of the row and no other."""
    before = positions(source, path)
    source.execute("UPDATE t SET n = -n WHERE rowid = 1500")
    with copied(source, path) as copy:
        difference = compare(before, copy.pages)
        assert not difference.identical
        assert len(difference.dirty_leaves["t"]) == 1
        ((low, high),) = copy.ranges(difference)["t"]  # type: ignore[index]
        assert low <= 1500 <= high < low + 40


def test_other_tables_leave_the_mapped_ones_clean(source: sqlite3.Connection, path: Path) -> None:
    """Pages of tables that are not mapped, long values included, give no range."""
    before = positions(source, path)
    source.executemany("INSERT INTO other VALUES (zeroblob(?))", [(10,), (100_000,)])
    with copied(source, path) as copy:
        difference = compare(before, copy.pages)
        assert not difference.identical
        assert copy.ranges(difference) == {"t": []}


def test_a_page_from_the_freelist_with_its_old_bytes_is_dirty(source: sqlite3.Connection, path: Path) -> None:
    """A leaf that was on the freelist is dirty although its bytes are what they were there."""
    with copied(source, path) as full:
        source.execute("DELETE FROM t")
        empty = positions(source, path.with_suffix(".empty"))
        difference = compare(empty, full.pages)
        assert full.ranges(difference) == {"t": [(1, 3000)]}


def test_a_leaf_of_another_table_with_the_same_bytes_is_dirty(source: sqlite3.Connection, path: Path) -> None:
    """Where two mapped tables swap a page, equal bytes do not make it clean."""
    with copied(source, path, ("other", "t")) as copy:
        before = list(copy.pages.pieces())
        copy.pages.owners[:] = bytes({1: 2, 2: 1}.get(owner, owner) for owner in copy.pages.owners)
        difference = compare(before, copy.pages)
        assert len(difference.dirty_leaves["other"]) > 100
        assert len(difference.dirty_leaves["t"]) == 1


@pytest.mark.parametrize("rows", [1, 2000], ids=["root is the leaf", "deep tree"])
@pytest.mark.parametrize("page", [1, 5, 11], ids=["first", "middle", "last"])
def test_a_value_changed_on_an_overflow_page_only(
    source: sqlite3.Connection, path: Path, rows: int, page: int
) -> None:
    """The leaf keeps its bytes, and the row is found through the overflow chain."""
    source.execute("DELETE FROM t WHERE rowid > ?", (rows,))
    target = (rows + 1) // 2
    text = "x" * 11_500
    source.execute("UPDATE t SET v = ? WHERE rowid = ?", (text, target))
    before = positions(source, path)
    at = 1020 * page - 100
    source.execute("UPDATE t SET v = ? WHERE rowid = ?", (text[:at] + "y" + text[at + 1 :], target))
    with copied(source, path) as copy:
        difference = compare(before, copy.pages)
        assert not difference.dirty_leaves["t"], "the leaf has to be clean, else this proves nothing"
        assert len(difference.other_changed) == 1
        ((low, high),) = copy.ranges(difference)["t"]  # type: ignore[index]
        assert low <= target <= high < low + 40


def test_overflow_pages_without_dbstat_mean_everything(source: sqlite3.Connection, path: Path) -> None:
    """A table of the application called dbstat hides SQLite's, so the owner of the page is unknown."""
    source.execute("CREATE TABLE dbstat (name, path, pageno, pagetype)")
    source.execute("UPDATE t SET v = ? WHERE rowid = 9", ("x" * 9000,))
    before = positions(source, path)
    source.execute("UPDATE t SET v = ? WHERE rowid = 9", ("x" * 8999 + "y",))
    with copied(source, path) as copy:
        assert isinstance(copy.ranges(compare(before, copy.pages)), Everything)


def test_a_table_that_dbstat_does_not_know_means_everything(source: sqlite3.Connection, path: Path) -> None:
    """A name in another spelling than sqlite_master's must not pass for "no overflow pages"."""
    source.execute("UPDATE t SET v = ? WHERE rowid = 9", ("x" * 9000,))
    with copied(source, path) as copy:
        roots = [TableRoot("T", copy.pages.tables[0].root)]
        before = list(fingerprint(copy.fd, roots, SCHEMA, copy.notes).pieces())
    source.execute("UPDATE t SET v = ? WHERE rowid = 9", ("x" * 8999 + "y",))
    with copied(source, path) as copy:
        copy.pages = fingerprint(copy.fd, roots, SCHEMA, copy.notes)
        assert isinstance(copy.ranges(compare(before, copy.pages)), Everything)


def test_ranges_are_not_held(tmp_path: Path, path: Path) -> None:
    """Ten thousand of them, of every second leaf, are looked up one after the other."""
    with closing(sqlite3.connect(tmp_path / "small pages.db")) as source:
        source.executescript("PRAGMA page_size = 512; CREATE TABLE t (v)")
        source.executemany("INSERT INTO t VALUES (zeroblob(300))", ((),) * 20_000)
        source.commit()
        with copied(source, path) as copy:
            (table,) = copy.pages.tables
            leaves = [page for page, owner in enumerate(copy.pages.owners, start=1) if owner == 1]
            tracemalloc.start()
            try:
                found = sum(1 for _ in rowid_ranges(copy.fd, table, leaves[::2]))
                peak_bytes = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
    assert found == 10_000
    assert peak_bytes < 200_000


@pytest.mark.parametrize("secure_delete", ["ON", "OFF"])
def test_freed_pages_are_no_suspects(source: sqlite3.Connection, path: Path, secure_delete: str) -> None:
    """A large delete overwrites and frees pages; none of them is taken for an overflow page."""
    source.execute(f"PRAGMA secure_delete = {secure_delete}")
    before = positions(source, path)
    source.execute("DELETE FROM t WHERE rowid > 500")
    with copied(source, path) as copy:
        difference = compare(before, copy.pages)
        assert not difference.other_changed
        assert not difference.identical
        assert copy.pages.row_counts == {"t": 500}


def test_neighbouring_leaves_make_one_range(source: sqlite3.Connection, path: Path) -> None:
    """Ranges of neighbours in the b-tree are merged even where rowids are missing between them."""
    source.execute("DELETE FROM t WHERE rowid % 3 = 0")
    before = positions(source, path)
    source.execute("UPDATE t SET n = -n WHERE rowid BETWEEN 1000 AND 2000 OR rowid = 2900")
    with copied(source, path) as copy:
        difference = compare(before, copy.pages)
        (low, high), last = copy.ranges(difference)["t"]  # type: ignore[index]
        assert 960 < low <= 1000
        assert 2000 <= high < 2040
        assert last[0] <= 2900 <= last[1]


@pytest.mark.parametrize("page_size", [512, 1024, 4096, 65536])
@pytest.mark.parametrize("auto_vacuum", [0, 1, 2])
def test_ranges_of_extreme_rowids_and_row_counts(
    tmp_path: Path, path: Path, page_size: int, auto_vacuum: int
) -> None:
    """Rowids of one to nine bytes, negative ones too, are read as SQLite reads them; rows are counted."""
    extreme = [1 << 7 * bytes_ for bytes_ in range(9)] + [(1 << 63) - 1]
    rowids = sorted(
        {sign * value + near for value in extreme for sign in (1, -1) for near in (-1, 0)} | {-(1 << 63)}
    )
    with closing(sqlite3.connect(tmp_path / "source.db", isolation_level=None)) as source:
        source.executescript(f"PRAGMA page_size = {page_size}; PRAGMA auto_vacuum = {auto_vacuum}")
        source.executescript("CREATE TABLE t (v TEXT); CREATE TABLE none (v)")
        source.executemany("INSERT INTO t (rowid, v) VALUES (?, ?)", [(i, "x" * (page_size // 8)) for i in rowids])
        with copied(source, path, ("t", "none")) as copy:
            assert copy.pages.row_counts == {"t": len(rowids), "none": 0}
            found = set()
            table = copy.pages.tables[1]
            for page, owner in enumerate(copy.pages.owners, start=1):
                if owner == 2:
                    ((low, high),) = rowid_ranges(copy.fd, table, [page])
                    assert low <= high
                    found |= {low, high}
            assert found <= set(rowids)
            assert {min(rowids), max(rowids)} <= found
            assert list(rowid_ranges(copy.fd, copy.pages.tables[0], [copy.pages.tables[0].root])) == []


def test_a_without_rowid_table_means_everything(source: sqlite3.Connection, path: Path) -> None:
    """Its rows are in an index b-tree, which is not read here."""
    source.execute("CREATE TABLE w (k TEXT PRIMARY KEY) WITHOUT ROWID")
    before = positions(source, path, ("t", "w"))
    with copied(source, path, ("t", "w")) as copy:
        assert copy.pages.without_rowid == ("w",)
        assert copy.pages.row_counts == {"t": 3000}
        assert isinstance(copy.ranges(compare(before, copy.pages)), Everything)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema_digest": b"other"}, "schema changed"),
        ({"layout": (1024, 0, 4, 2)}, "page size, schema format or text encoding changed"),
        ({"tables": (TableRoot("t", 99),)}, "choice of mapped tables changed"),
    ],
)
def test_what_gives_bytes_their_meaning_must_be_the_same(
    source: sqlite3.Connection, path: Path, change: dict[str, object], reason: str
) -> None:
    """Another schema, layout or choice of tables: everything, and the reason says so."""
    before = positions(source, path)
    with copied(source, path) as copy:
        assert compare(before, replace(copy.pages, **change)).everything == reason  # type: ignore[arg-type]


def test_the_layout_is_that_of_the_file(tmp_path: Path, path: Path) -> None:
    """Page size and text encoding are read from the header (64 kB pages are written as 1)."""
    with closing(sqlite3.connect(tmp_path / "source.db")) as source:
        source.executescript("PRAGMA page_size = 65536; PRAGMA encoding = 'UTF-16be'; CREATE TABLE t (v)")
        with copied(source, path) as copy:
            assert copy.pages.layout == (65536, 0, 4, 3)


def test_pieces_may_be_cut_anywhere_and_must_be_complete(source: sqlite3.Connection, path: Path) -> None:
    """The earlier fingerprint is a stream; one that ends early, or is something else, is not believed."""
    whole = b"".join(positions(source, path))
    source.execute("UPDATE t SET n = -n WHERE rowid = 1500")
    with copied(source, path) as copy:
        difference = compare([whole], copy.pages)
        assert len(difference.dirty_leaves["t"]) == 1
        for size in (1, 7, 4096):
            cut = (whole[start : start + size] for start in range(0, len(whole), size))
            assert compare(cut, copy.pages) == difference
        for length in (0, 3, 26, 40, len(whole) // 2, len(whole) - 1):
            assert compare([whole[:length]], copy.pages).everything
        magic = whole[:26]
        for head in (b"[]", b"{}", b"{", b"1"):
            assert compare([magic, struct.pack(">I", len(head)), head], copy.pages).everything


@pytest.mark.parametrize(
    ("offset", "value", "what"),
    [
        (0, b"x", "no SQLite header"),
        (16, b"\0\0", "pages cannot have 0 bytes"),
        (1024, b"\2", "without rowid"),
        (1024 + 12, b"\0\1", "page"),
        (1024 + 8, b"\0\1\0\0", "page 65536"),
        (1024 + 8, b"\0\0\0\2", "not the (leaf|interior page)"),
        (32, b"\0\0\0\2", "freelist is damaged"),
    ],
    ids=["magic", "page size", "index root", "cell offset", "child", "cycle", "freelist"],
)
def test_a_damaged_copy_is_an_error_that_says_what_to_do(
    source: sqlite3.Connection, path: Path, offset: int, value: bytes, what: str
) -> None:
    """What cannot be read as the format says is a SourceError with a hint, never a guess."""
    with copied(source, path) as copy:
        data = bytearray(os.pread(copy.fd, 1 << 24, 0))
        assert copy.pages.tables[0].root == 2
    data[offset : offset + len(value)] = value
    damaged = path.with_suffix(".damaged")
    damaged.write_bytes(data)
    with damaged.open("rb") as file, closing(PageNotes(path.parent)) as notes:
        if what == "without rowid":
            assert fingerprint(file.fileno(), [TableRoot("t", 2)], SCHEMA, notes).without_rowid == ("t",)
            return
        with pytest.raises(SourceError, match=what) as caught:
            fingerprint(file.fileno(), [TableRoot("t", 2)], SCHEMA, notes)
    assert "integrity_check" in caught.value.hint


def test_notes_that_are_closed_are_not_opened_again(tmp_path: Path) -> None:
    """A late writer gets an error, and leaves no file."""
    notes = PageNotes(tmp_path)
    notes.append(memoryview(bytes(8)).cast("Q"), [1])
    notes.close()
    with pytest.raises(PublishError):
        notes.append(memoryview(bytes(8)).cast("Q"), [2])
    with pytest.raises(PublishError):
        notes.hashes(0, 1)
    notes.close()
    assert not list(tmp_path.iterdir())


def test_memory_is_a_byte_a_page(source: sqlite3.Connection, path: Path) -> None:
    """300,000 pages, a hole behind the rows, are fingerprinted, written and compared in little memory."""
    with copied(source, path) as copy, closing(PageNotes(path.parent)) as notes:
        os.truncate(path, 300_000 * 1024)
        tracemalloc.start()
        try:
            new = fingerprint(copy.fd, copy.pages.tables, SCHEMA, notes)
            assert compare(new.pieces(), new).identical
            peak_bytes = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert len(new.owners) == 300_000
    assert peak_bytes < 2 * 300_000 + 3_000_000
