"""Measures each output alone, all of them together, and one changed row with all on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from autoexport.formats import outputs as registered
from tests.bench.changing import change
from tests.bench.memory import peak_mb
from tests.bench.peers import duckdb
from tests.bench.results import Table, middle, ratio
from tests.bench.running import Command, Contender, Score, exporter, must, python, race, run_once
from tests.bench.scenario import Bench

ALL, DEFAULT = "all outputs", "default outputs"
PEERS = {
    "pyarrow, everything in memory": ("tests.bench.peer_parquet", "parquet"),
    "json.dump of a COCO dictionary": ("tests.bench.peer_coco", "coco"),
}
"""The program of each peer, and the output of ours that it makes."""

DUCKDB = {"DuckDB, JSON and images.csv": ("tree", DEFAULT), "DuckDB, Parquet": ("parquet", "parquet")}
"""The files that DuckDB makes, and the output of ours beside which they stand."""


def outputs(bench: Bench) -> list[Table]:
    """Measure full exports, and exports of one changed row, from SQLite without indexes."""
    url = bench.databases.sqlite(bench.usual)
    switches = {output.switch.name: bool(output.switch.default) for output in registered()}
    chosen = {DEFAULT: switches, ALL: dict.fromkeys(switches, True)}
    for name in switches:
        chosen[name.removeprefix("export_")] = {other: other == name for other in switches}
    configurations = {name: _configuration(bench, on) for name, on in chosen.items()}
    contenders = [_ours(name, str(url), file) for name, file in configurations.items()]
    contenders += [_peer_of(name, url) for name in PEERS]
    contenders += [replace(duckdb(url, bench.duckdb, what), name=name) for name, (what, _) in DUCKDB.items()]
    scores = race(contenders, bench.rounds, bench.scratch)
    return [_full(bench, scores), _one_row(bench, configurations[ALL])]


def _configuration(bench: Bench, on: dict[str, bool]) -> Path:
    directory = bench.scratch / "configurations"
    directory.mkdir(exist_ok=True)
    file = directory / f"{len(list(directory.iterdir()))}.toml"
    file.write_text("".join(f"{name} = {str(value).lower()}\n" for name, value in on.items()))
    return file


def _ours(name: str, url: str, configuration: Path) -> Contender:
    return Contender(name, lambda out: [exporter(url, out, "--full", "--config", str(configuration))])


def _peer_of(name: str, url: Path) -> Contender:
    return Contender(name, lambda out: [_peer(name, url, out)])


def _peer(name: str, url: Path, out: Path) -> Command:
    return Command(python(PEERS[name][0], str(url), str(out)))


def _full(bench: Bench, scores: list[Score]) -> Table:
    table = Table("outputs", f"Each output, {bench.usual:,} images")
    ours = {score.contender.name: score for score in scores}
    beside = {name: own for name, (_, own) in (PEERS | DUCKDB).items()}
    for score in scores:
        name = score.contender.name
        if score.failure:
            table.rows.append({"output": name, "remark": score.failure})
            continue
        (command,) = score.contender.commands(bench.fresh("peak"))
        own = ours[beside[name]] if name in beside else None
        table.rows.append(
            {
                "output": name,
                "median_s": middle(score.seconds()),
                "cpu_s": middle(score.cpu_s()),
                "memory_mb": peak_mb(command, bench.scratch),
                "size_mb": score.runs[-1].output_bytes / 1e6,
                "our ratio": ratio(own.seconds(), score.seconds()) if own else None,
                "our CPU ratio": ratio(own.cpu_s(), score.cpu_s()) if own else None,
            }
        )
    bench.fresh("peak")
    table.notes.append("our ratio: the time of our output over that of the peer, the median of the rounds' ratios")
    table.notes.append(
        f"DuckDB's JSON stands beside our {DEFAULT}; it makes no projects.csv, no datasets.csv, no page"
    )
    table.notes.append("memory: all processes together (PSS); the other columns: process start included")
    return table


def _one_row(bench: Bench, configuration: Path) -> Table:
    table = Table("outputs-one-row", f"One changed row with all outputs on, {bench.usual:,} images")
    flags = ("--config", str(configuration))
    with bench.databases.sqlite_copy(bench.usual) as path:
        exports = bench.fresh("exports")
        full = must(run_once([exporter(str(path), exports, "--full", *flags)], bench.scratch)).seconds
        runs = []
        for seed in range(bench.rounds):
            change(path, 1, scattered=True, seed=seed)
            runs.append(must(run_once([exporter(str(path), exports, *flags)], bench.scratch)))
        change(path, 1, scattered=True, seed=bench.rounds)
        peak = peak_mb(exporter(str(path), exports, *flags), bench.scratch)
    seconds = [run.seconds for run in runs]
    share = ratio(seconds, [full] * len(seconds))
    cpu_s = middle([run.cpu_s for run in runs])
    table.rows.append(
        {"full_s": full, "one row_s": middle(seconds), "cpu_s": cpu_s, "memory_mb": peak, "ratio": share}
    )
    return table
