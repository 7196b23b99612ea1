"""Freshness, the status file, the status socket, and what systemd is told."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from autoexport.daemon.health import HUNG_S, Health
from autoexport.daemon.report import STATUS_FILE, Report, read_report, write_report
from autoexport.daemon.status_socket import SOCKET_NAME, StatusSocket, ask
from autoexport.daemon.systemd import SystemdNotifier
from autoexport.errors import SourceError


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Listener:
    """A service manager that remembers."""

    def __init__(self) -> None:
        self.fed = 0
        self.words: list[str] = []

    def progressed(self) -> None:
        self.fed += 1

    def status(self, text: str) -> None:
        self.words.append(text)


@pytest.fixture
def clock() -> Clock:
    """The time that the health under test sees."""
    return Clock()


# --- freshness ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("interval_s", "last_export_s", "age_s", "stale"),
    [
        (10, None, 30, False),
        (10, None, 31, True),
        (10, 20, 40, False),
        (10, 20, 41, True),
        (10, 1, 31, True),
        (0.05, None, 3, False),
        (0.05, None, 3.1, True),
    ],
)
def test_stale_is_the_longer_of_three_intervals_and_twice_the_last_export(
    interval_s: float, last_export_s: float | None, age_s: float, stale: bool
) -> None:
    """Counted from the last completed check."""
    report = Report(1, "watching", interval_s, 0.0, last_check_at=1000.0, last_export_s=last_export_s)
    assert report.is_stale(1000.0 + age_s) is stale


def test_checks_do_not_feed_the_watchdog_beside_an_export_that_hangs(clock: Clock) -> None:
    """A slow export is no hung one, and what comes after it feeds again."""
    listener = Listener()
    health = Health(10.0, manager=listener, clock=clock)

    def feeds(step: Callable[[], None]) -> bool:
        before = listener.fed
        step()
        return listener.fed > before

    def check() -> None:
        health.checked(changed=False)

    clock.now += 2 * HUNG_S
    assert feeds(check)
    health.export_began()
    clock.now += HUNG_S - 1
    assert feeds(check)
    assert feeds(health.waited)
    clock.now += 1
    assert not feeds(check)
    assert not feeds(health.waited)
    assert feeds(lambda: health.advance(1))
    assert feeds(check)
    clock.now += HUNG_S
    assert not feeds(check)
    health.export_left()
    assert feeds(check)


def test_without_any_check_the_start_counts() -> None:
    """A daemon that never got to check is stale after a while, too."""
    report = Report(1, "starting", 10.0, 1000.0)
    assert not report.is_stale(1030.0)
    assert report.is_stale(1031.0)


def test_the_oldest_change_is_the_first_that_no_export_has_seen(clock: Clock) -> None:
    """Looks during an export are for the next one; an export that fails leaves what it was to bring."""
    health = Health(1.0, clock=clock)
    health.checked(changed=True)
    clock.now = 1001
    health.checked(changed=True)
    assert health.report.oldest_change_at == 1000
    clock.now = 1002
    health.export_began()
    clock.now = 1003
    health.checked(changed=True)
    health.export_left()
    assert health.report.oldest_change_at == 1000
    clock.now = 1004
    health.export_began()
    clock.now = 1005
    health.checked(changed=True)
    health.export_completed(7, "2024-01-20T10:30:00Z", 0.5)
    assert health.report.oldest_change_at == 1005
    health.export_began()
    health.export_completed(8, "2024-01-20T10:30:01Z", 0.5)
    assert health.report.oldest_change_at is None
    assert health.report.generation == 8


def test_a_failure_is_news_once_and_over_with_the_next_export(clock: Clock) -> None:
    """The report holds the error, the hint, the time of the next try and the number of failures."""
    health = Health(1.0, clock=clock)
    error = SourceError("It is away.", hint="Bring it back.")
    assert health.failed(error, 5.0)
    assert not health.failed(error, 10.0)
    assert health.failed(SourceError("It is broken."), 20.0)
    assert (health.report.error, health.report.failures, health.report.next_try_at) == ("It is broken.", 3, 1020)
    health.checked(changed=True)
    assert health.report.error == "It is broken."
    health.export_began()
    assert health.export_completed(1, "2024-01-20T10:30:00Z", 0.5) == 3
    assert (health.report.error, health.report.failures, health.report.next_try_at) == (None, 0, None)


def test_the_watchdog_is_fed_by_every_real_step(clock: Clock) -> None:
    """Checks, blocks, ticks of waiting; nothing else feeds it."""
    listener = Listener()
    health = Health(1.0, manager=listener, clock=clock)
    steps = [
        lambda: health.checked(changed=False),
        lambda: health.advance(256),
        health.progressed,
        lambda: health.standing_by("process 7"),
        lambda: health.export_waits("a reason", 5.0),
        health.export_began,
    ]
    for fed, step in enumerate(steps, 1):
        step()
        assert listener.fed == fed
    _ = health.report.is_stale(1.0), health.report.to_json()
    assert listener.fed == len(steps)
    health.failed(SourceError("It is away."), 1.0)
    assert listener.fed == len(steps)
    assert listener.words[-1] == "retrying: It is away."


# --- the file and the socket -------------------------------------------------------------------------


def test_the_report_is_kept_whole_and_private(tmp_path: Path, clock: Clock) -> None:
    """The report that is read is the one that was written; mode 0600, no temp file beside it."""
    report = Health(1.0, clock=clock).report
    write_report(tmp_path, report)
    assert read_report(tmp_path) == report
    assert [path.name for path in tmp_path.iterdir()] == [STATUS_FILE]
    assert stat.S_IMODE((tmp_path / STATUS_FILE).stat().st_mode) == 0o600


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"pid": 1}', b'{"other": true}', b"\xff"])
def test_what_is_no_report_is_none(tmp_path: Path, text: bytes) -> None:
    """Text of another version, cut off, or of another program."""
    assert read_report(tmp_path) is None
    (tmp_path / STATUS_FILE).write_bytes(text)
    assert read_report(tmp_path) is None


def test_a_report_that_cannot_be_written_is_not(tmp_path: Path) -> None:
    """The state directory may be what is wrong: it must not make it worse."""
    write_report(tmp_path / "gone", Report(1, "watching", 1.0, 0.0))


@pytest.mark.parametrize("depth", [0, 12], ids=["short", "long"])
async def test_each_connection_gets_a_report(tmp_path: Path, depth: int) -> None:
    """The report of that moment, even if the path is longer than a socket address may be."""
    state = tmp_path.joinpath(*["a-folder-with-a-long-name"] * depth)
    state.mkdir(parents=True, exist_ok=True)
    (state / SOCKET_NAME).write_text("left behind")
    answers = iter([b"first", b"second"])
    served = StatusSocket(state, lambda: next(answers))
    served.open()
    try:
        assert served.is_open
        assert stat.S_IMODE(os.lstat(state / SOCKET_NAME).st_mode) == 0o600
        assert await asyncio.to_thread(ask, state) == b"first"
        assert await asyncio.to_thread(ask, state) == b"second"
    finally:
        served.close()
    assert await asyncio.to_thread(ask, state) is None
    assert not list(state.glob(SOCKET_NAME))


async def test_the_socket_of_another_exporter_is_left_alone(tmp_path: Path) -> None:
    """The state directory was removed under one exporter, and another one has made it again."""
    state = tmp_path / "state"
    state.mkdir()
    first, second = StatusSocket(state, lambda: b"first"), StatusSocket(state, lambda: b"second")
    first.open()
    (state / SOCKET_NAME).unlink()
    second.open()
    try:
        first.close()
        assert await asyncio.to_thread(ask, state) == b"second"
    finally:
        second.close()
    assert not list(state.glob(SOCKET_NAME))


async def test_without_a_place_for_a_socket_there_is_none(tmp_path: Path) -> None:
    """The exporter works all the same."""
    served = StatusSocket(tmp_path / "gone", lambda: b"")
    served.open()
    assert not served.is_open
    served.close()
    assert await asyncio.to_thread(ask, tmp_path / "gone") is None


# --- systemd -----------------------------------------------------------------------------------------


@pytest.fixture(params=["path", "abstract"])
def service_manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """A stand-in for systemd: its address as NOTIFY_SOCKET has it, and where it receives."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@autoexport-test-{os.urandom(8).hex()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiving:
        receiving.bind(name.replace("@", "\0", 1) if name.startswith("@") else name)
        receiving.setblocking(False)
        yield name, receiving


def received(receiving: socket.socket) -> list[str]:
    """The datagrams so far."""
    found = []
    while True:
        try:
            found.append(receiving.recv(4096).decode())
        except BlockingIOError:
            return found


def test_systemd_is_told(service_manager: tuple[str, socket.socket], clock: Clock) -> None:
    """Ready, what is being done in one line and once, the watchdog not more often than it needs, stopping."""
    address, receiving = service_manager
    notifier = SystemdNotifier(address, watchdog_s=8.0, clock=clock)
    notifier.ready()
    notifier.status("exporting\nWATCHDOG=1")
    notifier.status("exporting\nWATCHDOG=1")
    notifier.progressed()
    notifier.progressed()
    clock.now += 1
    notifier.progressed()
    notifier.stopping()
    assert received(receiving) == [
        "READY=1", "STATUS=exporting WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1", "STOPPING=1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("variables", "fed"),
    [
        ({"WATCHDOG_USEC": "4000000"}, True),
        ({"WATCHDOG_USEC": "4000000", "WATCHDOG_PID": str(os.getpid())}, True),
        ({"WATCHDOG_USEC": "4000000", "WATCHDOG_PID": "1"}, False),
        ({"WATCHDOG_USEC": "0"}, False),
        ({"WATCHDOG_USEC": "soon"}, False),
        ({}, False),
    ],
)
def test_the_watchdog_is_fed_only_where_there_is_one(tmp_path: Path, variables: dict[str, str], fed: bool) -> None:
    """As sd_watchdog_enabled(3) has it: a limit, and meant for this process."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiving:
        receiving.bind(str(tmp_path / "notify"))
        receiving.setblocking(False)
        SystemdNotifier.from_environment({"NOTIFY_SOCKET": str(tmp_path / "notify"), **variables}).progressed()
        assert received(receiving) == (["WATCHDOG=1"] if fed else [])


@pytest.mark.parametrize("address", [None, "", "relative", "/nowhere/at/all"])
def test_without_systemd_nothing_happens(address: str | None) -> None:
    """Neither a missing address nor one without a listener is an error."""
    SystemdNotifier(address, 1.0).ready()
