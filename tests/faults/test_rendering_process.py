"""The rendering process: the same bytes as in threads, and every way in which it can fail or be left alone."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from itertools import count
from pathlib import Path

import psutil
import pytest

from autoexport.errors import AutoexportError, PublishError, RenderError
from autoexport.rendering import process as rendering_process
from autoexport.rendering import renderer
from autoexport.sources import block_size
from tests.applications import create_sqlite, fill_sqlite
from tests.bench.generate import write_sqlite
from tests.conftest import program_environment
from tests.daemon import LIMIT_S, wait_until
from tests.deadlines import deadline_s
from tests.outputs import DEFAULT_OUTPUTS
from tests.processes import started
from tests.trials import RowsHook, Trial, open_descriptors

MANY = 12_000
"""Images, with six times as many rows, so that they are rendered apart."""


def rendering(process: int) -> list[int]:
    """The children of a process that render."""
    return [child.pid for child in psutil.Process(process).children() if is_rendering(child.pid)]


def is_rendering(process: int) -> bool:
    """Whether it is there and renders; one that has ended and was not waited for has no command line."""
    try:
        return any("rendering.worker" in word for word in psutil.Process(process).cmdline())
    except psutil.Error:
        return False


def at_third_piece(act: Callable[[], None]) -> RowsHook:
    """A progress display that acts once, when the first pieces are on their way."""
    pieces = count(1)
    return RowsHook(lambda: act() if next(pieces) == 3 else None)


@pytest.fixture(autouse=True)
def in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of these small databases come in several pieces, as those of large ones do."""
    monkeypatch.setattr(block_size, "PIECE_BYTES", 40_000)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trial:
    """A database of a few rows, rendered apart all the same."""
    monkeypatch.setattr(renderer, "PROCESS_FROM_ROWS", 0)
    connection = create_sqlite(tmp_path / "app.db")
    fill_sqlite(connection, orphans=True)
    connection.close()
    return Trial(f"sqlite:///{tmp_path}/app.db", tmp_path / "exports")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a database large enough to be rendered apart."""
    path = tmp_path_factory.mktemp("many") / "app.db"
    write_sqlite(path, MANY, 5, seed=7, indexes=False, journal="delete")
    return f"sqlite:///{path}"


def test_the_same_bytes(many: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Apart or in threads, in either style."""
    for style in ("records", "pretty"):
        chosen = {"json_style": style} | (DEFAULT_OUTPUTS if style == "pretty" else {})
        apart = Trial(many, tmp_path / f"apart-{style}", **chosen)
        here = Trial(many, tmp_path / f"here-{style}", **chosen)
        seen: list[int] = []
        hook = at_third_piece(lambda seen=seen: seen.extend(rendering(os.getpid())))  # type: ignore[misc]
        outcome = apart.export(progress=hook)
        assert len(seen) == 1
        with monkeypatch.context() as patched:
            patched.setattr(renderer, "PROCESS_FROM_ROWS", 10**9)
            assert here.export().manifest.counts == outcome.manifest.counts
        assert apart.contents() == here.contents()
        assert apart.differences() == []
    assert rendering(os.getpid()) == []


def test_a_program_that_forks_meanwhile(many: str, tmp_path: Path) -> None:
    """The child has all ends of all pipes, and keeps them: the export ends all the same."""
    kept: list[int] = []

    def fork() -> None:
        for name in os.listdir("/proc/self/fd"):
            with suppress(OSError):
                if os.readlink(f"/proc/self/fd/{name}").startswith("pipe:"):
                    kept.append(os.dup(int(name)))

    trial = Trial(many, tmp_path / "exports", **DEFAULT_OUTPUTS)
    try:
        trial.export(progress=at_third_piece(fork))
        assert kept
    finally:
        for descriptor in kept:
            os.close(descriptor)
    assert trial.differences() == []


def test_it_is_killed_while_another_process_holds_its_pipe(many: str, tmp_path: Path) -> None:
    """As one that was forked meanwhile does: the export fails all the same, and does not wait for ever."""
    kept: list[int] = []

    def kill() -> None:
        (process,) = rendering(os.getpid())
        kept.append(os.open(f"/proc/{process}/fd/0", os.O_RDONLY))
        os.kill(process, signal.SIGKILL)

    trial = Trial(many, tmp_path / "exports", **DEFAULT_OUTPUTS)
    try:
        with pytest.raises(RenderError):
            trial.export(progress=at_third_piece(kill))
        assert rendering(os.getpid()) == []
    finally:
        for descriptor in kept:
            os.close(descriptor)


def test_odd_values_cross_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lone surrogates, bytes, numbers beyond 64 bits and infinities, in rows and in what stands above them."""
    connection = create_sqlite(tmp_path / "app.db")
    fill_sqlite(connection, orphans=True)
    connection.executescript(
        """UPDATE projects SET name = CAST(x'61ff62' AS TEXT), created_at = '2024-01-15 09:00:00+02:00';
        UPDATE datasets SET name = CAST('18446744073709551616' AS TEXT), description = x'00ff';
        UPDATE images SET width = 9e999, height = 1e300, filename = '=1+' || char(9) || id, file_size = x'01';
        UPDATE annotations SET confidence = -9e999, x_min = 0.1, segmentation = '[18446744073709551616, NaN]';"""
    )
    connection.close()
    apart = Trial(f"sqlite:///{tmp_path}/app.db", tmp_path / "apart")
    here = Trial(f"sqlite:///{tmp_path}/app.db", tmp_path / "here")
    expected = here.export().manifest
    monkeypatch.setattr(renderer, "PROCESS_FROM_ROWS", 0)
    manifest = apart.export().manifest
    assert apart.contents() == here.contents()
    assert (manifest.repaired, manifest.guarded) == (expected.repaired, expected.guarded)
    assert manifest.repaired > 0


def test_text_that_cannot_be_read_is_met_late(many: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When most blocks are rendered and it has to begin again: nothing of the first attempt is in the files."""
    copy = tmp_path / "app.db"
    copy.write_bytes(Path(many.removeprefix("sqlite:///")).read_bytes())
    with closing(sqlite3.connect(copy)) as connection, connection:
        (last,) = connection.execute("SELECT max(id) FROM images").fetchone()
        spoiled = "UPDATE annotations SET model_id = CAST(x'61ff62' AS TEXT) WHERE image_id = ?"
        assert connection.execute(spoiled, (last,)).rowcount
    apart = Trial(f"sqlite:///{copy}", tmp_path / "apart")
    here = Trial(f"sqlite:///{copy}", tmp_path / "here")
    apart.export()
    with monkeypatch.context() as patched:
        patched.setattr(renderer, "PROCESS_FROM_ROWS", 10**9)
        here.export()
    assert apart.contents() == here.contents()
    assert apart.differences() == []


@pytest.mark.parametrize("program", ["/nonexistent", "/bin/true", "/bin/cat"])
def test_no_process_can_be_started(
    small: Trial, monkeypatch: pytest.MonkeyPatch, program: str, tmp_path: Path
) -> None:
    """If the interpreter is gone or broken, it is rendered here."""
    (tmp_path / "python3").symlink_to(program)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python3"))
    assert small.export().published
    assert small.differences() == []


def test_a_frozen_program_does_not_start_itself(
    small: Trial, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is no interpreter, and would run the application once more; nor does a program that embeds Python."""
    started = tmp_path / "started"
    for name in ("python3.11", "application"):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\ntouch {started}\n")
        program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python3.11"))
    assert small.export().published
    assert started.exists()
    started.unlink()
    for name, frozen in (("application", False), ("python3.11", True)):
        monkeypatch.setattr(sys, "executable", str(tmp_path / name))
        monkeypatch.setattr(sys, "frozen", frozen, raising=False)
        small.export(full=True)
        assert not started.exists()
    assert small.differences() == []


@pytest.mark.parametrize("blocks", ["many", "one"])
def test_killed_half_way(many: str, blocks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told, the old files whole, nothing left, and made good by the next export; also where every block that was
    handed over whole had been answered."""
    trial = Trial(many, tmp_path / "exports", **DEFAULT_OUTPUTS)
    trial.export()
    if blocks == "one":
        for limit in ("LEAST_BLOCK_IMAGES", "BLOCK_IMAGES", "BLOCK_BYTES"):
            monkeypatch.setattr(block_size, limit, 1 << 40)
    before, descriptors = trial.contents(), open_descriptors()

    def kill() -> None:
        (child,) = rendering(os.getpid())
        os.kill(child, signal.SIGKILL)

    with pytest.raises(RenderError, match="ended before its time") as caught:
        trial.export(full=True, progress=at_third_piece(kill))
    assert "memory" in caught.value.hint
    caught.value.__traceback__ = None
    del caught
    assert trial.contents() == before
    assert trial.leftovers() == []
    assert (rendering(os.getpid()), open_descriptors()) == ([], descriptors)
    assert trial.export(full=True).manifest.rendered_images == MANY


def test_no_room_for_the_spool(many: str, tmp_path: Path) -> None:
    """An error of the operating system in the worker process is reported as one of this process."""
    trial = Trial(many, tmp_path / "exports", **DEFAULT_OUTPUTS)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    copy_bytes = Path(many.removeprefix("sqlite:///")).stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (copy_bytes + (1 << 20), limits[1]))
    try:
        with pytest.raises(PublishError, match="working files"):
            trial.export()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert trial.leftovers() == []
    assert trial.contents() == {}
    assert rendering(os.getpid()) == []


def test_a_block_that_cannot_be_rendered(small: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of ours in the other process comes back in words."""
    broken = "import autoexport.rendering.worker as worker; worker.all_bodies_of = lambda *_: 1 / 0; worker.main()"
    monkeypatch.setattr(rendering_process, "CODE", f"import sys; sys.path[:] = sys.argv[1:]; {broken}")
    with pytest.raises(RenderError, match="ZeroDivisionError"):
        small.export()
    assert small.leftovers() == []
    assert rendering(os.getpid()) == []


def test_given_up_half_way(many: str, tmp_path: Path) -> None:
    """The end of the export ends the worker process: here after an error of the progress display."""

    def fail() -> None:
        raise AutoexportError("the display broke")

    trial = Trial(many, tmp_path / "exports", **DEFAULT_OUTPUTS)
    with pytest.raises(AutoexportError, match="the display broke"):
        trial.export(progress=at_third_piece(fail))
    assert rendering(os.getpid()) == []
    assert trial.leftovers() == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 0), (signal.SIGINT, 0)])
def test_the_parent_is_ended(many: str, tmp_path: Path, number: signal.Signals, code: int) -> None:
    """However it ends, alone or with its whole group, the other process is gone and the files are whole."""
    trial = Trial(many, tmp_path / "exports", **DEFAULT_OUTPUTS)
    options = ["--database-url", many, "--export-dir", str(trial.directory), "--monitor"]
    with started(
        [sys.executable, "-m", "autoexport", *options],
        env=program_environment(), start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        found: list[int] = []
        while not found:
            assert process.poll() is None
            found = rendering(process.pid)
        if number is signal.SIGKILL:
            process.kill()
        else:
            os.killpg(process.pid, number)
        assert process.wait(deadline_s(LIMIT_S)) == code
        wait_until(lambda: not is_rendering(found[0]), "it renders no more")
    if code:
        trial.export()
    assert trial.check_set()
    assert [name for name in trial.leftovers() if name != "status.sock"] == []
