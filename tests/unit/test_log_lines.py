"""The log as people read it: one line per event, in words, that fits 80 columns."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from autoexport.cli import main
from autoexport.commands.demo import make_database
from autoexport.commands.log_lines import _WORDED, STEPS, ConsoleLines
from autoexport.daemon.report import Report
from autoexport.daemon.status_socket import ask
from tests.conftest import REPOSITORY
from tests.on_terminal import on_terminal


def change(path: Path) -> None:
    """Commit one changed image."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE images SET filename = 'renamed.jpg' WHERE rowid = 3")


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """The sample database as app.db in the working directory."""
    make_database(tmp_path / "app.db")
    return tmp_path / "app.db"


# --- one export ----------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["app.db"], ["app.db", "--full"], ["verify", "app.db"], ["check", "app.db"]])
def test_a_command_on_a_terminal_logs_nothing(command: list[str], database: Path) -> None:
    """Only its result: no line of the log begins with a time."""
    on_terminal("app.db")
    shown = on_terminal(*command).lines()
    assert shown
    assert not [line for line in shown if re.match(r"\d\d:\d\d:\d\d|\d{4}-", line)]


def test_a_command_on_a_terminal_shows_warnings(database: Path) -> None:
    """In words, with the hint on a line of its own."""
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("DELETE FROM datasets WHERE name = 'Night'")
    lines = on_terminal("app.db").lines()
    assert "warning: not exported: 8 images" in lines[0]
    assert lines[1].strip().startswith("hint: ")
    assert max(map(len, lines)) <= 80


def test_a_log_level_is_obeyed_on_a_terminal_too(database: Path) -> None:
    """Then each step is shown, from the flag and from the variable."""
    for arguments, env in ((["--log-level", "debug"], {}), ([], {"DB_EXPORT_LOG_LEVEL": "debug"})):
        lines = on_terminal("app.db", "--full", *arguments, env=env).lines()
        assert any("reading app.db" in line for line in lines)
        assert max(map(len, lines)) <= 80


# --- the monitor ---------------------------------------------------------------------------------


def test_the_monitor_says_what_it_watches_and_then_what_it_publishes(database: Path) -> None:
    """80 columns, one line at the start, nothing about looks that found nothing, an end by Ctrl-C."""
    on_terminal("app.db")

    def looked() -> bool:
        report = Report.from_json(ask(database.parent / "database_exports" / ".autoexport") or b"")
        if found := report is not None and report.last_export_s is not None and report.oldest_change_at is None:
            change(database)
        return found

    terminal = on_terminal(
        "app.db", "--monitor", "--interval", "0.2", keys=[(looked, ""), ("published generation 2", "\x03")]
    )
    first, *rest = terminal.lines()
    assert first.startswith("watching app.db → database_exports every 0.2 s, Ctrl-C stops (")
    assert sum("reading" in line for line in rest) == 1
    assert rest[-1].endswith(" stopped")
    assert max(map(len, terminal.lines())) <= 80


def test_the_monitor_speaks_when_it_publishes(database: Path) -> None:
    """The generation, the change and the time."""
    terminal = on_terminal(
        "app.db", "--monitor", "--interval", "0.2", keys=[("published generation 1: all 46 images", "\x03")]
    )
    assert any(re.fullmatch(r"\d\d:\d\d:\d\d published generation 1: all 46 images, .* s", line)
               for line in terminal.lines())  # fmt: skip
    assert max(map(len, terminal.lines())) <= 80


@pytest.mark.parametrize(("env", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_tables_obey_the_same_variables(env: dict[str, str], coloured: bool, database: Path) -> None:
    """No escape sequence, not even for bold; a dumb terminal gets plain lines."""
    shown = on_terminal("check", "app.db", "--verbose", env=env).shown
    assert ("\x1b[" in shown) == coloured
    assert ("━" in shown) == (env.get("TERM") != "dumb")


@pytest.mark.parametrize(("env", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_colours_are_refused_by_the_usual_variables(env: dict[str, str], coloured: bool, database: Path) -> None:
    """NO_COLOR and TERM=dumb."""
    terminal = on_terminal("app.db", "--monitor", "--interval", "0.2", env=env, keys=[("published", "\x03")])
    assert ("\x1b[" in terminal.shown) == coloured


# --- the words -----------------------------------------------------------------------------------


def event(name: str, level: str = "info", **values: Any) -> dict[str, Any]:
    """An event as it reaches a renderer."""
    return {"event": name, "level": level, "timestamp": "2024-01-20T10:30:00Z", "database": "app.db", **values}


def rendered(*events: dict[str, Any], every_step: bool = True) -> list[str]:
    """The lines of these events, without date and time."""
    lines = ConsoleLines(every_step=every_step)
    shown = [lines(None, "", dict(item)) for item in events]
    return [line.partition(" ")[2] for text in shown for line in text.splitlines()]


STEP = [
    event("snapshot.opened", "debug"),
    event("plan.made", "debug", mode="incremental", reason="1 image may have changed", seconds=0.01),
    event("render.done", "debug", blocks=1, kept=5, seconds=0.01),
]
PUBLISHED = event("export.published", generation=2, mode="incremental", reason="", changed_images=1,
                  rendered_images=64, seconds=0.52)  # fmt: skip
UNCHANGED = event("export.unchanged", generation=1, mode="incremental", reason="", seconds=0.1)


def test_a_lake_in_words() -> None:
    """The data files that were added, if any."""
    for values, words in (
        ({"files": 2, "bytes": 15_777}, "lake at generation 3: 2 data files of 15,777 bytes, 0.5 s"),
        ({"files": 1, "bytes": 900}, "lake at generation 3: 1 data file of 900 bytes, 0.5 s"),
        ({"files": 0, "bytes": 0}, "lake at generation 3: no new rows, 0.5 s"),
    ):
        assert rendered(event("lake.committed", lake="/lake", generation=3, seconds=0.5, **values)) == [words]
    assert rendered(event("lake.current", lake="/lake", generation=3, seconds=0.5)) == [
        "lake is at generation 3 already, 0.5 s"
    ]


def test_a_publish_in_words() -> None:
    """The number of images that changed, if it is known."""
    assert rendered(PUBLISHED) == ["published generation 2: 1 image changed, 0.5 s"]
    for values, words in (
        ({"changed_images": 18}, "up to 18 images changed"),
        ({"changed_images": 0}, "rows were deleted"),
        ({"changed_images": 0, "rendered_images": 0}, "projects, datasets or labels changed"),
        ({"mode": "full", "changed_images": None}, "all 64 images"),
        ({"mode": "full", "changed_images": None, "rendered_images": 1}, "1 image"),
        ({"mode": "full", "changed_images": None, "rendered_images": 0}, "no images"),
    ):
        assert rendered({**PUBLISHED, **values}) == [f"published generation 2: {words}, 0.5 s"]


def test_the_steps_of_an_export_that_publishes_nothing_are_not_shown() -> None:
    """They are, if it publishes, fails or reads everything, and if each step was asked for."""
    assert rendered(*STEP, UNCHANGED, every_step=False) == []
    assert len(rendered(*STEP, UNCHANGED)) == 4
    assert len(rendered(*STEP, PUBLISHED, every_step=False)) == 4
    assert len(rendered(*STEP, event("cycle.failed", "error", error="x", hint=""), every_step=False)) == 4
    assert len(rendered(STEP[0], {**STEP[1], "mode": "full"}, every_step=False)) == 2
    assert rendered(*STEP, UNCHANGED, PUBLISHED, every_step=False) == rendered(PUBLISHED)


def test_an_unknown_event_and_unusual_values_are_shown_as_they_are() -> None:
    """Nothing is lost, and control characters are escaped."""
    assert rendered(event("mirror.lost", "warning", tries=3, path="a\x1bb", hint="try\nagain")) == [
        "warning: mirror lost: tries 3, path a\\x1bb (hint: try again)"
    ]
    assert rendered(event("slow call of x(1)")) == ["slow call of x(1)"]
    assert rendered(event("render.done", odd=1)) == ["render done: odd 1"]


def _logged_events(levels: str = "debug|info|warning|error") -> Iterator[tuple[str, str]]:
    """File and name of each event of these levels in the code."""
    call = re.compile(rf'(?:log(?:ger\(\))?\)?\.(?:{levels})\)?|_tell)\(\s*"([a-z_.]+)"')
    for path in (REPOSITORY / "autoexport").rglob("*.py"):
        for name in call.findall(path.read_text()):
            yield path.name, name


def test_each_sentence_belongs_to_an_event() -> None:
    """An event without a sentence is shown with its values; all warnings and errors have sentences."""
    names = {name for _, name in _logged_events()} | {"export.published", "export.unchanged", "settings.overruled"}
    assert set(_WORDED) <= names
    assert set(_WORDED) > STEPS
    warnings = {name for _, name in _logged_events(r"warning|error")}
    assert warnings <= set(_WORDED)


@pytest.mark.parametrize("command", [["app.db", "--full"], ["verify", "app.db"], ["check", "app.db"], ["status"]])
def test_a_command_in_a_pipe_logs_nothing(
    command: list[str], database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A program gets the answer alone, unless a log level is given."""
    assert main(["app.db"]) == 0
    assert main(command) == 0
    assert capsys.readouterr().err == ""


def test_counts_in_words() -> None:
    """One of them is no plural."""
    left_out = event("export.left_out", format="coco", boxes_clipped=1, images_without_path=2)
    assert rendered(event("export.orphans", images=1, annotations=1_200)) == [
        "not exported: 1 image, 1,200 annotations"
    ]
    assert rendered(left_out) == ["not in coco: 1 box clipped, 2 images without path"]


def test_a_command_in_a_pipe_logs_with_dates(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One event a line, so that it can be searched."""
    assert main(["app.db", "--log-level", "info"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ", line) for line in lines)
