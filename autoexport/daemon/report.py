"""Defines the report of an exporter about itself, and keeps the last one in the status file."""

from __future__ import annotations

import contextlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import orjson

from autoexport.runtime.files import create_new, temp_beside, write_all

STATUS_FILE = "status.json"
PENDING_S = 1.0
"""Minimum time between two checks while a change waits for its export: they could report nothing new."""

State = Literal["starting", "standing by", "watching", "exporting", "retrying", "stopped", "finished"]


@dataclass(frozen=True, slots=True)
class Report:
    """The state of an exporter, its last check, its last export and its last error.

    Times are seconds since the epoch. `last_publish` is the timestamp in the published files. None means "not yet"
    or "none". `degraded` says which annotations the files lack, although they are fresh. `waits_for` says why the
    next export has not begun, or what the running one waits for. `next_export_at` is when the next one is due. The
    state "finished" is that of one export without a daemon. `after_publish` says why the command or the function
    after the last publish failed.
    """

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
    degraded: str | None = None
    degraded_hint: str | None = None
    waits_for: str | None = None
    next_export_at: float | None = None
    after_publish: str | None = None

    @property
    def checked_at(self) -> float:
        """When the database was checked last; before the first check, the start of the exporter."""
        return self.last_check_at or self.started_at

    def is_stale(self, now: float, max_age_s: float | None = None) -> bool:
        """Whether the last completed check is older than `max_age_s`.

        Without it, the limit of a daemon is three intervals and twice the last export. An interval counts as at
        least `PENDING_S`, the time between checks while a change waits. One export that finished has no limit.
        """
        if max_age_s is not None:
            return now - self.checked_at > max_age_s
        if self.state == "finished":
            return self.last_check_at is None
        limit_s = max(3 * max(self.interval_s, PENDING_S), 2 * (self.last_export_s or 0.0))
        return now - self.checked_at > limit_s

    def to_json(self) -> bytes:
        """The report as a line of JSON, for the socket and the file."""
        return orjson.dumps(asdict(self), option=orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def from_json(cls, text: bytes) -> Report | None:
        """The report in `text`, or None if it holds no report of this version."""
        try:
            record: dict[str, Any] = orjson.loads(text)
            report = cls(**record)
            return report if _is_sound(report) else None
        except (ValueError, TypeError):
            return None


_NUMBERS = (
    "last_check_at",
    "last_export_s",
    "oldest_change_at",
    "next_try_at",
    "next_export_at",
)
_TEXTS = ("last_publish", "error", "hint", "degraded", "degraded_hint", "waits_for", "after_publish")
_NEEDED = (("pid", int), ("failures", int), ("interval_s", (int, float)), ("started_at", (int, float)))


def _is_sound(report: Report) -> bool:
    """Whether the values are of the kinds that this program writes: the file may be damaged."""
    given = {name: getattr(report, name) for name in Report.__slots__}
    return (
        all(isinstance(given[name], kind) for name, kind in _NEEDED)
        and all(isinstance(given[name], int | float | None) for name in _NUMBERS)
        and all(isinstance(given[name], str | None) for name in _TEXTS)
        and isinstance(report.generation, int | None)
        and report.state in get_args(State)
    )


# --- the file ----------------------------------------------------------------------------------------


def write_report(state: Path, report: Report) -> None:
    """Write the report to the status file, for the time after this process has ended.

    The file is written whole or not at all, but not synced. Errors are ignored: the failure that the report
    describes may be that of the state directory.
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
    """The report in the status file, or None."""
    try:
        return Report.from_json((state / STATUS_FILE).read_bytes())
    except OSError:
        return None
