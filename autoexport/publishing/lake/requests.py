"""Defines the requests to the process that works on a lake, and its answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import orjson

Action = Literal["publish", "compare", "probe", "look", "put", "stage", "finish"]


@dataclass(frozen=True, slots=True)
class Lake:
    """The settings of a lake.

    `location` is the absolute path of a folder or the URL of a place in an object store. A data file has about
    `file_rows` rows. Versions of the tables are kept for `keep_s` seconds.
    """

    location: str
    file_rows: int
    keep_s: int

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine."""
        return "://" not in self.location

    def table(self, name: str) -> str:
        """The location of a table."""
        return f"{self.location.rstrip('/')}/{name}"


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts about a generation that its commits carry: those of its manifest."""

    generation: int
    timestamp: str
    database: str
    counts: Mapping[str, int]

    def text(self) -> str:
        """The text in `userMetadata` of a commit, which the history of a table shows in every engine."""
        return orjson.dumps({"application": APPLICATION, **asdict(self)}).decode()


APPLICATION = "autoexport"
"""The name in the commits of this program, and the identifier of its transactions."""


@dataclass(frozen=True, slots=True)
class Source:
    """A table by name, and the path of the published Parquet file with its rows."""

    name: str
    path: str


@dataclass(frozen=True, slots=True)
class Request:
    """A request.

    `publish` brings the tables up to date, and if `clean` removes what is older than it has to be; `compare` finds
    the differences between the tables and the published files; `probe` writes a file and removes it. The other
    actions are those of `tasks`, to which `task` belongs.
    """

    action: Action
    lake: Lake
    facts: Facts
    sources: Sequence[Source]
    clean: bool = False
    task: Mapping[str, Any] = field(default_factory=dict)

    def encoded(self) -> bytes:
        """The request as one line."""
        return orjson.dumps(asdict(self)) + b"\n"

    @classmethod
    def read(cls, line: bytes) -> Request:
        """The request in a line."""
        fields: dict[str, Any] = orjson.loads(line)
        lake, facts = Lake(**fields.pop("lake")), Facts(**fields.pop("facts"))
        sources = [Source(**source) for source in fields.pop("sources")]
        return cls(lake=lake, facts=facts, sources=sources, **fields)


@dataclass(frozen=True, slots=True)
class TableReport:
    """The work on one table: its version now, its files and rows, and the files that were added and removed.

    `committed`: this run committed. `swept` is the number of old files that were removed for good.
    """

    name: str
    version: int
    files: int
    rows: int
    added: int = 0
    removed: int = 0
    added_bytes: int = 0
    committed: bool = False
    swept: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer: `rows` more were written; or the end, with reports, differences, or an error and its hint.

    `task` is what an action of `tasks` found.
    """

    rows: int = 0
    done: bool = False
    reports: Sequence[TableReport] = ()
    differences: Sequence[str] = ()
    error: str = ""
    hint: str = ""
    wrong_settings: bool = False
    peak_bytes: int = 0
    cpu_s: float = 0.0
    task: Mapping[str, Any] = field(default_factory=dict)

    def encoded(self) -> bytes:
        """The answer as one line."""
        return orjson.dumps(asdict(self)) + b"\n"

    @classmethod
    def read(cls, line: bytes) -> Answer:
        """The answer in a line. Raises ValueError or TypeError if it is none."""
        fields: dict[str, Any] = orjson.loads(line)
        reports = [TableReport(**report) for report in fields.pop("reports")]
        return cls(reports=reports, **fields)
