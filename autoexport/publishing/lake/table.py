"""A Delta table of a lake: which data files it has, and commits to it.

deltalake writes the log. A commit replaces data files by exact actions, and carries the generation twice: as the
version of a transaction of this program, and with more facts in `userMetadata`, which the history shows.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from deltalake import CommitProperties, DeltaTable, Field, Schema, Transaction
from deltalake._internal import DeltaFileSystemHandler
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.schema import PrimitiveType
from deltalake.transaction import AddAction, RemoveAction

from autoexport.errors import ForeignExport
from autoexport.formats.contract import Readable
from autoexport.formats.parquet_codec import BOOL, DOUBLE, INT64, TEXT
from autoexport.publishing.lake.data_files import DataFile
from autoexport.publishing.lake.requests import APPLICATION, Facts, Lake
from autoexport.runtime.files import fsync_directory

_TYPES = {TEXT: "string", DOUBLE: "double", INT64: "long", BOOL: "boolean"}
_NAME = re.compile(r"part-([0-9a-f]{32})-[0-9a-f]{16}\.parquet")
_CREATED_BY = "createdBy"
"""The key in the commit that creates a table: it has no generation yet."""

_RECENT = 8
"""The number of commits that are searched for the last one of this program: few others ever commit."""

_CHECKPOINT_COMMITS = 20
"""The number of commits after which the state is written as a whole: readers read at most so many files before."""


_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")


def store_options(variables: Mapping[str, str]) -> dict[str, str]:
    """The options of an object store; everything else is in the variables, where deltalake finds it.

    A request is tried again for a minute. An endpoint on this machine needs no TLS.
    """
    options = {"retry_timeout": "60s"}
    endpoint = next((variables[name] for name in _ENDPOINTS if variables.get(name)), "")
    if urlsplit(endpoint).scheme == "http" and urlsplit(endpoint).hostname in ("localhost", "127.0.0.1", "::1"):
        options["allow_http"] = "true"
    return options


class LakeConflict(Exception):
    """Another writer committed to the table at the same time."""


class LakeTable:
    """A table. `files` are the names and sizes of its data files; `exists` says whether there is a table yet.

    `generation` is the last one. `facts` is `Facts.text` of its commit, empty if that is no longer in the log.
    """

    def __init__(self, lake: Lake, name: str, columns: Mapping[str, str]) -> None:
        self.name = name
        self.facts = ""
        self.generation: int | None = None
        self.files: dict[str, int] = {}
        self._lake = lake
        self._location = lake.table(name)
        self._options = None if lake.is_local else store_options(os.environ)
        self._schema = Schema([Field(column, PrimitiveType(_TYPES[kind])) for column, kind in columns.items()])
        self._table: DeltaTable | None = None
        self._store: DeltaFileSystemHandler | None = None

    @property
    def exists(self) -> bool:
        """Whether the table exists."""
        return self._table is not None

    @property
    def version(self) -> int:
        """The version of the table; -1 if there is none."""
        return -1 if self._table is None else self._table.version()

    def open(self, database: str) -> None:
        """Read the state of the table. Raises `ForeignExport` if another program or database has it."""
        try:
            self._table = table = DeltaTable(self._location, storage_options=self._options)
        except TableNotFoundError:
            self._table, self.files, self.facts, self.generation = None, {}, "", None
            return
        actions = table.get_add_actions(flatten=True)
        paths, sizes = actions["path"].to_pylist(), actions["size_bytes"].to_pylist()
        self.files = dict(zip(paths, sizes, strict=True))
        self.facts = self._last_facts(table)
        self.generation = table.transaction_version(APPLICATION)
        if self.generation is None and not any(
            commit.get(_CREATED_BY) == APPLICATION for commit in table.history(_RECENT)
        ):
            raise ForeignExport(
                f"{self._location} is a table that autoexport did not write.",
                hint="Choose another lake, or remove that table.",
            )
        owner = json.loads(self.facts)["database"] if self.facts else database
        if owner != database:
            raise ForeignExport(
                f"{self._location} holds the rows of another database ({owner}).",
                hint="Give each database a lake of its own, or remove that table.",
            )

    @staticmethod
    def _last_facts(table: DeltaTable) -> str:
        for commit in table.history(_RECENT):
            text = str(commit.get("userMetadata") or "")
            if f'"application":"{APPLICATION}"' in text:
                return text
        return ""

    def is_at(self, facts: Facts) -> bool:
        """Whether the last generation of the table is this one."""
        return self.generation == facts.generation and self.facts in ("", facts.text())

    # --- data files ----------------------------------------------------------------------------------

    def missing(self, wanted: Sequence[DataFile]) -> tuple[list[DataFile], list[str]]:
        """The data files that the table lacks, and the names of those that it has too many."""
        have: dict[str, list[str]] = {}
        for name in self.files:
            found = _NAME.fullmatch(name)
            have.setdefault(found[1] if found else "", []).append(name)
        lacking = []
        for data_file in wanted:
            names = have.get(data_file.digest)
            if names:
                names.pop()
            else:
                lacking.append(data_file)
        return lacking, [name for names in have.values() for name in names]

    def name_of(self, data_file: DataFile) -> str | None:
        """The name of the data file with this content; None if the table has none."""
        return next((name for name in self.files if name.startswith(f"part-{data_file.digest}-")), None)

    def write(self, name: str, content: Iterable[bytes]) -> int:
        """Write a file durably; its size in bytes."""
        size = 0
        stream = self.store().open_output_stream(name)
        for piece in content:
            size += stream.write(piece)
        stream.close()  # type: ignore[attr-defined]  # the library does not declare it
        self._make_durable(name)
        return size

    def remove(self, name: str) -> None:
        """Remove a file."""
        self.store().delete_file(name)

    def read(self, name: str) -> Readable:
        """A data file, to be read."""
        return _StoredFile(self.store().open_input_file(name))

    def store(self) -> DeltaFileSystemHandler:
        """The place of the table. A folder is made. Raises OSError."""
        if self._store is None:
            if self._lake.is_local:
                Path(self._location).mkdir(parents=True, exist_ok=True)
            self._store = DeltaFileSystemHandler(self._location, self._options)
        return self._store

    def _make_durable(self, name: str) -> None:
        """Make a file and its name durable; an object store does so by itself."""
        if self._lake.is_local:
            path = Path(self._location) / name
            with path.open("rb") as file:
                os.fsync(file.fileno())
            fsync_directory(path.parent)

    # --- commits -------------------------------------------------------------------------------------

    def commit(self, added: Sequence[tuple[str, int, str]], removed: Sequence[str], facts: Facts) -> None:
        """Commit data files by name, size and statistics, and remove others by name.

        Raises `LakeConflict` if another writer committed since `open`.
        """
        if self._table is None:
            self._create(facts.database)
        try:
            self._commit(added, removed, facts)
        except CommitFailedError as error:
            raise LakeConflict from error
        self.open(facts.database)
        self._make_durable(f"_delta_log/{self.version:020}.json")

    def _create(self, database: str) -> None:
        """Create the table, without rows: two that create it at once do not exclude each other, but commits do."""
        self.store()
        try:
            DeltaTable.create(
                self._location, self._schema, "error", name=self.name, configuration=self._properties(),
                storage_options=self._options,
                commit_properties=CommitProperties(custom_metadata={_CREATED_BY: APPLICATION}),
            )  # fmt: skip
        except DeltaError as error:
            if DeltaTable.is_deltatable(self._location, self._options):
                raise LakeConflict from error
            raise
        self.open(database)
        if self.files or self.generation is not None:
            raise LakeConflict

    def _commit(self, added: Sequence[tuple[str, int, str]], removed: Sequence[str], facts: Facts) -> None:
        now_ms = int(time.time() * 1000)
        adds = [AddAction(name, size, {}, now_ms, True, statistics) for name, size, statistics in added]
        # The transaction makes two writers exclude each other, also if both only add files.
        commit = CommitProperties(
            custom_metadata={"userMetadata": facts.text()},
            app_transactions=[Transaction(APPLICATION, facts.generation, now_ms)],
        )
        removes = [RemoveAction(name, True, now_ms, self.files[name], {}) for name in removed]
        actions: list[Any] = [*adds, *removes]
        assert self._table is not None  # noqa: S101 - it was created
        self._table.create_write_transaction(actions, "append", self._schema, commit_properties=commit)

    def clean(self) -> int:
        """Remove data files that no kept version needs, and those of killed exporters; how many.

        deltalake removes old entries of the log by itself, whenever it writes a checkpoint.
        """
        table = DeltaTable(self._location, storage_options=self._options)
        present = table.metadata().configuration
        changed = {name: value for name, value in self._properties().items() if present.get(name) != value}
        if changed:
            table.alter.set_table_properties(changed)
            table = DeltaTable(self._location, storage_options=self._options)
        try:
            return len(table.vacuum(dry_run=False, full=True, enforce_retention_duration=False))
        except CommitFailedError:
            return 0  # another writer is at work, or cleans up itself

    def _properties(self) -> dict[str, str]:
        kept = f"interval {self._lake.keep_s} seconds"
        return {
            "delta.checkpointInterval": str(_CHECKPOINT_COMMITS),
            "delta.enableExpiredLogCleanup": "true",
            "delta.logRetentionDuration": kept,
            "delta.deletedFileRetentionDuration": kept,
        }


class _StoredFile:
    def __init__(self, file: Any) -> None:
        self.length: int = file.size()
        self._file = file

    def read(self, offset: int, length: int) -> bytes:
        self._file.seek(offset)
        data = bytes(self._file.read(length))
        if len(data) < length:
            raise EOFError
        return data
