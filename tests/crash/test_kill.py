"""A daemon that was killed at any step of an export starts again without errors or leftovers."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from autoexport import Settings, run_exporter
from autoexport.formats import file_names
from autoexport.runtime.files import TEMP_SUFFIX
from tests.conftest import program_environment
from tests.daemon import generation, leftovers, project_names
from tests.databases import SqliteDatabase
from tests.deadlines import deadline_s
from tests.outputs import ALL_OUTPUT_VARIABLES, ALL_OUTPUTS, published_names
from tests.trials import check_parses

RENAME = "UPDATE projects SET name = ? WHERE id = 1"

# The module and the name by which each step is called. In the child alone, a function that kills replaces it.
STATIONS = {
    "sweep": "autoexport.publishing.directory:sweep",
    "copy": "sqlite3:connect",
    "snapshot": "autoexport.sources.sqlite.reading:read_catalog",
    "plan": "autoexport.pipeline.derivation:Derivation.run",
    "render": "autoexport.rendering.renderer:all_bodies_of",
    "check_room": "autoexport.publishing.directory:check_room",
    "splice": "autoexport.publishing.directory:stage",
    "publish": "autoexport.publishing.directory:commit",
    "manifest": "autoexport.publishing.directory:_publish_manifest",
    "ledger": "autoexport.pipeline.publish:save_ledger",
    "report": "autoexport.daemon.supervisor:write_report",
}

_DAEMON = """
import importlib, os, signal, sys
station, moment, url, directory = sys.argv[1:]
module, _, path = station.partition(":")
*owners, name = path.split(".")
place = importlib.import_module(module)
for owner in owners:
    place = getattr(place, owner)
original = getattr(place, name)

def killing(*arguments, **named):
    if moment == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    original(*arguments, **named)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(place, name, killing)
from autoexport.cli import main
main(["--monitor", "--interval", "0.2", "--database-url", url, "--export-dir", directory])
sys.exit("the station was not reached")
"""


def killed(station: str, moment: str, url: str, exports: Path) -> None:
    """Run a daemon until it kills itself at this step."""
    done = subprocess.run(
        [sys.executable, "-c", _DAEMON, STATIONS[station], moment, url, str(exports)], cwd=exports.parent,
        env=program_environment(ALL_OUTPUT_VARIABLES), capture_output=True, text=True, timeout=deadline_s(60),
        check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr


def check_whole(exports: Path) -> None:
    """Check that every published file that exists is whole."""
    for name in (*published_names(exports), "manifest.json"):
        if (exports / name).exists() and not name.endswith(TEMP_SUFFIX):
            check_parses(exports / name)


MOMENTS = [(station, "before") for station in STATIONS] + [("publish", "after"), ("ledger", "after")]


@pytest.mark.parametrize(("station", "moment"), MOMENTS)
@pytest.mark.parametrize("sqlite_database", ["delete"], indirect=True, ids=["sqlite"])
def test_the_next_start_is_right(
    station: str, moment: str, sqlite_database: SqliteDatabase, tmp_path: Path
) -> None:
    """After a kill during the export of a change, the next start publishes the change and leaves nothing behind.

    Until then each file is whole, old or new. The new files equal those of a first export elsewhere, byte for
    byte.
    """
    exports, elsewhere = tmp_path / "exports", tmp_path / "elsewhere"
    settings = Settings(database_url=sqlite_database.url, export_directory=exports, **ALL_OUTPUTS)  # type: ignore[arg-type]
    if station != "report":  # this one is reached only by a publish that changes something
        asyncio.run(run_exporter(settings, monitor=False))
    sqlite_database.execute(RENAME, "changed before the kill")
    killed(station, moment, sqlite_database.url, exports)
    check_whole(exports)
    asyncio.run(run_exporter(settings, monitor=False))
    assert "changed before the kill" in project_names(exports)
    assert [name for name in leftovers(exports) if not name.endswith("status.sock")] == []
    asyncio.run(run_exporter(settings.model_copy(update={"export_directory": elsewhere}), monitor=False))
    assert generation(elsewhere) == 1
    names = published_names(exports)
    assert names == published_names(elsewhere)
    for name in sorted({*names} - {file_names()[0]}):
        assert (exports / name).read_bytes() == (elsewhere / name).read_bytes()
    trees = [json.loads((place / file_names()[0]).read_text())["projects"] for place in (exports, elsewhere)]
    assert trees[0] == trees[1]
