"""Runs one export, or detector and exporter under the leader lock, rebuilt from scratch after any failure."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from functools import partial

from autoexport.config.settings import Settings
from autoexport.daemon.after_publish import Callback
from autoexport.daemon.budget import Budget
from autoexport.daemon.detector import detect
from autoexport.daemon.events import Listener
from autoexport.daemon.health import Health, ServiceManager
from autoexport.daemon.leading import Leadership
from autoexport.daemon.one_time import record, report_success
from autoexport.daemon.operations import Operations
from autoexport.daemon.report import write_report
from autoexport.daemon.retry import cause_of, mends_itself, retry_delay_s, wait_to_retry
from autoexport.daemon.schedule import ExportSchedule, Work, export_forever
from autoexport.daemon.status_socket import StatusSocket
from autoexport.errors import AutoexportError, ConfigurationError, LockedError
from autoexport.pipeline import derivation as _loaded_now  # noqa: F401 - not later, while the program imports
from autoexport.pipeline.exporter import Outcome, export_once
from autoexport.pipeline.job import ExportJob, opened_job, target_of
from autoexport.publishing.contract import Identities
from autoexport.publishing.locks import LEADER_LOCK, Lock
from autoexport.publishing.manifest import Manifest
from autoexport.publishing.throttle import DiskThrottle
from autoexport.publishing.workspace import remove_unused
from autoexport.runtime.logs import get_logger
from autoexport.runtime.waits import turn
from autoexport.runtime.wake import hearing_commits

DRAIN_S = 8.0
"""Time for a running export to finish after a stop. Together with giving up the export it is 10 s."""

log = get_logger()


class Exporter:
    """An exporter in this process.

    `on_publish` and `on_event` are those of `run_exporter`. Raises `ConfigurationError` if a package is missing.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        manager: ServiceManager | None = None,
        on_publish: Callback | None = None,
        on_event: Listener | None = None,
    ) -> None:
        self.settings = settings
        self.directory, self.state = settings.export_directory.absolute(), settings.state_dir.absolute()
        self.health = Health(settings.check_interval, manager=manager)
        self._lock = Lock(self.state, LEADER_LOCK)
        self._target = target_of(settings)
        self._published_files = self._target.watch(self._lock)
        self._socket = StatusSocket(self.state, lambda: self.health.report.to_json())
        self._queue: asyncio.Queue[None] = asyncio.Queue(maxsize=1)
        self._wake = asyncio.Event()
        self._schedule = ExportSchedule(Budget(settings.pace), self.health)
        self._throttle = DiskThrottle()
        paths, service = (self.directory, self.state), manager is not None
        self._leadership = Leadership(self._lock, self._socket, paths, self.health, is_service=service)
        self._operations = Operations(settings, self.health, on_publish, on_event, is_service=service)
        self._one_at_a_time = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = self._drained = False
        self._job: ExportJob | None = None

    def wake(self) -> None:
        """Check now whether something changed, from any thread. If nothing did, no export follows."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake.set)

    def export_soon(self) -> None:
        """Request an export at once, whether or not a change was detected; from the event loop."""
        self._schedule.export_soon.set()
        with contextlib.suppress(asyncio.QueueFull):
            self._queue.put_nowait(None)

    async def export_now(self) -> Manifest:
        """Export everything that is committed now; returns the manifest of the published files.

        It waits for a running export, also of another process. Raises `AutoexportError`.
        """
        if not self.settings.enable_auto_export:
            raise ConfigurationError(
                "Exporting is switched off.", hint="Set DB_EXPORT_ENABLE_AUTO_EXPORT to true."
            )
        if self._job is not None:
            # Its source shares a connection with the checks if the server has only one for this program.
            return (await self._export(self._job)).manifest
        async with opened_job(self.settings) as job:
            return (await self._export(job)).manifest

    async def run(self, stop: asyncio.Event, *, monitor: bool | None = None) -> None:
        """Run this exporter as `run_exporter` does."""
        self._loop = asyncio.get_running_loop()
        if not self.settings.enable_auto_export:
            log.info("exporter.disabled", setting="enable_auto_export")
            return
        monitoring = self.settings.monitoring() if monitor is None else monitor
        work = self._keep_forever() if monitoring else self._export_when_free()
        working = asyncio.create_task(work, name="supervisor")
        stopped = asyncio.create_task(stop.wait(), name="stop")
        async with self._operations.serving(listen=monitoring):
            try:
                await asyncio.wait({working, stopped}, return_when=asyncio.FIRST_COMPLETED)
                if not working.done():
                    await self._drain()
            finally:
                self._stopping = True
                stopped.cancel()
                working.cancel()
                await asyncio.wait({working, stopped})
                await asyncio.to_thread(self._throttle.finish)
        if not working.cancelled():
            await working

    async def _drain(self) -> None:
        """Let a running export finish, and run the one that is due if it is likely to be short."""
        report = self.health.report
        due = report.oldest_change_at is not None and report.error is None and report.state == "watching"
        short = report.last_export_s is not None and report.last_export_s < DRAIN_S / 2
        try:
            async with asyncio.timeout(DRAIN_S):
                if due and short:
                    await self.export_now()
                async with self._one_at_a_time:
                    self._drained = True  # later calls of `export_now` are refused
                await self._operations.after_publish.finished()
        except TimeoutError:
            log.warning("export.given_up", after_s=DRAIN_S)
        except AutoexportError as exc:
            log.warning("export.failed", error=str(exc), hint=exc.hint)

    # --- one export --------------------------------------------------------------------------------------

    async def _export(self, job: ExportJob, *, goes_on: bool = True) -> Outcome:
        async with turn(self._one_at_a_time):
            if self._drained:
                raise AutoexportError("The exporter was stopped.", hint="`python -m autoexport` exports once.")
            await self._operations.ready_to_export()
            self.health.export_began()
            self._published_files.begin_own_changes()
            left: Identities | None = None
            try:
                with (health := self.health).following():
                    outcome = await export_once(job, progress=health, throttle=self._throttle, goes_on=goes_on)
                left = outcome.files
            except BaseException as error:
                self.health.export_left()
                self._operations.export_failed(error)
                with contextlib.suppress(asyncio.QueueFull):
                    self._queue.put_nowait(None)  # The checks may have taken the snapshot for exported.
                raise
            finally:
                await asyncio.to_thread(self._published_files.end_own_changes, left)
            manifest = outcome.manifest
            failures = self.health.export_completed(manifest.generation, manifest.timestamp, outcome.duration_s)
            lost, before = outcome.left_out, self.health.report.degraded
            if self.health.degraded(lost) and lost is not None:
                log.warning("export.degraded", warning=str(lost), hint=lost.hint)
            if failures:
                log.warning("cycle.recovered", failures=failures)  # who reads of the failure alone needs its end
            if failures or outcome.published or before != self.health.report.degraded:
                await self._persist()
            self._operations.exported(outcome)
            return outcome

    async def _work(self, job: ExportJob) -> Work:
        outcome = await self._export(job)
        return Work(outcome.worker_cpu_s, outcome.full, job.source.in_process)

    async def _export_when_free(self) -> None:
        """Export once, after any running export of another process, and record it."""
        while True:
            began = time.time()
            with contextlib.suppress(LockedError):
                async with opened_job(self.settings) as job:
                    outcome = await self._export(job, goes_on=False)
                await self._operations.after_publish.finished()
                failure = self.health.report.after_publish
                await asyncio.to_thread(record, self.state, began, outcome, failure)
                await report_success(self.settings, outcome)
                return

    # --- for ever ----------------------------------------------------------------------------------------

    async def _keep_forever(self) -> None:
        missing = [path for path in (self.state, self.directory) if not os.path.exists(path)]
        hearing = hearing_commits(self._wake) if self.settings.enable_hooks else contextlib.nullcontext()
        try:
            with hearing:
                while True:
                    await self._try_to_keep()
        except ConfigurationError as exc:
            self.health.failed(exc, None)
            if not await self._has_published():
                self._socket.close()
                await asyncio.to_thread(remove_unused, self.state, self.directory, missing)
            raise
        finally:
            self.health.stopped()
            self._socket.close()
            if self._lock.stands():
                write_report(self.state, self.health.report)
            self._lock.release()

    async def _try_to_keep(self) -> None:
        """Run one cycle: build everything from scratch, run until something fails, wait for the next try."""
        try:
            await self._lead()
            # In a separate task: in Python 3.11 a TaskGroup that fails leaves its task half cancelled.
            await asyncio.create_task(self._cycle(), name="cycle")
        except Exception as exc:  # the one restart point of the program
            if self._stopping:
                raise asyncio.CancelledError from exc
            await self._recover(cause_of(exc))

    async def _cycle(self) -> None:
        interval_s = self.settings.check_interval
        self._queue = asyncio.Queue(maxsize=1)
        async with self._opened_job() as job, asyncio.TaskGroup() as group:
            checks = job.source.checks(interval_s, hooks=self.settings.enable_hooks, wake=self._wake)
            group.create_task(
                detect(checks, self._queue, self._published_files, self.health, interval_s), name="detector"
            )
            group.create_task(
                export_forever(self._queue, partial(self._work, job), self._schedule), name="exporter"
            )
            if not self._socket.is_open:
                group.create_task(self._persist_forever(interval_s), name="status file")

    @contextlib.asynccontextmanager
    async def _opened_job(self) -> AsyncIterator[ExportJob]:
        async with opened_job(self.settings) as job:
            self._job = job
            try:
                yield job
            finally:
                self._job = None

    async def _recover(self, cause: BaseException) -> None:
        """Report the failure once, and wait before the next try. Raises a `cause` that no retry can mend."""
        if isinstance(cause, ConfigurationError):
            worked = self.health.report.generation is not None
            written = bool(self.settings.tables) and not worked
            if not mends_itself(cause, published=await self._has_published(), written=written):
                raise cause
        delay_s = retry_delay_s(self.health.report.failures)
        if self.health.failed(cause, delay_s):
            traced = None if isinstance(cause, AutoexportError) else cause
            report = self.health.report
            log.error("cycle.failed", error=report.error, hint=report.hint, exc_info=traced)
            await self._persist()
        await wait_to_retry(
            self.settings,
            cause,
            delay_s,
            export_soon=self._schedule.export_soon,
            wake=self._wake,
            tick=self.health.progressed,
        )

    async def _has_published(self) -> bool:
        """Whether this exporter or an earlier one has published to the export directory."""
        if self.health.report.generation is not None:
            return True
        return await asyncio.to_thread(self._target.read_manifest) is not None

    # --- leading -----------------------------------------------------------------------------------------

    async def _lead(self) -> None:
        """Take or keep the leader lock of this export directory; wait while another exporter holds it."""
        if not self._lock.stands():
            self._operations.leads(False)
            await self._leadership.take()
            self._operations.leads(True)
            await asyncio.to_thread(self._published_files.end_own_changes)
        if not self._socket.is_open:
            self._socket.open()

    async def _persist_forever(self, interval_s: float) -> None:
        """Write each check to the status file: without a socket no other way shows the last check."""
        while True:
            await asyncio.sleep(interval_s)
            await self._persist()

    async def _persist(self) -> None:
        if self._lock.stands():
            await asyncio.to_thread(write_report, self.state, self.health.report)
