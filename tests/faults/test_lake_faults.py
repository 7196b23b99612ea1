"""Killed, refused or damaged: each table of the lake has a whole generation, and the next export repairs it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Barrier

import polars
import pytest
from deltalake import DeltaTable, write_deltalake

from autoexport.errors import ConfigurationError, PublishError
from autoexport.publishing.lake import process
from autoexport.publishing.lake.requests import Facts, Lake
from autoexport.publishing.lake.table import LakeConflict, LakeTable
from tests.conftest import run_autoexport
from tests.deadlines import deadline_s
from tests.lakes import (
    CHANGES,
    TABLES,
    data_files,
    execute,
    expected_rows,
    generations,
    lake_trial,
    rows_now,
    small_database,
)
from tests.trials import Trial


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Some images with annotations."""
    return small_database(tmp_path, monkeypatch)


@pytest.fixture
def trial(database: Path, tmp_path: Path) -> Trial:
    """An exporter with a lake of small data files."""
    return lake_trial(database, tmp_path / "exports", tmp_path / "lake")


DYING = """
import sys; sys.path[:] = sys.argv[1:]
import os
from autoexport.publishing.lake import table, worker
calls = 0
def dying(method):
    def die(*arguments):
        global calls
        calls += 1
        if calls == {call} and not {after}: os.kill(os.getpid(), 9)
        result = method(*arguments)
        if calls == {call}: os.kill(os.getpid(), 9)
        return result
    return die
for name in ("write", "commit", "clean"):
    setattr(table.LakeTable, name, dying(getattr(table.LakeTable, name)))
worker.main()
"""
"""A worker process that is killed before or after one of its calls."""


def was_killed(trial: Trial) -> bool:
    """Whether the worker process of an export is killed."""
    try:
        trial.export()
    except PublishError as error:
        return "ended early, with exit code -9" in str(error)
    return False


@pytest.mark.timeout(300)
def test_a_kill_at_any_step_is_repaired(database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each table has the rows of the old generation or of the new one, and the next export brings both to it."""
    lake = tmp_path / "lake"
    trial = lake_trial(database, tmp_path / "exports", lake, lake_keep_hours=0)
    trial.export()
    call, survived = 0, False
    while not survived:
        call += 1
        for after in (False, True):
            old = {name: expected_rows(trial, name) for name in TABLES}
            execute(database, "UPDATE annotations SET confidence = ? WHERE rowid = 400", call + after / 2)
            execute(database, "UPDATE images SET width = ? WHERE rowid = 1", call * 2 + after)
            with monkeypatch.context() as patch:
                patch.setattr(process, "CODE", DYING.format(call=call, after=after))
                survived = not was_killed(trial)
            for name in TABLES:
                assert rows_now(lake, name) in (old[name], expected_rows(trial, name))
            trial.export()
            for name in TABLES:
                assert rows_now(lake, name) == expected_rows(trial, name)
    assert not trial.differences()
    assert call == 7
    execute(database, CHANGES[0])
    trial.export()
    for name in TABLES:
        assert {path.name for path in (lake / name).glob("*.parquet")} == data_files(lake, name), (
            "all others are gone"
        )


def test_the_process_ends_with_its_parent() -> None:
    """As soon as its input ends, so does a worker process that is busy."""
    program = (
        "import sys; sys.path[:] = sys.argv[1:]\n"
        "import threading\n"
        "from autoexport.publishing.lake import work, worker\n"
        "def busy(request, report):\n"
        "    print('busy', flush=True)\n"
        "    threading.Event().wait()\n"
        "work.work = busy\n"
        "worker.main()\n"
    )
    request = process.Request("probe", Lake("/nowhere", 1, 0), Facts(0, "", "", {}), [])
    with subprocess.Popen(
        [sys.executable, "-I", "-c", program, *sys.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as busy:
        assert busy.stdin is not None
        assert busy.stdout is not None
        busy.stdin.write(request.encoded())
        busy.stdin.flush()
        assert busy.stdout.readline() == b"busy\n"
        busy.stdin.close()
        assert busy.wait(deadline_s(20)) == 0


@pytest.mark.parametrize("program", ["raise SystemExit(3)", "print('no answer')", "print('{}')", "print('[1]')"])
def test_a_process_that_ends_early_is_an_error(
    trial: Trial, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    """The files are published, the error says what to look at, and the next export brings the lake up to date."""
    with monkeypatch.context() as patch:
        patch.setattr(process, "CODE", program)
        with pytest.raises(PublishError, match="ended early") as raised:
            trial.export()
    assert "short of memory" in raised.value.hint
    assert (trial.directory / "manifest.json").exists()
    assert trial.export().published
    assert not trial.differences()


# --- other writers -----------------------------------------------------------------------------------


def test_the_second_of_two_writers_is_refused(database: Path, trial: Trial, tmp_path: Path) -> None:
    """Delta refuses the second commit, also if both only add files, and if both make the table."""
    lake, columns = Lake(str(tmp_path / "lake"), 1, 3_600), {"a": "utf8"}
    facts = Facts(1, "2024-01-01T00:00:00Z", "application", {})
    for number in range(3):
        first, second = (LakeTable(lake, "images", columns) for _ in range(2))
        for table in (first, second):
            table.open("application")
        first.commit([(f"{number}-first.parquet", 1, "{}")], [*first.files], facts)
        with pytest.raises(LakeConflict):
            second.commit([(f"{number}-second.parquet", 1, "{}")], [*second.files], facts)
        assert data_files(tmp_path / "lake", "images") == {f"{number}-first.parquet"}


def test_two_that_create_a_table_at_once_commit_one_after_the_other(tmp_path: Path) -> None:
    """In twenty tries, no table has the data files of both."""
    started, barrier = Facts(1, "2024-01-01T00:00:00Z", "application", {}), Barrier(2)

    def create(folder: Path, name: str) -> bool:
        table = LakeTable(Lake(str(folder), 1, 3_600), "images", {"a": "utf8"})
        table.open("application")
        barrier.wait()
        with suppress(LakeConflict):
            table.commit([(name, 1, "{}")], [], started)
            return True
        return False

    with ThreadPoolExecutor(2) as pool:
        for number in range(20):
            folder = tmp_path / str(number)
            won = [*pool.map(create, (folder, folder), ("one.parquet", "two.parquet"))]
            assert sum(won) == 1
            assert data_files(folder, "images") == {"one.parquet" if won[0] else "two.parquet"}


def test_two_exporters_of_one_lake_leave_whole_generations(database: Path, tmp_path: Path) -> None:
    """Whichever exports last, the tables have its rows, each once."""
    trials = [lake_trial(database, tmp_path / name, tmp_path / "lake") for name in ("one", "two")]
    for number in range(6):
        execute(database, "UPDATE annotations SET confidence = ? WHERE rowid % 40 = 0", number)
        trials[number % 2].export()
        for name in TABLES:
            assert rows_now(tmp_path / "lake", name) == expected_rows(trials[number % 2], name)


def test_the_lake_of_another_database_is_refused(trial: Trial, tmp_path: Path) -> None:
    """So is one with a table of another program; neither is touched."""
    trial.export()
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / "database.sqlite3"
    shutil.copy(tmp_path / "application.sqlite3", other)
    versions = [DeltaTable(tmp_path / "lake" / name).version() for name in TABLES]
    with pytest.raises(ConfigurationError, match=r"holds the rows of another database \(application.sqlite3\)"):
        lake_trial(other, tmp_path / "others", tmp_path / "lake").export()
    assert versions == [DeltaTable(tmp_path / "lake" / name).version() for name in TABLES]
    foreign = tmp_path / "foreign"
    write_deltalake(foreign / "images", polars.DataFrame({"a": [1]}))
    with pytest.raises(ConfigurationError, match="a table that autoexport did not write"):
        lake_trial(other, tmp_path / "more", foreign).export()
    assert DeltaTable(foreign / "images").version() == 0


# --- damage ------------------------------------------------------------------------------------------


def test_verify_finds_damage(trial: Trial, tmp_path: Path) -> None:
    """A changed byte, a missing data file, a missing table and a table that lags behind are each named."""
    trial.export()
    lake = tmp_path / "lake"
    assert not trial.differences()
    path = lake / "annotations" / min(data_files(lake, "annotations"))
    whole = path.read_bytes()
    for damaged in (whole[:100] + b"\0" + whole[101:], whole[:-1], whole + b"\0"):
        path.write_bytes(damaged)
        assert trial.differences() == [f"lake, table annotations: {path.name} does not have the bytes of its rows"]
    path.unlink()
    assert trial.differences() == [f"lake, table annotations: {path.name} does not have the bytes of its rows"]
    path.write_bytes(whole)
    table = DeltaTable(lake / "images")
    table.delete()
    assert "data files with 150 rows are missing, 0 are too many" in trial.differences()[0]
    table.restore(1)
    shutil.rmtree(lake / "images")
    assert trial.differences() == ["lake, table images: it is missing"]
    assert trial.export().published
    assert not trial.differences()


def test_an_unwritable_lake_is_one_line(trial: Trial, tmp_path: Path) -> None:
    """The files are published; `check` says it before, and leaves nothing behind."""
    blocked = tmp_path / "blocked"
    blocked.write_text("a file")
    arguments = ("--database-url", str(tmp_path / "application.sqlite3"), "--lake", str(blocked / "lake"))
    checked = run_autoexport("check", *arguments, cwd=tmp_path)
    assert checked.exit_code == 0
    assert checked.stdout.startswith("Blocked, ")
    assert "a part of the path is a file. Choose another --lake" in " ".join(checked.stdout.split())
    done = run_autoexport(*arguments, "--export-dir", "out", cwd=tmp_path)
    assert done.exit_code == 1
    assert "a part of the path is a file" in done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads((tmp_path / "out" / "manifest.json").read_bytes())["generation"] == 1
    fine = run_autoexport("check", *arguments[:3], str(tmp_path / "new" / "lake"), cwd=tmp_path)
    assert "Ready" in fine.stdout
    assert not (tmp_path / "new").exists()


def test_check_writes_to_an_existing_lake(trial: Trial, tmp_path: Path) -> None:
    """And removes what it wrote."""
    trial.export()
    before = sorted((tmp_path / "lake").rglob("*"))
    arguments = ("--database-url", str(tmp_path / "application.sqlite3"), "--lake", str(tmp_path / "lake"))
    assert "Ready" in run_autoexport("check", *arguments, cwd=tmp_path).stdout
    assert sorted((tmp_path / "lake").rglob("*")) == before


def test_a_missing_package_is_one_line(database: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the command that installs it."""
    monkeypatch.setattr(process, "find_spec", lambda _: None)
    with pytest.raises(ConfigurationError, match="not installed: deltalake") as raised:
        lake_trial(database, tmp_path / "exports", tmp_path / "lake").export()
    assert "'autoexport[lake]'" in raised.value.hint


# --- many commits ------------------------------------------------------------------------------------


def test_many_commits_stay_bounded(database: Path, tmp_path: Path) -> None:
    """Without a time to keep them, old data files go at once, and old log entries with each checkpoint."""
    lake = Lake(str(tmp_path / "lake"), 1, 0)
    columns = {"a": "utf8"}
    most = 0
    for generation in range(1, 61):
        table = LakeTable(lake, "images", columns)
        table.open("application")
        name = f"part-{generation:032x}-{generation:016x}.parquet"
        size = table.write(name, [b"rows"])
        table.commit([(name, size, "{}")], list(table.files), Facts(generation, "", "application", {}))
        table.clean()
        assert [path.name for path in (tmp_path / "lake" / "images").glob("*.parquet")] == [name]
        most = max(most, len(os.listdir(tmp_path / "lake" / "images" / "_delta_log")))
    assert generations(tmp_path / "lake" / "images")[60] > 60
    assert most < 40
