"""Exports and keeps the files current until a signal stops it."""

from __future__ import annotations

import asyncio
import os
import signal
import threading

from autoexport.config.settings import Settings
from autoexport.daemon.supervisor import DRAIN_S, Exporter
from autoexport.daemon.systemd import SystemdNotifier
from autoexport.pipeline.job import formats_of
from autoexport.runtime.interruption import interrupt_work
from autoexport.runtime.logs import get_logger
from autoexport.sources import open_source
from autoexport.version import __version__

LEAVE_S = 1.5
"""Seconds that cancelling an export may take; then the process exits, even if a thread still works."""

log = get_logger()


async def monitor(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT and return the exit code: 0, or 128 plus the signal after a cancellation.

    The first signal lets a running export finish for a few seconds, the second one cancels it. SIGUSR1 means
    "export now". So does SIGHUP if there is no controlling terminal; with one it ends the daemon: the terminal has
    gone. A SIGHUP that is ignored at the start (nohup(1)) stays ignored. Raises `ConfigurationError`.
    """
    manager = SystemdNotifier.from_environment(os.environ)
    if settings.enable_auto_export:
        # Wrong settings are reported before systemd is told that the service is ready.
        open_source(settings)
        formats_of(settings)
    exporter = Exporter(settings, manager=manager)
    manager.ready()
    stop = asyncio.Event()
    task = asyncio.create_task(exporter.run(stop, monitor=True), name="exporter")
    signals = _Signals(exporter, stop, task, manager)
    signals.install()
    if settings.enable_auto_export:
        log.info(
            "monitor.started",
            version=__version__,
            database_url=settings.database.display,
            directory=_place(settings),
            interval_seconds=settings.check_interval,
            pid=os.getpid(),
        )
    await asyncio.wait({task})
    manager.stopping()
    if task.cancelled():
        return 128 + signals.last
    await task
    log.info("exporter.stopped")
    return 0


def _place(settings: Settings) -> str:
    return settings.destination if settings.object_store else str(settings.export_directory.absolute())


class _Signals:
    def __init__(
        self, exporter: Exporter, stop: asyncio.Event, task: asyncio.Task[None], manager: SystemdNotifier
    ) -> None:
        self._exporter = exporter
        self._stop = stop
        self._task = task
        self._manager = manager
        self.last = 0

    def install(self) -> None:
        """Install the handlers; closing the event loop removes them."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end, number)
        loop.add_signal_handler(signal.SIGUSR1, self._export_now, signal.SIGUSR1)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            hung_up = self._end if _has_terminal() else self._export_now
            loop.add_signal_handler(signal.SIGHUP, hung_up, signal.SIGHUP)

    def _end(self, number: signal.Signals) -> None:
        if number == signal.SIGHUP and self._stop.is_set():
            return  # Shell and kernel both send one when a terminal is closed.
        self.last = number
        if self._stop.is_set():
            log.warning("stop.at_once", signal=number.name)
            _leave_after(LEAVE_S, 128 + number)
            interrupt_work()
            self._task.cancel()
            return
        log.info("stop.asked", signal=number.name)
        self._manager.stopping()
        _leave_after(DRAIN_S + LEAVE_S, 0)
        self._stop.set()

    def _export_now(self, number: signal.Signals) -> None:
        log.info("export.asked", signal=number.name)
        self._exporter.export_soon()


def _has_terminal() -> bool:
    """Whether this process has a controlling terminal: only then can /dev/tty be opened (tty(4))."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _leave_after(seconds: float, code: int) -> None:
    # A thread that copies a large database cannot be interrupted, and the interpreter would wait for it.
    # Its unfinished files are private, and the next start removes them.
    timer = threading.Timer(seconds, os._exit, args=(code,))
    timer.daemon = True
    timer.start()
