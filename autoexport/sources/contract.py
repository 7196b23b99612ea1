"""The protocols of a database: `Source`, its `Snapshot`, and a `Position` in its history."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from autoexport.mapping.overrides import TablesConfig
from autoexport.model.blocks import Changes, Everything
from autoexport.model.catalog import Catalog, Column, Key, Scalar, Table
from autoexport.model.mapping import Mapping

if TYPE_CHECKING:  # A copy of a SQLite file is begun before SQLAlchemy is loaded.
    from sqlalchemy import ColumnElement, Select

LIKE_A_TIME = "____-__-__%"
"""A text of this form in a column of deletion flags is the time of the deletion."""


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """What a source needs of the settings.

    `state` is the private directory. `tables` is the `[tables]` part of the configuration file. A statement may
    take `statement_timeout_s` seconds; 0 leaves it to the server. `prepared_statements` are off behind some
    poolers. `shared`: other processes may have to open the snapshots.
    """

    state: Path
    tables: TablesConfig = field(default_factory=dict)
    prepared_statements: bool = True
    statement_timeout_s: float = 0.0
    shared: bool = False


class Position(Protocol):
    """The point in the history of a database at which a snapshot was taken. Only its source compares positions.

    The state directory keeps it between exports, as bytes in pieces.
    """

    def pieces(self) -> Iterator[bytes]:
        """The position as bytes, in pieces of at most a few MB. Only while the snapshot is open."""
        ...


class Snapshot(Protocol):
    """One consistent read of a database. All statements that run on it see the same state."""

    taken_at: datetime
    """When the snapshot was taken: aware, UTC."""

    catalog: Catalog
    """The tables and views of this snapshot."""

    places_images: bool
    """Whether the database sorts annotations faster by the place of their image than by the keys of dataset and
    image. For the place, it has to number the images first."""

    def ordered(self, column: Column, expression: ColumnElement[Any]) -> ColumnElement[Any]:
        """The expression to sort a key by: binary, text by code point, null first."""
        ...

    def same(
        self, left: tuple[Column, ColumnElement[Any]], right: tuple[Column, ColumnElement[Any]]
    ) -> ColumnElement[bool]:
        """The condition that the database finds two keys equal, whatever their declared types."""
        ...

    def flagged(self, column: Column, expression: ColumnElement[Any]) -> ColumnElement[bool]:
        """The condition that a flag is set, declared as boolean, as a number or as text. Never null."""
        ...

    def bound(self, column: Column, key: Key) -> ColumnElement[Any]:
        """A key as a parameter that compares with the `ordered` column."""
        ...

    def member(self, column: Column, expression: ColumnElement[Any], keys: Sequence[Key]) -> ColumnElement[bool]:
        """The condition that a key is one of many, which take one parameter, however many they are."""
        ...

    def sample(self, table: Table, alias: str, rows: int) -> ColumnElement[bool] | None:
        """The condition that about so many rows of a stored table meet, which lie all over it.

        The statement names the table by `alias`. None if the whole table would have to be read.
        """
        ...

    def readable(self, column: Column, expression: ColumnElement[Any]) -> ColumnElement[Any]:
        """The expression that selects a column so that its values arrive as `Scalar` without costly decoding."""
        ...

    def stream(
        self, statement: Select[Any], *, wide_column: int | None = None
    ) -> AsyncIterator[Sequence[Sequence[Scalar]]]:
        """The rows of a statement in partitions, never held as a whole.

        `wide_column` is the index of a column whose values may be long: such partitions have fewer rows. Raises
        `SourceError`, and `UndecodableText` for invalid text unless `read_leniently` was called.
        """
        ...

    async def stream_in_parallel(
        self, statement: Select[Any], *, wide_column: int | None = None
    ) -> AsyncIterator[Sequence[Sequence[Scalar]]] | None:
        """As `stream`, but the database begins now and works on it in parallel to all other statements.

        None if the database cannot do this, or not at present.
        """
        ...

    async def read_leniently(self) -> None:
        """From now on, put lone surrogates in place of the invalid bytes of text."""
        ...

    async def prepare_for_all(self) -> None:
        """Prepare to read all images and annotations in order, not only some."""
        ...

    async def row_count(self, mapping: Mapping, logical: str) -> int | None:
        """The number of rows of a mapped table; None if only the database could count them."""
        ...

    def keep_count(self, logical: str, count: int) -> None:
        """Keep the number of rows of a logical table, for the position. `row_count` may know it next time."""
        ...

    def share(self) -> AbstractAsyncContextManager[SharedSnapshot | None]:
        """Let other processes open and read this snapshot until the end of the block; None if they cannot. Raises
        `SourceError`.
        """
        ...

    def keep(self) -> None:
        """No further process opens the snapshot."""
        ...

    async def position(self, mapping: Mapping) -> Position | None:
        """The position of this snapshot in the history of the mapped tables.

        None if changes since then could not be found. The next export then has to be full.
        """
        ...

    async def obstacle(self, mapping: Mapping) -> str:
        """Why no later change of the mapped tables can be found, so that every export is full; empty if it can."""
        ...

    async def changes(self, mapping: Mapping, since: Iterator[bytes]) -> Changes | Everything:
        """The changes in the mapped tables since an earlier position: always a superset of the truth."""
        ...


class SharedSnapshot(Protocol):
    """A snapshot that other processes can open. It can be pickled."""

    def opened(self) -> AbstractAsyncContextManager[Snapshot]:
        """Open it in another process, to read rows only. Raises `SourceError`."""
        ...


class Source(Protocol):
    """A database that can be read, and watched for changes."""

    database: str
    """The name in the manifest: server and name, or a file's base name. Never a password or a path."""

    identity: str
    """A digest that identifies the database. It is private and never published."""

    in_process: bool
    """Whether this process itself executes the statements, and no server does."""

    def snapshot(self) -> AbstractAsyncContextManager[Snapshot]:
        """Take a snapshot and release it at the end. Raises `SourceError`."""
        ...

    def is_large(self) -> bool:
        """Whether to read all rows certainly takes seconds. False if only the database could tell."""
        ...

    def checks(self, interval_s: float, *, hooks: bool, wake: asyncio.Event | None = None) -> AsyncIterator[bool]:
        """Check again and again, and yield True if something may have changed, False if certainly nothing has.

        The first check comes at once and yields True. The next ones follow after at most `interval_s` seconds, or
        as soon as `wake` is set; the source clears it. With `hooks`, the database itself may cause an early check.
        Raises `SourceError` if a check needs the database and cannot reach it.
        """
        ...

    async def check_notes(self) -> list[str]:
        """Sentences of `check` about the database, such as its size or what writers have to wait for. Raises
        `SourceError`."""
        ...

    async def aclose(self) -> None:
        """Release all resources."""
        ...


@runtime_checkable
class NamedSnapshot(Protocol):
    """A `SharedSnapshot` that other machines can find by its name, while its owner holds it."""

    @property
    def name(self) -> str:
        """The name of the exported snapshot. Other servers may have the same."""
        ...

    @property
    def server(self) -> str:
        """What tells the server from others."""
        ...


@runtime_checkable
class LastingSnapshot(Protocol):
    """A snapshot that is held for a long time."""

    async def require(self) -> None:
        """Raise `SourceError` if the snapshot is lost."""
        ...


@runtime_checkable
class AdoptingSource(Protocol):
    """A source that opens a snapshot by its name. No source has to."""

    def adopted(self, name: str, server: str, taken_at: datetime) -> AbstractAsyncContextManager[Snapshot]:
        """Open the `NamedSnapshot` with this name and server. Raises `SnapshotGone` if no process holds it any
        more, and `SourceError`."""
        ...
