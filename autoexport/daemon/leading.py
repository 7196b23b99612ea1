"""Takes the leader lock of an export directory, and waits while another exporter holds it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from autoexport.daemon.health import Health
from autoexport.daemon.status_socket import StatusSocket
from autoexport.publishing.locks import Lock
from autoexport.publishing.workspace import directories
from autoexport.runtime.logs import get_logger
from autoexport.runtime.threads import in_thread

log = get_logger()


class Leadership:
    """The leader lock of an export directory, and the status socket, which only its holder opens.

    `paths` are the export directory and the state directory.
    """

    def __init__(
        self, lock: Lock, socket: StatusSocket, paths: tuple[Path, Path], health: Health, *, is_service: bool
    ) -> None:
        self._lock = lock
        self._socket = socket
        self._directory, self._state = paths
        self._health = health
        self._is_service = is_service

    async def take(self) -> None:
        """Take the lock; wait while another exporter holds it."""
        self._socket.close()
        self._lock.release()
        waited = False
        while not await in_thread(self._try_to_lead):
            waited = True
            holder = str(await asyncio.to_thread(self._lock.holder) or "another exporter")
            if self._health.standing_by(holder):
                self._tell("leader.waiting", directory=str(self._directory), behind=holder)
            await asyncio.sleep(min(1.0, self._health.report.interval_s))
        if waited:
            self._tell("leader.taken", directory=str(self._directory))
        else:
            log.info("leader.taken", directory=str(self._directory))

    def _tell(self, event: str, **values: str) -> None:
        # Several workers of an application are normal, a second service is not.
        (log.warning if self._is_service else log.info)(event, **values)

    def _try_to_lead(self) -> bool:
        with directories(self._directory, self._state):
            return self._lock.try_take()
