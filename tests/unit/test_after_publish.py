"""The command and the function after a publish: real processes, failures, hangs, limits and hostile names."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from structlog.testing import capture_logs

from autoexport.daemon import command
from autoexport.daemon.after_publish import ALL_FILES, MOST_NAMES, AfterPublish, is_async, variables
from autoexport.daemon.command import CommandFailed, run_command
from autoexport.daemon.events import Publication
from autoexport.publishing.manifest import Manifest
from tests.deadlines import deadline_s

LONG_S = 600.0
"""The time that something takes which never ends by itself. No test waits for it."""

HOSTILE = "$(touch pwned); `touch pwned` & | > pwned \"'\\ *?~ 花🐦\u202e"


@pytest.fixture(autouse=True)
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that ignores SIGTERM gets SIGKILL soon."""
    monkeypatch.setattr(command, "GRACE_S", 0.2)


def python(code: str, *arguments: str) -> tuple[str, ...]:
    """The words of a command that runs this code."""
    return (sys.executable, "-I", "-S", "-c", code, *arguments)


def publication(directory: Path = Path("/exports"), names: tuple[str, ...] = ("images.csv",)) -> Publication:
    """A publish of generation 7."""
    return Publication(Manifest(7, "2024-01-20T10:30:00Z", "app.db", {}), names, directory)


async def outcome(words: tuple[str, ...], limit_s: float = LONG_S, **environment: str) -> str:
    """Why the command failed; empty if it did not."""
    try:
        await run_command(words, environment, limit_s)
    except CommandFailed as failure:
        return str(failure)
    return ""


# --- commands ----------------------------------------------------------------------------------------


async def test_no_shell_reads_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The words and the variables arrive to the letter, whatever they hold."""
    monkeypatch.chdir(tmp_path)
    code = (
        "import json, os, sys; json.dump([sys.argv[1:], os.environ['NAMES'], sys.stdin.read()], open('got', 'w'))"
    )
    assert await outcome(python(code, HOSTILE, "", "a b"), NAMES=HOSTILE) == ""
    assert json.loads(Path("got").read_text()) == [[HOSTILE, "", "a b"], HOSTILE, ""]
    assert [path.name for path in tmp_path.iterdir()] == ["got"]


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("raise SystemExit(3)", "failed with exit code 3"),
        ("import sys; sys.exit('no route to host')", "failed with exit code 1: no route to host"),
        ("print('first'); print('last'); raise SystemExit(2)", "failed with exit code 2: last"),
        ("import os; os.kill(os.getpid(), 11)", "was ended by SIGSEGV"),
        ("import sys; sys.stderr.buffer.write(b'\\xff\\n'); sys.exit(9)", "failed with exit code 9: �"),
    ],
)
async def test_a_failure_is_one_line(code: str, told: str) -> None:
    """The exit code or the signal, and the last line of the output."""
    assert await outcome(python(code)) == f"{sys.executable} {told}"


@pytest.mark.parametrize("word", ["/no/such/program", "no-such-program-at-all", "/tmp"])
async def test_a_command_that_cannot_be_started(word: str) -> None:
    """It is a failure like any other."""
    assert (await outcome((word,))).startswith(f"{word} cannot be started: ")


async def test_endless_output_takes_no_memory_and_blocks_nobody_else() -> None:
    """A command that writes more than a pipe holds runs to its end, and only the end of its output is kept."""
    code = "import sys; sys.stdout.write('x' * 5_000_000 + '\\nthe end'); sys.exit(4)"
    assert (await outcome(python(code))).endswith("failed with exit code 4: the end")


@pytest.mark.parametrize("ignores", [False, True])
async def test_the_limit_ends_it_with_its_children(ignores: bool, tmp_path: Path) -> None:
    """SIGTERM, then SIGKILL, to all of its session; the caller goes on at once."""
    pids = tmp_path / "pids"
    ignore = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" if ignores else ""
    child = f"{ignore}import time; time.sleep({LONG_S})"
    code = (
        f"{ignore}import os, subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-I', '-S', '-c', {child!r}])\n"
        f"open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}'); time.sleep({LONG_S})"
    )
    limit_s = deadline_s(1.0)
    began = time.monotonic()
    told = await outcome(python(code), limit_s)
    assert time.monotonic() - began < limit_s + deadline_s(10)
    assert f"was ended after {limit_s:g} s" in told
    for pid in pids.read_text().split():
        await gone(int(pid))


async def gone(pid: int) -> None:
    """Wait until a process has ended."""
    deadline = time.monotonic() + deadline_s(20)
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, f"process {pid} is still there"
        await asyncio.sleep(0.02)


async def test_a_process_that_it_leaves_behind_holds_up_nothing(tmp_path: Path) -> None:
    """A command that starts a daemon has ended, although the daemon has its output open."""
    pid_file = tmp_path / "pid"
    code = (
        "import os, subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-I', '-S', '-c', 'import time; time.sleep({LONG_S})'])\n"
        f"open({str(pid_file)!r}, 'w').write(str(child.pid))"
    )
    async with asyncio.timeout(deadline_s(30)):
        assert await outcome(python(code)) == ""
    left = int(pid_file.read_text())
    assert psutil.pid_exists(left)
    os.kill(left, 9)


async def test_cancelling_it_kills_it(tmp_path: Path) -> None:
    """The exporter that is stopped leaves no command behind."""
    pid_file = tmp_path / "pid"
    code = f"import os, time; open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep({LONG_S})"
    running = asyncio.create_task(run_command(python(code), {}, LONG_S))
    deadline = time.monotonic() + deadline_s(20)
    while not pid_file.exists() or not pid_file.read_text():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await gone(int(pid_file.read_text()))


async def test_the_service_manager_s_variables_are_not_passed_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A command must not feed the watchdog of the exporter; all other variables it has."""
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "LISTEN_FDS"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("OF_THE_OPERATOR", "1")
    got = tmp_path / "got"
    code = f"import os; open({str(got)!r}, 'w').write(' '.join(os.environ))"
    assert await outcome(python(code)) == ""
    names = set(got.read_text().split())
    assert "OF_THE_OPERATOR" in names
    assert not names & {"NOTIFY_SOCKET", "WATCHDOG_USEC", "LISTEN_FDS"}


async def test_it_leaves_no_descriptor_open() -> None:
    """After commands that worked, failed, hung and could not be started."""
    for _ in range(2):
        before = os.listdir("/proc/self/fd")
        await outcome(python("pass"))
        await outcome(python("raise SystemExit(1)"))
        await outcome(("/no/such/program",))
        await outcome(python(f"import time; time.sleep({LONG_S})"), 0.1)
        await asyncio.sleep(0)
        after = os.listdir("/proc/self/fd")
    assert len(after) <= len(before)


# --- the variables -----------------------------------------------------------------------------------


def test_the_variables_name_the_publish() -> None:
    """The manifest by its absolute path, the generation, and the changed files one a line."""
    names = ("coco/Äpfel & Birnen/annotations/instances_train.json", "images.csv")
    assert variables(publication(Path("/srv/ex ports"), names)) == {
        "AUTOEXPORT_MANIFEST": "/srv/ex ports/manifest.json",
        "AUTOEXPORT_DIRECTORY": "/srv/ex ports",
        "AUTOEXPORT_GENERATION": "7",
        "AUTOEXPORT_CHANGED_FILES": "\n".join(names),
    }


@pytest.mark.parametrize("names", [("a",) * (MOST_NAMES + 1), ("花" * 100,) * 500])
async def test_more_files_than_a_variable_holds(names: tuple[str, ...]) -> None:
    """The command is started all the same, and is told that everything may have changed."""
    told = variables(publication(names=names))
    assert told["AUTOEXPORT_CHANGED_FILES"] == ALL_FILES
    assert await outcome(python("pass"), **told) == ""


# --- functions ---------------------------------------------------------------------------------------


class Log:
    """What is reported after each publish."""

    def __init__(self) -> None:
        self.told: list[str | None] = []

    def after(
        self,
        callback: Callable[[Publication], object],
        words: tuple[str, ...] = (),
        limit_s: float = LONG_S,
    ) -> AfterPublish:
        return AfterPublish(words, callback, limit_s, self.told.append)


async def ran(callback: Callable[[Publication], object], limit_s: float = LONG_S) -> str | None:
    """The report after one publish."""
    log = Log()
    with capture_logs() as logs:
        await log.after(callback, limit_s=limit_s).run(publication())
    assert [line["event"] for line in logs] == ["after_publish.failed" if log.told[0] else "after_publish.done"]
    return log.told[0]


async def test_functions_of_every_kind_are_called() -> None:
    """Async, sync, partial, lambda and objects; each gets the publish, and sync ones do not block the loop."""
    got: list[tuple[str, Publication, bool]] = []
    loop_thread = threading.get_ident()

    def keep(name: str, it: Publication) -> None:
        got.append((name, it, threading.get_ident() == loop_thread))

    async def coroutine(it: Publication) -> None:
        await asyncio.sleep(0)
        keep("async", it)

    class Called:
        async def __call__(self, it: Publication) -> None:
            keep("object", it)

    assert await ran(coroutine) is None
    assert await ran(lambda it: keep("sync", it)) is None
    assert await ran(functools.partial(keep, "partial")) is None
    assert await ran(lambda it: coroutine(it)) is None
    assert await ran(Called()) is None
    assert [(name, on_loop) for name, _, on_loop in got] == [
        ("async", True), ("sync", False), ("partial", False), ("async", True), ("object", True),
    ]  # fmt: skip
    assert all(it == publication() for _, it, _ in got)
    assert is_async(coroutine)
    assert not is_async(print)


def raising(error: BaseException) -> Callable[[Publication], object]:
    """A function that raises."""

    def function(_: Publication) -> None:
        raise error

    return function


@pytest.mark.parametrize("error", [ValueError("no"), StopIteration(), SystemExit(4), KeyError("x")])
async def test_what_a_function_raises_is_reported(error: BaseException) -> None:
    """In words, never passed on; a thread that exits does not end the program."""
    told = await ran(raising(error))
    assert told is not None
    assert "raised" in told

    async def coroutine(_: Publication) -> None:
        raise ValueError("no")

    assert "raised ValueError: no" in str(await ran(coroutine))


async def test_a_function_that_does_not_return_is_left_alone() -> None:
    """After its limit the exporter goes on; it is not called again before it has returned."""
    go = threading.Event()
    calls: list[Publication] = []

    def hangs(it: Publication) -> None:
        calls.append(it)
        go.wait(LONG_S)

    log = Log()
    after = log.after(hangs, limit_s=0.1)
    for _ in range(3):
        await after.run(publication())
    assert len(calls) == 1
    assert "has not returned after 0.1 s" in str(log.told[0])
    assert all("its last call has not returned" in str(told) for told in log.told[1:])
    go.set()
    deadline = time.monotonic() + deadline_s(20)
    while len(calls) < 2:
        assert time.monotonic() < deadline
        await after.run(publication())
        await asyncio.sleep(0.01)


async def test_a_coroutine_over_its_limit_is_cancelled() -> None:
    """Even one that refuses holds up nothing."""
    cancelled: list[str] = []
    go = asyncio.Event()

    async def hangs(_: Publication) -> None:
        try:
            await asyncio.sleep(LONG_S)
        except asyncio.CancelledError:
            cancelled.append("once")
            raise

    async def refuses(_: Publication) -> None:
        while not go.is_set():
            try:
                await go.wait()
            except asyncio.CancelledError:
                cancelled.append("refused")

    assert "has not returned" in str(await ran(hangs, 0.1))
    assert "has not returned" in str(await ran(refuses, 0.1))
    assert cancelled == ["once", "refused"]
    go.set()
    await asyncio.sleep(0.01)


async def test_a_failing_command_does_not_spare_the_function() -> None:
    """Both run, in this order, and both failures are told in one line."""
    log = Log()
    after = log.after(raising(ValueError("no")), python("raise SystemExit(5)"))
    await after.run(publication())
    assert log.told == [
        f"{sys.executable} failed with exit code 5; raising.<locals>.function raised ValueError: no"
    ]


async def test_waiting_tells_why_and_for_how_long() -> None:
    """An export that waits for the function of the last publish says so."""
    go = asyncio.Event()
    told: list[tuple[str, float]] = []

    async def waits(_: Publication) -> None:
        await go.wait()

    def tell(reason: str, seconds: float) -> None:
        told.append((reason, seconds))
        go.set()

    after = Log().after(waits, limit_s=5.0)
    await after.finished(tell)
    assert told == [], "nothing runs yet"
    after.start(publication())
    await after.finished(tell)
    ((reason, seconds),) = told
    assert "still running" in reason
    assert 0 < seconds <= 5
    await after.close()
