"""An export leaves nothing open to other users: modes are tight, no link is followed, no name can be guessed."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from autoexport.errors import AutoexportError, PublishError
from autoexport.formats import chosen_formats
from autoexport.rendering.spool import spools
from autoexport.runtime.files import create_new, temp_beside
from autoexport.sources import open_source
from tests.databases import SqliteDatabase
from tests.outputs import SINGLE_FILES, published_names
from tests.trials import RowsHook, Trial

PRIVATE = ("ledger.json", "position", "publish.lock", ".gitignore")
RENAME = "UPDATE projects SET name = ? WHERE id = 1"


@pytest.fixture
def trial(sqlite_database: SqliteDatabase, tmp_path: Path) -> Trial:
    """An exporter of the sample that has exported once."""
    made = Trial(sqlite_database.url, tmp_path / "exports")
    made.export()
    return made


@contextmanager
def umask(mask: int) -> Iterator[None]:
    """Create new files with another mask."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode(path: Path) -> int:
    """The permission bits of a file."""
    return stat.S_IMODE(path.lstat().st_mode)


# --- modes -------------------------------------------------------------------------------------------


class Observer(RowsHook):
    """Looks at the state directory while an export is at work, once a block."""

    def __init__(self, state: Path) -> None:
        super().__init__(self.look)
        self.state = state
        self.open_files: dict[str, int] = {}

    def start(self, total_rows: int | None) -> None:
        """Look before any row is read: the copy and the spools are already there."""
        self.look()

    def look(self) -> None:
        """Note the mode of every open file in the state directory, named or not."""
        for descriptor in os.listdir("/proc/self/fd"):
            try:
                target = os.readlink(f"/proc/self/fd/{descriptor}")
                if target.startswith(f"{self.state}/"):
                    status = os.stat(f"/proc/self/fd/{descriptor}")
                    self.open_files[Path(target).name] = stat.S_IMODE(status.st_mode)
                    assert status.st_nlink == 0 or "lock" in target or "position" in target, target
            except FileNotFoundError:
                continue


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc, to list open files")
@pytest.mark.parametrize("mask", [0o022, 0o000])
def test_working_copies_are_private_and_nameless(
    sqlite_database: SqliteDatabase, tmp_path: Path, mask: int
) -> None:
    """The copy and the spools have mode 0600 and no name, in a directory of mode 0700."""
    trial = Trial(sqlite_database.url, tmp_path / "exports")
    observer = Observer(trial.state)
    with umask(mask):
        trial.export(progress=observer)
    kinds = {name.partition("-")[0] for name in observer.open_files}
    assert {"copy", "spool"} <= kinds, observer.open_files
    assert set(observer.open_files.values()) == {0o600}
    assert mode(trial.state) == 0o700
    for name in PRIVATE[:3]:
        assert mode(trial.state / name) == 0o600, name


@pytest.mark.skipif(sys.platform != "linux", reason="was only tried on Linux")
def test_a_working_copy_is_never_anybody_else_s(sqlite_database: SqliteDatabase, tmp_path: Path) -> None:
    """A working copy is created with its mode, not given it afterwards; also by SQLite."""
    trial = Trial(sqlite_database.url, tmp_path / "exports")
    seen: list[tuple[str, int]] = []

    async def watch() -> None:
        source = open_source(trial.settings)
        trial.state.mkdir(parents=True, mode=0o700)
        taking = asyncio.create_task(_take(source))
        while not taking.done():
            for path in trial.state.glob("copy-*"):
                with suppress(FileNotFoundError):  # its name is taken away by a thread
                    seen.append((path.name, mode(path)))
            await asyncio.sleep(0)
        await source.aclose()

    with umask(0):
        asyncio.run(watch())
    assert {bits for _, bits in seen} <= {0o600}
    assert not list(trial.state.glob("copy-*"))


async def _take(source: object) -> None:
    async with source.snapshot():  # type: ignore[attr-defined]
        pass


def test_an_open_state_directory_is_closed(trial: Trial, sqlite_database: SqliteDatabase) -> None:
    """A state directory that was made readable for all is closed by the next export."""
    trial.state.chmod(0o777)
    trial.export()
    assert mode(trial.state) == 0o700
    sqlite_database.close()


def test_public_files_follow_the_umask(sqlite_database: SqliteDatabase, tmp_path: Path) -> None:
    """The published files are as private as the user's other files."""
    for mask, expected in ((0o022, 0o644), (0o077, 0o600)):
        trial = Trial(sqlite_database.url, tmp_path / f"exports-{mask:o}")
        with umask(mask):
            trial.export()
        for name in (*published_names(trial.directory), "manifest.json"):
            assert mode(trial.directory / name) == expected, name


# --- links -------------------------------------------------------------------------------------------


def link_to(elsewhere: Path) -> Callable[[Path], None]:
    """Put a link to this file in place of a file."""

    def damage(path: Path) -> None:
        path.unlink(missing_ok=True)
        path.symlink_to(elsewhere)

    return damage


@pytest.mark.parametrize("name", [*SINGLE_FILES, "manifest.json"])
def test_a_published_name_that_is_a_link_is_replaced(
    trial: Trial, sqlite_database: SqliteDatabase, tmp_path: Path, name: str
) -> None:
    """The link is replaced, and its target stays as it was."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"of another user")
    victim.chmod(0o640)
    link_to(victim)(trial.directory / name)
    sqlite_database.execute(RENAME, "another")
    trial.export()
    assert victim.read_bytes() == b"of another user"
    assert mode(victim) == 0o640
    assert not (trial.directory / name).is_symlink()
    assert not trial.differences()


@pytest.mark.parametrize("name", ["ledger.json", "position", ".gitignore", "status.json"])
def test_a_private_name_that_is_a_link_is_not_followed(
    trial: Trial, sqlite_database: SqliteDatabase, tmp_path: Path, name: str
) -> None:
    """A link that leads out of the state directory is neither written through nor trusted."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"of another user")
    link_to(victim)(trial.state / name)
    sqlite_database.execute(RENAME, "another")
    trial.export()
    assert victim.read_bytes() == b"of another user"
    assert not trial.differences()


@pytest.mark.parametrize("name", [".gitignore", "publish.lock"])
def test_a_dangling_link_makes_no_file_elsewhere(
    sqlite_database: SqliteDatabase, tmp_path: Path, name: str
) -> None:
    """A private name that is a link to a missing file does not create that file."""
    trial = Trial(sqlite_database.url, tmp_path / "exports")
    trial.state.mkdir(parents=True)
    (trial.state / name).symlink_to(tmp_path / "made")
    with suppress(AutoexportError):
        trial.export()
    assert not (tmp_path / "made").exists()


def test_a_lock_that_is_a_link_is_refused(trial: Trial, tmp_path: Path) -> None:
    """The error names the link, and its target is neither locked nor changed."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"of another user")
    link_to(victim)(trial.state / "publish.lock")
    with pytest.raises(AutoexportError, match=r"publish\.lock") as raised:
        trial.export()
    assert raised.value.hint
    assert victim.read_bytes() == b"of another user"


def test_a_state_directory_that_is_a_link_is_refused(trial: Trial, tmp_path: Path) -> None:
    """Other users might read working copies at its target, so nothing is written or chmodded there."""
    elsewhere = tmp_path / "elsewhere"
    trial.state.rename(tmp_path / "aside")
    elsewhere.mkdir(mode=0o755)
    trial.state.symlink_to(elsewhere)
    with pytest.raises(AutoexportError, match="symbolic link") as raised:
        trial.export()
    assert raised.value.hint
    assert not list(elsewhere.iterdir())
    assert mode(elsewhere) == 0o755


def test_the_sweep_follows_no_link(trial: Trial, tmp_path: Path) -> None:
    """Leftovers that are links are removed; their targets are not."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "file").write_bytes(b"of another user")
    links = [trial.state / f"copy-{'0' * 16}.sqlite3", trial.state / f"spool-{'0' * 16}",
             trial.directory / f".images.csv.{'0' * 16}.autoexport-tmp"]  # fmt: skip
    for link in links:
        link.symlink_to(victim / "file")
    trial.export()
    assert not [link for link in links if link.is_symlink()]
    assert (victim / "file").read_bytes() == b"of another user"


# --- names -------------------------------------------------------------------------------------------


def test_temp_names_cannot_be_guessed(tmp_path: Path) -> None:
    """Each name has 64 random bits, and a name that is taken, even by a link, is refused."""
    names = {temp_beside(tmp_path / "images.csv").name for _ in range(1000)}
    assert len(names) == 1000
    assert all(len(name.split(".")[-2]) == 16 for name in names)
    (tmp_path / "taken").symlink_to(tmp_path / "made")
    with pytest.raises(FileExistsError):
        create_new(tmp_path / "taken")
    assert not (tmp_path / "made").exists()


def test_a_copy_and_a_spool_refuse_a_name_that_is_taken(
    sqlite_database: SqliteDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if another user guesses the name, a link in its place is not written through."""
    monkeypatch.setattr("secrets.token_hex", lambda size: "guessed")
    trial = Trial(sqlite_database.url, tmp_path / "exports")
    trial.state.mkdir(parents=True, mode=0o700)
    victim = tmp_path / "victim"
    for name in ("copy-guessed.sqlite3", "spool-guessed"):
        (trial.state / name).symlink_to(victim)

    async def use() -> None:
        source = open_source(trial.settings)
        with pytest.raises(PublishError, match="a file of that name is in the way"):
            async with source.snapshot():
                pass
        await source.aclose()
        (trial.state / "spool-guessed").unlink(missing_ok=True)
        (trial.state / "spool-guessed").symlink_to(victim)
        with pytest.raises(OSError, match="exists"):
            async with spools(trial.state, chosen_formats(trial.settings.format_options)):
                pass

    asyncio.run(use())
    assert not victim.exists()
