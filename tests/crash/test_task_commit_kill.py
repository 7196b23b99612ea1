"""A commit of ranges that is killed around any of its writes leaves whole tables, and can be repeated."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars
import pytest

from tests.applications import fill_postgres
from tests.conftest import program_environment
from tests.deadlines import deadline_s
from tests.export_tasks import Plan, exported, planned
from tests.lakes import TABLES
from tests.object_store_proxy import Decision, proxied
from tests.object_stores import Bucket, serving
from tests.postgres_connection import PostgresConnection

ENOUGH = 40
"""A commit makes fewer writes."""

MARKED = {"images": "width", "annotations": "confidence"}
"""The column of each table that has the number of the change in every row."""


@pytest.mark.timeout(400)
def test_it_is_repeated(postgres_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each table has the old rows or the new ones after a kill; the repeated commit brings both up to date."""
    with PostgresConnection(postgres_database) as connection:
        fill_postgres(connection)
    with serving("ministack", tmp_path) as bucket:
        env = {**bucket.variables, "AWS_ALLOW_HTTP": "true"}
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        lake = f"s3://{bucket.name}/lake"
        mark(postgres_database, 0)
        exported(postgres_database, lake, of=1, env=env)
        for number in range(2, 2 * ENOUGH):
            mark(postgres_database, number)
            before = marks(lake, env)
            with planned(postgres_database, lake, of=1, env=env) as plan:
                assert plan.range(0, of=1).exit_code == 0
                killed = commit_and_kill(plan, bucket, number)
                for name, found in marks(lake, env).items():
                    assert found in (before[name], {number}), name
                done = plan.commit()
                assert (done.exit_code, *plan.ended()) == (0, 0, ""), done
            assert marks(lake, env) == {name: {number} for name in TABLES}
            if not killed:
                break
        assert not killed
        assert number >= 2 * 3, "each table has a commit"


def mark(url: str, number: int) -> None:
    """Change every row of both tables."""
    with PostgresConnection(url) as connection:
        connection.execute(f"UPDATE images SET width = {number}")
        connection.execute(f"UPDATE annotations SET confidence = {number}")


def marks(lake: str, env: Mapping[str, str]) -> dict[str, set[Any]]:
    """The different numbers in the rows of each table."""
    return {
        name: set(polars.read_delta(f"{lake}/{name}", storage_options=dict(env))[column].to_list())
        for name, column in MARKED.items()
    }


def commit_and_kill(plan: Plan, bucket: Bucket, moment: int) -> bool:
    """Commit, and kill the process with its worker; false if it made fewer writes.

    At moment 2n it is killed ahead of its write n, at moment 2n + 1 ahead of the first request after that.
    """
    process: subprocess.Popen[bytes] | None = None
    writes = 0

    def decide(_: int, line: str) -> Decision:
        nonlocal writes
        due = moment == 2 * writes + 1
        writes += not line.startswith(("GET ", "HEAD "))
        if not due and moment != 2 * writes:
            return "pass"
        assert process is not None
        os.killpg(process.pid, signal.SIGKILL)
        return "cut"

    with proxied(bucket, decide) as proxy:
        variables = {**proxy.bucket.variables, "AWS_ALLOW_HTTP": "true"}
        with subprocess.Popen(
            [sys.executable, "-m", "autoexport", *plan.command("export-commit")],
            env=program_environment(variables), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        ) as process:  # fmt: skip
            code = process.wait(deadline_s(60))
    assert code in (0, -signal.SIGKILL)
    return code != 0
