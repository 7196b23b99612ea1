"""The heartbeat against real servers: those that answer, fail, hang, and try to get a secret into the log."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from autoexport.config.operations import without_secrets
from autoexport.daemon import heartbeat
from autoexport.daemon.events import Event
from autoexport.daemon.heartbeat import EVERY_S, Heartbeat
from tests.deadlines import deadline_s
from tests.http_servers import OK, Received, answering, sending

SECRET = "geheim"
CHECKED = Event("checked")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The servers of these tests are on this machine."""
    monkeypatch.setenv("no_proxy", "*")


async def logged(call: Callable[[], object]) -> list[dict[str, object]]:
    """The log lines of a call and of a moment after it."""
    with capture_logs() as logs:
        result = call()
        if asyncio.iscoroutine(result):
            await result
    return [dict(line) for line in logs]


async def settled(beat: Heartbeat) -> None:
    """Wait until the call in hand has ended."""
    deadline = time.monotonic() + deadline_s(20)
    while beat._call is None or not beat._call.done():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    await asyncio.sleep(0)


async def test_a_call_gets_the_whole_url() -> None:
    """Path and query arrive; nothing is logged."""
    with answering(sending(OK)) as server:
        assert await logged(Heartbeat(server.url()).once) == []
    (request,) = server.requests
    assert request.startswith(b"GET /ping/geheim-4711?token=geheim-4712 HTTP/1.1\r\n")
    assert b"User-Agent: autoexport/" in request


FAULTS: dict[str, tuple[bytes, str]] = {
    "an error": (b"HTTP/1.1 503 /ping/geheim-4711\r\nContent-Length: 0\r\n\r\n", "the answer was 503"),
    "a refusal": (
        b"HTTP/1.1 401 geheim\r\nWWW-Authenticate: geheim\r\nContent-Length: 0\r\n\r\n",
        "the answer was 401",
    ),
    "an endless redirection": (
        b"HTTP/1.1 302 x\r\nLocation: /ping/geheim-4711?token=geheim-4712\r\nContent-Length: 0\r\n\r\n",
        "the answer was 302",
    ),
    "a redirection into the file system": (
        b"HTTP/1.1 302 x\r\nLocation: file:///etc/passwd?geheim\r\nContent-Length: 0\r\n\r\n",
        "the answer was 302",
    ),
    "no HTTP": (b"geheim-4711 geheim\r\n\r\n", "the answer is not HTTP"),
    "nothing": (b"", "the answer is not HTTP"),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_a_failure_is_logged_without_a_secret(name: str) -> None:
    """The host and the cause; neither the URL nor the words of the server, which may repeat it."""
    answer, reason = FAULTS[name]
    with answering(sending(answer)) as server:
        (line,) = await logged(Heartbeat(server.url()).once)
        assert (line["event"], line["log_level"]) == ("heartbeat.failed", "warning")
        assert line["url"] == f"http://127.0.0.1:{server.port}"
        assert reason in str(line["error"]) or "reset" in str(line["error"])
        assert SECRET not in str(line)


async def test_a_server_that_is_away() -> None:
    """A port without a server, and a name without an address."""
    free = socket.create_server(("127.0.0.1", 0))
    port = free.getsockname()[1]
    free.close()
    (line,) = await logged(Heartbeat(f"http://127.0.0.1:{port}/geheim").once)
    assert line["error"] == "Connection refused"
    (line,) = await logged(Heartbeat("http://geheim-host.invalid/geheim").once)
    assert line["url"] == "http://geheim-host.invalid"
    assert SECRET not in str(line).replace("geheim-host", "")


async def test_a_server_that_hangs_holds_up_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither one that never answers nor one that sends a byte now and then; the call is over at its limit."""
    monkeypatch.setattr(heartbeat, "LIMIT_S", 0.5)
    go = threading.Event()

    def drips(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
        while not go.wait(0.1):
            connection.sendall(b"x")

    for answer in (lambda _: go.wait(600), drips):
        with answering(answer) as server:
            began = time.monotonic()
            (line,) = await logged(Heartbeat(server.url()).once)
            assert time.monotonic() - began < deadline_s(10)
            assert line["error"] == "no answer within 0.5 s"
            go.set()
        go.clear()


class Clock:
    """A clock that is moved by hand."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_only_a_check_of_a_healthy_exporter_calls() -> None:
    """Not other events, not an exporter that fails, and not more than once a minute."""
    clock, well = Clock(), [True]
    with answering(sending(OK)) as server:
        beat = Heartbeat(server.url(), lambda: well[0], clock)
        beat.hear(Event("exporting"))
        beat.hear(Event("failed"))
        assert beat._call is None
        beat.hear(CHECKED)
        await settled(beat)
        clock.now += EVERY_S - 1
        beat.hear(CHECKED)
        assert len(server.requests) == 1
        clock.now += 1
        well[0] = False
        beat.hear(CHECKED)
        assert len(server.requests) == 1
        well[0] = True
        beat.hear(CHECKED)
        await settled(beat)
        assert len(server.requests) == 2


async def test_a_call_that_hangs_is_the_only_one() -> None:
    """Further checks start no second call, and are not held up."""
    clock = Clock()
    go = threading.Event()
    with answering(lambda _: go.wait(600)) as server:
        beat = Heartbeat(server.url(), clock=clock)
        for _ in range(5):
            began = time.monotonic()
            beat.hear(CHECKED)
            assert time.monotonic() - began < deadline_s(1)
            clock.now += EVERY_S
        await has_request(server)
        await asyncio.sleep(0.05)
        assert len(server.requests) == 1
        go.set()
    await settled(beat)


async def has_request(server: Received) -> None:
    """Wait until the server was called."""
    deadline = time.monotonic() + deadline_s(20)
    while not server.requests:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_a_failure_is_news_once_and_so_is_its_end() -> None:
    """A server that is away for a day fills no log."""
    clock = Clock()
    answers = [b"HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n"] * 3 + [OK] * 2
    with answering(lambda connection: connection.sendall(answers[len(server.requests) - 1])) as server:
        beat = Heartbeat(server.url(), clock=clock)
        with capture_logs() as logs:
            for _ in range(5):
                beat.hear(CHECKED)
                await settled(beat)
                clock.now += EVERY_S
    assert [line["event"] for line in logs] == ["heartbeat.failed", "heartbeat.recovered"]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://hc-ping.com/uuid?x=1#y", "https://hc-ping.com"),
        ("http://[::1]:8080/a", "http://[::1]:8080"),
        ("https://kuma.example:3001/api/push/token", "https://kuma.example:3001"),
    ],
)
def test_only_the_host_of_a_url_is_shown(url: str, shown: str) -> None:
    """Path, query and fragment may be the token."""
    assert without_secrets(url) == shown
