"""The two places where the program is meant to grow: a source of rows, a format of files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import ColumnElement, Select

from autoexport.model.blocks import Changes, Everything
from autoexport.model.catalog import Catalog, Column, Key, Scalar
from autoexport.model.mapping import Mapping


class Position(Protocol):
    """Where in the history of the database a snapshot stands; compared by the source that made it.

    It is kept in the state directory between exports, so it is written as bytes, in pieces; they can be asked for
    as long as the snapshot is open.
    """

    def pieces(self) -> Iterator[bytes]:
        """The position as bytes, in pieces of at most a few MB."""
        ...


class Snapshot(Protocol):
    """One consistent read of a database. Every statement run through it sees the same state."""

    taken_at: datetime
    """When the snapshot was taken: aware, UTC."""

    catalog: Catalog
    """The tables and views as they are in this snapshot."""

    places_images: bool
    """Whether annotations are sorted sooner by the place of their image, which the database has to number
    first, than by the keys of its dataset and itself."""

    def ordered(self, column: Column, expression: ColumnElement[Any]) -> ColumnElement[Any]:
        """The expression to order a key by: binary, text by code point, null first."""
        ...

    def same(
        self, left: tuple[Column, ColumnElement[Any]], right: tuple[Column, ColumnElement[Any]]
    ) -> ColumnElement[bool]:
        """That two keys are equal as the database sees it, whatever the types they are declared with."""
        ...

    def flagged(self, column: Column, expression: ColumnElement[Any]) -> ColumnElement[bool]:
        """That a flag, declared as a truth value or a number, is set: never null."""
        ...

    def bound(self, column: Column, key: Key) -> ColumnElement[Any]:
        """A key as a parameter that can be compared with the `ordered` column."""
        ...

    def member(self, column: Column, expression: ColumnElement[Any], keys: Sequence[Key]) -> ColumnElement[bool]:
        """That a key is one of many, in one parameter however many they are."""
        ...

    def readable(self, column: Column, expression: ColumnElement[Any]) -> ColumnElement[Any]:
        """The expression to select for a column so that its values arrive as `Scalar` without costly decoding."""
        ...

    def stream(
        self, statement: Select[Any], *, wide_column: int | None = None
    ) -> AsyncIterator[Sequence[Sequence[Scalar]]]:
        """The rows of a statement in partitions, never held as a whole. `heavy` is the place of a
        column whose values may be long: partitions get shorter where they are.

        Raises `SourceError`, and `UndecodableText` where text is not valid and `lenient` is off.
        """
        ...

    async def stream_in_parallel(
        self, statement: Select[Any], *, wide_column: int | None = None
    ) -> AsyncIterator[Sequence[Sequence[Scalar]]] | None:
        """As `stream`, but the database begins with it now, beside whatever else it is asked; None where it has no
        way to do so, or not at present."""
        ...

    async def read_leniently(self) -> None:
        """From now on, deliver invalid text with lone surrogates in place of the invalid bytes."""
        ...

    async def prepare_for_all(self) -> None:
        """All images and annotations are going to be read in order, not only some."""
        ...

    async def row_count(self, mapping: Mapping, logical: str) -> int | None:
        """How many rows a mapped table has, if that is known without asking the database; None if not."""
        ...

    async def position(self, mapping: Mapping) -> Position | None:
        """The position of this snapshot with respect to the mapped tables; None if changes since it
        could not be told, so that the next export has to be full."""
        ...

    async def changes(self, mapping: Mapping, since: Iterator[bytes]) -> Changes | Everything:
        """What changed in the mapped tables since an earlier position; always a superset of the truth."""
        ...


class Source(Protocol):
    """A database: how to know that something may have changed, and how to read it."""

    database: str
    """The name for the manifest: server and name, or a file's base name; never a password or a path."""

    identity: str
    """A digest by which the same database is recognised; private, never published."""

    def snapshot(self) -> AbstractAsyncContextManager[Snapshot]:
        """Take a snapshot, read from it, let it go. Raises `SourceError`."""
        ...

    def checks(self, interval_s: float, *, hooks: bool, wake: asyncio.Event | None = None) -> AsyncIterator[bool]:
        """Check, and yield what each check found: True if something may have changed (always so the first
        time, at once), False if certainly nothing has.

        Checks follow each other after at most `interval_s` seconds; sooner when `wake` is set (the source
        clears it), and with `hooks` where the database has a way to be woken early. Raises `SourceError`
        where the database has to be asked and is away.
        """
        ...

    async def check_notes(self) -> list[str]:
        """Sentences of `check` about the database, such as its size or what writers have to wait for. Raises
        `SourceError`."""
        ...

    async def aclose(self) -> None:
        """Release everything."""
        ...
