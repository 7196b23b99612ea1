"""A second exporter as a process: `python -m tests.object_store_writer URL WORKING_DIRECTORY DATABASE`.

Orders are lines on standard input. `race NAME` renames the first project of its own database, looks at the store,
answers `looked`, and publishes after the order `go`. The answer is `won`, or `lost` if another one was first.
"""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Self

from autoexport import Settings
from autoexport.errors import LostRace
from autoexport.pipeline import exporter
from autoexport.publishing.object_store.delivery import Delivery
from tests.conftest import REPOSITORY, program_environment
from tests.object_stores import Bucket


class Writer:
    """Such a process."""

    def __init__(self, bucket: Bucket, working: Path, database: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.object_store_writer", bucket.url(), str(working), str(database)],
            cwd=REPOSITORY, env=program_environment(bucket.variables), stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True,
        )  # fmt: skip

    def send(self, order: str) -> None:
        """Send an order."""
        assert self._process.stdin is not None
        self._process.stdin.write(order + "\n")
        self._process.stdin.flush()

    def answer(self) -> str:
        """Wait for an answer."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()


def _say(word: str) -> None:
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


def _look_and_wait(look: object) -> object:
    async def looking(delivery: Delivery) -> None:
        await look(delivery)  # type: ignore[operator]
        _say("looked")
        assert sys.stdin.readline() == "go\n"

    return looking


def main() -> None:
    """Carry out orders until there are no more."""
    url, working, database = sys.argv[1:]
    exporter.MOST_RACES = 1
    Delivery.look = _look_and_wait(Delivery.look)  # type: ignore[method-assign, assignment]
    settings = Settings(
        database_url=database, export_directory=url, working_directory=working, log_level="warning",
        export_page=False, object_grace=3600,
    )  # type: ignore[arg-type]  # fmt: skip
    for order in sys.stdin:
        with closing(sqlite3.connect(database)) as connection, connection:
            name = order.partition(" ")[2].strip()
            connection.execute("UPDATE projects SET name = ? WHERE id = (SELECT min(id) FROM projects)", (name,))
        try:
            asyncio.run(exporter.run_once(settings))
        except LostRace:
            _say("lost")
        else:
            _say("won")


if __name__ == "__main__":
    main()
