"""The role of the page about CVAT: its grants are enough for incremental exports, and none is too much."""

from __future__ import annotations

import re
import tomllib
from importlib.resources import files
from pathlib import Path

import asyncpg
import pytest

from tests.conftest import REPOSITORY, PostgresServer, run_autoexport
from tests.databases import PostgresDatabase
from tests.labelling.cvat import CANARY, Cvat
from tests.postgres import SUPERUSER
from tests.postgres_connection import PostgresConnection
from tests.trials import Trial, everything_in

PAGE = REPOSITORY / "autoexport" / "mapping" / "CVAT.md"
ROLE = "autoexport"


def grants() -> str:
    """The SQL of the page."""
    found = re.search(r"```sql\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return found[1]


def queries() -> list[str]:
    """All queries of the preset."""
    text = files("autoexport.mapping.schemas").joinpath("cvat.toml").read_text(encoding="utf-8")
    tables = tomllib.loads(text)["tables"]
    return [sql for table in tables.values() for sql in (table["query"], *table.get("beside", ()))]


def test_the_role_of_the_page(postgres_server: PostgresServer, tmp_path: Path) -> None:
    """Exports by the role equal those of the owner and are incremental; no other column can be read."""
    with postgres_server.database("template0") as url:
        name = url.rpartition("/")[2]
        owner = PostgresDatabase(url)
        made = Cvat(owner.own, seed=3)
        try:
            with PostgresConnection(postgres_server.url(name, user=SUPERUSER)) as admin:
                admin.script(grants())
            reader_url = postgres_server.url(name, user=ROLE, password="change-me")
            by_role, by_owner = Trial(reader_url, tmp_path / "role"), Trial(url, tmp_path / "owner")
            by_role.export()
            made.edit_shape()
            made.add_attribute()
            made.delete_frames()
            assert "xmin" not in by_role.export().reason
            by_owner.export()
            assert by_role.contents() == by_owner.contents()
            assert by_role.differences() == []
            checked = run_autoexport("--database-url", reader_url, "check", cwd=tmp_path)
            assert checked.exit_code == 0, checked.stderr
            assert "Every export is a full one" not in checked.stdout
            assert CANARY.encode() not in everything_in([tmp_path])
            with PostgresConnection(reader_url) as reader:
                for secret in ("SELECT password FROM auth_user", "SELECT bug_tracker FROM engine_task"):
                    with pytest.raises(asyncpg.InsufficientPrivilegeError):
                        reader.execute(secret)
        finally:
            owner.close()
            _drop_role(postgres_server, name)


def test_every_grant_is_needed(postgres_server: PostgresServer) -> None:
    """Without any one of the columns, one of the preset's queries is refused."""
    with postgres_server.database("template0") as url:
        name = url.rpartition("/")[2]
        owner = PostgresDatabase(url)
        Cvat(owner.own, seed=3, tasks=1)
        owner.close()
        try:
            with PostgresConnection(postgres_server.url(name, user=SUPERUSER)) as admin:
                admin.script(grants())
                reader_url = postgres_server.url(name, user=ROLE, password="change-me")
                unneeded = []
                with PostgresConnection(reader_url) as reader:
                    assert not _refused(reader)
                    for columns, table in re.findall(r"SELECT \((.*?)\)\s+ON (\w+)", grants()):
                        for column in (each for each in columns.split(", ") if each != "xmin"):
                            admin.execute(f"REVOKE SELECT ({column}) ON {table} FROM {ROLE}")
                            if not _refused(reader):
                                unneeded.append(f"{table}.{column}")
                            admin.execute(f"GRANT SELECT ({column}) ON {table} TO {ROLE}")
            assert unneeded == []
        finally:
            _drop_role(postgres_server, name)


def _refused(reader: PostgresConnection) -> bool:
    for sql in queries():
        try:
            reader.execute(f"EXPLAIN {sql}")
        except asyncpg.InsufficientPrivilegeError:
            return True
    return False


def _drop_role(server: PostgresServer, database: str) -> None:
    with PostgresConnection(server.url(database, user=SUPERUSER)) as admin:
        admin.script(f"DROP OWNED BY {ROLE}; DROP ROLE {ROLE}")
