"""Databases of doccano and CVAT are exported without any configuration, kept current, and give no secret away."""

from __future__ import annotations

import json
import random
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PostgresServer, run_autoexport
from tests.daemon import Daemon
from tests.databases import Database, PostgresDatabase, SqliteDatabase
from tests.labelling import cvat, doccano
from tests.trials import Trial, everything_in

KINDS = ("doccano on SQLite", "doccano on PostgreSQL", "cvat on PostgreSQL")


@pytest.fixture(params=KINDS)
def application(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A database of an application, its name, and its canary."""
    with ExitStack() as stack:
        database: Database = SqliteDatabase(tmp_path / "app.sqlite3")
        if "PostgreSQL" in request.param:
            server: PostgresServer = request.getfixturevalue("postgres_server")
            database = PostgresDatabase(stack.enter_context(server.database("template0")))
        session = stack.enter_context(closing(database.connect()))
        seed = random.randrange(1 << 30)
        if request.param.startswith("cvat"):
            yield "cvat", cvat.Cvat(session, seed=seed), database.url, cvat.CANARY
        else:
            made = doccano.Doccano(session, sqlite="SQLite" in request.param, seed=seed)
            yield "doccano", made, database.url, doccano.CANARY


def test_a_monitored_database(application: Any, tmp_path: Path) -> None:
    """After changes of every kind the files equal a full export, `verify` finds nothing, and no canary got out."""
    name, made, url, canary = application
    directory = tmp_path / "exports"
    with Daemon(url, directory) as daemon:
        daemon.wait_for("export.published")
        for _ in range(3):
            for _ in range(6):
                made.change()
            daemon.wait_until_idle()
        daemon.stop()
        log = daemon.log.read_bytes()
    checked = run_autoexport("--database-url", url, "check", cwd=tmp_path)
    assert checked.exit_code == 0
    assert name in checked.stdout
    assert "preset = false" in checked.stdout
    verified = run_autoexport("--database-url", url, "--export-dir", str(directory), "verify", cwd=tmp_path)
    assert verified.exit_code == 0, verified.stdout
    full = run_autoexport("--database-url", url, "--export-dir", "fresh", "--full", cwd=tmp_path)
    assert full.exit_code == 0, full.stderr
    assert Trial(url, directory).contents() == Trial(url, tmp_path / "fresh").contents()
    told = checked.stdout + checked.stderr + verified.stdout + verified.stderr
    assert canary.encode() not in everything_in([directory]) + log + told.encode()
    document = json.loads((directory / "database_export.json").read_bytes())
    assert document["export_info"]["total_annotations"] > 0
