"""The role of systemd/label_studio reads what the export needs, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import asyncpg
import pytest

from tests import label_studio
from tests.databases import Connection, PostgresDatabase
from tests.label_studio import CANARY
from tests.postgres import PASSWORD, PostgresServer
from tests.trials import Trial, everything_in

DEPLOY = Path(__file__).resolve().parents[2] / "systemd" / "label_studio"
ROLE = "autoexport"


@pytest.fixture
def studio(postgres_server: PostgresServer) -> Iterator[tuple[str, Connection]]:
    """The URL for the role, after `role.sql` was executed, and a session of the owner."""
    with postgres_server.database("template0") as url, closing(PostgresDatabase(url).connect()) as session:
        label_studio.create(session, "postgresql")
        label_studio.fill(session)
        name = url.rpartition("/")[2]
        lines = [line for line in (DEPLOY / "role.sql").read_text().splitlines() if not line.startswith("--")]
        for statement in filter(str.strip, " ".join(lines).split(";")):
            postgres_server.admin(statement, database=name)
        postgres_server.admin(f"ALTER ROLE {ROLE} PASSWORD '{PASSWORD}'")
        yield postgres_server.url(name, user=ROLE), session
    postgres_server.admin(f"DROP ROLE {ROLE}")


def test_the_role_exports_incrementally(studio: tuple[str, Connection], tmp_path: Path) -> None:
    """Its export is that of the owner, and changes are found by `xmin`."""
    url, session = studio
    trial = Trial(url, tmp_path / "exports")
    trial.export()
    owner = Trial(url.replace(f"//{ROLE}:", "//application:"), tmp_path / "owner")
    owner.export()
    assert trial.contents() == owner.contents()
    document = json.loads((tmp_path / "exports" / "database_export.json").read_bytes())
    assert sum(project["annotation_count"] for project in document["projects"]) > 0
    session.execute("UPDATE task_completion SET ground_truth = ? WHERE id = 1", True)
    assert trial.export().manifest.mode == "incremental"
    assert trial.differences() == []
    assert CANARY.encode() not in everything_in([tmp_path])


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT token FROM project",
        "SELECT * FROM task",
        "SELECT password FROM htx_user",
        "SELECT key FROM authtoken_token",
        "SELECT aws_secret_access_key FROM io_storages_s3importstorage",
        "SELECT result FROM prediction",
        "SELECT result FROM tasks_annotationdraft",
        "UPDATE project SET title = 'x'",
    ],
)
def test_the_role_reads_nothing_else(studio: tuple[str, Connection], sql: str) -> None:
    """No secret, no other column, and it writes nothing."""
    refused = (asyncpg.InsufficientPrivilegeError, asyncpg.ReadOnlySQLTransactionError)
    with closing(PostgresDatabase(studio[0]).connect()) as session, pytest.raises(refused):
        session.execute(sql)


def test_the_page_names_every_column() -> None:
    """The table of the page has the columns of the grants."""
    page, grants = (DEPLOY / "README.md").read_text(), (DEPLOY / "role.sql").read_text()
    for grant in grants.split("GRANT SELECT (")[1:]:
        columns, _, rest = grant.partition(")")
        table = rest.split("ON ")[1].split()[0]
        told = next(line for line in page.splitlines() if line.startswith(f"| `{table}` |"))
        named = [name.strip() for name in columns.split(",") if name.strip() != "xmin"]
        assert told.split("|")[2].replace("`", "").strip().split(", ") == named
