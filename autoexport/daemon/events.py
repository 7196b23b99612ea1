"""Defines the events of an exporter, and tells them to those that listen."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from autoexport.publishing.manifest import MANIFEST_NAME, Manifest
from autoexport.runtime.logs import get_logger

PROGRESS_EVERY_S = 0.25
"""Minimum time between two events `reading`: a large export hands on thousands of blocks a second."""

Kind = Literal["checked", "exporting", "reading", "published", "unchanged", "failed"]

log = get_logger()


@dataclass(frozen=True, slots=True)
class Publication:
    """A publish: the manifest, and the names of the files that were replaced or removed, in order.

    `directory` is the absolute path of the export directory. A name may have folders in front, with `/`. The files
    beside the exported ones, such as `index.html`, are among the names; the manifest is not: it always changes.
    A name with `/` at its end is a folder in which files changed.
    """

    manifest: Manifest
    changed_files: tuple[str, ...]
    directory: Path

    @property
    def manifest_path(self) -> Path:
        """The absolute path of `manifest.json`."""
        return self.directory / MANIFEST_NAME


@dataclass(frozen=True, slots=True)
class Event:
    """A moment in the life of an exporter.

    `checked`: a check was completed. `exporting`: an export begins. `reading`: `rows` rows are read, of
    `total_rows` if that is known. `published` and `unchanged`: an export ended, with this `manifest`.
    `publication` says what was replaced. `failed`: an export or a connection failed with this `error`. `at` is
    in seconds since the epoch.
    """

    kind: Kind
    at: float = field(default_factory=time.time)
    rows: int = 0
    total_rows: int | None = None
    manifest: Manifest | None = None
    publication: Publication | None = None
    error: BaseException | None = None


Listener = Callable[[Event], object]


class Events:
    """Tells each event to all listeners, in the event loop. An error of a listener is logged, no more."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._listeners: list[Listener] = []
        self._rows = 0
        self._total_rows: int | None = None
        self._told_at: float | None = None

    def listen(self, listener: Listener) -> None:
        """Add a listener. It has to return at once."""
        self._listeners.append(listener)

    def tell(self, event: Event) -> None:
        """Tell an event."""
        for listener in self._listeners:
            try:
                listener(event)
            except Exception as error:  # noqa: BLE001 - a listener is code of a host program
                log.warning(
                    "event.failed", kind=event.kind, error=f"{type(error).__name__}: {error}",
                    hint="This is an error of the function that listens, not of the export.",
                )  # fmt: skip

    # --- progress of an export ---------------------------------------------------------------------------

    def start(self, total_rows: int | None) -> None:
        """Begin to count rows."""
        self._rows, self._total_rows, self._told_at = 0, total_rows, None
        self._reading()

    def advance(self, rows: int) -> None:
        """Count more rows, and tell it now and then."""
        self._rows += rows
        if self._told_at is None or self._clock() - self._told_at >= PROGRESS_EVERY_S:
            self._reading()

    def finish(self) -> None:
        """Tell the number of all rows."""
        self._reading()

    def _reading(self) -> None:
        self._told_at = self._clock()
        if self._listeners:
            self.tell(Event("reading", rows=self._rows, total_rows=self._total_rows))
