"""Defines the contenders of a full export: this exporter, its alternatives, and lower limits."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path

from tests.bench.peer_queries import (
    postgres_images_csv,
    postgres_tree,
    rows_of_annotations,
    rows_of_images,
    sqlite_images_csv,
    sqlite_tree,
)
from tests.bench.running import Command, Contender, exporter, python

LARGEST_ONE_VALUE = 300_000
"""The number of images whose tree is safely below SQLite's 1 GB for one value."""

LOADED_BYTES_PER_IMAGE = 9_000
"""The approximate size of an image and its annotations as dictionaries."""


def _absent(program: str) -> str | None:
    return None if shutil.which(program) else f"absent: {program} is not installed"


def _too_much_memory(images: int) -> str | None:
    needed = images * LOADED_BYTES_PER_IMAGE
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return f"not run: needs about {needed / 1e9:.0f} GB of memory" if needed > available * 0.7 else None


def ours(name: str, url: str | Path, *flags: str) -> Contender:
    """A full export by this exporter, process start included."""
    return Contender(name, lambda out: [exporter(str(url), out, "--full", *flags)])


def ours_by(interpreters: Sequence[str], url: str | Path) -> list[Contender]:
    """The same by other interpreters."""

    def commands(interpreter: str, out: Path) -> Sequence[Command]:
        own = exporter(str(url), out, "--full")
        return [Command([interpreter, *own.arguments[1:]])]

    return [Contender(f"autoexport, {interpreter_of(name)}", partial(commands, name)) for name in interpreters]


@cache
def interpreter_of(interpreter: str) -> str:
    """The version of a Python and how it was built: slow ones cost this exporter more than others."""
    asked = (
        "import platform as p, sysconfig as s; print(p.python_version(), s.get_config_var('CONFIG_ARGS') or '')"
    )
    done = subprocess.run([interpreter, "-c", asked], capture_output=True, text=True, check=True)
    version, _, arguments = done.stdout.strip().partition(" ")
    return f"Python {version} {build_of(arguments)}"


def build_of(arguments: str) -> str:
    """How an interpreter was built, by the arguments of its `configure`.

    Debian's is optimised by later steps, of which the arguments say nothing (debian/rules: profile-opt).
    """
    known = {"--enable-optimizations": "PGO", "--with-lto": "LTO", "--with-pydebug": "debug checks"}
    words = [word.strip("'").partition("=")[0] for word in arguments.split()]
    found = [name for flag, name in known.items() if flag in words]
    if not found and "--prefix=/usr" in arguments.replace("'", "").split():
        return "of the distribution"
    return f"with {' and '.join(found)}" if found else "without PGO"


# --- DuckDB --------------------------------------------------------------------------------------


def version_of(command: Sequence[str]) -> str:
    """The first word that a program prints about its version; empty if there is no such program."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.split(maxsplit=1)[0] if done.stdout.strip() else ""


@cache
def duckdb_version(interpreter: str) -> str:
    """The version of DuckDB that an interpreter has with its extensions; empty if it has none."""
    return version_of([interpreter, "-c", "import duckdb, duckdb_ext; print(duckdb.__version__)"])


def duckdb(url: str | Path, interpreter: str, what: str = "tree") -> Contender:
    """DuckDB: the same tree and images.csv, or the two Parquet files, on all processors."""

    def commands(out: Path) -> Sequence[Command]:
        return [Command([interpreter, "-m", "tests.bench.peer_duckdb", what, str(url), str(out)])]

    version = duckdb_version(interpreter)
    missing = None if version else "absent: give --duckdb an interpreter with the packages of the extra bench"
    return Contender(f"DuckDB {version}".strip(), commands, missing)


# --- SQLite --------------------------------------------------------------------------------------


def sqlite_shell(indexed: Path, images: int) -> Contender:
    """The SQLite shell: JSON and images.csv by two statements of one process."""

    def commands(out: Path) -> Sequence[Command]:
        script = out / "peer.sql"
        script.write_text(
            f".mode list\n.headers off\n.output {out}/database_export.json\n"
            f"{sqlite_tree(one_value=images <= LARGEST_ONE_VALUE)};\n"
            f".mode csv\n.headers on\n.output {out}/images.csv\n{sqlite_images_csv()};\n"
        )
        return [Command(["sqlite3", "-batch", "-bail", str(indexed), f".read {script}"])]

    return Contender("sqlite3 shell, indexed copy", commands, _absent("sqlite3"))


def sqlite_utils(plain: Path) -> Contender:
    """The nearest that sqlite-utils can do: the rows of the tables, not nested in each other."""

    def commands(out: Path) -> Sequence[Command]:
        rows = python("sqlite_utils", "query", str(plain))
        return [
            Command([*rows, rows_of_images(ordered=False)], out / "images.json"),
            Command([*rows, rows_of_annotations(ordered=False)], out / "annotations.json"),
            Command([*rows, rows_of_images(ordered=False), "--csv"], out / "images.csv"),
        ]

    missing = importlib.util.find_spec("sqlite_utils") is None
    return Contender("sqlite-utils, flat rows", commands, "absent: not installed" if missing else None)


def load_all(name: str, url: str | Path, images: int) -> Contender:
    """Load everything into dictionaries, then use json.dump and csv.writer."""
    return Contender(
        name,
        lambda out: [Command(python("tests.bench.peer_exporter", "load-all", str(url), str(out)))],
        _too_much_memory(images),
    )


def read_rows(name: str, url: str | Path) -> Contender:
    """Limit: fetch the rows, in order, and do nothing else."""
    return Contender(name, lambda out: [Command(python("tests.bench.peer_exporter", "read", str(url)))])


def copy_files(name: str, files: Sequence[Path]) -> Contender:
    """Limit: `cp` of files, in one process."""
    return Contender(name, lambda out: [Command(["cp", *map(str, files), str(out)])])


# --- PostgreSQL ----------------------------------------------------------------------------------


def psql_tree(url: str) -> Contender:
    r"""psql's \copy of json_agg, one line a project, and of images.csv.

    COPY's text format doubles backslashes, so these lines are not always valid JSON: a peer's own problem.
    """

    def commands(out: Path) -> Sequence[Command]:
        tree = f"\\copy ({postgres_tree()}) TO '{out}/database_export.json'"
        table = f"\\copy ({postgres_images_csv()}) TO '{out}/images.csv' WITH (FORMAT csv, HEADER)"
        return [Command(["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", url, "-c", tree, "-c", table])]

    return Contender("psql \\copy with json_agg", commands, _absent("psql"))


def copy_rows(name: str, url: str, *, ordered: bool) -> Contender:
    """Limit: COPY (SELECT …) TO STDOUT of the same columns, received and discarded.

    It uses psql, or the driver if there is no psql.
    """
    statements = [rows_of_images(ordered=ordered), rows_of_annotations(ordered=ordered)]
    if not shutil.which("psql"):
        what = "copy-ordered" if ordered else "copy"
        return Contender(name, lambda out: [Command(python("tests.bench.peer_exporter", what, url))])
    copies = [part for sql in statements for part in ("-c", f"COPY ({sql}) TO STDOUT")]
    return Contender(name, lambda out: [Command(["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", url, *copies])])
