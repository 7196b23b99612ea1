"""Limit of one changed row: loads the same packages, copies the database and replaces the files by copies.

python -m tests.bench.peer_one_row DATABASE DIRECTORY

It reads no row, finds nothing out and renders nothing. The files are made as durable as those of the exporter.
"""

from __future__ import annotations

import gc
import importlib
import os
import shutil
import sys
from pathlib import Path

from autoexport.runtime.files import create_new, made_durable
from autoexport.runtime.tuning import load_without_rich

PACKAGES = (
    "click", "orjson", "pydantic_settings", "aiofiles", "xxhash", "sqlalchemy.ext.asyncio",
    "sqlalchemy.dialects.sqlite.aiosqlite",
)  # fmt: skip


def main() -> None:
    """Do what no exporter of these packages can do without."""
    load_without_rich()
    gc.disable()
    for name in PACKAGES:
        importlib.import_module(name)
    database, directory = map(Path, sys.argv[1:])
    temp = directory / "temp"
    shutil.copyfile(database, temp)
    temp.unlink()
    for published in sorted(directory.iterdir()):
        _copy(published, temp)
        os.replace(temp, published)


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as reading:
        descriptor = create_new(target, 0o644)
        left = os.fstat(reading.fileno()).st_size
        with made_durable(descriptor, left):
            while left:
                left -= os.copy_file_range(reading.fileno(), descriptor, min(left, 16 << 20))
        os.close(descriptor)


if __name__ == "__main__":
    main()
