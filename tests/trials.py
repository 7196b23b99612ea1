"""Runs exports in this process, and inspects the directories that they leave."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import re
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from zlib import crc32

import pyarrow.parquet

from autoexport.config.settings import Settings
from autoexport.pipeline.exporter import Outcome, export_once
from autoexport.pipeline.job import opened_job
from autoexport.pipeline.verification import differences
from autoexport.publishing.crc32 import digest
from autoexport.runtime.files import TEMP_SUFFIX
from autoexport.runtime.progress import Progress
from tests.outputs import ALL_OUTPUTS, PUBLIC_NAMES, listed_label_files, published_names, recorded_as
from tests.parquet_rows import expected_parquet, parquet_rows
from tests.straight_reading import expected_csv_text, expected_document, expected_json_lines

Contents = dict[str, bytes]

_TIMESTAMP = re.compile(rb'("timestamp": ?)"[^"]*"')
_FLOAT = re.compile(r"(?<=,)-?[0-9]+\.[0-9]+(?:e[+-]?[0-9]+)?(?=[,\n])")
_PRIVATE = {
    ".gitignore",
    "leader.lock",
    "publish.lock",
    "lake.json",
    "ledger.json",
    "position",
    "status.json",
    "publishing",
    "unlisted",
    "labelling",
}


class RowsHook:
    """A progress display that calls a function each time that rows were read and handed on."""

    def __init__(self, on_rows: Callable[[], object]) -> None:
        self._on_rows = on_rows

    def start(self, total_rows: int | None) -> None:
        """No rows are read yet."""

    def advance(self, rows: int) -> None:
        """A block, or a piece of a large one, was handed on; its rows are still being streamed."""
        self._on_rows()

    def finish(self) -> None:
        """All rows are read."""


class Trial:
    """One database and one export directory, with all outputs on unless the settings say otherwise.

    Each export is by a new exporter, which starts from the files alone.
    """

    def __init__(self, url: str, directory: Path, **settings: Any) -> None:
        self.directory = directory
        chosen = ALL_OUTPUTS | settings
        self.settings = Settings(database_url=url, export_directory=directory, **chosen)
        self.state = self.settings.state_dir

    def export(self, *, full: bool = False, progress: Progress | None = None) -> Outcome:
        """Export once. The exporter's errors are passed on."""
        return asyncio.run(self._export(full, progress))

    async def _export(self, full: bool, progress: Progress | None) -> Outcome:
        async with opened_job(self.settings) as job:
            return await export_once(job, full=full, progress=progress)

    def differences(self) -> list[str]:
        """The differences that `verify` finds, one a line."""
        return asyncio.run(self._differences())

    async def _differences(self) -> list[str]:
        async with opened_job(self.settings) as job:
            return await differences(job)

    # --- what is there -----------------------------------------------------------------------------

    def contents(self) -> Contents:
        """The published files that are there, without the time stamp of the tree."""
        return {
            name: _TIMESTAMP.sub(rb"\1", (self.directory / name).read_bytes(), count=1)
            for name in published_names(self.directory)
        }

    def leftovers(self) -> list[str]:
        """Names that no exporter should leave in its directories."""
        public = {*PUBLIC_NAMES, self.state.name}
        found = [path.name for path in self.directory.iterdir()] if self.directory.exists() else []
        private = [path.name for path in self.state.iterdir()] if self.state.exists() else []
        left = [name for name in found if name not in public] + [n for n in private if n not in _PRIVATE]
        nested = [name for name in published_names(self.directory) if "/" in name]
        if nested:
            manifest = self.directory / "manifest.json"
            listed = json.loads(manifest.read_bytes())["files"] if manifest.exists() else {}
            left += [name for name in nested if recorded_as(name) not in listed]
        return sorted(left)

    def check_set(self) -> bool:
        """Check that every file can be parsed. Returns whether the set fits its manifest."""
        for name in (*published_names(self.directory), "manifest.json"):
            path = self.directory / name
            if path.exists() and not name.endswith(TEMP_SUFFIX):
                check_parses(path)
        return self.fits_manifest()

    def fits_manifest(self) -> bool:
        """Whether every file has the size and digest that the manifest says."""
        try:
            manifest = json.loads((self.directory / "manifest.json").read_bytes())
        except FileNotFoundError:
            return False
        return all(self._is(name, record) for name, record in manifest["files"].items())

    def _is(self, name: str, record: dict[str, Any]) -> bool:
        if name.endswith("/"):
            return folder_record(self.directory, name) == record
        try:
            content = (self.directory / name).read_bytes()
        except FileNotFoundError:
            return False
        return (len(content), digest(crc32(content))) == (record["bytes"], record["digest"])

    def check_equals(self, database: Path) -> None:
        """Check that every file equals a plain reading of this SQLite file."""
        check_equals(database, self.directory)


def folder_record(directory: Path, name: str) -> dict[str, Any]:
    """What the manifest has to say about a folder of label files: the files that its lists name."""
    files = {
        label.removeprefix(name): (directory / label).read_bytes()
        for label in listed_label_files(directory)
        if label.startswith(name) and (directory / label).exists()
    }
    total = sum(crc32(path.encode() + b"\0" + text) for path, text in files.items()) % 2**32
    size = sum(map(len, files.values()))
    return {"bytes": size, "digest": f"crc32-sum:{total:08x}", "rows": len(files)}


def check_parses(path: Path) -> None:
    """Check that a published file is whole, as far as it can be seen without the database."""
    if path.suffix == ".parquet":
        pyarrow.parquet.ParquetFile(path).read()
        return
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        json.loads(text)
    if path.suffix == ".jsonl":
        # A value may contain U+2028, at which `splitlines` would break.
        for line in text.split("\n")[:-1]:
            json.loads(line)
    assert not text or text.endswith("\n"), f"{path.name} ends in the middle of a line"


def _with_plain_floats(text: str) -> str:
    """The text with every number in one spelling: there are several of small ones."""
    return _FLOAT.sub(lambda match: repr(float(match[0])), text)


def check_equals(database: Path, directory: Path) -> None:
    """Check that every published file equals a plain reading of this SQLite file, and fits the manifest."""
    document = json.loads((directory / "database_export.json").read_bytes())
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        expected = expected_document(connection, document["export_info"]["timestamp"])
        assert json.dumps(document) == json.dumps(expected)
        names = json.loads((directory / "manifest.json").read_bytes())["files"].keys()
        for name in sorted(name for name in names if "/" not in name and name != "database_export.json"):
            if name.endswith(".parquet"):
                assert parquet_rows(directory / name) == expected_parquet(document, name)
                continue
            text = (directory / name).read_bytes().decode()
            if name.endswith(".csv"):
                assert _with_plain_floats(text) == _with_plain_floats(expected_csv_text(connection, name))
            else:
                lines = [json.loads(line) for line in text.split("\n") if line]
                assert json.dumps(lines) == json.dumps(expected_json_lines(connection))


def open_descriptors() -> int:
    """The number of open descriptors of this process. A failed export must not add to them."""
    gc.collect()  # a generator that the error's traceback kept alive holds one
    return len(os.listdir("/proc/self/fd"))


def everything_in(directories: Sequence[Path]) -> bytes:
    """All names and bytes under these directories, private files included."""
    paths = sorted(path for directory in directories for path in directory.rglob("*"))
    return b"\n".join(str(path).encode() + (path.read_bytes() if path.is_file() else b"") for path in paths)
