"""Connects an exporter with what an operator asked for: metrics, health, heartbeat, commands and events."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import TYPE_CHECKING

from autoexport.config.operations import Address
from autoexport.config.settings import Settings
from autoexport.daemon.after_publish import AfterPublish, Callback, publication_of
from autoexport.daemon.events import Event, Listener, Publication
from autoexport.daemon.health import Health
from autoexport.daemon.heartbeat import Heartbeat
from autoexport.daemon.http_server import NOT_FOUND, Answer, HttpServer
from autoexport.daemon.metrics import Observed, require_packages, scrape
from autoexport.errors import LockedError
from autoexport.pipeline.exporter import Outcome
from autoexport.pipeline.job import target_of
from autoexport.publishing.manifest import Manifest
from autoexport.runtime.logs import get_logger
from autoexport.runtime.waits import waiting

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

AGAIN_S = 10.0
"""Seconds until an address is tried again that could not be listened on."""

_TRIED_AGAIN = "Is the port in use? Exports go on, and the address is tried again."

log = get_logger()


class Operations:
    """Serves metrics and health, calls the heartbeat, and runs commands and functions after a publish.

    A service always listens. In a host program only the exporter that leads does, because the worker processes of
    a host share their settings. Raises `ConfigurationError` if a package is missing.
    """

    def __init__(
        self,
        settings: Settings,
        health: Health,
        on_publish: Callback | None = None,
        on_event: Listener | None = None,
        *,
        is_service: bool = True,
    ) -> None:
        self._settings = settings
        self._health = health
        self._observed = Observed(lambda: health.report)
        self._registry: CollectorRegistry | None = None
        self._is_service = is_service
        self._may_listen, self._must_close = asyncio.Event(), asyncio.Event()
        self.leads(False)
        self.after_publish = AfterPublish(
            settings.on_publish, on_publish, settings.on_publish_timeout, health.after_publish
        )
        if settings.listen_address is not None:
            require_packages("listen", "prometheus_client", "h11")
        if on_event is not None:
            health.events.listen(on_event)
        if settings.heartbeat_url:
            health.events.listen(Heartbeat(settings.heartbeat_url, self._is_well).hear)

    def _is_well(self) -> bool:
        """Whether a heartbeat would be true: checks alone prove nothing while exports fail or hang."""
        return self._health.report.error is None and self._health.hangs() is None

    def leads(self, leading: bool) -> None:
        """Report whether this exporter is the one that exports."""
        event, other = self._may_listen, self._must_close
        if not (leading or self._is_service):
            event, other = other, event
        event.set()
        other.clear()

    # --- exports -----------------------------------------------------------------------------------------

    async def ready_to_export(self) -> None:
        """Wait until the command of the last publish has ended: the files stay as they are until then."""
        with waiting():
            await self.after_publish.finished(self._health.export_waits)

    def exported(self, outcome: Outcome) -> None:
        """Tell that an export has succeeded."""
        manifest = outcome.manifest
        self._observed.exported(manifest, full=outcome.full, published=outcome.published)
        publication = publication_of(outcome, self._settings)
        self._health.events.tell(result_of(manifest, publication))
        if publication is not None:
            self.after_publish.start(publication)

    def export_failed(self, error: BaseException) -> None:
        """Count an export that failed; one that was cancelled, or that another process kept from it, did not."""
        if isinstance(error, Exception) and not isinstance(error, LockedError):
            self._observed.failed()

    # --- serving -----------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def serving(self, *, listen: bool) -> AsyncIterator[None]:
        """Answer requests while the block runs, if `listen`; at its end kill what still runs after a publish."""
        address = self._settings.listen_address if listen else None
        server = asyncio.create_task(self._serve_forever(address), name="metrics")
        try:
            yield
        finally:
            server.cancel()
            await asyncio.wait({server})
            await self.after_publish.close()

    async def _serve_forever(self, address: Address | None) -> None:
        if address is None:
            return
        target = target_of(self._settings)
        published = await asyncio.to_thread(target.read_manifest)
        self._observed.manifest = self._observed.manifest or published
        self._registry = self._observed.registry()
        server, told = HttpServer(address, self._answer), ""
        try:
            while True:
                await self._may_listen.wait()
                try:
                    listening = await server.open()
                except OSError as error:
                    reason = error.strerror or str(error)
                    if reason != told:
                        log.error("listen.failed", address=str(address), error=reason, hint=_TRIED_AGAIN)
                    told = reason
                    await asyncio.sleep(AGAIN_S)
                    continue
                log.info("listen.started", address=str(listening))
                told = ""
                await self._must_close.wait()
                await server.close()
        finally:
            await server.close()

    def _answer(self, path: str, accept: str) -> Answer:
        if path == "/metrics" and self._registry is not None:
            text, media_type = scrape(self._registry, accept)
            return Answer(text, media_type=media_type)
        if path == "/healthz":
            return _verdict(self._health.hangs())
        if path == "/readyz":
            return _verdict(self._health.hangs() or self._health.unready())
        return NOT_FOUND


def _verdict(fault: str | None) -> Answer:
    if fault is None:
        return Answer(b"ok\n")
    return Answer(f"{fault}\n".encode(), HTTPStatus.SERVICE_UNAVAILABLE)


def result_of(manifest: Manifest, publication: Publication | None) -> Event:
    """The event that ends an export."""
    if publication is None:
        return Event("unchanged", manifest=manifest)
    return Event("published", manifest=manifest, publication=publication)
