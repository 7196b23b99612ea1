"""Compares the files of each export with those of a full export of the same snapshot."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from difflib import unified_diff
from itertools import islice
from pathlib import Path

import orjson
import pytest

from autoexport.config.settings import Settings
from autoexport.pipeline.exporter import Outcome, export_once
from autoexport.pipeline.job import ExportJob
from autoexport.publishing import label_files
from autoexport.publishing.manifest import BESIDE_NAMES
from autoexport.sources import open_source
from autoexport.sources.contract import Snapshot, Source
from tests.outputs import ALL_OUTPUTS, PUBLIC_NAMES, published_names, recorded_as
from tests.properties.logged_changes import check_changes

FileState = tuple[int, int, int, int]
_TIMESTAMP = re.compile(rb'("timestamp": ?)"[^"]*"')
_COMPARED = ("database", "files", "counts", "orphans", "soft_deleted", "repaired", "guarded")


@dataclass(frozen=True)
class Compared:
    """The outcome of an export, and the manifest after it."""

    outcome: Outcome
    manifest: dict[str, object]


class Exporting:
    """Exports a database into a directory, each time by a new exporter that starts from the files alone.

    With `workers`, full exports are made by several processes, and compared with one that a single process makes.
    All outputs are on unless the settings say otherwise. Any difference from a full export raises AssertionError.
    """

    def __init__(self, url: str, directory: Path, **settings: object) -> None:
        self.directory = directory / "exports"
        self._fresh = directory / "fresh"
        self._url = url
        self._settings = ALL_OUTPUTS | settings

    async def export(
        self, during: Callable[[], None] = lambda: None, *, full: bool = False, repairing: bool = False
    ) -> Compared:
        """Export and compare; `during` runs between the snapshot and the reading of it.

        Set `repairing` if other files may have to be written as well.
        """
        settings = self._set(self.directory)
        before, stood = self.states(), self._contents(self.directory)
        published = self.directory / "database_export.json"
        tree = published.read_bytes() if published.exists() else b""
        for name, text in stood.items():
            if name.endswith("/classes.json"):  # an input, as the settings are
                (self._fresh / name).parent.mkdir(parents=True, exist_ok=True)
                (self._fresh / name).write_bytes(text)
        workers = settings.workers or 1
        source = open_source(settings, shared=workers > 1)
        try:
            job = ExportJob.of(_Twice(source, during, self._export_beside), settings, workers)
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(label_files, "GRACE_S", 0.0)
                outcome = await export_once(job, full=full)
        finally:
            await source.aclose()
        self._check(outcome, before, {} if repairing else stood, tree)
        shutil.rmtree(self._fresh)
        return Compared(outcome, orjson.loads((self.directory / "manifest.json").read_bytes()))

    def states(self) -> dict[str, FileState]:
        """Size, times of modification and change in nanoseconds, and inode of each published file."""
        found = {}
        for name in (*published_names(self.directory), *BESIDE_NAMES, "manifest.json"):
            if (self.directory / name).exists():
                status = (self.directory / name).stat()
                found[name] = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        return found

    def _set(self, directory: Path) -> Settings:
        return Settings(database_url=self._url, export_directory=directory, **self._settings)  # type: ignore[arg-type]

    async def _export_beside(self, source: Source) -> None:
        settings = self._set(self._fresh)
        await export_once(ExportJob.of(source, settings), full=True)

    def _label_files(self) -> list[str]:
        """All label files, also those that no list names. The grace time is none in these tests."""
        found = self.directory.glob("yolo/*/labels/**/*")
        return [path.relative_to(self.directory).as_posix() for path in found if path.is_file()]

    @staticmethod
    def _contents(directory: Path) -> dict[str, bytes]:
        return {
            name: _TIMESTAMP.sub(rb"\1", (directory / name).read_bytes(), count=1)
            for name in published_names(directory)
        }

    def _check(self, outcome: Outcome, before: dict[str, FileState], stood: dict[str, bytes], tree: bytes) -> None:
        published, expected = self._contents(self.directory), self._contents(self._fresh)
        for name in published.keys() | expected.keys():
            assert published.get(name) == expected.get(name), (
                f"{name} is not what a full export of the same snapshot writes ({outcome.reason})\n"
                + _difference(published.get(name, b""), expected.get(name, b""))
            )
        if stood == expected and "manifest.json" in before:
            assert not outcome.published, f"nothing was different, yet it was published ({outcome.reason})"
        if not outcome.published:
            assert self.states() == before, "it says that nothing was published, and files were touched"
            return
        manifest, full = (
            orjson.loads((directory / "manifest.json").read_bytes()) for directory in (self.directory, self._fresh)
        )
        assert manifest["timestamp"] == full["timestamp"]
        if "changes.jsonl" in manifest["beside"]:
            check_changes(self.directory, tree, full=outcome.full)
        for key in _COMPARED:
            assert manifest[key] == full[key], f"{key} in the manifest is not what a full export says"
        left = {path.name for path in self.directory.iterdir()} - {*PUBLIC_NAMES, ".autoexport"}
        left |= set(map(recorded_as, published)) ^ manifest["files"].keys()
        left |= {name for name in self._label_files() if name not in published}
        assert not left, f"left behind: {left}"


class _Twice:
    """A source whose snapshot is read twice: by the exporter under test, then by a full export."""

    def __init__(
        self, source: Source, during: Callable[[], None], beside: Callable[[Source], Awaitable[None]]
    ) -> None:
        self.database = source.database
        self.identity = source.identity
        self._source = source
        self._during = during
        self._second = beside

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Snapshot]:
        async with self._source.snapshot() as snapshot:
            self._during()
            yield snapshot
            await self._second(_Again(self._source, snapshot))

    def is_large(self) -> bool:
        return self._source.is_large()

    def checks(self, interval_s: float, *, hooks: bool, wake: asyncio.Event | None = None) -> AsyncIterator[bool]:
        return self._source.checks(interval_s, hooks=hooks, wake=wake)

    async def aclose(self) -> None:
        await self._source.aclose()


async def _nothing(source: Source) -> None:
    """Do nothing: the full export of a snapshot is not compared with another one."""


class _Again(_Twice):
    """A source of one snapshot, which is open already."""

    def __init__(self, source: Source, snapshot: Snapshot) -> None:
        super().__init__(source, lambda: None, _nothing)
        self._snapshot = snapshot

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Snapshot]:
        yield self._snapshot


def _difference(published: bytes, expected: bytes) -> str:
    before, after = (text.decode("utf-8", "replace").splitlines() for text in (published, expected))
    lines = unified_diff(before, after, lineterm="", n=1)
    return "\n".join(line[:200] for line in islice(lines, 20))


def without_waiting_for_the_disk(descriptor: int) -> None:
    """Replaces `os.fsync` where thousands of exports are made and none has to survive a power cut."""
    os.fstat(descriptor)
