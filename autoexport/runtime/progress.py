"""The interface by which an export shows how far it is."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Something that shows how far an export is."""

    def start(self, total_rows: int | None) -> None:
        """Begin; the number of rows that will be read, if it is known."""
        ...

    def advance(self, rows: int) -> None:
        """So many more rows are done."""
        ...

    def finish(self) -> None:
        """The rows are read."""
        ...


class NullProgress:
    """Shows nothing."""

    def start(self, total_rows: int | None) -> None: ...
    def advance(self, rows: int) -> None: ...
    def finish(self) -> None: ...
