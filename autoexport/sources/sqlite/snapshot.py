"""Reads one private copy of a SQLite file: SQL expressions, streams and positions."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    ColumnElement,
    Float,
    Select,
    bindparam,
    cast,
    collate,
    func,
    literal_column,
    or_,
    select,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from autoexport.errors import UndecodableText
from autoexport.mapping.sql_names import quoted
from autoexport.model.blocks import Changes, Everything
from autoexport.model.catalog import Catalog, Column, Key, Scalar, Table
from autoexport.model.mapping import Mapping
from autoexport.sources.contract import LIKE_A_TIME, Position
from autoexport.sources.partitions import partitions
from autoexport.sources.query_changes import QueryChanges, queries_of
from autoexport.sources.sqlite.changes import PageChanges, rowid_name
from autoexport.sources.sqlite.errors import explain
from autoexport.sources.sqlite.gate import Gate
from autoexport.values.scalars import BLANKS, TRUE_WORDS

if TYPE_CHECKING:
    from autoexport.sources.sqlite.shared import SharedCopy

CACHE_KIB, _MOST_CACHE_KIB = 500, 8000
"""Every page is read about once, in order, so a larger cache saves no time. But SQLite sorts rows in runs of this
size, and merging takes a page for each run. If all rows are sorted, a thousandth of the file keeps both small."""

_MOST_PARAMETERS = 30_000
"""In one statement; SQLite's limit is 32,766 (https://www.sqlite.org/limits.html, section 9)."""

CODE_POINT = "autoexport_codepoint"


class SqliteSnapshot:
    """One private copy, and the session that reads it."""

    # Measured with 1.1 million rows: places would save a tenth of the time, but take 7 MB of temporary tables.
    places_images = False

    def __init__(
        self,
        session: AsyncSession,
        pages: PageChanges,
        taken_at: datetime,
        catalog: Catalog,
        collation: str,
        size_bytes: int,
        paths: tuple[Path, Path],
    ) -> None:
        self.session = session
        self._pages = pages
        self._queries = QueryChanges(self)
        self.taken_at = taken_at
        self.catalog = catalog
        self._collation = collation
        self._sorting_kib = max(CACHE_KIB, min(size_bytes >> 20, _MOST_CACHE_KIB))
        self._paths = paths  # of the application's file and of the directory of copies, for errors
        self.shared: SharedCopy | None = None
        self._streams: set[AsyncGenerator[Sequence[Sequence[Scalar]], None]] = set()

    def ordered(self, column: Column, expression: ColumnElement[Any]) -> ColumnElement[Any]:
        """Binary order: numbers before text, text by code point."""
        return collate(expression, self._collation)

    def same(
        self, left: tuple[Column, ColumnElement[Any]], right: tuple[Column, ColumnElement[Any]]
    ) -> ColumnElement[bool]:
        """SQLite compares by the affinity of the columns."""
        return left[1] == right[1]

    def flagged(self, column: Column, expression: ColumnElement[Any]) -> ColumnElement[bool]:
        """True for any number but 0, and for the words that libraries write in place of 1, however declared.

        In a text column, also for a time.
        """
        word = func.lower(func.trim(expression, BLANKS)).in_(TRUE_WORDS)
        if column.kind in ("text", "enum", "json"):
            return func.coalesce(or_(word, expression.like(LIKE_A_TIME)), literal_column("0")) != 0
        return func.coalesce(or_(cast(expression, Float()) != 0, word), literal_column("0")) != 0

    def bound(self, column: Column, key: Key) -> ColumnElement[Any]:
        """A plain parameter."""
        return bindparam(None, key)

    def member(self, column_: Column, expression: ColumnElement[Any], keys: Sequence[Key]) -> ColumnElement[bool]:
        """Membership in a JSON list, which is one parameter whatever its length.

        Raises `UndecodableText` for a key that JSON cannot hold, and if too many keys are bytes or have a NUL
        character.
        """
        if len(keys) == 1:
            return expression == bindparam(None, keys[0])
        # SQLite ends a JSON string at a NUL character, and JSON has no bytes: such keys are parameters.
        alone = [key for key in keys if isinstance(key, bytes) or (isinstance(key, str) and "\0" in key)]
        if len(alone) > _MOST_PARAMETERS:
            raise UndecodableText("Too many keys are bytes or have a NUL character.")
        plain = set(keys).difference(alone) if alone else keys
        each = func.json_each(bindparam(None, _json_list(plain))).table_valued("value")
        listed = expression.in_(select(each.c.value))
        if not alone:
            return listed
        each_alone = expression.in_([bindparam(None, key) for key in alone])
        return or_(listed, each_alone) if plain else each_alone

    def sample(self, table: Table, alias: str, rows: int) -> ColumnElement[bool] | None:
        """The first row after each of so many rowids, from the smallest to the largest; None without rowids."""
        rowid = rowid_name(table)
        if rowid is None:
            return None
        rowids = f"{rowid}) FROM {quoted(table.name)}"
        low, high = f"(SELECT min({rowids})", f"(SELECT max({rowids})"
        # In floating point: the difference of two rowids may have 65 bits.
        begin = f"CAST({low} + value * (({high} - {low}) / {rows}.0) AS INTEGER)"
        steps = f"json_each('{_json_list(range(rows))}')"
        wanted = f"SELECT (SELECT min({rowids} WHERE {rowid} >= {begin}) FROM {steps}"  # noqa: S608 - quoted
        # Without a type: SQLAlchemy would compare a boolean with 1, and no index would serve.
        return literal_column(f"{alias}.{rowid} IN ({wanted})")

    def readable(self, column_: Column, expression: ColumnElement[Any]) -> ColumnElement[Any]:
        """The expression itself: it has no type, so SQLAlchemy decodes nothing."""
        return expression

    async def stream(
        self, statement: Select[Any], *, wide_column: int | None = None
    ) -> AsyncIterator[Sequence[Sequence[Scalar]]]:
        """The rows of a statement in partitions. Raises `SourceError` and `UndecodableText`."""
        parts = partitions(self.session, statement, wide_column)
        self._streams.add(parts)
        try:
            async for part in parts:
                yield part
        except DBAPIError as error:
            if "Could not decode to UTF-8" in str(error.orig):
                raise UndecodableText("A text value is not valid UTF-8.") from error
            raise explain(error.orig or error, *self._paths) from error
        finally:
            self._streams.discard(parts)

    async def interrupt(self) -> Callable[[], None]:
        """The function that interrupts the statement of this snapshot, from any thread."""
        raw = await (await self.session.connection()).get_raw_connection()
        driver: Any = raw.driver_connection
        interrupt: Callable[[], None] = driver._conn.interrupt  # the driver's own is a coroutine
        return interrupt

    async def aclose(self) -> None:
        """Close the streams that were not read to the end, before their connection is closed."""
        for parts in list(self._streams):
            await parts.aclose()

    async def stream_in_parallel(self, statement: Select[Any], *, wide_column: int | None = None) -> None:
        """None: SQLite runs in this process, so a second statement would gain nothing."""

    async def read_leniently(self) -> None:
        """Read invalid bytes as lone surrogates, which the value rules then repair and count."""
        raw = await (await self.session.connection()).get_raw_connection()
        driver: Any = raw.driver_connection
        driver.text_factory = partial(str, encoding="utf-8", errors="surrogateescape")

    @contextlib.asynccontextmanager
    async def share(self) -> AsyncIterator[SharedCopy | None]:
        """Let other processes open the copy by its name; None if it has none. Then unlink it."""
        try:
            yield self.shared
        finally:
            self.keep()

    def keep(self) -> None:
        """Unlink the copy, if it still has a name."""
        if self.shared is not None:
            self.shared.copy.unlink(missing_ok=True)
            self.shared = None

    async def prepare_for_all(self) -> None:
        """Enlarge the cache, so that SQLite sorts in fewer runs."""
        connection = await self.session.connection()
        await connection.exec_driver_sql(f"PRAGMA cache_size=-{self._sorting_kib}")

    async def row_count(self, mapping: Mapping, logical: str) -> int | None:
        """The number of rows: the fingerprint counts those of tables, and a position those of queries that did not
        change. None if neither does."""
        if mapping.tables()[logical].table.query is not None:
            return self._queries.live.get(logical)
        current = await self._pages.position(mapping)
        return current.row_counts.get(mapping.tables()[logical].table.name) if current is not None else None

    def keep_count(self, logical: str, count: int) -> None:
        """Keep the number of rows of a query, which nothing but running it tells."""
        self._queries.live[logical] = count

    async def position(self, mapping: Mapping) -> Position | None:
        """The fingerprint of the pages of images and annotations, or of the tables that their queries read.

        None if one of them is a view.
        """
        if not queries_of(mapping):
            return await self._pages.position(mapping)
        inner = None if await self._pages.obstacle(mapping) else await self._pages.position(mapping)
        return None if inner is None else await self._queries.position(mapping, inner, {})

    async def obstacle(self, mapping: Mapping) -> str:
        """Why the pages cannot show changes; empty if they can."""
        return await self._pages.obstacle(mapping)

    async def changes(self, mapping: Mapping, since: Iterator[bytes]) -> Changes | Everything:
        """The images of all rows that may be new or different since an earlier fingerprint."""
        return await self._pages.changes(self, self._queries, mapping, since)


class ReadingConnection(sqlite3.Connection):
    """A connection with a gate, and with the collation `CODE_POINT`, which compares text by code point."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.create_collation(CODE_POINT, _by_code_point)
        self.gate = Gate()
        self.set_authorizer(self.gate)


def _by_code_point(left: str, right: str) -> int:
    return (left > right) - (left < right)


def _json_list(keys: Iterable[Key]) -> str:
    import orjson

    try:
        return orjson.dumps(list(keys)).decode()
    except orjson.JSONEncodeError as error:
        raise UndecodableText("A key is not valid UTF-8.") from error
