"""A large replaced file is freed in steps, but never while a process reads it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import mmap
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoexport import Settings, exporting
from autoexport.publishing import throttle
from autoexport.publishing.throttle import DiskThrottle
from tests.daemon import wait_until
from tests.databases import SqliteDatabase

STEP = 1000
TEXT = os.urandom(50 * STEP)

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs Linux")


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few bytes count as large, on any file system, and are freed without a first delay."""
    monkeypatch.setattr(throttle, "_LARGE_BYTES", len(TEXT))
    monkeypatch.setattr(throttle, "_STEP_BYTES", STEP)
    monkeypatch.setattr(throttle, "_FIRST_STEP_S", 0.0)
    monkeypatch.setattr(throttle, "_discards_at_once", lambda device: True)


@pytest.fixture
def polite() -> Iterator[DiskThrottle]:
    """A throttle that has no thread left afterwards."""
    threads = threading.active_count()
    made = DiskThrottle()
    yield made
    made.finish()
    assert threading.active_count() == threads


@pytest.fixture
def cut_off(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes to which files are cut, in order."""
    sizes: list[int] = []
    truncate = os.ftruncate

    def cut(descriptor: int, length: int) -> None:
        sizes.append(length)
        truncate(descriptor, length)

    monkeypatch.setattr(os, "ftruncate", cut)
    return sizes


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A published file."""
    path = tmp_path / "database_export.json"
    path.write_bytes(TEXT)
    return path


def replace(polite: DiskThrottle, target: Path) -> None:
    """Replace the file as a publish does."""
    new = target.with_name("new")
    new.write_bytes(b"new")
    with polite.replacing(target):
        os.replace(new, target)


@contextlib.contextmanager
def looked_at(path: Path) -> Iterator[int]:
    """A descriptor that gives the status of a file without having it open (open(2), O_PATH)."""
    descriptor = os.open(path, os.O_PATH)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def descriptors() -> set[str]:
    """The files that this process has open."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.add(os.readlink(f"/proc/self/fd/{number}"))
    return found


def test_what_nobody_reads_goes_in_steps(polite: DiskThrottle, target: Path, cut_off: list[int]) -> None:
    """It becomes shorter step by step until nothing is left; the new file is untouched, no other file is there."""
    with looked_at(target) as old:
        replace(polite, target)
        wait_until(lambda: os.fstat(old).st_size == 0, "the end of the file")
    assert cut_off == list(range(len(TEXT) - STEP, -1, -STEP))
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    assert target.read_bytes() == b"new"


@pytest.mark.parametrize("way", ["open", "mapped", "open for writing", "another name", "open as another name"])
def test_a_file_in_use_is_left_alone(polite: DiskThrottle, target: Path, way: str) -> None:
    """A reader reads the old file to its end, however long it takes."""
    other, number = target.with_name("kept"), -1
    if "name" in way:
        os.link(target, other)
    if way.startswith("open"):
        flags = os.O_RDWR if way == "open for writing" else os.O_RDONLY
        number = os.open(other if "name" in way else target, flags)
    mapped = None
    if way == "mapped":
        with target.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if way == "open as another name":
        other.unlink()
    replace(polite, target)
    wait_until(lambda: not any(thread.name.startswith("autoexport") for thread in threading.enumerate()), "it")
    read = (
        mapped[:] if mapped is not None else other.read_bytes() if number < 0 else os.read(number, 2 * len(TEXT))
    )
    assert read == TEXT
    if mapped is not None:
        mapped.close()
    if number >= 0:
        os.close(number)


def test_it_waits_for_readers_that_open_the_file_late(
    polite: DiskThrottle, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is truncated at once, and changes are not reported by the name of the new file."""
    monkeypatch.setattr(throttle, "_FIRST_STEP_S", 60.0)
    with looked_at(target) as old:
        replace(polite, target)
        held = {name for name in descriptors() if name.startswith(f"{target.parent}/.{target.name}.")}
        assert len(held) == 1
        assert f"{target} (deleted)" not in descriptors() - {os.readlink(f"/proc/self/fd/{old}")}
        assert os.fstat(old).st_size == len(TEXT)
        polite.finish()
        assert os.fstat(old).st_size == len(TEXT)
    assert not any(name.startswith(str(target.parent)) for name in descriptors())


@pytest.mark.parametrize("why", ["small", "no file", "a link", "the disk is not told", "no hard links"])
def test_files_that_are_not_freed_in_steps(
    polite: DiskThrottle, target: Path, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is replaced, and nothing is kept open."""
    if why == "small":
        target.write_bytes(TEXT[1:])
    elif why == "no file":
        target.unlink()
    elif why == "a link":
        target.rename(target.with_name("elsewhere"))
        target.symlink_to("elsewhere")
    elif why == "the disk is not told":
        monkeypatch.setattr(throttle, "_discards_at_once", lambda device: False)
    else:

        def refuse(*arguments: object, **options: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
    replace(polite, target)
    assert not any(name.startswith(str(target.parent)) for name in descriptors())
    assert target.read_bytes() == b"new"


def test_a_rename_that_fails(polite: DiskThrottle, target: Path) -> None:
    """The file stands as it was."""
    with pytest.raises(FileNotFoundError), polite.replacing(target):
        os.replace(target.with_name("nothing"), target)
    polite.finish()
    assert target.read_bytes() == TEXT
    assert [path.name for path in target.parent.iterdir()] == [target.name]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("26 1 254:3 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard,errors=remount-ro", True),
        ("26 1 254:3 / /a\\040b rw - ext4 /dev/vda rw,discard", True),
        ("26 1 254:3 / / rw,relatime - ext4 /dev/vda rw,nodiscard", False),
        ("26 1 254:3 / / rw,discard - ext4 /dev/vda rw", False),
        ("26 1 254:3 / / rw - xfs /dev/vda rw,discard", False),
        ("26 1 254:4 / / rw - ext4 /dev/vda rw,discard", False),
    ],
)
def test_how_a_file_system_is_mounted(
    tmp_path: Path, line: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The options of the file system on the line of its device decide."""
    monkeypatch.undo()
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"25 1 0:5 / /proc rw - proc proc rw\n{line}\n")
    monkeypatch.setattr(throttle, "_MOUNTS", str(mounts))
    assert throttle._discards_at_once(os.makedev(254, 3)) is expected
    monkeypatch.setattr(throttle, "_MOUNTS", str(tmp_path / "missing"))
    assert throttle._discards_at_once(os.makedev(254, 3)) is False


def read_slowly(path: Path, seen: set[str], torn: list[str], enough: threading.Event) -> None:
    """Repeat until `enough`: open a file, read a part, pause, read the rest, parse it."""
    draw = random.Random(1)
    while not enough.is_set():
        with path.open("rb") as file:
            text = file.read(draw.randint(1, 500))
            enough.wait(draw.random() * 0.1)
            text += file.read()
        try:
            seen.add(json.loads(text)["projects"][0]["name"])
        except ValueError as error:
            torn.append(f"{len(text)} bytes: {error}")


async def test_slow_readers_beside_an_exporter(
    sqlite_database: SqliteDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut_off: list[int]
) -> None:
    """They read whole files, though each file is truncated as soon as no process reads it."""
    monkeypatch.setattr(throttle, "_LARGE_BYTES", 1)
    monkeypatch.setattr(throttle, "_STEP_BYTES", 500)
    monkeypatch.setattr(throttle, "_STEP_S", 0.001)
    monkeypatch.setattr(throttle, "_FIRST_STEP_S", 0.1)
    seen: set[str] = set()
    torn: list[str] = []
    enough = threading.Event()
    exports = tmp_path / "exports"
    settings = Settings(database_url=sqlite_database.url, export_directory=exports, check_interval=60)
    async with exporting(settings) as exporter:
        await exporter.export_now()
        arguments = (exports / "database_export.json", seen, torn, enough)
        readers = [threading.Thread(target=read_slowly, args=arguments) for _ in range(2)]
        for reader in readers:
            reader.start()
        try:
            for turn in range(12):
                sqlite_database.execute("UPDATE projects SET name = ? WHERE id = 1", f"turn {turn}")
                await exporter.export_now()
                while any(thread.name == "autoexport: freeing space" for thread in threading.enumerate()):
                    await asyncio.sleep(0.01)
        finally:
            enough.set()
            for reader in readers:
                reader.join()
    assert not torn
    assert len(seen) > 3
    assert cut_off
