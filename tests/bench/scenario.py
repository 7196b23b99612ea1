"""Defines what a scenario needs: the sizes, the rounds, the databases and a working directory."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.bench.databases import Databases
from tests.bench.results import Table
from tests.bench.running import exporter, must, run_once

USUAL_IMAGES = 200_000


@dataclass(frozen=True, slots=True)
class Bench:
    """The parameters of all scenarios.

    `seconds` is the length of each impact measurement. `duckdb` is the Python that has DuckDB with its extensions.
    `other_pythons` have this exporter's dependencies and are measured beside this one.
    """

    sizes: tuple[int, ...]
    rounds: int
    seconds: float
    databases: Databases
    scratch: Path
    duckdb: str = sys.executable
    other_pythons: tuple[str, ...] = ()

    @property
    def usual(self) -> int:
        """The size for all scenarios that do not compare sizes."""
        return min(self.sizes, key=lambda images: abs(images - USUAL_IMAGES))

    def fresh(self, name: str) -> Path:
        """An empty directory."""
        directory = self.scratch / name
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        return directory

    def exported(self, url: str | Path, name: str = "exports") -> Path:
        """A directory with a full export of a database by this exporter. Raises BenchError."""
        directory = self.fresh(name)
        must(run_once([exporter(str(url), directory, "--full")], self.scratch))
        return directory


Scenario = Callable[[Bench], list[Table]]
