"""What an export may show to others: modes, links, guessable names, passwords, columns that are not mapped."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import pytest
from structlog.testing import capture_logs

import autoexport
from autoexport.errors import AutoexportError
from autoexport.files import create_new, temp_beside
from autoexport.formats import FILE_NAMES, chosen_formats
from autoexport.sources import open_source
from autoexport.spool import spools
from tests.applications import CANARY, CANARY_NUMBER, fill_postgres
from tests.conftest import program_environment, run_autoexport
from tests.daemon import wait_until
from tests.databases import Database, SqliteDatabase
from tests.postgres import PASSWORD, PostgresServer
from tests.postgres_connection import PostgresConnection
from tests.trials import Trial, everything_in

PRIVATE = ("ledger.json", "position", "publish.lock", ".gitignore")
RENAME = "UPDATE projects SET name = ? WHERE id = 1"
END_SESSIONS = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'application'"
WRONG_PASSWORD = "hunter2:/@not-to-be-shown"


@pytest.fixture
def trial(sqlite_database: SqliteDatabase, tmp_path: Path) -> Trial:
    """An exporter of the sample that has exported once."""
    made = Trial(sqlite_database.url, tmp_path / "exports")
    made.export()
    return made


@contextmanager
def umask(mask: int) -> Iterator[None]:
    """New files with another mask."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode(path: Path) -> int:
    """The permission bits."""
    return stat.S_IMODE(path.lstat().st_mode)


# --- modes -------------------------------------------------------------------------------------------


class Observer:
    """Looks at the state directory while an export is at work, once a block."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.open_files: dict[str, int] = {}

    def start(self, total_rows: int | None) -> None:
        """The rows are being read: the copy and the spools are there."""
        self.advance(0)

    def advance(self, rows: int) -> None:
        """Note the mode of every open file in the state directory, named or not."""
        for descriptor in os.listdir("/proc/self/fd"):
            try:
                target = os.readlink(f"/proc/self/fd/{descriptor}")
                if target.startswith(f"{self.state}/"):
                    status = os.stat(f"/proc/self/fd/{descriptor}")
                    self.open_files[Path(target).name] = stat.S_IMODE(status.st_mode)
                    assert status.st_nlink == 0 or "lock" in target or "position" in target, target
            except FileNotFoundError:
                continue

    def finish(self) -> None:
        """The rows are read."""


@pytest.mark.skipif(sys.platform != "linux", reason="which files are open, /proc tells")
@pytest.mark.parametrize("mask", [0o022, 0o000])
def test_working_copies_are_private_and_nameless(
    sqlite_database: SqliteDatabase, tmp_path: Path, mask: int
) -> None:
    """While rows are read: the copy and the spools are 0600, in a directory of 0700, and have no name any more."""
    trial = Trial(sqlite_database.url, tmp_path / "exports")
    observer = Observer(trial.state)
    with umask(mask):
        trial.export(progress=observer)
    kinds = {name.partition("-")[0] for name in observer.open_files}
    assert {"copy", "spool"} <= kinds, observer.open_files
    assert set(observer.open_files.values()) == {0o600}
    assert mode(trial.state) == 0o700
    for name in PRIVATE[:3]:
        assert mode(trial.state / name) == 0o600, name


@pytest.mark.skipif(sys.platform != "linux", reason="creation is seen by way of the audit hook of this platform")
def test_a_working_copy_is_never_anybody_else_s(sqlite_database: SqliteDatabase, tmp_path: Path) -> None:
    """From its first moment: it is created with its mode, not given it afterwards; also by SQLite."""
    trial = Trial(sqlite_database.url, tmp_path / "exports")
    seen: list[tuple[str, int]] = []

    async def watch() -> None:
        source = open_source(trial.settings)
        trial.state.mkdir(parents=True, mode=0o700)
        taking = asyncio.create_task(_take(source))
        while not taking.done():
            seen.extend((path.name, mode(path)) for path in trial.state.glob("copy-*") if path.exists())
            await asyncio.sleep(0)
        await source.aclose()

    with umask(0):
        asyncio.run(watch())
    assert {bits for _, bits in seen} <= {0o600}
    assert not list(trial.state.glob("copy-*"))


async def _take(source: object) -> None:
    async with source.snapshot():  # type: ignore[attr-defined]
        pass


def test_an_open_state_directory_is_closed(trial: Trial, sqlite_database: SqliteDatabase) -> None:
    """Somebody made it readable for all; the next export takes that back."""
    trial.state.chmod(0o777)
    trial.export()
    assert mode(trial.state) == 0o700
    sqlite_database.close()


def test_public_files_follow_the_umask(sqlite_database: SqliteDatabase, tmp_path: Path) -> None:
    """What is for readers is as private as the user's other files."""
    for mask, expected in ((0o022, 0o644), (0o077, 0o600)):
        trial = Trial(sqlite_database.url, tmp_path / f"exports-{mask:o}")
        with umask(mask):
            trial.export()
        for name in (*FILE_NAMES, "manifest.json"):
            assert mode(trial.directory / name) == expected, name


# --- links -------------------------------------------------------------------------------------------


def link_to(elsewhere: Path) -> Callable[[Path], None]:
    """Puts a link to this file in place of a file."""

    def damage(path: Path) -> None:
        path.unlink(missing_ok=True)
        path.symlink_to(elsewhere)

    return damage


@pytest.mark.parametrize("name", [*FILE_NAMES, "manifest.json"])
def test_a_published_name_that_is_a_link_is_replaced(
    trial: Trial, sqlite_database: SqliteDatabase, tmp_path: Path, name: str
) -> None:
    """The link goes, what it led to stays as it was."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"of somebody else")
    victim.chmod(0o640)
    link_to(victim)(trial.directory / name)
    sqlite_database.execute(RENAME, "another")
    trial.export()
    assert victim.read_bytes() == b"of somebody else"
    assert mode(victim) == 0o640
    assert not (trial.directory / name).is_symlink()
    assert not trial.differences()


@pytest.mark.parametrize("name", ["ledger.json", "position", ".gitignore", "status.json"])
def test_a_private_name_that_is_a_link_is_not_followed(
    trial: Trial, sqlite_database: SqliteDatabase, tmp_path: Path, name: str
) -> None:
    """Neither written through nor believed, if it leads out of the directory."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"of somebody else")
    link_to(victim)(trial.state / name)
    sqlite_database.execute(RENAME, "another")
    trial.export()
    assert victim.read_bytes() == b"of somebody else"
    assert not trial.differences()


@pytest.mark.parametrize("name", [".gitignore", "publish.lock"])
def test_a_dangling_link_makes_no_file_elsewhere(
    sqlite_database: SqliteDatabase, tmp_path: Path, name: str
) -> None:
    """A private name that leads to a file that is not there creates none."""
    trial = Trial(sqlite_database.url, tmp_path / "exports")
    trial.state.mkdir(parents=True)
    (trial.state / name).symlink_to(tmp_path / "made")
    with suppress(AutoexportError):
        trial.export()
    assert not (tmp_path / "made").exists()


def test_a_lock_that_is_a_link_is_refused(trial: Trial, tmp_path: Path) -> None:
    """Told, with the file's name; what it leads to is neither locked nor changed."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"of somebody else")
    link_to(victim)(trial.state / "publish.lock")
    with pytest.raises(AutoexportError, match=r"publish\.lock") as raised:
        trial.export()
    assert raised.value.hint
    assert victim.read_bytes() == b"of somebody else"


def test_a_state_directory_that_is_a_link_is_refused(trial: Trial, tmp_path: Path) -> None:
    """Working copies would lie where somebody else may look; nothing is written or chmodded there."""
    elsewhere = tmp_path / "elsewhere"
    trial.state.rename(tmp_path / "aside")
    elsewhere.mkdir(mode=0o755)
    trial.state.symlink_to(elsewhere)
    with pytest.raises(AutoexportError, match="symbolic link") as raised:
        trial.export()
    assert raised.value.hint
    assert not list(elsewhere.iterdir())
    assert mode(elsewhere) == 0o755


def test_the_sweep_follows_no_link(trial: Trial, tmp_path: Path) -> None:
    """Leftovers that are links are removed, what they lead to is not."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "file").write_bytes(b"of somebody else")
    links = [trial.state / f"copy-{'0' * 16}.sqlite3", trial.state / f"spool-{'0' * 16}",
             trial.directory / f".images.csv.{'0' * 16}.autoexport-tmp"]  # fmt: skip
    for link in links:
        link.symlink_to(victim / "file")
    trial.export()
    assert not [link for link in links if link.is_symlink()]
    assert (victim / "file").read_bytes() == b"of somebody else"


# --- names -------------------------------------------------------------------------------------------


def test_temp_names_cannot_be_guessed(tmp_path: Path) -> None:
    """64 random bits in each; and a name that is taken, by a link even, is refused and not followed."""
    names = {temp_beside(tmp_path / "images.csv").name for _ in range(1000)}
    assert len(names) == 1000
    assert all(len(name.split(".")[-2]) == 16 for name in names)
    (tmp_path / "taken").symlink_to(tmp_path / "made")
    with pytest.raises(FileExistsError):
        create_new(tmp_path / "taken")
    assert not (tmp_path / "made").exists()


def test_a_copy_and_a_spool_refuse_a_name_that_is_taken(
    sqlite_database: SqliteDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if somebody could guess the name: a link in its place is not written through."""
    monkeypatch.setattr("secrets.token_hex", lambda size: "guessed")
    trial = Trial(sqlite_database.url, tmp_path / "exports")
    trial.state.mkdir(parents=True, mode=0o700)
    victim = tmp_path / "victim"
    for name in ("copy-guessed.sqlite3", "spool-guessed"):
        (trial.state / name).symlink_to(victim)

    async def use() -> None:
        source = open_source(trial.settings)
        with pytest.raises(OSError, match="exists"):
            async with source.snapshot():
                pass
        await source.aclose()
        (trial.state / "spool-guessed").unlink(missing_ok=True)
        (trial.state / "spool-guessed").symlink_to(victim)
        with pytest.raises(OSError, match="exists"):
            async with spools(trial.state, chosen_formats(trial.settings)):
                pass

    asyncio.run(use())
    assert not victim.exists()


# --- passwords ---------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="the process title, /proc tells")
def test_no_password_gets_out_of_a_daemon(
    postgres_server: PostgresServer, postgres_database: str, tmp_path: Path
) -> None:
    """Log at debug level, status, state, manifest, files and process title, while it works and while it fails."""
    exports, log = tmp_path / "exports", tmp_path / "log"
    env = {"DB_EXPORT_DATABASE_URL": postgres_database}
    with PostgresConnection(postgres_database) as connection:
        fill_postgres(connection)
    command = [sys.executable, "-m", "autoexport", "--monitor", "--interval", "0.3", "--log-level", "debug"]
    with log.open("wb") as file:
        daemon = subprocess.Popen(
            [*command, "--export-dir", str(exports)], env=program_environment(env), stdout=file, stderr=file
        )
    try:
        wait_until(lambda: b"export.published" in log.read_bytes(), "it has published")
        title = Path(f"/proc/{daemon.pid}/cmdline").read_bytes() + Path(f"/proc/{daemon.pid}/comm").read_bytes()
        postgres_server.admin(f"ALTER ROLE application PASSWORD '{WRONG_PASSWORD}'")
        postgres_server.admin(END_SESSIONS)
        wait_until(lambda: b"refused the login" in log.read_bytes(), "it cannot log in any more")
        told = run_autoexport("status", "--json", "--export-dir", str(exports), env=env)
    finally:
        postgres_server.admin(f"ALTER ROLE application PASSWORD '{PASSWORD}'")
        daemon.terminate()
        daemon.wait(20)
    everything = everything_in([exports]) + title + (told.stdout + told.stderr).encode() + log.read_bytes()
    assert json.loads(told.stdout)["last_error"]
    assert PASSWORD.encode() not in everything


@pytest.mark.parametrize("command", ["--full", "check", "verify"])
def test_no_password_gets_out_of_a_command_that_fails(tmp_path: Path, command: str) -> None:
    """Tracebacks at debug level included; the password has every character that could end it early, as it is
    (then the URL is refused) and encoded (then there is no server)."""
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
    """Of no table and column that is not mapped, on any kind of database: not into any file, log or message,
    by exports, by `check` and by a `verify` that finds drift, at debug level."""
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
    """No statement that reaches the server names one, and none asks for all columns."""
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
    """In no file of the package."""
    root = Path(autoexport.__file__).parent
    found = {
        str(path.relative_to(root)): offences
        for path in root.rglob("*.py")
        if (offences := list(_offences(ast.parse(path.read_text(encoding="utf-8")))))
    }
    assert not found
    assert list(_offences(ast.parse("import pickle\neval('1')\nsubprocess.run('x', shell=True)\nos.system('x')")))


def test_the_linter_watches_for_more() -> None:
    """ruff's security rules are on for the package and nothing of it is switched off as a whole."""
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--select", "S", str(Path(autoexport.__file__).parent)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_logs_hold_no_values(trial: Trial, sqlite_database: SqliteDatabase) -> None:
    """Not even of mapped columns: events say how much, not what."""
    sqlite_database.execute(RENAME, "a name that is nobody's business")
    with capture_logs() as logs:
        trial.export()
    assert logs
    assert "nobody's business" not in repr(logs)
