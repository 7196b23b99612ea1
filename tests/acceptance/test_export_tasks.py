"""Ranges of one PostgreSQL snapshot, exported by many processes, give the tables that one process gives."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars
import psutil
import pytest
from deltalake import DeltaTable
from polars.testing import assert_frame_equal

from tests.acceptance.readme import OF_TASKS, PUBLISHING, blocks
from tests.applications import fill_postgres
from tests.conftest import Finished, program_environment
from tests.deadlines import deadline_s
from tests.export_tasks import RANGES, exported, planned, run
from tests.lakes import TABLES, data_files, rows_now
from tests.object_stores import serving
from tests.postgres import PASSWORD, PostgresServer
from tests.postgres_connection import PostgresConnection
from tests.processes import started
from tests.writer import Writer


@pytest.fixture
def url(postgres_database: str) -> str:
    """The application's database with the sample rows."""
    with PostgresConnection(postgres_database) as connection:
        fill_postgres(connection)
    return postgres_database


def rows(lake: Path) -> dict[str, list[str]]:
    """The rows of both tables."""
    return {name: rows_now(lake, name) for name in TABLES}


def by_one_process(url: str, folder: Path) -> tuple[dict[str, list[str]], dict[str, Any]]:
    """The rows that one process exports, and the facts of its commit."""
    done = run(url, "--lake", str(folder / "lake"), "--export-dir", str(folder / "exports"))
    assert done.exit_code == 0, done
    return rows(folder / "lake"), facts(folder / "lake", "images")


def facts(lake: Path, name: str) -> dict[str, Any]:
    """The facts of the last commit of a table."""
    found: dict[str, Any] = json.loads(DeltaTable(lake / name).history(1)[0]["userMetadata"])
    return found


def contents(folder: Path) -> dict[str, bytes]:
    """The files of the tables, but not those of the tasks."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for name in TABLES
        for path in sorted((folder / name).rglob("*"))
        if path.is_file()
    }


def lines(done: Finished, code: int) -> list[str]:
    """The error and the hint of a command that failed with this exit code."""
    assert (done.exit_code, done.stdout) == (code, ""), done
    found = done.stderr.splitlines()
    assert [line.partition(" ")[0] for line in found] == ["error:", "hint:"], done.stderr
    return found


# --- the same table ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("of", "images"), [(1, 19), (RANGES, 19), (RANGES, 2), (2, 0)])
def test_ranges_give_what_one_process_gives(url: str, tmp_path: Path, of: int, images: int) -> None:
    """Rows and facts are the same, also with fewer images than ranges."""
    with PostgresConnection(url) as connection:
        connection.execute(
            "DELETE FROM images WHERE id NOT IN (SELECT id FROM images ORDER BY id LIMIT ?)", images
        )
    printed = exported(url, tmp_path / "lake", of)
    expected, told = by_one_process(url, tmp_path / "one")
    assert rows(tmp_path / "lake") == expected
    assert {**told, "timestamp": ""} == {**facts(tmp_path / "lake", "annotations"), "timestamp": ""}
    assert printed["counts"] == told["counts"]


def test_a_range_may_be_repeated(url: str, tmp_path: Path) -> None:
    """No row is there twice, and a commit that is repeated commits nothing."""
    with planned(url, tmp_path / "lake") as plan:
        for task in (0, 1, 1, 2, 0):
            assert plan.range(task).exit_code == 0
        done = plan.commit()
        assert done.exit_code == 0
        assert plan.ended() == (0, "")
        before = contents(tmp_path / "lake")
        assert plan.commit() == done
    assert contents(tmp_path / "lake") == before
    assert rows(tmp_path / "lake") == by_one_process(url, tmp_path / "one")[0]


def test_the_next_export_keeps_the_files_that_did_not_change(url: str, tmp_path: Path) -> None:
    """A second plan is the second generation; only files with other rows are replaced."""
    lake = tmp_path / "lake"
    assert exported(url, lake)["generation"] == 1
    before = {name: data_files(lake, name) for name in TABLES}
    with PostgresConnection(url) as connection:
        connection.execute(
            "UPDATE annotations SET confidence = 0.125 WHERE id = (SELECT max(id) FROM annotations)"
        )
    assert exported(url, lake)["generation"] == 2
    assert data_files(lake, "images") == before["images"]
    assert len(before["annotations"] - data_files(lake, "annotations")) == 1
    assert rows(lake) == by_one_process(url, tmp_path / "one")[0]


def test_a_killed_range_can_be_repeated(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts as missing, and the next one removes its temporary folder."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with planned(url, tmp_path / "lake", of=1) as plan:
        named = ("--snapshot", plan.snapshot, "--task", "0", "--of", "1", "--out", str(plan.lake))
        command = [sys.executable, "-m", "autoexport", "export-range", url, *named]
        with started(command, env=program_environment({"TMPDIR": str(temporary)})) as process:
            until(lambda: list(temporary.iterdir()))
            process.kill()
        assert list(temporary.iterdir())
        assert lines(plan.commit(), 1)[0] == "error: 1 of 1 ranges are not exported: 0."
        monkeypatch.setattr(tempfile, "tempdir", str(temporary))
        assert plan.range(0, of=1).exit_code == 0
        assert not list(temporary.iterdir())
        assert plan.commit().exit_code == 0
    assert rows(tmp_path / "lake") == by_one_process(url, tmp_path / "one")[0]


def test_a_lake_in_an_object_store(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plan, ranges and commit work with a bucket as with a folder, under a second plan too."""
    with serving("ministack", tmp_path) as bucket:
        lake, env = f"s3://{bucket.name}/lake", {**bucket.variables, "AWS_ALLOW_HTTP": "true"}
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        for generation in (1, 2):
            assert exported(url, lake, env=env)["generation"] == generation
        by_one_process(url, tmp_path / "one")
        for name in TABLES:
            found = polars.read_delta(f"{lake}/{name}", storage_options=env)
            expected = polars.read_delta(str(tmp_path / "one" / "lake" / name))
            assert found.height
            assert_frame_equal(found, expected, check_row_order=False)


# --- what must not be committed ----------------------------------------------------------------------


def test_a_killed_plan_fails_the_commit(url: str, tmp_path: Path) -> None:
    """Ranges and commit say so in one line, and the tables stay as they were."""
    exported(url, tmp_path / "lake")
    with planned(url, tmp_path / "lake") as plan:
        for task in range(RANGES):
            assert plan.range(task).exit_code == 0
        tables = {name: DeltaTable(tmp_path / "lake" / name).version() for name in TABLES}
        plan.process.kill()
        plan.process.wait()
        message = f"error: No process holds the snapshot {plan.snapshot} of "
        assert wait_for(lambda: lines(plan.commit(), 1))[0].startswith(message)
        assert lines(plan.range(0), 1)[0].startswith(message)
    assert {name: DeltaTable(tmp_path / "lake" / name).version() for name in TABLES} == tables
    assert facts(tmp_path / "lake", "images")["generation"] == 1


def wait_for(found: Callable[[], list[str]]) -> list[str]:
    """The lines of a failure. The server ends the session of a killed client as soon as it notices its end."""
    deadline = time.monotonic() + deadline_s(30)
    while True:
        try:
            return found()
        except AssertionError:
            if time.monotonic() > deadline:
                raise


def test_missing_ranges_are_named(url: str, tmp_path: Path) -> None:
    """Nothing is committed before all ranges are there, and then it is."""
    with planned(url, tmp_path / "lake") as plan:
        assert plan.range(1).exit_code == 0
        assert lines(plan.commit(), 1)[0] == "error: 2 of 3 ranges are not exported: 0, 2."
        assert not list((tmp_path / "lake").glob("*/_delta_log"))
        for task in (0, 2):
            assert plan.range(task).exit_code == 0
        assert plan.commit().exit_code == 0


def test_the_time_limit_ends_the_plan(url: str, tmp_path: Path) -> None:
    """It exits with 1, and its snapshot cannot be committed."""
    with planned(url, tmp_path / "lake", "--time-limit", "1s") as plan:
        code, errors = plan.ended()
        assert code == 1
        assert errors.splitlines()[0] == "error: The time limit has passed, and no export-commit came."
        assert "No process holds the snapshot" in lines(plan.range(0), 1)[0]


def test_a_lost_transaction_ends_the_plan(url: str, tmp_path: Path) -> None:
    """The plan notices that the server ended its session."""
    with planned(url, tmp_path / "lake") as plan, PostgresConnection(url) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        code, errors = plan.ended()
        assert code == 1
        assert errors.splitlines()[0] == (
            f"error: The snapshot {plan.snapshot} is lost: the server ended its transaction."
        )


def test_another_plan_is_refused(url: str, tmp_path: Path, postgres_server: PostgresServer) -> None:
    """Another snapshot, number of ranges, lake or database is a wrong flag; so is a lack of them."""
    with planned(url, tmp_path / "lake") as plan, postgres_server.database() as other:
        for snapshot in ("00000003-0000001B-1", "../images", "x'; DROP TABLE images; --"):
            for done in (plan.range(0, snapshot=snapshot), plan.commit(snapshot=snapshot)):
                assert "has no plan with the snapshot" in lines(done, 2)[0]
        assert lines(plan.range(0, of=4), 2)[0].endswith("has 3 ranges, not 4.")
        assert "has no plan" in lines(plan.commit(out=str(tmp_path / "elsewhere")), 2)[0]
        assert not (tmp_path / "elsewhere").exists()
        assert lines(plan.range(0, url=other), 2)[0].startswith("error: The plan is for ")
        beyond = plan.range(3)
        assert (beyond.exit_code, beyond.stderr.splitlines()[0]) == (
            2, "error: --task 3 is not below --of 3: the first task is 0.",
        )  # fmt: skip
        nowhere = run("export-commit", url, "--snapshot", plan.snapshot)
        assert lines(nowhere, 2)[0] == "error: No lake is named."


def test_other_settings_are_refused(url: str, tmp_path: Path) -> None:
    """A range that maps the tables in another way than the plan does not mix with the others."""
    config = tmp_path / "other.toml"
    config.write_text('[tables.images]\nwhere = "id IS NOT NULL"\n')
    with planned(url, tmp_path / "lake") as plan:
        named = ("--snapshot", plan.snapshot, "--task", "0", "--of", "3", "--out", str(plan.lake))
        done = run("export-range", url, *named, "--config", str(config))
        assert lines(done, 2)[0].startswith("error: The plan was made with other settings")


def test_sqlite_is_refused(tmp_path: Path) -> None:
    """One line says that only PostgreSQL exports ranges as tasks."""
    path = tmp_path / "app.db"
    path.write_bytes(b"")
    named = ("--snapshot", "1-1-1", "--out", str(tmp_path / "lake"))
    for command in (
        ("export-plan", str(path), "--lake", str(tmp_path / "lake")),
        ("export-range", str(path), *named, "--task", "0", "--of", "1"),
        ("export-commit", str(path), *named),
    ):
        told = lines(run(*command), 2)[0]
        assert told == "error: app.db is not a PostgreSQL database: only these export ranges as tasks."
    assert not (tmp_path / "lake").exists()


def test_a_lake_that_moved_on_is_refused(url: str, tmp_path: Path) -> None:
    """Of two plans for one lake, the second commit changes nothing."""
    lake = tmp_path / "lake"
    with planned(url, lake, of=1) as plan:
        assert plan.range(0, of=1).exit_code == 0
        exported(url, lake, of=1)
        before = contents(lake)
        assert lines(plan.commit(), 1)[0].endswith("since the plan was made.")
        assert contents(lake) == before


def test_a_commit_that_was_killed_between_the_tables_is_finished(url: str, tmp_path: Path) -> None:
    """The second table gets its commit, although the plan has ended by then."""
    lake = tmp_path / "lake"
    exported(url, lake)
    with PostgresConnection(url) as connection:
        connection.execute("DELETE FROM annotations WHERE id = (SELECT max(id) FROM annotations)")
    with planned(url, lake) as plan:
        for task in range(RANGES):
            assert plan.range(task).exit_code == 0
        shutil.copytree(lake / "annotations" / "_delta_log", tmp_path / "before")
        assert plan.commit().exit_code == 0
        assert plan.ended() == (0, "")
        shutil.rmtree(lake / "annotations" / "_delta_log")
        shutil.copytree(tmp_path / "before", lake / "annotations" / "_delta_log")
        assert facts(lake, "annotations")["generation"] == 1
        assert plan.commit().exit_code == 0
    assert [facts(lake, name)["generation"] for name in TABLES] == [2, 2]
    assert rows(lake) == by_one_process(url, tmp_path / "one")[0]


# --- with Dask ---------------------------------------------------------------------------------------


@pytest.mark.timeout(400)
@pytest.mark.parametrize("killed", [False, True], ids=["", "a worker is killed"])
def test_the_example_with_dask(url: str, tmp_path: Path, postgres_server: PostgresServer, killed: bool) -> None:
    """It exports what one process exports of the same snapshot, while an application writes."""
    (block,) = [block for block in blocks("python", PUBLISHING) if OF_TASKS in block.text]
    (tmp_path / "program.py").write_text(block.text)
    lake, dump = tmp_path / "lake", tmp_path / "dump.sql"
    environment = program_environment({"DATABASE_URL": url, "LAKE": str(lake)})
    with (
        Writer(url, 1) as writer,
        started(
            [sys.executable, "program.py"], cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        ) as program,
    ):  # fmt: skip
        snapshot = until(lambda: next((path.parent.name for path in lake.glob("_tasks/*/plan.json")), None))
        subprocess.run(
            [postgres_server.binaries / "pg_dump", "--no-owner", f"--snapshot={snapshot}", "-f", dump, url],
            check=True, timeout=deadline_s(60),
        )  # fmt: skip
        if killed:
            until(lambda: kill_a_worker(program.pid))
        _, errors = program.communicate(timeout=deadline_s(300))
        assert program.returncode == 0, errors
        assert writer.stop() > 1
    with postgres_server.database("template0") as copy:
        subprocess.run(
            [postgres_server.binaries / "psql", "-q", "-v", "ON_ERROR_STOP=1", "-f", dump, copy],
            check=True, timeout=deadline_s(60), stdout=subprocess.DEVNULL,
        )  # fmt: skip
        expected, told = by_one_process(copy, tmp_path / "one")
    assert rows(lake) == expected
    assert facts(lake, "images")["counts"] == told["counts"]
    assert PASSWORD not in errors


def until(found: Callable[[], Any]) -> Any:
    """The first answer that is true."""
    deadline = time.monotonic() + deadline_s(120)
    while not (answer := found()):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return answer


def kill_a_worker(program: int) -> bool:
    """Kill a worker of Dask with the range that it exports; false if none exports one."""
    for process in psutil.Process(program).children(recursive=True):
        try:
            worker = process.parent()
            if "export-range" in process.cmdline() and worker is not None and worker.pid != os.getpid():
                process.kill()
                worker.kill()
                return True
        except psutil.NoSuchProcess:
            continue
    return False
