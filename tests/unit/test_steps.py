"""A long step of an export tells that it goes on; one that does nothing tells nothing."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from autoexport.formats import file_names
from autoexport.rendering import row_process
from autoexport.runtime import steps
from autoexport.runtime.steps import stepped, telling_steps
from autoexport.runtime.threads import in_thread
from tests.bench.generate import write_sqlite
from tests.trials import Trial


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step is told."""
    monkeypatch.setattr(steps, "EVERY_S", 0)


async def test_steps_of_threads_are_told_on_the_loop() -> None:
    """Also those of threads that began inside; none outside."""
    told: list[object] = []
    with telling_steps(lambda: told.append(asyncio.get_running_loop())):
        await in_thread(stepped)
        stepped()
        await asyncio.sleep(0)
    await in_thread(stepped)
    await asyncio.sleep(0)
    assert told == [asyncio.get_running_loop()] * 2


async def test_steps_are_told_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for each piece."""
    monkeypatch.setattr(steps, "EVERY_S", 3600)
    told: list[None] = []
    with telling_steps(lambda: told.append(None)):
        for _ in range(100):
            stepped()
        await asyncio.sleep(0)
    assert not told


async def test_writing_and_comparing_tell_steps(tmp_path: Path) -> None:
    """Each file is a step at least, and so is each that is compared."""
    database = tmp_path / "application.sqlite3"
    write_sqlite(database, images=100, annotations_per_image=2, seed=1, indexes=True, journal="delete")
    trial = Trial(f"sqlite:///{database}", tmp_path / "exports")
    told: list[None] = []
    with telling_steps(lambda: told.append(None)):
        await trial._export(full=True, progress=None)
    assert len(told) >= len(file_names())


async def test_a_growing_file_of_a_process_is_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that stays as it is is none."""
    import subprocess
    import sys

    monkeypatch.setattr(row_process, "_GROWTH_S", 0.02)
    told: list[None] = []
    for grows in (False, True):
        target = os.open(tmp_path / str(grows), os.O_RDWR | os.O_CREAT)
        program = (
            "import os, sys, time\n"
            "sys.stdin.read()\n"
            f"for _ in range(50): time.sleep(0.01); {grows} and os.write({target}, b'row')\n"
            "print('answer')\n"
        )
        told.clear()
        process = subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[target]
        )
        with telling_steps(lambda: told.append(None)):
            answer = await in_thread(row_process._answer, process, b"message", target)
        await asyncio.sleep(0)
        os.close(target)
        assert answer == b"answer\n"
        assert bool(told) is grows
