"""The range workers: every way in which one can fail, be killed or be left alone."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path

import psutil
import pytest

from autoexport.errors import AutoexportError, PublishError, RenderError
from autoexport.pipeline import range_process, ranges
from autoexport.pipeline.exporter import export_once
from autoexport.pipeline.job import opened_job
from autoexport.sources import block_size
from tests.bench.generate import write_sqlite
from tests.conftest import program_environment
from tests.daemon import LIMIT_S, wait_until
from tests.deadlines import deadline_s
from tests.outputs import DEFAULT_OUTPUTS
from tests.processes import started
from tests.trials import RowsHook, Trial, open_descriptors

IMAGES = 6_000
"""With six times as many rows: a worker takes longer to render them than a test to kill it."""


def workers_of(process: int) -> list[int]:
    """The range workers among the children of a process."""
    with suppress(psutil.Error):
        return [child.pid for child in psutil.Process(process).children() if is_worker(child.pid)]
    return []


def is_worker(process: int) -> bool:
    """Whether it is there and reads a range; one that has ended and was not waited for has no command line."""
    try:
        return any("range_worker" in word for word in psutil.Process(process).cmdline())
    except psutil.Error:
        return False


def at_piece(number: int, act: Callable[[], None]) -> RowsHook:
    """A progress display that acts once, when so many pieces have been rendered."""
    pieces = count(1)
    return RowsHook(lambda: act() if next(pieces) == number else None)


def signalled(extent: int, piece: int, number: signal.Signals) -> str:
    """The code of workers, of which one gets a signal when it has rendered so many pieces.

    It sends the signal to itself: from outside, a test may find that the worker has ended.
    """
    return f"""
import sys; sys.path[:] = sys.argv[1:]
import os
from autoexport.pipeline import range_worker
class Range(range_worker._Range):
    def __init__(self, start, builder):
        super().__init__(start, builder)
        self.mine, self.left = start.extent == {extent}, {piece}
    def add(self, rows):
        super().add(rows)
        self.left -= 1
        if self.mine and not self.left:
            os.kill(os.getpid(), {int(number)})
range_worker._Range = Range
range_worker.main()
"""


@pytest.fixture(autouse=True)
def from_the_first_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small databases are read by ranges, and in many pieces, as large ones are."""
    monkeypatch.setattr(ranges, "RANGES_FROM_ROWS", 0)
    monkeypatch.setattr(block_size, "PIECE_BYTES", 40_000)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a database of some size."""
    path = tmp_path_factory.mktemp("many") / "app.db"
    write_sqlite(path, IMAGES, 5, seed=7, indexes=False, journal="delete")
    return f"sqlite:///{path}"


def by_workers(url: str, directory: Path, workers: int = 2) -> Trial:
    """Exports by range workers."""
    return Trial(url, directory, workers=workers, **DEFAULT_OUTPUTS)


@pytest.mark.parametrize(("extent", "piece"), [(0, 1), (1, 3), (1, 12)])
def test_killed_half_way(
    many: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extent: int, piece: int
) -> None:
    """Told in one line, the old files whole, nothing left, and made good by the next export."""
    trial = by_workers(many, tmp_path / "exports")
    trial.export()
    before, descriptors = trial.contents(), open_descriptors()
    with monkeypatch.context() as patch:
        patch.setattr(range_process, "CODE", signalled(extent, piece, signal.SIGKILL))
        with pytest.raises(RenderError, match="ended before its time, with exit code -9") as caught:
            trial.export(full=True)
    assert "memory" in caught.value.hint
    assert "\n" not in str(caught.value)
    caught.value.__traceback__ = None
    del caught
    assert trial.contents() == before
    assert trial.leftovers() == []
    assert (workers_of(os.getpid()), open_descriptors()) == ([], descriptors)
    assert trial.export(full=True).manifest.rendered_images == IMAGES
    assert trial.contents() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_polite_signal_reaches_a_worker(
    many: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """As it does if the terminal sends it to the whole group: the parent alone decides about the end."""
    trial = by_workers(many, tmp_path / "exports")
    monkeypatch.setattr(range_process, "CODE", signalled(0, 3, number))
    assert trial.export().published
    assert trial.differences() == []


@pytest.mark.parametrize("moment", ["started", "begun"])
def test_killed_before_it_reads(many: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    """Then one process reads and renders everything."""
    trial = by_workers(many, tmp_path / "exports")
    method = "start" if moment == "started" else "begin"
    real = getattr(range_process.RangeProcess, method)

    async def killing(process: range_process.RangeProcess, argument: object) -> bool:
        done: bool = await real(process, argument) if moment == "started" else True
        assert process._process is not None
        process._process.kill()
        await process._process.wait()
        return done if moment == "started" else await real(process, argument)

    monkeypatch.setattr(range_process.RangeProcess, method, killing)
    assert trial.export().published
    monkeypatch.undo()
    assert trial.differences() == []
    assert trial.leftovers() == []
    assert workers_of(os.getpid()) == []


def test_it_does_not_answer(many: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that stands still is given up, and killed."""
    monkeypatch.setattr(range_process, "_START_S", 0.2)
    monkeypatch.setattr(range_process, "CODE", "import time; time.sleep(600)")
    trial = by_workers(many, tmp_path / "exports")
    assert trial.export().published
    assert trial.differences() == []


@pytest.mark.parametrize("program", ["/nonexistent", "/bin/true", "/bin/cat"])
def test_no_process_can_be_started(
    many: str, monkeypatch: pytest.MonkeyPatch, program: str, tmp_path: Path
) -> None:
    """If the interpreter is gone or broken, this process reads and renders."""
    (tmp_path / "python3").symlink_to(program)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python3"))
    trial = by_workers(many, tmp_path / "exports")
    assert trial.export().published
    assert trial.differences() == []


def test_a_file_may_not_have_holes(many: str, tmp_path: Path) -> None:
    """A limit of the user's on the size of files: one process writes less far."""
    trial = by_workers(many, tmp_path / "exports")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, limits[1]))
    try:
        assert trial.export().published
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert trial.differences() == []


@pytest.mark.parametrize(
    ("broken", "error", "words"),
    [
        ("range_worker.all_bodies_of = lambda *_: 1 / 0", RenderError, "ZeroDivisionError"),
        ("import os; os.pwrite = lambda *_: (_ for _ in ()).throw(OSError(28, ''))", PublishError, "no room"),
    ],
)
def test_a_range_that_cannot_be_rendered(
    many: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    broken: str,
    error: type[AutoexportError],
    words: str,
) -> None:
    """An error of ours, and one of the disk, come back in words."""
    code = f"from autoexport.pipeline import range_worker; {broken}; range_worker.main()"
    monkeypatch.setattr(range_process, "CODE", f"import sys; sys.path[:] = sys.argv[1:]; {code}")
    trial = by_workers(many, tmp_path / "exports")
    with pytest.raises(error, match=words):
        trial.export()
    assert trial.leftovers() == []
    assert workers_of(os.getpid()) == []


def test_given_up_half_way(many: str, tmp_path: Path) -> None:
    """The end of the export ends the workers: here after an error of the progress display."""

    def fail() -> None:
        raise AutoexportError("the display broke")

    trial = by_workers(many, tmp_path / "exports", 3)
    with pytest.raises(AutoexportError, match="the display broke"):
        trial.export(progress=at_piece(2, fail))
    assert workers_of(os.getpid()) == []
    assert trial.leftovers() == []


@pytest.mark.parametrize("piece", [1, 9])
async def test_cancelled(many: str, tmp_path: Path, piece: int) -> None:
    """All workers end within a second, and nothing is left."""
    trial = by_workers(many, tmp_path / "exports", 3)
    rendering = asyncio.Event()
    async with opened_job(trial.settings) as job:
        export = asyncio.create_task(export_once(job, progress=at_piece(piece, rendering.set)))
        await rendering.wait()
        export.cancel()
        async with asyncio.timeout(deadline_s(1)):
            with pytest.raises(asyncio.CancelledError):
                await export
    assert workers_of(os.getpid()) == []
    assert trial.leftovers() == []
    assert trial.contents() == {}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_parent_is_ended(many: str, tmp_path: Path, number: signal.Signals) -> None:
    """However it ends, alone or with its whole group, the workers are gone, and the next export sweeps."""
    trial = by_workers(many, tmp_path / "exports")
    options = ["--database-url", many, "--export-dir", str(trial.directory), "--workers", "2"]
    program = (
        "import sys; from autoexport.pipeline import ranges; ranges.RANGES_FROM_ROWS = 0;"
        "from autoexport.cli import main; sys.exit(main())"
    )
    with started(
        [sys.executable, "-c", program, *options],
        env=program_environment(), start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        found: list[int] = []
        while len(found) < 2:
            assert process.poll() is None
            found = workers_of(process.pid)
        if number is signal.SIGKILL:
            process.kill()
        else:
            os.killpg(process.pid, number)
        assert process.wait(deadline_s(LIMIT_S)) != 0
        wait_until(lambda: not any(map(is_worker, found)), "no worker reads any more")
    trial.export()
    assert trial.check_set()
    assert trial.leftovers() == []
