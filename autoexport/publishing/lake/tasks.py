"""Works on a lake for ranges that several machines export: stages their data files, and commits all of them once.

Beside the tables, in `_tasks/SNAPSHOT/`, lie the plan and a record for each range that is done: JSON, which names
the data files of the range. No reader of the tables sees either before the commit.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from deltalake._internal import DeltaFileSystemHandler

from autoexport.errors import ConfigurationError, PublishError
from autoexport.formats.contract import Readable
from autoexport.publishing.lake.data_files import DataFile, PublishedFile
from autoexport.publishing.lake.requests import Answer, Facts, Lake, Request, TableReport
from autoexport.publishing.lake.table import LakeTable, store_options

ACTIONS = ("look", "put", "stage", "finish")
"""The actions. `Request.task` of each is described by the method that does it, and so is `Answer.task`."""

_FOLDER = "_tasks"
_PLAN = "plan.json"
_SNAPSHOT = re.compile(r"[0-9A-Za-z-]{1,100}")
_SHOWN = 10
"""The number of missing ranges that a message names."""

_GRACE_S = 86_400
"""A plan is removed so many seconds after its time limit."""

Schemas = Mapping[str, Mapping[str, str]]
"""The columns of each table."""


class Tasks:
    """The plans and records in a lake, and its tables, whose columns are `schemas`."""

    def __init__(self, request: Request, schemas: Schemas) -> None:
        self._lake, self._facts, self._given = request.lake, request.facts, request.task
        self._tables = {name: LakeTable(request.lake, name, schema) for name, schema in schemas.items()}
        self._schemas = schemas
        self._files = _Files(request.lake)

    def answer(self, request: Request, published: Mapping[str, Readable]) -> Answer:
        """Do what the request asks."""
        if request.action == "put":
            return self._put()
        if request.action == "look":
            return self._look()
        return self._stage(published) if request.action == "stage" else self._finish()

    def _put(self) -> Answer:
        """Keep a plan, whose generation is the next one of the tables. `task`: the plan; then whole."""
        before = {name: self._opened(name).generation for name in self._tables}
        plan = {**self._given, "generation": max(found or 0 for found in before.values()) + 1, "before": before}
        self._sweep()
        self._files.write(_place(plan["snapshot"], _PLAN), plan)
        return Answer(done=True, task=plan)

    def _look(self) -> Answer:
        """Find the plan of a snapshot, None if there is none, and the counts of its commit by table.

        `task`: the snapshot; then `plan` and `committed`.
        """
        snapshot = str(self._given["snapshot"])
        plan = self._files.read(_place(snapshot, _PLAN)) if _SNAPSHOT.fullmatch(snapshot) else None
        found = {name: self._committed(name, plan) for name in self._tables} if plan is not None else {}
        return Answer(done=True, task={"plan": plan, "committed": {name: it for name, it in found.items() if it}})

    def _committed(self, name: str, plan: Mapping[str, Any]) -> Mapping[str, int]:
        """The counts in the commit of a plan; empty if the table does not have it."""
        facts = self._opened(name).facts
        known: Mapping[str, Any] = json.loads(facts) if facts else {}
        has = (known.get("generation"), known.get("timestamp")) == (plan["generation"], plan["timestamp"])
        return dict(known["counts"]) if has else {}

    def _stage(self, published: Mapping[str, Readable]) -> Answer:
        """Write the data files of a range, then its record. `task`: the record, without `files`."""
        files: dict[str, list[list[Any]]] = {}
        for name, file in published.items():
            whole = PublishedFile(file, list(self._schemas[name]))
            files[name] = []
            for data_file in whole.data_files(self._lake.file_rows):
                written = f"part-{data_file.digest}-{secrets.token_hex(8)}.parquet"
                size = self._tables[name].write(written, whole.content(data_file))
                files[name].append([written, size, data_file.statistics(), data_file.digest, data_file.rows])
        given = self._given
        self._files.write(_place(given["snapshot"], _range(given["task"])), {**given, "files": files})
        rows = {name: sum(it[4] for it in found) for name, found in files.items()}
        return Answer(done=True, task={"rows": rows})

    # --- the commit ----------------------------------------------------------------------------------

    def _finish(self) -> Answer:
        """Commit the data files of all ranges of a plan. `task`: the plan; then `counts`.

        Tables that have the commit already are left as they are.
        """
        plan = self._given
        records = self._records(plan)
        counts = _counts(plan, records)
        facts = Facts(plan["generation"], plan["timestamp"], self._facts.database, counts)
        due = [name for name in self._tables if not self._committed(name, plan)]
        for name in due:
            if self._tables[name].generation != plan["before"][name]:
                raise PublishError(
                    f"Another export was committed to the lake {self._lake.location} since the plan was made.",
                    hint="Start export-plan and the ranges again. Let one export at a time write there.",
                )
        staged = {name: [it for record in records for it in record["files"][name]] for name in due}
        changes = {name: self._changes(name, files) for name, files in staged.items()}
        reports = []
        for name, (added, removed) in changes.items():
            table = self._tables[name]
            table.commit(added, removed, facts)
            rows, size = sum(it[4] for it in staged[name]), sum(it[1] for it in added)
            work = len(table.files), rows, len(added), len(removed), size
            reports.append(TableReport(name, table.version, *work, committed=True, swept=table.clean()))
        return Answer(done=True, reports=reports, task={"counts": counts})

    def _records(self, plan: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """The records of all ranges. Raises `PublishError` if some are missing."""
        found = [self._files.read(_place(plan["snapshot"], _range(task))) for task in range(plan["of"])]
        # A server that was restarted may give the same name to another snapshot.
        missing = [
            str(task)
            for task, record in enumerate(found)
            if record is None or (record["plan"], record["of"]) != (plan["plan"], plan["of"])
        ]
        if missing:
            listed = ", ".join(missing[:_SHOWN]) + (", …" if len(missing) > _SHOWN else "")
            raise PublishError(
                f"{len(missing)} of {plan['of']} ranges are not exported: {listed}.",
                hint="Run export-range for these tasks while export-plan holds the snapshot.",
            )
        return [record for record in found if record is not None]

    def _changes(self, name: str, staged: Sequence[Sequence[Any]]) -> tuple[list[tuple[str, int, str]], list[str]]:
        """The data files to add, and the names of those to remove. One that the table has already stays."""
        table = self._tables[name]
        lacking, removed = table.missing([DataFile(0, digest=it[3]) for it in staged])
        by_digest = defaultdict(list)
        for file in staged:
            by_digest[file[3]].append(file)
        added = []
        for data_file in lacking:
            written, size, statistics, *_ = by_digest[data_file.digest].pop()
            if _length(table, written) != size:
                raise PublishError(
                    f"A data file of a range is missing in the lake: {name}/{written}.",
                    hint="Was it removed? Start export-plan and the ranges again.",
                )
            added.append((written, size, statistics))
        return added, removed

    def _opened(self, name: str) -> LakeTable:
        table = self._tables[name]
        table.open(self._facts.database)
        return table

    def _sweep(self) -> None:
        """Remove the plans whose time limit was long ago, and their records."""
        for path in self._files.names(_FOLDER):
            folder, _, name = path.rpartition("/")
            plan = self._files.read(path) if name == _PLAN else None
            if plan is not None and plan["until"] + _GRACE_S < time.time():
                for task in range(plan["of"]):
                    self._files.remove(f"{folder}/{_range(task)}")
                self._files.remove(path)


def _counts(plan: Mapping[str, Any], records: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """The counts of the commit, those of a manifest."""
    totals = dict.fromkeys(("images", "annotations"), 0)
    names = {tuple(label) for label in plan["declared"]}
    for record in records:
        names.update(map(tuple, record["labels"]))
        for name in totals:
            totals[name] += record["counts"][name]
    counts = plan["counts"]
    labels = counts["labels"] if counts["labels"] is not None else len(names)
    return {"projects": counts["projects"], "datasets": counts["datasets"], **totals, "labels": labels}


def _length(table: LakeTable, name: str) -> int:
    """The length of a data file; -1 if there is none."""
    try:
        return table.read(name).length
    except FileNotFoundError:
        return -1


def _place(snapshot: str, name: str) -> str:
    if _SNAPSHOT.fullmatch(snapshot) is None:
        raise ConfigurationError(
            f"{snapshot} is no snapshot.", hint="Take the one that export-plan prints: --snapshot ID."
        )
    return f"{_FOLDER}/{snapshot}/{name}"


def _range(task: int) -> str:
    return f"range-{task}.json"


class _Files:
    """The files beside the tables, by their paths in the lake."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._store: DeltaFileSystemHandler | None = None

    def _opened(self) -> DeltaFileSystemHandler:
        if self._store is None:
            if self._lake.is_local:
                Path(self._lake.location).mkdir(parents=True, exist_ok=True)
            self._store = DeltaFileSystemHandler(
                self._lake.location, None if self._lake.is_local else store_options(os.environ)
            )
        return self._store

    def write(self, path: str, content: Mapping[str, Any]) -> None:
        """Write a file whole. Escapes keep bytes that are no text, which keys may have."""
        stream = self._opened().open_output_stream(path)
        stream.write(json.dumps(content).encode())
        stream.close()  # type: ignore[attr-defined]  # the library does not declare it

    def read(self, path: str) -> Mapping[str, Any] | None:
        """The content of a file; None if there is none, or none of this program."""
        if self._lake.is_local and not os.path.isdir(self._lake.location):
            return None
        try:
            file: Any = self._opened().open_input_file(path)
            found = json.loads(bytes(file.read(file.size())))
        except (FileNotFoundError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def names(self, folder: str) -> Iterator[str]:
        """The paths of all files in a folder and below."""
        for info in self._opened().get_file_info_selector(folder, True, True):
            yield str(info.path)

    def remove(self, path: str) -> None:
        """Remove a file, if it is there."""
        try:
            self._opened().delete_file(path)
        except FileNotFoundError:
            return
