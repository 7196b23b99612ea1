"""Calls a URL after successful checks, so that a monitoring service notices if they stop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from autoexport.config.operations import without_secrets
from autoexport.daemon.events import Event
from autoexport.runtime.logs import get_logger
from autoexport.runtime.threads import in_daemon_thread
from autoexport.version import __version__

EVERY_S = 60.0
"""Minimum time between two calls: services that take them refuse more."""

LIMIT_S = 10.0
"""Seconds after which a call has failed."""

log = get_logger()


class _Refused(Exception):
    """The server answered with an error; the argument is its number."""


class Heartbeat:
    """Calls `url` after a check while `is_well`, at most every `EVERY_S` seconds, beside everything else.

    A failure is logged once until a call succeeds again. Nothing of the URL but its host reaches the log.
    """

    def __init__(
        self, url: str, is_well: Callable[[], bool] = lambda: True, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._url = url
        self._is_well = is_well
        self._clock = clock
        self._called_at: float | None = None
        self._call: asyncio.Future[None] | None = None
        self._fails = False

    def hear(self, event: Event) -> None:
        """Listen to the exporter: a completed check may be the time for a call."""
        due = self._called_at is None or self._clock() - self._called_at >= EVERY_S
        if event.kind == "checked" and due and self._is_well() and (self._call is None or self._call.done()):
            self._begin()

    async def once(self) -> None:
        """Call the URL and wait for the end of the call, at most `LIMIT_S` seconds."""
        call = self._begin()
        done, _ = await asyncio.wait({call}, timeout=LIMIT_S)
        if not done:
            call.cancel()
        await asyncio.sleep(0)  # the line about its end is logged first

    def _begin(self) -> asyncio.Future[None]:
        self._called_at = self._clock()
        # In a thread of its own: the name service has no time limit, and others need the threads of the loop.
        self._call = in_daemon_thread(_get, self._url)
        self._call.add_done_callback(self._ended)
        return self._call

    def _ended(self, call: asyncio.Future[None]) -> None:
        error = TimeoutError() if call.cancelled() else call.exception()
        host = without_secrets(self._url)
        if error is not None and not self._fails:
            log.warning("heartbeat.failed", url=host, error=_reason(error), hint="Exports are not affected.")
        elif error is None and self._fails:
            log.warning("heartbeat.recovered", url=host)
        self._fails = error is not None


def _get(url: str) -> None:
    """Fetch the URL. The answer is not read."""
    # Loaded at the first call: it takes 4 MB, with TLS.
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    request = Request(url, headers={"User-Agent": f"autoexport/{__version__}"})  # noqa: S310 - http or https, checked
    try:
        urlopen(request, timeout=LIMIT_S).close()  # noqa: S310
    except HTTPError as error:
        error.close()
        raise _Refused(error.code) from None


def _reason(error: BaseException) -> str:
    """The cause of a failure without the texts of libraries and servers, which may repeat the URL."""
    from http.client import HTTPException  # loads OpenSSL as well

    if isinstance(error, _Refused):
        return f"the answer was {error.args[0]}"
    cause = getattr(error, "reason", error)
    if isinstance(cause, TimeoutError):
        return f"no answer within {LIMIT_S:g} s"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return "the answer is not HTTP" if isinstance(cause, HTTPException) else type(cause).__name__
