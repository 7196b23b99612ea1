"""Defines the interface by which an export reports its progress."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """A display of an export's progress."""

    def start(self, total_rows: int | None) -> None:
        """Begin; `total_rows` is the number of rows to be read, None if it is not known."""
        ...

    def advance(self, rows: int) -> None:
        """Add so many rows to those that are done."""
        ...

    def finish(self) -> None:
        """All rows are read."""
        ...


class NullProgress:
    """Shows nothing."""

    def start(self, total_rows: int | None) -> None: ...
    def advance(self, rows: int) -> None: ...
    def finish(self) -> None: ...
