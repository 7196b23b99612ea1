"""How an exporter is: what it has checked, published and met, told truly and without writing to disk."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from autoexport.daemon.report import Report
from autoexport.errors import AutoexportError

HUNG_S = 1800.0
"""An export of which no step is done for so long hangs: writing a file of 200 GB, one step, takes less."""


class ServiceManager(Protocol):
    """Whoever wants to be told: systemd, or nobody."""

    def progressed(self) -> None:
        """Something was really done."""
        ...

    def status(self, text: str) -> None:
        """What is being done, in words."""
        ...


class NullServiceManager:
    """No service manager: the exporter is embedded."""

    def progressed(self) -> None:
        """Nobody wants to know."""

    def status(self, text: str) -> None:
        """Nobody wants to know."""


class Health:
    """Keeps the report, and feeds the watchdog with every real step and with nothing else.

    It is the `Progress` of the exports that it accompanies.
    """

    def __init__(
        self,
        interval_s: float,
        *,
        manager: ServiceManager | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._manager = manager or NullServiceManager()
        self._exporting_since: float | None = None
        self._change_meanwhile: float | None = None
        self._last_step = clock()
        self.report = Report(os.getpid(), "starting", interval_s, clock())

    def _now(self, **facts: Any) -> None:
        self.report = replace(self.report, **facts)

    # --- what happens ------------------------------------------------------------------------------------

    def standing_by(self) -> None:
        """Another process exports; this one waits to take over."""
        if self.report.state != "standing by":
            self._now(state="standing by")
            self._manager.status("standing by: another exporter has this export directory")
        self.progressed()

    def checked(self, *, changed: bool) -> None:
        """A check was completed; whether something may have changed."""
        now = self._clock()
        self._now(last_check_at=now)
        if changed and self._exporting_since is not None:
            self._change_meanwhile = self._change_meanwhile or now
        elif changed:
            self._now(oldest_change_at=self.report.oldest_change_at or now)
        if self.report.state == "starting" or (self.report.state == "standing by"):
            self._now(state="watching")
        self.waited()

    def export_began(self) -> None:
        """From here on, a change that is seen may be one that this export does not see."""
        self._exporting_since, self._change_meanwhile = self._clock(), None
        self._now(state="exporting")
        self._manager.status("exporting")
        self.progressed()

    def export_completed(self, generation: int, last_publish: str, duration_s: float) -> int:
        """The files are as new as they can be; returns how many failures went before."""
        failures = self.report.failures
        self._exporting_since = None
        self._now(
            state="watching", generation=generation, last_publish=last_publish, last_export_s=duration_s,
            oldest_change_at=self._change_meanwhile, failures=0, error=None, hint=None, next_try_at=None,
        )  # fmt: skip
        self._manager.status(f"watching; generation {generation}, published {last_publish}")
        self.progressed()
        return failures

    def export_left(self) -> None:
        """An export ended in an error or was given up; what it was to bring is still to be brought."""
        self._exporting_since = None
        self._now(
            state="retrying" if self.report.failures else "watching",
            oldest_change_at=self.report.oldest_change_at or self._change_meanwhile,
        )

    def failed(self, error: BaseException, next_try_s: float | None) -> bool:
        """Something went wrong; it is tried again in so many seconds, or never. Whether this is news."""
        message, hint = describe(error)
        news = message != self.report.error
        self._now(
            state="retrying", failures=self.report.failures + 1, error=message, hint=hint,
            next_try_at=None if next_try_s is None else self._clock() + next_try_s,
        )  # fmt: skip
        self._manager.status(f"retrying: {message}")
        return news

    def stopped(self) -> None:
        """The exporter ends; its last error stays."""
        self._now(state="stopped", next_try_at=None)

    # --- progress ----------------------------------------------------------------------------------------

    def progressed(self) -> None:
        """A step of an export, or a tick of waiting for something outside."""
        self._last_step = self._clock()
        self._manager.progressed()

    def waited(self) -> None:
        """A check, or a tick of waiting for one: progress as long as the export beside it does not hang."""
        if self._exporting_since is None or self._clock() - self._last_step < HUNG_S:
            self._manager.progressed()

    def start(self, total_rows: int | None) -> None:
        """The rows are being read."""
        self.progressed()

    def advance(self, rows: int) -> None:
        """A block is done."""
        self.progressed()

    def finish(self) -> None:
        """The rows are read."""
        self.progressed()


def describe(error: BaseException) -> tuple[str, str]:
    """What is wrong and what to do, of any error."""
    if isinstance(error, AutoexportError):
        return str(error), error.hint
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return what, "This should not happen. Run it with --log-level debug to see where, and report it."
