"""Passwords, unmapped columns and values in logs do not leak, and the code has no way to leak them."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from structlog.testing import capture_logs

import autoexport
from tests.applications import CANARY, CANARY_NUMBER, fill_postgres
from tests.conftest import program_environment, run_autoexport
from tests.daemon import wait_until
from tests.databases import Database, SqliteDatabase
from tests.deadlines import deadline_s
from tests.postgres import PASSWORD, PostgresServer
from tests.postgres_connection import PostgresConnection
from tests.processes import started
from tests.trials import Trial, everything_in

RENAME = "UPDATE projects SET name = ? WHERE id = 1"
END_SESSIONS = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'application'"
WRONG_PASSWORD = "hunter2:/@not-to-be-shown"


@pytest.fixture
def trial(sqlite_database: SqliteDatabase, tmp_path: Path) -> Trial:
    """An exporter of the sample that has exported once."""
    made = Trial(sqlite_database.url, tmp_path / "exports")
    made.export()
    return made


# --- passwords ---------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc, to read the process title")
def test_no_password_gets_out_of_a_daemon(
    postgres_server: PostgresServer, postgres_database: str, tmp_path: Path
) -> None:
    """A daemon that works and then fails shows no password in logs, status, files or process title."""
    exports, log = tmp_path / "exports", tmp_path / "log"
    env = {"DB_EXPORT_DATABASE_URL": postgres_database}
    with PostgresConnection(postgres_database) as connection:
        fill_postgres(connection)
    command = [sys.executable, "-m", "autoexport", "--monitor", "--interval", "0.3", "--log-level", "debug"]
    with (
        log.open("wb") as file,
        started(
            [*command, "--export-dir", str(exports)], env=program_environment(env), stdout=file, stderr=file
        ) as daemon,
    ):
        wait_until(lambda: b"published generation" in log.read_bytes(), "it has published")
        title = Path(f"/proc/{daemon.pid}/cmdline").read_bytes() + Path(f"/proc/{daemon.pid}/comm").read_bytes()
        try:
            postgres_server.admin(f"ALTER ROLE application PASSWORD '{WRONG_PASSWORD}'")
            postgres_server.admin(END_SESSIONS)
            wait_until(lambda: b"refused the login" in log.read_bytes(), "it cannot log in any more")
            told = run_autoexport("status", "--json", "--export-dir", str(exports), env=env)
        finally:
            postgres_server.admin(f"ALTER ROLE application PASSWORD '{PASSWORD}'")
        daemon.terminate()
        daemon.wait(deadline_s(20))
    everything = everything_in([exports]) + title + (told.stdout + told.stderr).encode() + log.read_bytes()
    assert json.loads(told.stdout)["last_error"]
    assert PASSWORD.encode() not in everything


@pytest.mark.parametrize("command", ["--full", "check", "verify"])
def test_no_password_gets_out_of_a_command_that_fails(tmp_path: Path, command: str) -> None:
    """A command that fails shows no password, not even in tracebacks at debug level.

    The password has every character that could end it early. Unencoded, the URL is refused; encoded, there is no
    server.
    """
    (tmp_path / "exports").mkdir()
    for password, exit_codes in ((WRONG_PASSWORD, (2,)), (quote(WRONG_PASSWORD, safe=""), (1, 3))):
        url = f"postgresql://reader:{password}@127.0.0.1:1/name?sslmode=disable"
        done = run_autoexport(command, "--database-url", url, "--export-dir", "exports", "--log-level", "debug",
                              cwd=tmp_path)  # fmt: skip
        told = done.stdout + done.stderr
        assert done.exit_code in exit_codes, told
        assert "not-to-be-shown" not in told
        assert "hunter2" not in told
        assert b"hunter2" not in everything_in([tmp_path])


# --- columns that are not mapped ---------------------------------------------------------------------


def test_no_canary_gets_out(database: Database, tmp_path: Path) -> None:
    """No unmapped table or column gets into a file, log or message, on any kind of database.

    That holds for exports, `check`, and a `verify` that finds drift, at debug level.
    """
    exports = tmp_path / "exports"
    where = ("--database-url", database.url, "--export-dir", str(exports), "--log-level", "debug")
    told = b""
    for command, exit_codes in (((), (0,)), (("check",), (0,)), (("verify",), (3,)), (("--full",), (0,))):
        done = run_autoexport(*command, *where, cwd=tmp_path)
        assert done.exit_code in exit_codes, done.stderr
        told += (done.stdout + done.stderr).encode()
        database.execute(RENAME, f"before the command after {command}")
    told += everything_in([exports])
    assert b"Vehicles" in told or b"before the command" in told, "what is mapped is there"
    for secret in (CANARY, CANARY[-20:], str(CANARY_NUMBER)):
        assert secret.encode() not in told


def test_columns_that_are_not_mapped_are_not_asked_for(
    postgres_server: PostgresServer, postgres_database: str, tmp_path: Path
) -> None:
    """No statement that reaches the server names an unmapped column, and none asks for all columns."""
    with PostgresConnection(postgres_database) as connection:
        fill_postgres(connection)
    postgres_server.admin("ALTER ROLE application SET log_statement = 'all'")
    already = postgres_server.log.stat().st_size
    try:
        trial = Trial(postgres_database, tmp_path / "exports")
        trial.export()
        with PostgresConnection(postgres_database) as connection:
            connection.execute(RENAME, "another")
        trial.export()
        assert not trial.differences()
    finally:
        postgres_server.admin("ALTER ROLE application RESET log_statement")
    statements = postgres_server.log.read_bytes()[already:].decode()
    assert "file_path" in statements, "what is mapped was asked for"
    for name in ("dev_mode_settings", "password_hash", "label_analytics", "alembic_version", "default_model_id",
                 "total_images", "iou_threshold", "auto_label_enabled"):  # fmt: skip
        assert name not in statements
    assert "SELECT *" not in statements.upper()


# --- the code ----------------------------------------------------------------------------------------

_FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
_FORBIDDEN_MODULES = {"pickle", "cPickle", "marshal", "shelve", "dill", "yaml"}
_SHELLS = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}


def _offences(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            yield from (f"imports {name}" for name in names if name.partition(".")[0] in _FORBIDDEN_MODULES)
        elif isinstance(node, ast.Call):
            function = node.func
            if isinstance(function, ast.Name) and function.id in _FORBIDDEN_CALLS:
                yield f"calls {function.id}"
            if ast.unparse(function) in _SHELLS:
                yield f"calls {ast.unparse(function)}"
            for keyword in node.keywords:
                if keyword.arg == "shell" and not (
                    isinstance(keyword.value, ast.Constant) and not keyword.value.value
                ):
                    yield "uses a shell"


def test_no_shell_no_eval_no_pickle() -> None:
    """No file of the package uses them.

    One module uses `marshal`, and one `pickle`, for what never leaves one export: an exporter tells a worker of
    its own what to do, through a pipe that no other program has.
    """
    root = Path(autoexport.__file__).parent
    found = {
        str(path.relative_to(root)): offences
        for path in root.rglob("*.py")
        if (offences := list(_offences(ast.parse(path.read_text(encoding="utf-8")))))
    }
    assert found == {
        "model/packing.py": ["imports marshal"],
        "pipeline/range_messages.py": ["imports pickle"],
    }
    assert list(_offences(ast.parse("import pickle\neval('1')\nsubprocess.run('x', shell=True)\nos.system('x')")))


def test_the_linter_watches_for_more() -> None:
    """ruff's security rules are on for the package, and none is switched off as a whole."""
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--select", "S", str(Path(autoexport.__file__).parent)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_logs_hold_no_values(trial: Trial, sqlite_database: SqliteDatabase) -> None:
    """Logs hold no values, not even of mapped columns: events say how much, not what."""
    sqlite_database.execute(RENAME, "a name that is private")
    with capture_logs() as logs:
        trial.export()
    assert logs
    assert "that is private" not in repr(logs)
