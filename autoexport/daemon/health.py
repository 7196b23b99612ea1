"""Keeps the health report of an exporter in memory, and feeds the watchdog."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol

from autoexport.daemon.events import Event, Events
from autoexport.daemon.report import Report
from autoexport.errors import AutoexportError, DatabaseAway
from autoexport.runtime.steps import telling_steps
from autoexport.runtime.waits import telling_waits

_NUMBER = re.compile(r"\d[\d,.]*")
HUNG_S = 1800.0
"""An export that completes no step for so long counts as hanging.

While files are encoded and written, each second in which bytes are done is a step: an export that is only large
does not count as hanging.
"""

SILENT_S = 300.0
"""An exporter without any sign of life for so long counts as hanging. The units set WatchdogSec= to the same."""


class ServiceManager(Protocol):
    """Receives signs of progress and status lines, as systemd does."""

    def progressed(self) -> None:
        """Feed the watchdog: a step of the work was completed."""
        ...

    def status(self, text: str) -> None:
        """Show what the exporter is doing."""
        ...


class NullServiceManager:
    """Stands for no service manager, inside a host program."""

    def progressed(self) -> None:
        """Do nothing."""

    def status(self, text: str) -> None:
        """Do nothing."""


class Health:
    """In-memory health report. Every completed step of the work feeds the watchdog, and nothing else does.

    It is the `Progress` of the exports. It tells `events` all that it is told. `clock` gives seconds since the
    epoch, `steady` seconds that a change of the clock does not change.
    """

    def __init__(
        self,
        interval_s: float,
        *,
        manager: ServiceManager | None = None,
        events: Events | None = None,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.events = events or Events()
        self._clock = clock
        self._steady = steady
        self._alive_at = steady()
        self._manager = manager or NullServiceManager()
        self._exporting_since: float | None = None
        self._change_during_export: float | None = None
        self._last_step = clock()
        self._trouble: str | None = None
        self.report = Report(os.getpid(), "starting", interval_s, clock())

    def _update(self, **facts: Any) -> None:
        self.report = replace(self.report, **facts)

    # --- events ------------------------------------------------------------------------------------------

    def standing_by(self, holder: str) -> bool:
        """Report that `holder` exports to this directory, and that this exporter waits to take over.

        Returns whether the report was another one before.
        """
        is_new = self.report.state != "standing by" or self.report.waits_for != holder
        if is_new:
            self._update(state="standing by", waits_for=holder)
            self._manager.status(f"standing by behind {holder}, which uses this export directory")
        self.progressed()
        return is_new

    def checked(self, *, changed: bool) -> None:
        """Report a completed check; `changed` says whether something may have changed."""
        now = self._clock()
        self._update(last_check_at=now)
        if changed and self._exporting_since is not None:
            self._change_during_export = self._change_during_export or now
        elif changed:
            self._update(oldest_change_at=self.report.oldest_change_at or now)
        if self.report.state in ("starting", "standing by"):
            self._update(state="watching", waits_for=None)
        self.waited()
        self.events.tell(Event("checked", now))

    def export_waits(self, reason: str, due_in_s: float) -> None:
        """Report why the next export has not begun, and in how many seconds it is due."""
        self._update(waits_for=reason, next_export_at=self._clock() + due_in_s)
        self.progressed()

    def export_began(self) -> None:
        """Report the begin of an export, which may miss any change that is detected from now on."""
        self._exporting_since, self._change_during_export = self._clock(), None
        self._update(state="exporting", waits_for=None, next_export_at=None)
        self._manager.status("exporting")
        self.progressed()
        self.events.tell(Event("exporting", self._clock()))

    def export_held_up(self, reason: str | None) -> None:
        """Report what the running export waits for; None when it goes on."""
        self._update(waits_for=reason)
        self._manager.status("exporting" if reason is None else f"exporting; waiting for {reason}")
        self.progressed()

    def export_completed(self, generation: int, last_publish: str, duration_s: float) -> int:
        """Report that the files are up to date; returns the number of failures since the export before."""
        failures = self.report.failures
        self._exporting_since = self._trouble = None
        self._update(
            state="watching", generation=generation, last_publish=last_publish, last_export_s=duration_s,
            oldest_change_at=self._change_during_export, failures=0, error=None, hint=None, next_try_at=None,
        )  # fmt: skip
        self._manager.status(f"watching; generation {generation}, published {last_publish}")
        self.progressed()
        return failures

    def degraded(self, lost: AutoexportError | None) -> bool:
        """Report what the last export had to leave out, None for nothing; whether the message is a new one."""
        message, hint = (str(lost), lost.hint) if lost is not None else (None, None)
        is_new = message is not None and message != self.report.degraded
        self._update(degraded=message, degraded_hint=hint)
        if message is not None:
            self._manager.status(f"watching, degraded: {message}")
        return is_new

    def export_left(self) -> None:
        """Report that an export failed or was given up; its changes are still unpublished."""
        self._exporting_since = None
        self._update(
            state="retrying" if self.report.failures else "watching",
            oldest_change_at=self.report.oldest_change_at or self._change_during_export,
        )

    def failed(self, error: BaseException, next_try_s: float | None) -> bool:
        """Report a failure, and a next try in `next_try_s` seconds, or none; whether it is a new trouble.

        A server that goes away and comes back fails in several ways: these are one trouble. So is a disk that
        lacks another number of bytes at each try.
        """
        message, hint = describe(error)
        trouble = "away" if isinstance(error, DatabaseAway) else _NUMBER.sub("", message)
        is_new, self._trouble = trouble != self._trouble, trouble
        self._update(
            state="retrying", failures=self.report.failures + 1, error=message, hint=hint,
            waits_for=None, next_export_at=None,
            next_try_at=None if next_try_s is None else self._clock() + next_try_s,
        )  # fmt: skip
        self._manager.status(f"retrying: {message}")
        self.events.tell(Event("failed", self._clock(), error=error))
        return is_new

    def after_publish(self, error: str | None) -> None:
        """Report why the command or the function after the last publish failed; None if it did not."""
        self._update(after_publish=error)

    def stopped(self) -> None:
        """Report the end of the exporter, and keep its last error."""
        self._update(state="stopped", next_try_at=None, waits_for=None, next_export_at=None)

    @contextmanager
    def following(self) -> Iterator[None]:
        """Hear, while an export runs inside, what it waits for, and that its long steps go on."""
        with telling_waits(self.export_held_up), telling_steps(self.progressed):
            yield

    # --- progress ----------------------------------------------------------------------------------------

    def progressed(self) -> None:
        """Report a step of an export, or a tick of waiting for something outside this process."""
        self._last_step = self._clock()
        self._lives()

    def waited(self) -> None:
        """Report a check, or a tick of waiting for one: it counts as progress unless an export hangs meanwhile."""
        if not self._export_hangs():
            self._lives()

    def _lives(self) -> None:
        self._alive_at = self._steady()
        self._manager.progressed()

    def _export_hangs(self) -> bool:
        return self._exporting_since is not None and self._clock() - self._last_step >= HUNG_S

    def hangs(self) -> str | None:
        """How the exporter hangs, in a few words; None if it works, or waits for something outside."""
        if self._export_hangs():
            return f"the export has completed no step for {HUNG_S:g} s"
        if self._steady() - self._alive_at >= SILENT_S:
            return f"the exporter has given no sign of life for {SILENT_S:g} s"
        return None

    def unready(self) -> str | None:
        """Why the files are not known to be fresh, in a few words; None if they are.

        As `status` judges, and after the first success: a message of an error may hold names, so it is not here.
        """
        report = self.report
        if report.state == "standing by":
            return "another exporter keeps the files"
        if report.error is not None:
            return f"failing: {report.failures} in a row"
        if report.generation is None:
            return "no export has succeeded yet"
        return "the last check is too old" if report.is_stale(self._clock()) else None

    def start(self, total_rows: int | None) -> None:
        """Count the begin of reading as progress."""
        self.progressed()
        self.events.start(total_rows)

    def advance(self, rows: int) -> None:
        """Count a piece of a block as progress."""
        self.progressed()
        self.events.advance(rows)

    def finish(self) -> None:
        """Count the end of reading as progress."""
        self.progressed()
        self.events.finish()


def describe(error: BaseException) -> tuple[str, str]:
    """Message and hint for any error."""
    if isinstance(error, AutoexportError):
        return str(error), error.hint
    message = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return message, "This should not happen. Run with --log-level debug to see where it fails, and report it."
