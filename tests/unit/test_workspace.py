"""The export directory, the state directory and their two locks."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from autoexport.errors import ConfigurationError, LockedError, PublishError
from autoexport.publishing.locks import LEADER_LOCK, PUBLISH_LOCK, Lock, publishing
from autoexport.publishing.workspace import abandoned, directories, scratch
from tests.conftest import program_environment
from tests.deadlines import deadline_s
from tests.processes import started

_HOLD = """
import sys
from pathlib import Path
from autoexport.publishing.locks import Lock
lock = Lock(Path(sys.argv[1]), sys.argv[2])
print(lock.try_take(), flush=True)
sys.stdin.read()
"""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    path = tmp_path / "exports" / ".autoexport"
    with directories(tmp_path / "exports", path):
        pass
    return path


# --- directories ---------------------------------------------------------------------------------


def test_they_are_made(tmp_path: Path) -> None:
    """Parents too; the state directory is private and keeps out of version control."""
    directory, state = tmp_path / "a" / "b", tmp_path / "a" / "b" / ".autoexport"
    with directories(directory, state):
        assert directory.is_dir()
        assert mode(state) == 0o700
        assert (state / ".gitignore").read_text().splitlines()[-1] == "*"
    assert state.is_dir()


def test_a_state_directory_that_others_could_read(tmp_path: Path) -> None:
    """It becomes private before anything is put into it, and nothing in it is touched."""
    state = tmp_path / "state"
    state.mkdir(mode=0o755)
    state.chmod(0o755)
    (state / ".gitignore").write_text("mine")
    with directories(tmp_path, state):
        assert mode(state) == 0o700
    assert (state / ".gitignore").read_text() == "mine"


@pytest.mark.parametrize("there", ["thesis.txt", "copy-of-my-thesis"])
def test_a_state_directory_that_is_used_for_other_things(tmp_path: Path, there: str) -> None:
    """A home directory, say, which is private already."""
    (tmp_path / there).touch()
    tmp_path.chmod(0o700)
    with pytest.raises(ConfigurationError, match="used for other things"), directories(tmp_path / "e", tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [there]


def test_nothing_stays_if_nothing_came_of_it(tmp_path: Path) -> None:
    """A wrong URL or mapping leaves no empty directories."""

    def fail(directory: Path, state: Path) -> None:
        with directories(directory, state):
            lock = Lock(state, PUBLISH_LOCK)
            assert lock.try_take()
            lock.release()
            raise PublishError("no")

    with pytest.raises(PublishError, match="no"):
        fail(tmp_path / "a" / "b", tmp_path / "a" / "b" / ".autoexport")
    assert list(tmp_path.iterdir()) == []


def test_what_was_there_stays(tmp_path: Path, state: Path) -> None:
    """Directories that were not made here, and files of others in those that were, survive an error."""
    with pytest.raises(KeyError), directories(tmp_path / "exports", state):
        raise KeyError
    assert (state / ".gitignore").exists()

    def fail() -> None:
        with directories(tmp_path / "new", tmp_path / "new" / "state"):
            (tmp_path / "new" / "notes.txt").touch()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["notes.txt"]


def test_a_file_in_the_way(tmp_path: Path) -> None:
    """Of the export directory or of one of its parents: the error names it."""
    (tmp_path / "file").touch()
    for directory in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(PublishError, match="file") as raised, directories(directory, tmp_path / "state"):
            pass
        assert raised.value.hint


def test_a_state_directory_that_is_a_link(tmp_path: Path) -> None:
    """Working copies of the database are not written through a link."""
    (tmp_path / "elsewhere").mkdir(mode=0o755)
    (tmp_path / "state").symlink_to(tmp_path / "elsewhere")
    before = mode(tmp_path / "elsewhere")
    with pytest.raises(PublishError, match="symbolic link") as raised, directories(tmp_path, tmp_path / "state"):
        pass
    assert "STATE_DIRECTORY" in raised.value.hint
    assert mode(tmp_path / "elsewhere") == before
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_link_planted_in_the_state_directory(tmp_path: Path) -> None:
    """Nothing is written to where it leads."""
    state = tmp_path / "state"
    state.mkdir()
    (state / ".gitignore").symlink_to(tmp_path / "planted")
    with directories(tmp_path, state):
        pass
    assert not (tmp_path / "planted").exists()


def give_up(directory: Path, meanwhile: Callable[[], None]) -> None:
    """Make the directories, let something happen in them, and give up."""
    making = directories(directory, directory / ".autoexport")
    making.__enter__()
    meanwhile()
    assert not making.__exit__(LockedError, LockedError("given up"), None)


def test_what_another_exporter_uses_is_left_to_it(tmp_path: Path) -> None:
    """One exporter made the directories and gives up, another uses them meanwhile: the lock of the other stays."""
    other = Lock(tmp_path / "exports" / ".autoexport", PUBLISH_LOCK)

    def use() -> None:
        assert other.try_take()

    give_up(tmp_path / "exports", use)
    assert other.stands()
    other.release()


def test_directories_that_are_not_in_use_are_removed(tmp_path: Path) -> None:
    """Lock files, too, if no process holds them."""
    unused = Lock(tmp_path / "exports" / ".autoexport", LEADER_LOCK)

    def use_and_leave() -> None:
        assert unused.try_take()
        unused.release()

    give_up(tmp_path / "exports", use_and_leave)
    assert not (tmp_path / "exports").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_no_permission(tmp_path: Path) -> None:
    """A directory that this user cannot write to is an error that says so."""
    (tmp_path / "exports").mkdir(mode=0o500)
    with pytest.raises(PublishError, match="permission"), directories(tmp_path / "exports", tmp_path / "state"):
        pass


# --- locks ---------------------------------------------------------------------------------------


def test_one_at_a_time(state: Path) -> None:
    """Two exporters in one process exclude each other; the next one may when the first lets go."""
    first, second = Lock(state, LEADER_LOCK), Lock(state, LEADER_LOCK)
    assert first.try_take()
    assert not second.try_take()
    assert Lock(state, PUBLISH_LOCK).try_take()
    first.release()
    first.release()
    assert second.try_take()
    second.release()


def test_a_process_that_was_forked_meanwhile_does_not_hold_it(state: Path) -> None:
    """A forked process of the program may keep the file open; it does not keep the lock."""
    lock = Lock(state, LEADER_LOCK)
    assert lock.try_take()
    assert lock._descriptor is not None
    forked = os.dup(lock._descriptor)
    try:
        assert not Lock(state, LEADER_LOCK).try_take()
        lock.release()
        other = Lock(state, LEADER_LOCK)
        assert other.try_take()
        other.release()
    finally:
        os.close(forked)


def test_a_dead_process_holds_nothing(state: Path) -> None:
    """The kernel takes the lock back from a process that was killed."""
    command = [sys.executable, "-c", _HOLD, str(state), LEADER_LOCK]
    with started(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=program_environment()
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        lock = Lock(state, LEADER_LOCK)
        assert not lock.try_take()
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert lock.try_take()
        lock.release()


def test_a_lock_file_that_is_a_link(state: Path, tmp_path: Path) -> None:
    """It is not followed."""
    (state / PUBLISH_LOCK).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PublishError, match=r"publish\.lock"):
        Lock(state, PUBLISH_LOCK).try_take()
    assert not (tmp_path / "elsewhere").exists()


def test_a_lock_file_is_private(state: Path) -> None:
    """No other user can open it, to hold the lock for ever."""
    lock = Lock(state, PUBLISH_LOCK)
    assert lock.try_take()
    assert mode(lock.path) == 0o600
    lock.release()


async def test_publishing_waits_its_turn(state: Path) -> None:
    """The second gets the lock when the first is done, and holds it until it is done itself."""
    order = []

    async def publish(name: str, entered: asyncio.Event, leave: asyncio.Event) -> None:
        async with publishing(state, deadline_s(30)):
            order.append(f"{name} in")
            entered.set()
            await leave.wait()
            order.append(f"{name} out")

    events = [asyncio.Event() for _ in range(4)]
    first = asyncio.create_task(publish("first", events[0], events[1]))
    await events[0].wait()
    second = asyncio.create_task(publish("second", events[2], events[3]))
    events[3].set()
    assert not Lock(state, PUBLISH_LOCK).try_take()
    events[1].set()
    await asyncio.gather(first, second)
    assert order == ["first in", "first out", "second in", "second out"]


async def test_publishing_does_not_take_a_lock_that_was_removed(state: Path) -> None:
    """Its holder removed the file: other exporters would make a new one and lock that."""
    first = Lock(state, PUBLISH_LOCK)
    assert first.try_take()

    async def publish() -> bool:
        async with publishing(state, deadline_s(30)):
            return Lock(state, PUBLISH_LOCK).try_take()

    second = asyncio.create_task(publish())
    await asyncio.sleep(0.15)  # It has the file open now and then.
    first.path.unlink()
    first.release()
    assert not await second


async def test_publishing_gives_up(state: Path) -> None:
    """After the time that it was given, with an error that says what to do."""
    lock = Lock(state, PUBLISH_LOCK)
    assert lock.try_take()
    with pytest.raises(LockedError, match="Another exporter") as raised:
        async with publishing(state, 0):
            pass
    assert raised.value.hint
    lock.release()


async def test_an_error_lets_go(state: Path) -> None:
    """The lock is free after whatever happened in the publish."""
    with pytest.raises(KeyError):
        async with publishing(state, 0):
            raise KeyError
    async with publishing(state, 0):
        pass


def test_a_directory_that_is_used_for_other_things(tmp_path: Path) -> None:
    """It is refused as a state directory, and its mode stays what it is."""
    state = tmp_path / "shared"
    state.mkdir()
    state.chmod(0o755)
    (state / "of another program").touch()
    with pytest.raises(ConfigurationError, match="other things"), directories(tmp_path, state):
        pass
    assert mode(state) == 0o755


# --- scratch directories --------------------------------------------------------------------------


def test_a_scratch_directory_is_private_and_gone_afterwards(tmp_path: Path) -> None:
    """It is not abandoned while it is in use."""
    with scratch(tmp_path) as path:
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        (path / "copy").touch()
        assert abandoned(tmp_path) == []
    assert not list(tmp_path.iterdir())


def test_a_scratch_directory_of_a_killed_process(tmp_path: Path) -> None:
    """It is found, whatever it contains; a similar name or a link to one is not."""
    program = (
        "import pathlib, sys; from autoexport.publishing.workspace import scratch\n"
        "with scratch(pathlib.Path(sys.argv[1])) as path:\n"
        "    (path / 'copy').touch(); print(path, flush=True); input()"
    )
    with started(
        [sys.executable, "-c", program, str(tmp_path)], env=program_environment(), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        path = Path(process.stdout.readline().strip())
        assert path.parent == tmp_path
        assert abandoned(tmp_path) == []
    (tmp_path / ".autoexport-check-mine").mkdir()
    (tmp_path / ".autoexport-check-00000000").symlink_to(path)
    (tmp_path / ".autoexport-check-11111111").touch()
    assert abandoned(tmp_path) == [path]
