"""The database as an argument, commands that work when pasted, and standard output that cannot be written."""

from __future__ import annotations

import os
import shlex
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from autoexport.cli import main
from autoexport.commands import options
from autoexport.commands.demo import make_database
from autoexport.commands.options import Invocation, program_name
from autoexport.errors import AutoexportError
from tests.conftest import program_environment, run_autoexport

pytestmark = pytest.mark.usefixtures("log_setup_put_back")
SECRET = "hunter2-geheim"


@pytest.fixture(autouse=True)
def _started_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program was not started as a module, however pytest was."""
    monkeypatch.setattr(sys, "argv", ["pytest"])


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """The sample database as app.db in the working directory."""
    make_database(tmp_path / "app.db")
    return tmp_path / "app.db"


def exports(folder: Path) -> bool:
    """Whether there is an export in the default directory of this folder."""
    return (folder / "database_exports" / "manifest.json").exists()


# --- the database as an argument -----------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["app.db"],
        ["./app.db", "--full"],
        ["--no-progress", "app.db"],
        ["sqlite:///app.db"],
        ["--log-level", "error", "app.db", "--full"],
    ],
)
def test_the_first_argument_may_be_the_database(arguments: list[str], database: Path) -> None:
    """A path or a URL, before and after other options."""
    assert main(arguments) == 0
    assert exports(database.parent)


@pytest.mark.parametrize("arguments", [["check", "app.db"], ["app.db", "check"], ["verify", "app.db"]])
def test_a_command_takes_it_too(arguments: list[str], database: Path) -> None:
    """Behind the command or before it."""
    assert main(["app.db"]) == 0
    assert main(arguments) == 0


def test_a_file_without_suffix_is_a_database_if_it_is_there(database: Path) -> None:
    """A lone word that is no file is a mistyped command."""
    database.rename("data")
    assert main(["data"]) == 0
    assert exports(database.parent)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["chek"], "Did you mean 'check'?"),
        (["app.db", "verfy"], "Did you mean 'verify'?"),
        (["app.db", "--database-url", "other.db"], "named twice"),
        (["--database-url=other.db", "app.db"], "named twice"),
        (["check", "app.db", "--database-url", "other.db"], "named twice"),
        (["app.db", "other.db"], "other.db"),
    ],
)
def test_slips_are_told(
    arguments: list[str], part: str, database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, and nothing is exported."""
    assert main(arguments) == 2
    assert part in capsys.readouterr().err.splitlines()[0]
    assert not exports(database.parent)


def test_without_a_database_the_files_here_are_named(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Those that are SQLite files, with a command to paste; without any, the ways to name one."""
    (database.parent / "notes.db").write_text("no database")
    assert main([]) == 2
    hint = capsys.readouterr().err.splitlines()[-1]
    assert hint == "hint: Name a database. Here: app.db. For example: autoexport app.db"
    database.unlink()
    assert main([]) == 2
    assert "--database-url" in capsys.readouterr().err


def test_a_mistyped_directory_is_told_as_a_missing_database(
    database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not as another database, whose ledger the user could be tempted to remove."""
    assert main(["app.db"]) == 0
    for arguments in (["typo/app.db"], ["verify", "typo/app.db"]):
        capsys.readouterr()
        assert main(arguments) == 1
        error, hint = capsys.readouterr().err.splitlines()[-2:]
        assert "no database file" in error
        assert "typo/app.db" in error
        assert "remove" not in hint
    (database.parent / "other").mkdir()
    make_database(database.parent / "other" / "app.db")
    assert main(["other/app.db"]) == 2
    assert "belongs to another database" in capsys.readouterr().err


# --- commands that work when pasted --------------------------------------------------------------


def test_the_repair_that_verify_suggests_works_when_pasted(tmp_path: Path) -> None:
    """From the same folder, with every flag that was given, in a folder with a blank in its name."""
    folder = tmp_path / "a b"
    folder.mkdir()
    make_database(folder / "my app.db")
    (folder / "set.toml").write_text("csv_guard = false\n")
    flags = ["--database-url", "my app.db", "--export-dir", "my out", "--config", "set.toml"]
    assert run_autoexport(*flags, cwd=folder).exit_code == 0
    (folder / "my out" / "images.csv").write_text("damaged")
    found = run_autoexport("verify", *flags, cwd=folder)
    assert found.exit_code == 3
    repair = found.stdout.partition("To repair the files, run:")[2]
    done = subprocess.run(
        repair, shell=True, cwd=folder, env=program_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert run_autoexport("verify", *flags, cwd=folder).exit_code == 0


def test_no_password_in_a_command_to_paste() -> None:
    """It must not be shown, so the command is told in words; without a password the URL is there."""
    url = "postgresql://ann@h/db?sslmode=require"
    invocation = Invocation(overrides={"database_url": url})
    assert shlex.split(invocation.command("--full"))[-3:] == ["--full", "--database-url", url]
    invocation.overrides["database_url"] = f"postgresql://ann:{SECRET}@h/db"
    assert invocation.command("--full") == f"{program_name()} --full, with the flags of this command"


def test_the_commands_in_hints_have_the_flags_that_were_given() -> None:
    """Only those in backquotes are commands."""
    invocation = Invocation(overrides={"export_directory": "my out"}, config_file=Path("-x.toml"))
    error = AutoexportError("x", hint="Run `python -m autoexport --full` once. See python -m autoexport.")
    assert invocation.hint(error) == (
        "Run `autoexport --full --export-dir 'my out' --config=-x.toml` once. See python -m autoexport."
    )


def test_the_program_is_named_as_it_can_be_called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By its name if that is on the path, by its place in the working directory, or by its whole path."""
    installed = tmp_path / "bin" / "autoexport"
    installed.parent.mkdir()
    installed.write_text("#!/bin/sh\n")
    installed.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(installed)])
    assert program_name() == "bin/autoexport"
    monkeypatch.setenv("PATH", f"{installed.parent}:{os.environ['PATH']}")
    assert program_name() == "autoexport"
    monkeypatch.setattr(sys, "argv", [str(Path(options.__file__).parents[1] / "__main__.py")])
    monkeypatch.setenv("PATH", "")
    assert program_name() == f"{sys.executable} -m autoexport"


# --- standard output -----------------------------------------------------------------------------


def _sh(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    line = f"set -o pipefail; {sys.executable} -m autoexport {command}"
    return subprocess.run(
        ["bash", "-c", line], cwd=folder, env=program_environment(), capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("command", ["app.db", "check app.db", "check app.db --verbose", "status", "--help"])
def test_a_full_disk_under_standard_output_is_an_error(command: str, database: Path) -> None:
    """One line and a hint, exit code 1, no word of a defect."""
    done = _sh(f"{command} >/dev/full", database.parent)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if not line.startswith("20")]
    assert lines == [
        "error: Standard output cannot be written: No space left on device.",
        "hint: Free some space on its disk, or send the output elsewhere.",
    ]


@pytest.mark.parametrize("command", ["app.db", "check app.db", "check app.db --verbose", "--help"])
def test_a_reader_that_leaves_changes_no_exit_code(command: str, database: Path) -> None:
    """`| head -1`, and a reader that has left before the first line."""
    for reader in ("head -1", "true"):
        done = _sh(f"{command} | {reader}", database.parent)
        assert done.returncode == 0, done.stderr
        assert "Broken pipe" not in done.stderr


def test_a_reader_that_leaves_does_not_hide_drift(database: Path) -> None:
    """`verify | head -1` still exits with 3."""
    assert main(["app.db"]) == 0
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE projects SET name = 'x'")
    assert _sh("verify app.db | head -1", database.parent).returncode == 3
