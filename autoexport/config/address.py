"""The record of a database that can be opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Dialect = Literal["sqlite", "postgresql"]


@dataclass(frozen=True, slots=True)
class DatabaseURL:
    """A database that can be opened: what it is, where it is, and how to be let in.

    `path` is the file of a SQLite database as it was written, relative to the working directory or absolute.
    `display` is fit for a screen or a log: it never holds the password. `hosts` are names with ports, None for the
    default port; a directory is that of a Unix socket. `ignored` names the options without effect.
    """

    dialect: Dialect
    display: str
    path: Path | None = None
    hosts: tuple[tuple[str, int | None], ...] = ()
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    database: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict, repr=False)
    ignored: tuple[str, ...] = ()
