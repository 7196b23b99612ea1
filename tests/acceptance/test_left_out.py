"""Annotations in a table that is not mapped: refused at first, degraded for a daemon that has published."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from autoexport import Settings, exporting
from autoexport.cli import main
from autoexport.errors import AnnotationsLeftOut
from autoexport.pipeline.exporter import Outcome, run_once
from tests.daemon import LIMIT_S, generation
from tests.databases import Database
from tests.deadlines import deadline_s

PREDICTIONS = (
    "CREATE TABLE predictions (id INTEGER PRIMARY KEY, image_id VARCHAR(36), class_name TEXT, score REAL)"
)
ROW = "INSERT INTO predictions VALUES (1, 'any', 'car', 0.5)"


@pytest.fixture
def exports(tmp_path: Path) -> Path:
    """The directory for the files, which does not exist yet."""
    return tmp_path / "exports"


async def export(database: Database, exports: Path, config: str = "") -> Outcome:
    """Export once, with this text as the configuration file."""
    Path("autoexport.toml").write_text(config)
    return await run_once(Settings(database_url=database.url, export_directory=exports))


async def refused(database: Database, exports: Path, config: str = "") -> AnnotationsLeftOut:
    """The error of an export, which writes no file."""
    before = generation(exports)
    with pytest.raises(AnnotationsLeftOut) as caught:
        await export(database, exports, config)
    assert (caught.value.exit_code, generation(exports)) == (2, before)
    return caught.value


def pasted(error: AnnotationsLeftOut) -> str:
    """The lines of the hint, as they are pasted into the configuration file."""
    return error.hint.removeprefix("Decide in autoexport.toml:\n")


async def test_a_second_table_of_annotations(database: Database, exports: Path) -> None:
    """It loses nothing while it is empty. Then every single export is refused until the configuration decides."""
    database.execute(PREDICTIONS)
    assert (await export(database, exports)).published
    database.execute(ROW)
    error = await refused(database, exports)
    name = "public.predictions" if database.kind == "postgresql" else "predictions"
    assert str(error) == f"{name} looks like annotations, has rows and is not exported."
    assert pasted(error) == '[tables.annotations]\nignore = ["predictions"]'
    assert not (await export(database, exports, pasted(error))).published


@pytest.mark.parametrize("deciding", ["first", "last"])
async def test_the_only_table_of_annotations(database: Database, exports: Path, deciding: str) -> None:
    """A table of another name with the only annotations is proposed; without any, the last line of the hint."""
    database.execute("ALTER TABLE annotations RENAME TO regions")
    error = await refused(database, exports)
    lines = pasted(error).splitlines()
    assert lines == ["[tables.annotations]", 'table = "regions"', "# or: table = false"]
    config = "\n".join(lines) if deciding == "first" else f"{lines[0]}\n{lines[2].removeprefix('# or: ')}"
    counts = (await export(database, exports, config)).manifest.counts
    assert (counts["annotations"] > 0) is (deciding == "first")


async def test_one_json_shape_a_row(database: Database, exports: Path) -> None:
    """Annotations whose columns have no known name are not lost in silence either."""
    database.execute("DROP TABLE annotations")
    database.execute("CREATE TABLE annotations (id INTEGER PRIMARY KEY, image_id VARCHAR(36), data TEXT)")
    assert (await export(database, exports)).published
    database.execute("INSERT INTO annotations VALUES (1, 'any', '{}')")
    error = await refused(database, exports)
    assert error.hint.endswith('# or: table = "annotations", [tables.annotations.columns], label = "<column>"')
    assert not (await export(database, exports, pasted(error))).published


async def test_a_shape_and_its_labels(database: Database, exports: Path) -> None:
    """Of several tables, the hint takes one and names the others."""
    database.script(
        """DROP TABLE annotations;
        CREATE TABLE image_shapes (id INTEGER PRIMARY KEY, image_id VARCHAR(36), points TEXT);
        CREATE TABLE image_tags (id INTEGER PRIMARY KEY, image_id VARCHAR(36), label TEXT);
        INSERT INTO image_shapes VALUES (1, 'any', '[]');
        INSERT INTO image_tags VALUES (1, 'any', 'car')"""
    )
    error = await refused(database, exports)
    assert "image_shapes and " in str(error)
    assert 'table = "image_shapes"\nignore = ["image_tags"]' in error.hint
    assert '# or: table = "image_tags", ignore = ["image_shapes"]' in error.hint
    assert (await export(database, exports, pasted(error))).published


async def test_views_and_the_history_of_annotations(database: Database, exports: Path) -> None:
    """They repeat rows that are exported: nothing is lost without them."""
    database.script(
        """CREATE TABLE annotation_history AS SELECT * FROM annotations;
        CREATE VIEW shown AS SELECT * FROM annotations"""
    )
    assert (await export(database, exports)).published


def test_the_command_line(database: Database, exports: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It exits with 2, a clear line and the hint; `check` shows the mapping before, `verify` compares the rest."""
    options = ["--database-url", database.url, "--export-dir", str(exports), "--log-level", "error"]
    assert main(options) == 0
    database.execute(PREDICTIONS)
    database.execute(ROW)
    capsys.readouterr()
    for command in ([], ["check"]):
        assert main([*command, *options]) == 2
        output = capsys.readouterr()
        assert "predictions looks like annotations, has rows and is not exported.\nhint: Decide in" in output.err
        assert ("Rows of " in output.out) is bool(command)
    assert main(["verify", *options]) == 0
    assert main([*options, "--full"]) == 2


async def test_a_daemon_that_has_published(
    database: Database, exports: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It goes on after the migration, also when it is started again, and `status` shows what is missing."""
    settings = Settings(database_url=database.url, export_directory=exports, check_interval=0.2)
    options = ["--database-url", database.url, "--export-dir", str(exports)]
    async with asyncio.timeout(deadline_s(2 * LIMIT_S)), exporting(settings) as exporter:
        await exporter.export_now()
        assert exporter.health.report.degraded is None
        database.execute(PREDICTIONS)
        database.execute(ROW)
        database.execute("UPDATE projects SET name = 'after it'")
        assert (await exporter.export_now()).generation == 2
        assert await asyncio.to_thread(main, ["status", *options]) == 0
        assert "degraded: the files are fresh, but not all annotations" in capsys.readouterr().out
    async with asyncio.timeout(deadline_s(2 * LIMIT_S)), exporting(settings) as exporter:
        database.execute("UPDATE projects SET name = 'started again'")
        assert (await exporter.export_now()).generation == 3
        assert await asyncio.to_thread(main, ["status", "--json", *options]) == 0
        shown = json.loads(capsys.readouterr().out)
        assert (shown["degraded"], shown["healthy"]) == (True, True)
        assert "predictions looks like annotations" in shown["left_out"]
        assert shown["hint"].endswith('ignore = ["predictions"]')
        database.execute("DROP TABLE predictions")
        await exporter.export_now()
        assert exporter.health.report.degraded is None


async def test_a_daemon_that_has_not_published(database: Database, exports: Path) -> None:
    """It ends with the error of a single export."""
    database.execute(PREDICTIONS)
    database.execute(ROW)
    settings = Settings(database_url=database.url, export_directory=exports, check_interval=0.2)
    async with exporting(settings) as exporter:
        with pytest.raises(AnnotationsLeftOut):
            await exporter.export_now()
    assert generation(exports) == 0
