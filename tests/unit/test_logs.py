"""The receiver and the form of the logs, and that no password is in them."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs
from structlog.typing import Processor

from autoexport.commands.log_lines import ConsoleLines
from autoexport.runtime import logs
from autoexport.runtime.journal import with_priority

SECRET = "hunter2-geheim"
URL = f"postgresql://ann:{SECRET}@h/db"


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """structlog and logging as they were, before and after each test."""
    handlers = list(logging.root.handlers)
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers


def _fail() -> None:
    local_value = f"local {SECRET}"
    raise ValueError(f"cannot reach {URL}" if local_value else "")


def test_unconfigured_logs_go_to_logging_and_nowhere_else(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Inside someone else's program nothing is printed: the logger `autoexport` gets it."""
    with caplog.at_level(logging.INFO, logger="autoexport"):
        logs.get_logger().info("snapshot.opened", rows=3, name="app.db", filename="x", msg="y")
        logs.get_logger().debug("too.detailed")
    assert capsys.readouterr() == ("", "")
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("autoexport", "INFO")
    assert record.getMessage() == "snapshot.opened rows=3 name='app.db' filename='x' msg='y'"
    assert record.autoexport["rows"] == 3  # type: ignore[attr-defined]


def test_unconfigured_logs_hold_no_password(caplog: pytest.LogCaptureFixture) -> None:
    """Not in values, not in the traceback that the host's formatter would print."""
    formatter = logging.Formatter("%(message)s")
    with caplog.at_level(logging.DEBUG, logger="autoexport"):
        try:
            _fail()
        except ValueError:
            logs.get_logger().exception("source.away", url=URL)
    text = formatter.format(caplog.records[0])
    assert "ValueError: cannot reach postgresql://ann:***@h/db" in text
    assert SECRET not in text


def test_a_captured_logger_is_captured_and_then_silent_again(capsys: pytest.CaptureFixture[str]) -> None:
    """`capture_logs` works without any configuration, and leaves no trace of itself."""
    log = logs.get_logger()
    with capture_logs() as captured:
        log.info("plan.made", blocks=2)
        log.bind(generation=7).warning("publish.late")
    log.info("after.wards")
    assert captured == [
        {"event": "plan.made", "blocks": 2, "log_level": "info"},
        {"event": "publish.late", "generation": 7, "log_level": "warning"},
    ]
    assert capsys.readouterr() == ("", "")


def test_a_host_that_configured_structlog_gets_the_logs() -> None:
    """The embedding program decides, also after the logger was made."""
    log = logs.get_logger()
    capture = structlog.testing.LogCapture()
    structlog.configure(processors=[capture])
    log.info("snapshot.opened")
    assert [entry["event"] for entry in capture.entries] == ["snapshot.opened"]


def test_json_logs_are_one_object_a_line_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    """With ISO time in UTC, event and level; other libraries' warnings in the same form."""
    logs.configure(logs.json_lines(), "info")
    logs.get_logger().debug("too.detailed")
    logs.get_logger().info("snapshot.opened", path="Äpfel", seconds=0.5, odd=object)
    logging.getLogger("asyncio").warning("slow %s", URL)
    logging.getLogger("asyncio").info("too detailed")
    out, err = capsys.readouterr()
    assert out == ""
    first, second = (json.loads(line) for line in err.splitlines())
    assert (first["event"], first["level"], first["path"], first["seconds"]) == (
        "snapshot.opened",
        "info",
        "Äpfel",
        0.5,
    )
    assert first["timestamp"].endswith("Z")
    assert "Äpfel" in err
    assert (second["event"], second["level"]) == ("slow postgresql://ann:***@h/db", "warning")


@pytest.mark.parametrize("renderer", [logs.json_lines, partial(ConsoleLines, every_step=True)])
def test_no_password_and_no_local_variable_in_any_format(
    renderer: Callable[[], Processor], capsys: pytest.CaptureFixture[str]
) -> None:
    """Text, nested values, named values, keys of mappings, exceptions of ours and of other libraries."""
    logs.configure(renderer(), "debug")
    log = logs.get_logger()
    log.info(f"opened {URL}", url=URL, nested={"urls": [URL, (URL,)], "password": SECRET}, password=SECRET)
    for report in (lambda: log.exception("failed"), lambda: logging.getLogger("x").exception("failed")):
        try:
            _fail()
        except ValueError:
            report()
    err = capsys.readouterr().err
    assert SECRET not in err
    assert "postgresql://ann:***@h/db" in err
    assert err.count("Traceback") == 2


def test_a_line_has_the_database_that_it_is_about(capsys: pytest.CaptureFixture[str]) -> None:
    """Also a line of another library; an event that names another one keeps it."""
    logs.configure(logs.json_lines(), "info", database="app.db")
    logs.get_logger().info("cycle.recovered", failures=1)
    logs.get_logger().info("snapshot.opened", database="other.db")
    logging.getLogger("asyncio").warning("slow")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["database"] for line in lines] == ["app.db", "other.db", "app.db"]


def test_the_journal_gets_priorities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`<3>` before each line of an error, and nothing in front elsewhere: the variable names the stream."""
    with (tmp_path / "journal").open("w+") as stream:
        status = os.fstat(stream.fileno())
        monkeypatch.setattr(sys, "stderr", stream)
        for journal in (f"{status.st_dev}:{status.st_ino}", f"{status.st_dev}:{status.st_ino + 1}", "x", ""):
            monkeypatch.setenv("JOURNAL_STREAM", journal)
            logs.configure(logs.json_lines(), "debug")
            for level in ("debug", "info", "warning", "error"):
                getattr(logs.get_logger(), level)("x")
        stream.seek(0)
        lines = stream.read().splitlines()
    assert [line[:3] for line in lines[:4]] == ["<7>", "<6>", "<4>", "<3>"]
    assert {line[0] for line in lines[4:]} == {"{"}
    assert with_priority("Traceback\n  in f", "error") == "<3>Traceback\n<3>  in f"


def test_configuring_twice_does_not_double_the_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """The handler for other libraries is replaced, not added."""
    logs.configure(logs.json_lines(), "info")
    logs.configure(logs.json_lines(), "info")
    logging.getLogger("x").warning("once")
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_log_on_a_full_disk_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The work that it reports goes on; `/dev/full` answers as a full disk does."""
    logs.configure(logs.json_lines(), "info")
    full = open("/dev/full", "w", buffering=1)  # noqa: SIM115 - closing it would fail as well
    monkeypatch.setattr(sys, "stderr", full)
    with pytest.raises(OSError, match="No space"):
        full.write("line\n")
    logs.get_logger().error("cycle.failed")
    logs.get_logger().error("cycle.failed")
    with pytest.raises(OSError, match="No space"):
        full.close()


def test_logs_follow_standard_error_where_it_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A progress bar replaces `sys.stderr` while it is shown, to put lines above itself."""
    import io

    logs.configure(logs.json_lines(), "info")
    replaced = io.StringIO()
    monkeypatch.setattr(sys, "stderr", replaced)
    logs.get_logger().info("snapshot.opened")
    assert "snapshot.opened" in replaced.getvalue()
