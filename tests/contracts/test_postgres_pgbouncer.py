"""Through a real pgbouncer in transaction mode, which hands each transaction to any of its server connections."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.applications import fill_postgres
from tests.daemon import Daemon, wait_until
from tests.deadlines import deadline_s
from tests.postgres import APPLICATION, PASSWORD, PostgresServer, free_port
from tests.postgres_connection import PostgresConnection
from tests.processes import started
from tests.trials import Trial

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
pytestmark = pytest.mark.skipif(PGBOUNCER is None, reason="pgbouncer is not installed: apt-get install pgbouncer")


@pytest.fixture
def pooled(postgres_server: PostgresServer, postgres_database: str) -> Iterator[str]:
    """The URL of the sample rows through a pool of two server connections."""
    with pool(postgres_server, postgres_database) as url:
        yield url


@contextmanager
def pool(
    postgres_server: PostgresServer, postgres_database: str, *, mode: str = "transaction", size: int = 2
) -> Iterator[str]:
    """The URL of the sample rows through a pool of `size` server connections."""
    assert PGBOUNCER is not None
    with PostgresConnection(postgres_database) as connection:
        fill_postgres(connection)
    port, name = free_port(), postgres_database.rpartition("/")[2]
    # The directory is the server's user's, who runs this as well: it refuses to be root.
    users = postgres_server.directory / f"pgbouncer-{port}.users"
    users.write_text(f'"{APPLICATION}" "{PASSWORD}"\n')
    configuration = postgres_server.directory / f"pgbouncer-{port}.ini"
    configuration.write_text(
        f"""[databases]
{name} = host=127.0.0.1 port={postgres_server.port} dbname={name}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = plain
auth_file = {users}
pool_mode = {mode}
default_pool_size = {size}
server_round_robin = 1
"""
    )
    owner = postgres_server.data.stat()
    as_owner = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    with started(
        [PGBOUNCER, str(configuration)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **as_owner
    ) as process:
        wait_until(lambda: process.poll() is not None or _answers(port), "pgbouncer answers")
        assert process.poll() is None
        yield f"postgresql://{APPLICATION}:{PASSWORD}@127.0.0.1:{port}/{name}"


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=deadline_s(1)).close()
    except OSError:
        return False
    return True


def test_the_same_files(pooled: str, postgres_database: str, tmp_path: Path) -> None:
    """Full and incremental, as without the pool."""
    direct = Trial(postgres_database, tmp_path / "direct")
    through = Trial(pooled, tmp_path / "through", pg_prepared_statements=False)
    direct.export()
    for _ in range(3):
        assert through.export(full=True).manifest.mode == "full"
    assert through.contents() == direct.contents()
    with PostgresConnection(postgres_database) as connection:
        connection.execute("UPDATE annotations SET confidence = 0.125")
    assert through.export().published
    direct.export()
    assert through.contents() == direct.contents()
    assert through.differences() == []


def test_a_daemon(pooled: str, postgres_database: str, tmp_path: Path) -> None:
    """It notices a commit."""
    environment = {"DB_EXPORT_PG_PREPARED_STATEMENTS": "false"}
    with Daemon(pooled, tmp_path / "exports", interval_s=0.2, env=environment) as daemon:
        wait_until(lambda: daemon.events("export.published"), "the first export")
        with PostgresConnection(postgres_database) as connection:
            connection.execute("UPDATE images SET filename = 'renamed.jpg'")
        wait_until(lambda: len(daemon.events("export.published")) > 1, "the second export")
    assert b"renamed.jpg" in (tmp_path / "exports" / "images.csv").read_bytes()


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_one_server_connection(
    postgres_server: PostgresServer, postgres_database: str, tmp_path: Path, mode: str
) -> None:
    """The pool has one connection: the checks give it up while an export reads."""
    environment = {"DB_EXPORT_PG_PREPARED_STATEMENTS": str(mode == "session").lower()}
    with (
        pool(postgres_server, postgres_database, mode=mode, size=1) as url,
        Daemon(url, tmp_path / "exports", interval_s=0.2, env=environment) as daemon,
    ):
        daemon.wait_for("export.published")
        for count in (2, 3):
            with PostgresConnection(postgres_database) as connection:
                connection.execute("UPDATE images SET filename = ?", f"{count}.jpg")
            daemon.wait_for("export.published", count)
        assert not daemon.events("cycle.failed")
