"""Measures this exporter, its alternatives and the lower limits on the same rows in one run.

python -m tests.bench                                   everything, at 20,000, 200,000 and 1,000,000 images
python -m tests.bench --images 200000 --only full-sqlite --only one-row
python -m tests.bench --json results.json --directory /var/tmp/bench    keeps the databases for the next run
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.by_size import by_size
from tests.bench.change_size import by_change, by_database
from tests.bench.databases import Databases
from tests.bench.documents import documents
from tests.bench.freshness import freshness
from tests.bench.full_export import full_postgres, full_sqlite
from tests.bench.impact import impact_postgres, impact_sqlite
from tests.bench.loop_lag import loop_lag
from tests.bench.many_parents import many_parents
from tests.bench.memory import memory
from tests.bench.one_row import one_row
from tests.bench.outputs import outputs
from tests.bench.peers import duckdb_version, interpreter_of, version_of
from tests.bench.profile_full import profile
from tests.bench.read_lock import read_lock
from tests.bench.rendering import as_json, as_text
from tests.bench.results import BenchError, Table, Value
from tests.bench.scenario import Bench, Scenario

SCENARIOS: dict[str, Scenario] = {
    "full-sqlite": full_sqlite,
    "full-postgres": full_postgres,
    "one-row": one_row,
    "change-size": by_change,
    "database-size": by_database,
    "by-size": by_size,
    "memory": memory,
    "many-parents": many_parents,
    "documents": documents,
    "outputs": outputs,
    "impact-sqlite": impact_sqlite,
    "impact-postgres": impact_postgres,
    "freshness": freshness,
    "read-lock": read_lock,
    "loop-lag": loop_lag,
    "profile": profile,
}
SIZES = (20_000, 200_000, 1_000_000)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--images", type=int, nargs="+", default=SIZES, help="sizes; the one next to 200,000 is usual"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each impact measurement")
    parser.add_argument("--only", action="append", choices=SCENARIOS, metavar="NAME", help=", ".join(SCENARIOS))
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write everything there as well; - is standard output"
    )
    parser.add_argument(
        "--duckdb",
        default=sys.executable,
        metavar="PYTHON",
        help="interpreter with the packages of the extra bench",
    )
    parser.add_argument(
        "--other-python",
        action="append",
        default=[],
        metavar="PYTHON",
        help="interpreter to measure full exports with as well",
    )
    parser.add_argument("--directory", type=Path, help="working directory; SQLite databases in it are used again")
    return parser.parse_args()


def main() -> int:
    """Run the command line. Returns 1 if a scenario could not be measured."""
    given = _arguments()
    to_stdout = given.json == Path("-")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # daemons and servers end with us
    machine = _machine(given.duckdb)
    _say(", ".join(f"{name}: {value}" for name, value in machine.items()))
    own = tempfile.mkdtemp(prefix="autoexport-bench-") if given.directory is None else None
    directory = Path(own or given.directory).absolute()
    tables: list[Table] = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix="scratch-", dir=directory))
        _keep_bytecode(directory / "bytecode")
        databases = Databases(directory)
        try:
            bench = Bench(
                tuple(sorted(given.images)),
                given.rounds,
                given.seconds,
                databases,
                scratch,
                given.duckdb,
                tuple(given.other_python),
            )
            for name in given.only or SCENARIOS:
                for table in _measured(name, bench):
                    tables.append(table)
                    print(as_text(table), file=sys.stderr if to_stdout else sys.stdout, flush=True)
                    if given.json is not None and not to_stdout:
                        given.json.write_text(as_json(machine, tables) + "\n")
        finally:
            databases.close()
            shutil.rmtree(scratch, ignore_errors=True)
    finally:
        if own is not None:
            shutil.rmtree(own, ignore_errors=True)
    if to_stdout:
        print(as_json(machine, tables))
    return int(any(not table.rows for table in tables))


def _measured(name: str, bench: Bench) -> list[Table]:
    """The tables of a scenario.

    If it fails, one table says so, and the other scenarios are still measured.
    """
    began = time.monotonic()
    _say(f"{name} …")
    try:
        return SCENARIOS[name](bench)
    except (BenchError, OSError, AssertionError, subprocess.SubprocessError, sqlite3.Error) as exc:
        return [Table(name, name, notes=[f"could not be measured: {exc or type(exc).__name__}"])]
    finally:
        _say(f"{name}: {time.monotonic() - began:.0f} s")


def _keep_bytecode(directory: Path) -> None:
    """Let every process find compiled modules, as an installed program does, outside of this tree."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(directory)


def _machine(duckdb: str) -> dict[str, Value]:
    """The facts about the machine and the programs that the figures depend on."""
    about = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = next((line.split(":")[1].strip() for line in about.splitlines() if line.startswith("model name")), "")
    load = os.getloadavg()[0]
    return {
        "processors": os.cpu_count(),
        "processor": model,
        "memory_gb": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9,
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", "") if _has_os_release() else "",
        "python": interpreter_of(sys.executable),
        "sqlite": sqlite3.sqlite_version,
        "sqlite3 shell": version_of(["sqlite3", "--version"]),
        "duckdb": duckdb_version(duckdb) or "absent",
        "load": f"{load:.1f}" + (", NOT quiet" if load > 0.5 else ""),
    }


def _has_os_release() -> bool:
    return any(Path(name).exists() for name in ("/etc/os-release", "/usr/lib/os-release"))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
