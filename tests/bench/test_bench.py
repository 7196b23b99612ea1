"""The bench's arithmetic and tables are right, and every step that it measures exists."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.bench.changing import change
from tests.bench.peers import build_of, duckdb, interpreter_of
from tests.bench.rendering import as_text
from tests.bench.results import Table, percentile, ratio
from tests.bench.running import Command, answer_of, number_of, python, run_once
from tests.databases import SqliteDatabase


def test_a_percentile_is_a_value_that_was_measured() -> None:
    """It is the smallest value that at least this share of the values does not exceed."""
    values = [float(number) for number in range(100, 0, -1)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile(values, 1.0)) == (50.0, 99.0, 100.0)
    assert percentile([], 0.5) is None


def test_a_ratio_pairs_the_rounds() -> None:
    """A round in which both sides took ten times as long does not change the ratio."""
    assert ratio([1.0, 10.0, 1.0], [2.0, 20.0, 2.0]) == 0.5
    assert ratio([1.0], []) is None


def test_a_table_says_its_units() -> None:
    """Headings carry the unit, figures have its digits, and unmeasured cells are empty."""
    table = Table(
        "t", "Title", [{"who": "us", "median_s": 1.5, "memory_mb": 83.4}, {"who": "x", "remark": "absent"}]
    )
    lines = as_text(table).splitlines()
    assert [cell.strip() for cell in lines[2].split("|")[1:-1]] == ["who", "median (s)", "memory (MB)", "remark"]
    assert [cell.strip() for cell in lines[4].split("|")[1:-1]] == ["us", "1.500", "83", ""]
    assert [cell.strip() for cell in lines[5].split("|")[1:-1]] == ["x", "", "", "absent"]


@pytest.mark.parametrize(
    ("arguments", "build"),
    [
        ("'--prefix=/usr' '--enable-optimizations' '--with-lto' 'CFLAGS=-O2 -g'", "with PGO and LTO"),
        ("'--enable-optimizations' '--with-lto=full'", "with PGO and LTO"),
        ("'--enable-shared' '--prefix=/usr' '--enable-ipv6'", "of the distribution"),
        ("'--prefix=/home/x' '--enable-shared'", "without PGO"),
        ("", "without PGO"),
    ],
)
def test_the_build_of_an_interpreter_is_named(arguments: str, build: str) -> None:
    """As `CONFIG_ARGS` of sysconfig has it."""
    assert build_of(arguments) == build
    assert interpreter_of(sys.executable).startswith(f"Python {sys.version_info[0]}.{sys.version_info[1]}.")


def test_a_peer_that_is_absent_says_so(tmp_path: Path) -> None:
    """It takes no part, and the row says how to get it."""
    contender = duckdb(tmp_path / "app.db", "/bin/false")
    assert contender.name == "DuckDB"
    assert "--duckdb" in (contender.absent or "")


def test_the_memory_of_a_small_program_is_not_that_of_its_large_parent(tmp_path: Path) -> None:
    """A child of this process would seem as large as it is (`ru_maxrss`)."""
    held = bytearray(b"x") * 200_000_000
    run = run_once([Command(["true"])], tmp_path)
    assert run.failure is None
    assert run.memory_mb < 50 < len(held) / 1e6


def test_a_failure_is_told_in_the_words_of_the_program(tmp_path: Path) -> None:
    """A failure gives the program's last line of output and its exit code."""
    run = run_once([Command(["sh", "-c", "echo no such thing >&2; exit 3"])], tmp_path)
    assert run.failure == "failed (3): no such thing"


@pytest.mark.parametrize("full", [True, False])
def test_every_station_of_sqlite_is_measured(sqlite_database: SqliteDatabase, tmp_path: Path, full: bool) -> None:
    """The stopwatches find their functions by name: one that was renamed must not go unmeasured."""
    arguments = python("tests.bench.stations", str(sqlite_database.path), str(tmp_path / "exports"))
    answer = answer_of([*arguments, "--full"], tmp_path)
    wanted = {
        "copy",
        "hash",
        "walk",
        "query",
        "render",
        "format",
        "lay out",
        "splice",
        "fsync",
        "rename",
        "ledger",
    }
    if not full:
        change(sqlite_database.path, 1, scattered=True, seed=1)
        answer = answer_of(arguments, tmp_path)
        wanted.add("compare")
    parts = answer["parts"]
    assert isinstance(parts, dict)
    assert answer["published"]
    assert {part for part in wanted if number_of(parts, part) > 0} == wanted
