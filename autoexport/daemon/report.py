"""The report of an exporter about itself, and the file that keeps the last one."""

from __future__ import annotations

import contextlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

from autoexport.runtime.files import create_new, temp_beside, write_all

STATUS_FILE = "status.json"
PENDING_S = 1.0
"""The shortest time between two checks while a change is waiting for its export: they cannot tell anything new."""

State = Literal["starting", "standing by", "watching", "exporting", "retrying", "stopped"]


@dataclass(frozen=True, slots=True)
class Report:
    """What an exporter knows of itself. Times are seconds since the epoch, `last_publish` is the time
    stamp of the published files, and None is "not yet" or "nothing"."""

    pid: int
    state: State
    interval_s: float
    started_at: float
    last_check_at: float | None = None
    last_export_s: float | None = None
    generation: int | None = None
    last_publish: str | None = None
    oldest_change_at: float | None = None
    failures: int = 0
    error: str | None = None
    hint: str | None = None
    next_try_at: float | None = None

    def is_stale(self, now: float) -> bool:
        """Whether no check was completed for the longer of three intervals and twice the last export.

        An interval is at least `PENDING_S` here: so far apart are checks while a change waits.
        """
        limit_s = max(3 * max(self.interval_s, PENDING_S), 2 * (self.last_export_s or 0.0))
        return now - (self.last_check_at or self.started_at) > limit_s

    def to_json(self) -> bytes:
        """For the socket and the file."""
        return orjson.dumps(asdict(self), option=orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def from_json(cls, text: bytes) -> Report | None:
        """A report as it was written, or None if this is none."""
        try:
            record: dict[str, Any] = orjson.loads(text)
            return cls(**record)
        except (ValueError, TypeError):
            return None


# --- the file ----------------------------------------------------------------------------------------


def write_report(state: Path, report: Report) -> None:
    """Keep a report for the time when nobody answers any more: whole or not at all, but not made durable.

    A report that cannot be written is not written: the state directory may be what is wrong.
    """
    temp = temp_beside(state / STATUS_FILE)
    with contextlib.suppress(OSError):
        try:
            descriptor = create_new(temp, 0o600)
            try:
                write_all(descriptor, report.to_json())
            finally:
                os.close(descriptor)
            os.replace(temp, state / STATUS_FILE)
        finally:
            with contextlib.suppress(OSError):
                temp.unlink()


def read_report(state: Path) -> Report | None:
    """The report that was kept last, or None."""
    try:
        return Report.from_json((state / STATUS_FILE).read_bytes())
    except OSError:
        return None
