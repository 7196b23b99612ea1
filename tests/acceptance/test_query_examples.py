"""The examples of queries for other applications are executed on databases of their schemas."""

from __future__ import annotations

import json
import re
import tomllib
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY, PostgresServer, run_autoexport
from tests.databases import Database, PostgresDatabase, SqliteDatabase
from tests.labelling.examples import CANARY, EXPECTED, POSTGRES, SCRIPTS, Row
from tests.trials import everything_in

PAGE = (REPOSITORY / "autoexport" / "mapping" / "EXAMPLES.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"^## (.+?)\n.*?^```toml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))


def test_every_example_has_a_schema() -> None:
    """No example of the page is left untried."""
    assert set(BLOCKS) == set(SCRIPTS) == set(EXPECTED)


def _rows(document: dict[str, Any]) -> list[Row]:
    rows: list[Row] = []
    for project in document["projects"]:
        for dataset in project["datasets"]:
            for image in dataset["images"]:
                name = (image["filename"] or image["file_path"]).rpartition("/")[2]
                for item in image["annotations"]:
                    box = item["bbox"] and tuple(item["bbox"].values())
                    rows.append((name, item["label"], item["type"], box, item["polygon"], item.get("points")))
    return rows


@pytest.mark.parametrize("application", sorted(SCRIPTS))
def test_an_example(application: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Pasted into the file, it exports the rows of the schema, and nothing of the other columns."""
    tomllib.loads(BLOCKS[application])
    (tmp_path / "autoexport.toml").write_text(BLOCKS[application], encoding="utf-8")
    with ExitStack() as stack:
        database: Database = SqliteDatabase(tmp_path / "app.sqlite3")
        if application in POSTGRES:
            server: PostgresServer = request.getfixturevalue("postgres_server")
            database = PostgresDatabase(stack.enter_context(server.database("template0")))
        database.script(SCRIPTS[application])
        database.close()
        done = run_autoexport("--database-url", database.url, "--export-dir", "exports", cwd=tmp_path)
        assert done.exit_code == 0, done.stderr
        checked = run_autoexport("--database-url", database.url, "check", cwd=tmp_path)
        assert checked.exit_code == 0, checked.stderr
    document = json.loads((tmp_path / "exports" / "database_export.json").read_bytes())
    assert _rows(document) == EXPECTED[application]
    told = done.stdout + done.stderr + checked.stdout + checked.stderr
    assert CANARY.encode() not in everything_in([tmp_path / "exports"]) + told.encode()
    assert "renders everything" not in checked.stdout
    assert "cannot be followed" not in checked.stdout
