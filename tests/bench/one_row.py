"""Measures what one changed row costs beside `cp` of the files and beside a limit, and where the time goes."""

from __future__ import annotations

import json
import os
import shutil
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.changing import change
from tests.bench.results import BenchError, Table, Value, middle, ratio
from tests.bench.running import Command, answer_of, exporter, must, number_of, python, run_once
from tests.bench.scenario import Bench
from tests.bench.stations import ORDER

PUBLISHED = ("database_export.json", "images.csv", "projects.csv", "datasets.csv", "manifest.json")


@dataclass(slots=True)
class _Kind:
    """The measurements of one kind of database, in seconds by round."""

    name: str
    process: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    export: list[float] = field(default_factory=list)
    copied: list[float] = field(default_factory=list)
    copied_durably: list[float] = field(default_factory=list)
    limit: list[float] = field(default_factory=list)
    parts: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    profiled: list[float] = field(default_factory=list)


def one_row(bench: Bench) -> list[Table]:
    """Measure SQLite in both journal modes, with and without indexes, and PostgreSQL."""
    images = bench.usual
    kinds = []
    for indexed, journal in ((False, "delete"), (True, "delete"), (False, "wal"), (True, "wal")):
        with bench.databases.sqlite_copy(images, indexed=indexed, journal=journal) as path:
            name = f"SQLite, {'WAL' if journal == 'wal' else 'rollback journal'}{', indexed' if indexed else ''}"
            kinds.append(_measured(bench, name, path))
    for indexed in (False, True):
        url = bench.databases.postgres(images, indexed=indexed)
        kinds.append(_measured(bench, f"PostgreSQL{', indexed' if indexed else ''}", url))
    return [_costs(kinds, images), _parts(kinds, images)]


def _measured(bench: Bench, name: str, url: str | Path) -> _Kind:
    kind = _Kind(name)
    exports = bench.exported(url)
    for number in range(bench.rounds):
        change(url, 1, scattered=True, seed=2 * number)
        os.sync()
        run = must(run_once([exporter(str(url), exports)], bench.scratch))
        kind.process.append(run.seconds)
        kind.cpu.append(run.cpu_s)
        kind.export.append(incremental(exports))
        if isinstance(url, Path):
            files = [exports / file for file in PUBLISHED]
            _copy(bench, kind, [url, *files])
            kind.limit.append(_limit(bench, url, files))
        change(url, 1, scattered=True, seed=2 * number + 1)
        os.sync()
        answer = answer_of(python("tests.bench.stations", str(url), str(exports)), bench.scratch)
        parts = answer["parts"]
        assert isinstance(parts, dict)
        for part in ORDER:
            kind.parts[part].append(float(parts.get(part, 0.0)))
        kind.profiled.append(number_of(answer, "total_s"))
    return kind


def incremental(exports: Path) -> float:
    """The seconds that the export of this manifest took. Raises BenchError if it was a full one."""
    manifest = json.loads((exports / "manifest.json").read_text())
    if manifest["mode"] != "incremental":
        raise BenchError(f"a change made a {manifest['mode']} export")
    return number_of(manifest, "duration_seconds")


def _copy(bench: Bench, kind: _Kind, files: list[Path]) -> None:
    """Measure `cp` alone, and `cp` with a sync of the copies, as the exporter syncs what it publishes."""
    for seconds, durable in ((kind.copied, False), (kind.copied_durably, True)):
        target = bench.fresh("copied")
        os.sync()
        commands = [Command(["cp", *map(str, files), str(target)])]
        if durable:
            commands.append(Command(["sync", *(str(target / file.name) for file in files)]))
        seconds.append(must(run_once(commands, bench.scratch)).seconds)
    bench.fresh("copied")


def _limit(bench: Bench, database: Path, files: list[Path]) -> float:
    """The seconds of a process that loads the packages, copies the database and replaces copies of the files."""
    directory = bench.fresh("limit")
    for file in files:
        shutil.copyfile(file, directory / file.name)
    os.sync()
    command = python("tests.bench.peer_one_row", str(database), str(directory))
    seconds = must(run_once([Command(command)], bench.scratch)).seconds
    bench.fresh("limit")
    return seconds


def _costs(kinds: list[_Kind], images: int) -> Table:
    table = Table("one-row", f"One changed row of {images:,} images")
    for kind in kinds:
        row: dict[str, Value] = {"database": kind.name, "process_s": middle(kind.process)}
        row["cpu_s"] = middle(kind.cpu)
        row |= {
            "export_s": middle(kind.export),
            "cp_s": middle(kind.copied),
            "cp_and_sync_s": middle(kind.copied_durably),
            "limit_s": middle(kind.limit),
        }
        row |= {"process_ratio": ratio(kind.process, kind.copied), "export_ratio": ratio(kind.export, kind.copied)}
        row |= {"limit_ratio": ratio(kind.process, kind.limit)}
        table.rows.append(row)
    table.notes += [
        "process: `python -m autoexport`, start included; cpu: the processor time of the same run",
        "export: the same run by its manifest, which is what a daemon needs",
        "cp: of the database and of all published files; two ratios are over cp without sync",
        "limit: a process that loads the same packages, copies the database and replaces the files by copies",
    ]
    return table


def _parts(kinds: list[_Kind], images: int) -> Table:
    table = Table("one-row-parts", f"One changed row of {images:,} images: where the time goes")
    for part in ORDER:
        values = {f"{kind.name} (s)": middle(kind.parts[part]) or None for kind in kinds}
        if any(values.values()):
            table.rows.append({"part": part, **values})
    whole = {f"{kind.name} (s)": middle(kind.profiled) for kind in kinds}
    table.rows.append({"part": "the whole export", **whole})
    table.notes.append("a part does not include those within it: hash in walk, fsync in splice, rename, ledger")
    return table
