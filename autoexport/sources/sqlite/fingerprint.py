"""Compares the pages of two private copies of a SQLite database, and finds the rows that may have changed.

"Format" is the SQLite document "Database File Format" (sqlite.org/fileformat2.html), cited by section. The copy is
quiescent: no lock, no WAL, no race. A page that breaks the format is a `SourceError`, as far as it is read.

Why the result is a superset of the rows that are new or different:

- The rows of a rowid table are the cells of the leaves below its root (Format 1.6). All leaves are equally deep.
  A leaf is clean if it was a leaf of the same table with the same hash. Equal bytes alone prove nothing: a page
  can come back from the freelist with its old bytes.
- A cell in a clean leaf is unchanged, and so is the number of its first overflow page. Each one names the next
  (Format 1.7). If no page of the chain changed, the chain is unchanged. If one did, dbstat tells its table.
  The states in between do not matter.
- The meaning of the bytes depends on the schema (`schema_digest`), the text encoding and the schema format.

Deleted rows leave no trace here. Page 1 holds the root of the schema table and never a mapped row. It is left out,
because its counters differ between a copy and its original.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, groupby, zip_longest
from struct import Struct

from autoexport.model.blocks import Everything
from autoexport.sources.pieces import Pieces
from autoexport.sources.sqlite.file_format import INTERIOR, LEAF, DatabaseFile, malformed
from autoexport.sources.sqlite.page_scan import PageNotes, PageScan

NO_ROWS, FREE, MAYBE_OVERFLOW = 0, 254, 255
"""Owners that are no table: pages without parts of a row (indexes, interior pages), pages of the freelist, and
pages whose first bytes could be those of an overflow page. 1 to 253 are mapped tables."""

_BLOCK_PAGES = 4096
_WORDS = Struct(">Q")
_Block = tuple[bytes, bytes]
_INCOMPLETE = "the fingerprint of the last export is incomplete"
_MAGIC = b"autoexport sqlite pages 1\n"


@dataclass(frozen=True, slots=True)
class TableRoot:
    """A mapped table: its name, spelled as in sqlite_master, and the page number of its root."""

    name: str
    root: int


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The pages of a copy: the owner of each and, except for page 1, the 64-bit xxh3 hash of its bytes.

    The hashes are in `notes`, which have to be open. `layout` is page size, reserved bytes, schema format and text
    encoding. `row_counts` has the number of rows of each mapped rowid table. `without_rowid` names the other
    mapped tables.
    """

    layout: tuple[int, int, int, int]
    schema_digest: bytes
    tables: tuple[TableRoot, ...]
    owners: bytearray
    notes: PageNotes
    row_counts: dict[str, int]
    without_rowid: tuple[str, ...]

    def pieces(self) -> Iterator[bytes]:
        """The fingerprint as bytes, in pieces of at most 40 kB."""
        head = json.dumps(self.head()).encode()
        yield _MAGIC + len(head).to_bytes(4, "big") + head
        for start in range(0, len(self.owners), _BLOCK_PAGES):
            yield b"".join(self.block(start))

    def head(self) -> dict[str, object]:
        """The properties that two comparable fingerprints share, and the number of pages."""
        return {
            "byte order of the machine": sys.byteorder,
            "page size, schema format or text encoding": list(self.layout),
            "schema": self.schema_digest.hex(),
            "choice of mapped tables": [[table.name, table.root] for table in self.tables],
            "pages": len(self.owners),
        }

    def block(self, start: int) -> _Block:
        """Owners and hashes of a few thousand pages, as bytes."""
        end = start + _BLOCK_PAGES
        hashes = self.notes.hashes(start, end)
        # Page 1 has no hash.
        return bytes(self.owners[start:end]), hashes if start else bytes(8) + hashes[8:]


@dataclass(slots=True)
class Difference:
    """The differences from an earlier fingerprint. Page numbers count from 1 and ascend.

    `everything` says why the two cannot be compared; None if they can. `dirty_leaves` are, by table, the leaves
    that are new or different. `other_changed` are the changed pages that may be overflow pages. `identical`: no
    page differs, except perhaps page 1. `moved` are the tables of which any page changed, came or went.
    `changed_ranges` adds the owners of overflow pages.
    """

    everything: str | None = None
    dirty_leaves: dict[str, array[int]] = field(default_factory=dict)
    other_changed: array[int] = field(default_factory=lambda: array("I"))
    identical: bool = False
    moved: set[str] = field(default_factory=set)


def fingerprint(fd: int, roots: Sequence[TableRoot], schema_digest: bytes, notes: PageNotes) -> Fingerprint:
    """Fingerprint a copy. Scans it unless the `notes` are complete. Each table is in `roots` once.

    Raises `SourceError` if it is not a well-formed database, and as `PageScan.advance`.
    """
    copy, tables = DatabaseFile(fd), tuple(roots)
    owners = bytearray(copy.page_count)
    without_rowid = []
    for owner, table in enumerate(tables, start=1):
        if copy.page(table.root)[0] in (INTERIOR, LEAF):
            for leaves in copy.leaves(table.root):
                _mark(owners, leaves, owner)
        else:  # Format 2.4: a WITHOUT ROWID table is an index b-tree
            without_rowid.append(table.name)
    for free in copy.freelist():
        _mark(owners, free, FREE)
    if not notes.complete:
        PageScan(fd, notes).finish()
    row_counts = _sort_by_kind(chain.from_iterable(map(_WORDS.iter_unpack, notes.heads())), owners)
    owners[0] = NO_ROWS
    names = {owner: table.name for owner, table in enumerate(tables, start=1)}
    counted = {name: row_counts[owner] for owner, name in names.items() if name not in without_rowid}
    return Fingerprint(copy.layout, schema_digest, tables, owners, notes, counted, tuple(without_rowid))


def compare(old: Iterable[bytes], new: Fingerprint) -> Difference:
    """Compare an earlier fingerprint, a stream of pieces, with a new one."""
    pieces = Pieces(old)
    reason, old_count = _read_head(pieces, new)
    if reason:
        return Difference(everything=reason)
    difference = Difference(dirty_leaves={table.name: array("I") for table in new.tables}, identical=True)
    for start in range(0, max(old_count, len(new.owners)), _BLOCK_PAGES):
        expected = max(0, min(_BLOCK_PAGES, old_count - start))
        before = pieces.take(expected), pieces.take(8 * expected)
        if len(before[1]) != 8 * expected:
            return Difference(everything=_INCOMPLETE)
        after = new.block(start)
        if before != after:
            _sort_changed(start + 1, before, after, new.tables, difference)
    return difference


def changed_ranges(
    connection: sqlite3.Connection, fd: int, new: Fingerprint, difference: Difference
) -> dict[str, Iterator[tuple[int, int]]] | Everything:
    """By mapped table, the rowid ranges (both ends included) that hold all its new or different rows.

    The iterators read the pages, and raise `SourceError`, one range at a time. `connection` and `fd` are of the
    copy of which `new` is the fingerprint.
    """
    if difference.everything:
        return Everything(difference.everything)
    leaves: dict[str, Iterable[int]] = dict(difference.dirty_leaves)
    if difference.other_changed:
        owning = overflow_owners(connection, fd, new, difference.other_changed)
        if owning is None:
            return Everything("long values may have changed, and SQLite's dbstat cannot tell their tables")
        leaves = {name: chain(dirty, owning[name]) for name, dirty in leaves.items()}
        difference.moved |= {name for name, found in owning.items() if found}
    return {table.name: rowid_ranges(fd, table, leaves[table.name]) for table in new.tables}


def rowid_ranges(fd: int, table: TableRoot, leaves: Iterable[int]) -> Iterator[tuple[int, int]]:
    """The first and last rowid of each run of neighbouring leaves among `leaves`, ascending."""
    copy = DatabaseFile(fd)
    wanted = _flags(copy.page_count, leaves)
    in_key_order = chain.from_iterable(copy.leaves(table.root) if 1 in wanted else ())
    for is_wanted, group in groupby(in_key_order, wanted.__getitem__):
        run = array("I", group)
        if is_wanted and (first := copy.rowids(run[0])) and (last := copy.rowids(run[-1])):
            yield first[0], last[1]


def overflow_owners(
    connection: sqlite3.Connection, fd: int, new: Fingerprint, pages: Iterable[int]
) -> dict[str, array[int]] | None:
    """By mapped table, the leaves with rows whose overflow chains include these pages; a leaf may come twice.

    None if dbstat is missing, hidden by a table of that name, or does not know a mapped table. Its paths
    (sqlite.org/dbstat.html): the root is `/`, its second child `/001/`, the overflow pages of the sixth cell of
    that child `/001/005+000000`, `/001/005+000001` and so on.
    """
    copy = DatabaseFile(fd)
    children = lru_cache(maxsize=16)(copy.children)
    wanted = _flags(copy.page_count, pages)
    owning: dict[str, array[int]] = {}
    query = "SELECT pageno, path FROM dbstat WHERE name = ? AND (pagetype = 'overflow' OR path = '/')"
    for owner, table in enumerate(new.tables, start=1):
        leaves = owning[table.name] = array("I")
        last_parent: str | None = None
        seen_root = False
        try:
            for page, path in connection.execute(query, (table.name,)):
                seen_root = seen_root or (path == "/" and page == table.root)
                parent = path.rpartition("/")[0]
                if path == "/" or not wanted[page] or parent == last_parent:
                    continue
                last_parent, leaf = parent, table.root
                for child in parent.split("/")[1:]:
                    leaf = children(leaf)[int(child, 16)]
                leaves.append(leaf)
        except sqlite3.DatabaseError:
            return None
        if not seen_root or any(new.owners[leaf - 1] != owner for leaf in leaves):
            return None
    return owning


def _sort_changed(
    first_page: int, before: _Block, after: _Block, tables: Sequence[TableRoot], difference: Difference
) -> None:
    """Add the changed pages of a block to the difference. A new page counts as changed."""
    difference.identical = False
    pages = (zip(owners, memoryview(hashes).cast("Q"), strict=True) for owners, hashes in (before, after))
    for page, (was, now) in enumerate(zip_longest(*pages), start=first_page):
        if was == now:
            continue
        owners = (state[0] for state in (was, now) if state is not None)
        difference.moved |= {tables[owner - 1].name for owner in owners if NO_ROWS < owner < FREE}
        if now is None:
            continue
        if (owner := now[0]) == MAYBE_OVERFLOW:
            difference.other_changed.append(page)
        elif NO_ROWS < owner < FREE:
            difference.dirty_leaves[tables[owner - 1].name].append(page)


def _read_head(old: Pieces, new: Fingerprint) -> tuple[str | None, int]:
    """Why an earlier fingerprint cannot be compared with a new one, None if it can; and its number of pages."""
    if new.without_rowid:
        return f"{new.without_rowid[0]} is a WITHOUT ROWID table", 0
    if old.take(len(_MAGIC)) != _MAGIC:
        return "the fingerprint of the last export is of another version", 0
    try:
        head = json.loads(old.take(int.from_bytes(old.take(4), "big")))
        for key, value in new.head().items():
            if key != "pages" and head[key] != value:
                return f"{key} changed", 0
        return None, head["pages"]
    except (ValueError, KeyError, TypeError):
        return _INCOMPLETE, 0


def _mark(owners: bytearray, pages: Iterable[int], owner: int) -> None:
    for page in pages:
        if not 0 < page <= len(owners) or owners[page - 1]:
            raise malformed(f"page {page} does not exist or is used twice")
        owners[page - 1] = owner


def _flags(page_count: int, pages: Iterable[int]) -> bytearray:
    """A set of page numbers, as one byte a page, indexed by page number."""
    flags = bytearray(page_count + 1)
    for page in pages:
        flags[page] = 1
    return flags


def _sort_by_kind(heads: Iterable[tuple[int]], owners: bytearray) -> list[int]:
    """Find the pages that may be overflow pages. Returns the row count by owner."""
    rows, page_count = [0] * 256, len(owners)
    for index, (owner, (head,)) in enumerate(zip(owners, heads, strict=True)):
        if owner == NO_ROWS:
            # Format 1.7: an overflow page begins with the number of the next one, or 0. The type byte of a b-tree
            # page (1.6) makes that number too large in any file of fewer than 2**25 pages. In larger files, the
            # test admits more pages than necessary, never fewer.
            if head >> 32 <= page_count:
                owners[index] = MAYBE_OVERFLOW
        elif owner < FREE:
            if head >> 56 != LEAF:  # Format 1.6: type at 0, cells at 3
                raise malformed(f"page {index + 1} is not the leaf it should be")
            rows[owner] += head >> 24 & 0xFFFF
    return rows
