"""Defines the contenders of a full export: this exporter, its alternatives, and lower limits."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Sequence
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
