"""Blocking work in a thread, and what becomes of it when its caller is cancelled."""

from __future__ import annotations

import asyncio
import sys
import threading
from contextlib import nullcontext
from pathlib import Path

import pytest

import autoexport
from autoexport.runtime.interpreter import bare_command, command_of, is_interpreter
from autoexport.runtime.threads import in_stoppable_thread, in_thread
from tests.deadlines import deadline_s


@pytest.mark.parametrize(
    ("path", "frozen", "expected"),
    [
        ("/usr/bin/python3.11", False, True),
        ("/opt/venv/bin/python", False, True),
        ("/usr/bin/python3.13t", False, True),
        ("/usr/bin/pypy3", False, True),
        ("/usr/bin/uwsgi", False, False),
        ("/opt/blender/blender", False, False),
        ("/opt/application/python3", True, False),
        ("", False, False),
        (None, False, False),
    ],
)
def test_an_interpreter(monkeypatch: pytest.MonkeyPatch, path: str | None, frozen: bool, expected: bool) -> None:
    """A frozen program, and one that embeds Python, is none."""
    monkeypatch.setattr(sys, "executable", path)
    monkeypatch.setattr(sys, "frozen", frozen, raising=False)
    assert is_interpreter() is expected
    with nullcontext() if expected else pytest.raises(FileNotFoundError):
        assert command_of("pass")[0] == bare_command()[0] == path


def test_every_start_of_python_asks_first() -> None:
    """One module decides whether `sys.executable` may be started; two others name it in a message."""
    package = Path(autoexport.__file__).parent
    naming = {path.name for path in package.rglob("*.py") if "sys.executable" in path.read_text()}
    assert naming == {"interpreter.py", "metrics.py", "options.py"}


async def test_the_result_and_the_error_of_the_function() -> None:
    """They are those of the call."""
    assert await in_thread(max, 3, 7) == 7
    with pytest.raises(ZeroDivisionError):
        await in_thread(divmod, 1, 0)


async def test_a_cancelled_caller_waits_for_the_thread() -> None:
    """The caller releases nothing that it holds for the thread before the thread is done."""
    begun, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        may_end.wait(deadline_s(10))
        ended.set()

    task = asyncio.create_task(in_thread(work))
    await asyncio.to_thread(begun.wait, deadline_s(10))
    task.cancel()
    for _ in range(3):  # however often
        done, _ = await asyncio.wait([task], timeout=0.1)
        assert not done
        task.cancel()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_a_function_that_looks_is_stopped() -> None:
    """The event is set as soon as the caller is cancelled."""
    begun, stop = threading.Event(), threading.Event()

    def work() -> bool:
        begun.set()
        return stop.wait(deadline_s(10))

    task = asyncio.create_task(in_stoppable_thread(stop, work))
    await asyncio.to_thread(begun.wait, deadline_s(10))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stop.is_set()
