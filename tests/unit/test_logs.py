"""The receiver and the form of the logs, and that no password is in them."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator

import pytest
import structlog
from structlog.testing import capture_logs

from autoexport.runtime import logs

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
    logs.configure("json", "info")
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


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_password_and_no_local_variable_in_any_format(
    log_format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Text, nested values, named values, keys of mappings, exceptions of ours and of other libraries."""
    logs.configure(log_format, "debug")  # type: ignore[arg-type]
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


def test_console_logs_have_no_colour_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    """Escape sequences are for terminals."""
    logs.configure("console", "info")
    logs.get_logger().info("snapshot.opened", rows=3)
    err = capsys.readouterr().err
    assert "snapshot.opened" in err
    assert "rows=3" in err
    assert "\x1b" not in err


def test_configuring_twice_does_not_double_the_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """The handler for other libraries is replaced, not added."""
    logs.configure("json", "info")
    logs.configure("json", "info")
    logging.getLogger("x").warning("once")
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_log_on_a_full_disk_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The work that it reports goes on; `/dev/full` answers as a full disk does."""
    logs.configure("json", "info")
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

    logs.configure("json", "info")
    replaced = io.StringIO()
    monkeypatch.setattr(sys, "stderr", replaced)
    logs.get_logger().info("snapshot.opened")
    assert "snapshot.opened" in replaced.getvalue()
