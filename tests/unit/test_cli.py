"""Arguments become settings and one command; errors become two lines and an exit code."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import ModuleType

import pytest

from autoexport import __version__
from autoexport.cli import main
from autoexport.config.settings import Settings
from autoexport.errors import ConfigurationError, SourceError

ROOT = Path(__file__).parents[2]
SECRET = "hunter2-geheim"


pytestmark = pytest.mark.usefixtures("log_setup_put_back")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Settings, dict[str, object]]]:
    """Every command that the command line can start, in place of the real ones: what was started."""
    started: list[tuple[str, Settings, dict[str, object]]] = []

    def stand_in(name: str, code: int) -> None:
        async def waited(settings: Settings, *rest: object, **options: object) -> int:
            started.append((name, settings, options))
            return code

        def at_once(settings: Settings, **options: object) -> int:
            started.append((name, settings, options))
            return code

        module = ModuleType(name)
        setattr(module, name, at_once if name == "status" else waited)
        monkeypatch.setitem(sys.modules, f"autoexport.commands.{name}", module)

    for name, code in {"export": 0, "monitor": 0, "check": 0, "verify": 3, "status": 1}.items():
        stand_in(name, code)
    return started


def make_database(path: Path, script: str = "CREATE TABLE x (a)") -> None:
    """A SQLite file with what the script makes."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_has_examples(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The common options, the commands, the examples, on standard output."""
    assert main([flag]) == 0
    out, err = capsys.readouterr()
    for part in ("--database-url", "--export-dir", "--interval", "--workers", "--config", "--log-format",
                 "--log-level", "--no-progress", "--version", "--monitor", "--full", "--disable-hooks", "demo",
                 "check", "status", "verify", "Examples:", "autoexport app.db --monitor"):  # fmt: skip
        assert part in out
    assert err == ""


@pytest.mark.parametrize("command", [[], ["demo"], ["check"], ["status"], ["verify"]])
def test_help_fits_a_terminal_of_80_columns(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the terminal is wider."""
    monkeypatch.setenv("COLUMNS", "200")
    assert main([*command, "--help"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


@pytest.mark.parametrize("command", ["demo", "check", "status", "verify"])
def test_every_command_has_the_common_options(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """They may stand behind the command, too."""
    assert main([command, "--help"]) == 0
    out = capsys.readouterr().out
    for option in ("--database-url", "--export-dir", "--interval", "--workers", "--config", "--log-format"):
        assert option in out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """Name and number."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"autoexport {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--no-such-flag"],
        ["no-such-command"],
        ["--interval"],
        ["--full", "check"],
        ["--monitor", "verify"],
        ["--full", "--monitor"],
        ["demo", "a", "b"],
        ["demo", "--database-url", "x.db"],
        ["demo", "--export-dir", "x"],
    ],
)
def test_a_wrong_command_line_is_two_lines_and_exit_code_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """What is wrong, and where help is; nothing on standard output, no file."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    first, second = err.splitlines()
    assert first.startswith("error: ")
    assert second.startswith("hint: ")
    assert "--help" in second
    assert out == ""
    assert list(tmp_path.iterdir()) == []


# --- flags reach the settings --------------------------------------------------------------------


def test_without_a_command_it_exports_once(calls: list[tuple[str, Settings, dict[str, object]]]) -> None:
    """The flags are the settings."""
    flags = ["--database-url", "a.db", "--export-dir", "out", "--interval", "5", "--disable-hooks"]
    assert main([*flags, "--log-format", "json", "--log-level", "error"]) == 0
    ((name, settings, options),) = calls
    assert (name, options) == ("export", {"full": False, "progress": True})
    assert settings.database.path == Path("a.db")
    assert settings.export_directory == Path("out")
    assert (settings.check_interval, settings.enable_hooks) == (5, False)
    assert (settings.log_format, settings.log_level) == ("json", "error")


def test_full_and_no_progress_reach_the_export(calls: list[tuple[str, Settings, dict[str, object]]]) -> None:
    """`--full` is from scratch, `--no-progress` shows no bar."""
    assert main(["--full", "--no-progress"]) == 0
    assert calls[0][2] == {"full": True, "progress": False}


def test_options_may_stand_on_both_sides_of_the_command(
    calls: list[tuple[str, Settings, dict[str, object]]],
) -> None:
    """Those behind the command win."""
    assert main(["--export-dir", "a", "--interval", "3", "check", "--export-dir", "b"]) == 0
    assert (calls[0][1].export_directory, calls[0][1].check_interval) == (Path("b"), 3)


def test_a_configuration_file_can_be_named(calls: list[tuple[str, Settings, dict[str, object]]]) -> None:
    """In place of ./autoexport.toml."""
    Path("mine.toml").write_text("check_interval = 7\n")
    assert main(["--config", "mine.toml"]) == 0
    assert calls[0][1].check_interval == 7
    assert main(["check", "--config", "absent.toml"]) == 2


@pytest.mark.parametrize(("command", "code"), [("check", 0), ("verify", 3), ("status", 1)])
def test_the_exit_code_of_a_command_is_passed_on(
    command: str, code: int, calls: list[tuple[str, Settings, dict[str, object]]]
) -> None:
    """`verify` 3 on drift, `status` 1 when failing."""
    assert main([command]) == code
    assert calls[0][0] == command


def test_verify_full_repairs_what_differs(calls: list[tuple[str, Settings, dict[str, object]]]) -> None:
    """Drift is followed by an export from scratch; its exit code counts."""
    assert main(["verify", "--full"]) == 0
    assert [(name, options.get("full")) for name, _, options in calls] == [("verify", None), ("export", True)]


def test_status_for_machines(calls: list[tuple[str, Settings, dict[str, object]]]) -> None:
    """`--json` is handed on."""
    main(["status", "--json"])
    assert calls[0][2] == {"as_json": True, "max_age_s": None}


# --- monitoring ----------------------------------------------------------------------------------


@pytest.mark.parametrize("environment", ["development", "production", "testing"])
def test_only_the_flag_monitors(
    environment: str, calls: list[tuple[str, Settings, dict[str, object]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In every environment, whatever ENABLE_MONITORING says."""
    monkeypatch.setenv("DB_EXPORT_ENVIRONMENT", environment)
    for enabled in ("true", "false"):
        monkeypatch.setenv("DB_EXPORT_ENABLE_MONITORING", enabled)
        main([])
        main(["--monitor"])
    assert [name for name, _, _ in calls] == ["export", "monitor", "export", "monitor"]


@pytest.mark.parametrize("environment", ["production", "testing"])
def test_one_line_at_start_says_which_won(
    environment: str,
    calls: list[tuple[str, Settings, dict[str, object]]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Also where the environment's log level would hide a remark."""
    monkeypatch.setenv("DB_EXPORT_ENVIRONMENT", environment)
    monkeypatch.setenv("DB_EXPORT_ENABLE_MONITORING", "false")
    main(["--monitor"])
    (line,) = capsys.readouterr().err.splitlines()
    assert "--monitor wins" in line


def test_switched_off_it_says_so(
    calls: list[tuple[str, Settings, dict[str, object]]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code 0 and nothing done; a daemon still has to tell systemd that it is well."""
    monkeypatch.setenv("DB_EXPORT_ENABLE_AUTO_EXPORT", "false")
    assert main([]) == 0
    assert "switched off" in capsys.readouterr().out
    assert calls == []
    assert main(["--monitor"]) == 0
    assert [name for name, _, _ in calls] == ["monitor"]


# --- warnings and logs ---------------------------------------------------------------------------


def test_an_unknown_variable_is_a_warning_on_standard_error(
    calls: list[tuple[str, Settings, dict[str, object]]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With the nearest known name; the export runs."""
    monkeypatch.setenv("DB_EXPORT_CHEK_INTERVAL", "3")
    assert main([]) == 0
    out, err = capsys.readouterr()
    assert "DB_EXPORT_CHECK_INTERVAL" in err
    assert out == ""


def test_production_logs_json(
    calls: list[tuple[str, Settings, dict[str, object]]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without being told."""
    monkeypatch.setenv("DB_EXPORT_ENVIRONMENT", "production")
    monkeypatch.setenv("DB_EXPORT_CHEK_INTERVAL", "3")
    main([])
    record = json.loads(capsys.readouterr().err)
    assert (record["level"], record["event"]) == ("warning", "settings.unknown")


# --- errors --------------------------------------------------------------------------------------


def _garbage(folder: Path) -> list[str]:
    (folder / "g.db").write_bytes(b"this is no database at all" * 100)
    return ["--database-url", "g.db"]


def _empty(folder: Path) -> list[str]:
    (folder / "e.db").touch()
    return ["--database-url", "e.db"]


def _no_known_table(folder: Path) -> list[str]:
    make_database(folder / "x.db")
    return ["--database-url", "x.db"]


def _unknown_key(folder: Path) -> list[str]:
    (folder / "autoexport.toml").write_text("chek_interval = 3\n")
    return []


def _export_directory_is_a_file(folder: Path) -> list[str]:
    make_database(folder / "x.db", "CREATE TABLE images (id INTEGER PRIMARY KEY, filename TEXT)")
    (folder / "out").touch()
    return ["--database-url", "x.db", "--export-dir", "out"]


def _directory(folder: Path) -> list[str]:
    (folder / "d").mkdir()
    return ["--database-url", "d"]


def _no_output(folder: Path) -> list[str]:
    make_database(folder / "x.db", "CREATE TABLE images (id INTEGER PRIMARY KEY, filename TEXT)")
    (folder / "autoexport.toml").write_text("export_json = false\nexport_csv = false\n")
    return ["--database-url", "x.db"]


ERRORS: dict[str, tuple[Callable[[Path], list[str]], int, str]] = {
    "no database named": (lambda _: [], 2, "No database is given"),
    "missing file": (lambda _: ["--database-url", "no.db"], 1, "no.db"),
    "directory": (_directory, 1, "not a file"),
    "garbage": (_garbage, 1, "g.db"),
    "empty file": (_empty, 2, "e.db"),
    "no known table": (_no_known_table, 2, "images"),
    "wrong scheme": (lambda _: ["--database-url", f"mysql://u:{SECRET}@h/db"], 2, "'mysql'"),
    "wrong port": (lambda _: ["--database-url", f"postgresql://u:{SECRET}@h:x/db"], 2, "port"),
    "negative interval": (lambda _: ["--interval", "-5"], 2, "check_interval (--interval)"),
    "unknown toml key": (_unknown_key, 2, "'chek_interval'"),
    "no output": (_no_output, 2, "No output is switched on"),
    "unknown log level": (lambda _: ["--log-level", "loud"], 2, "log_level"),
}


@pytest.mark.parametrize("command", [[], ["check"]], ids=["export", "check"])
@pytest.mark.parametrize("case", ERRORS)
def test_an_error_is_one_line_and_a_hint(
    case: str, command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code of the contract, no traceback, no file made, no password shown."""
    prepare, code, part = ERRORS[case]
    arguments = [*command, *prepare(tmp_path)]
    before = sorted(tmp_path.rglob("*"))
    assert main(arguments) == code
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if not line.startswith("2")]  # log lines begin with a date
    assert lines[0].startswith("error: ")
    assert lines[1].startswith("hint: ")
    assert part in lines[0]
    assert "Traceback" not in err
    assert SECRET not in out + err
    assert sorted(tmp_path.rglob("*")) == before


def test_an_export_directory_that_is_a_file_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is named, and stays what it is."""
    assert main(_export_directory_is_a_file(tmp_path)) == 1
    assert "error: " in capsys.readouterr().err
    assert (tmp_path / "out").is_file()


def test_a_misspelt_environment_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The variable and the allowed words are named."""
    monkeypatch.setenv("DB_EXPORT_ENVIRONMENT", "prod")
    assert main([]) == 2
    err = capsys.readouterr().err
    assert "DB_EXPORT_ENVIRONMENT" in err
    assert "development, production or testing" in err


@pytest.mark.parametrize("how", ["flag", "variable", "flag behind the command"])
def test_a_traceback_is_shown_when_debugging_was_asked_for(
    how: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By `--log-level debug` or `LOG_LEVEL`; the two lines are the last."""
    if how == "variable":
        monkeypatch.setenv("DB_EXPORT_LOG_LEVEL", "debug")
    flags = [] if how == "variable" else ["--log-level", "debug"]
    arguments = ["check", *flags] if how == "flag behind the command" else [*flags, "check"]
    assert main([*arguments, "--database-url", "no.db"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert any(line.startswith("Traceback") for line in lines)
    assert lines[-2].startswith("error: ")


def test_development_logs_debug_but_shows_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    """The level of the environment was not asked for."""
    assert main(["check", "--database-url", "no.db"]) == 1
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("level", ["debug", "info"])
def test_an_unexpected_error_is_told_without_its_secrets(
    level: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A defect is one line and a hint as well; its traceback, if wanted, is redacted."""
    module = ModuleType("check")

    async def check(settings: Settings, **options: object) -> int:
        raise RuntimeError(f"first line\nconnecting to postgresql://u:{SECRET}@h/db")

    module.check = check  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "autoexport.commands.check", module)
    assert main(["check", "--log-level", level]) == 1
    err = capsys.readouterr().err
    assert "error: RuntimeError: first line connecting to postgresql://u:***@h/db\n" in err
    assert SECRET not in err
    assert ("Traceback" in err) == (level == "debug")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KeyboardInterrupt(), 130),
        (SourceError("gone", hint="wait"), 1),
        (ConfigurationError("bad", hint="mend"), 2),
    ],
)
def test_errors_that_commands_raise_have_their_exit_codes(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An interrupt is 130, an error has the code of its class; none shows a traceback."""
    module = ModuleType("status")

    def status(settings: Settings, **options: object) -> int:
        raise error

    module.status = status  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "autoexport.commands.status", module)
    assert main(["status"]) == code
    assert "Traceback" not in capsys.readouterr().err


# --- as a program --------------------------------------------------------------------------------


def _run(*arguments: str, folder: Path, **options: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [sys.executable, "-m", "autoexport", *arguments],
        cwd=folder,
        env=environment,
        text=True,
        stderr=subprocess.PIPE,
        check=False,
        **options,
    )


def test_the_module_can_be_run(tmp_path: Path) -> None:
    """`python -m autoexport` names itself so, and its exit code is the process's."""
    done = _run("--help", folder=tmp_path, stdout=subprocess.PIPE)
    assert done.returncode == 0
    assert "Usage: python -m autoexport" in done.stdout
    done = _run("--nonsense", folder=tmp_path, stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout) == (2, "")


def test_a_reader_that_goes_away_causes_no_traceback(tmp_path: Path) -> None:
    """`autoexport --help | head -0`."""
    reading, writing = os.pipe()
    os.close(reading)
    done = _run("--help", folder=tmp_path, stdout=writing)
    os.close(writing)
    assert done.stderr == ""


def test_a_terminal_that_is_not_utf8_is_no_reason_to_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names and help texts hold characters that ASCII does not have."""
    monkeypatch.setenv("PYTHONIOENCODING", "ascii:strict")
    done = _run("check", "--database-url", "näh.db", folder=tmp_path, stdout=subprocess.PIPE)
    assert done.returncode == 1
    assert "n\\xe4h.db" in done.stderr


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    """Start-up is what a timer pays every minute."""
    code = (
        "import sys; from autoexport.cli import main; main(['--version']); heavy = "
        "'sqlalchemy asyncpg aiosqlite watchfiles structlog rich'.split(); "
        "print(*[name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1:] == [""]
