"""Runs daemons under writers, kills and restarts of PostgreSQL: `python -m tests.soak --minutes 30`.

There are three databases. The files are checked at the end and after each kill of a daemon. Torn: a file cannot be
parsed or mixes two snapshots. Missed: `verify` finds a difference when everything is at rest. Leaked: a password,
or a value of an unmapped column, is in a file, log or message. The exit code is 0 if nothing was torn, missed or
leaked.
"""

from __future__ import annotations

import argparse
import random
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.applications import CANARY, CANARY_NUMBER, create_sqlite, fill_postgres, fill_sqlite
from tests.conftest import run_autoexport
from tests.crash.test_random_kills import check_directory
from tests.daemon import Daemon, generation, wait_until
from tests.outputs import ALL_OUTPUT_VARIABLES
from tests.postgres import PASSWORD, PostgresServer, running_server
from tests.postgres_connection import PostgresConnection
from tests.trials import Trial, everything_in
from tests.writer import Writer, database_of

SECRETS = (PASSWORD, CANARY, str(CANARY_NUMBER))
SETTLE_LIMIT_S = 120.0
LONGEST_LIFE_S = 8.0
RESTART_SHARE = 0.1


@dataclass
class Figures:
    """The counts over all databases."""

    kills: int = 0
    restarts: int = 0
    publishes: int = 0
    commits: int = 0
    looks: int = 0
    torn: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    leaked: list[str] = field(default_factory=list)

    def table(self, minutes: float) -> str:
        """The counts as a Markdown table of one row."""
        names = (
            "minutes",
            "commits",
            "publishes",
            "kills",
            "restarts of PostgreSQL",
            "looks",
            "torn",
            "missed",
            "leaked",
        )
        values = (f"{minutes:.1f}", self.commits, self.publishes, self.kills, self.restarts, self.checks,
                  len(self.torn), len(self.missed), len(self.leaked))  # fmt: skip
        return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in (names, ["---"] * len(names), values))


class Place:
    """One database, its application at work, and a daemon that is killed and started again."""

    def __init__(self, name: str, url: str, root: Path, seed: int) -> None:
        self.name = name
        self.url = url
        self.root = root / name
        self.root.mkdir()
        database = database_of(url)
        database.execute("UPDATE projects SET description = 'commit 0' WHERE id IN (1, 2)")
        database.close()
        self.trial = Trial(url, self.root / "exports")
        self.writer = Writer(url, seed)
        self.daemon = self.start()

    def start(self) -> Daemon:
        """A new daemon."""
        return Daemon(self.url, self.root / "exports", interval_s=0.5, env=ALL_OUTPUT_VARIABLES)

    def kill(self, figures: Figures) -> None:
        """End the daemon as a power cut would, look at the files, start it again."""
        if self.daemon.process.poll() is not None:
            figures.missed.append(f"{self.name}: the daemon ended by itself with {self.daemon.process.returncode}")
        self.daemon.process.send_signal(signal.SIGKILL)
        self.daemon.process.wait()
        figures.kills += 1
        self.look(figures)
        self.daemon = self.start()

    def look(self, figures: Figures) -> None:
        """Check that every file is whole."""
        figures.checks += 1
        try:
            check_directory(self.trial)
        except (AssertionError, ValueError) as error:
            figures.torn.append(f"{self.name}: {error}")

    def finish(self, figures: Figures) -> None:
        """Stop the application, wait until the daemon is at rest, and compare the files with the database."""
        figures.commits += self.writer.stop()
        stopped_at = time.time()
        try:
            wait_until(
                lambda: self.daemon.rests(stopped_at), "the daemon has nothing more to do", SETTLE_LIMIT_S, 1.0
            )
        except AssertionError as error:
            figures.missed.append(f"{self.name}: {error}")
        self.daemon.stop()
        done = run_autoexport("verify", "--database-url", self.url, "--export-dir", str(self.trial.directory),
                              env=ALL_OUTPUT_VARIABLES, timeout_s=300)  # fmt: skip
        if done.exit_code:
            figures.missed.append(f"{self.name}: {done.stdout}{done.stderr}")
        if self.trial.leftovers():
            figures.missed.append(f"{self.name}: left behind {self.trial.leftovers()}")
        if self.url.startswith("sqlite"):
            self.trial.check_equals(Path(self.url.removeprefix("sqlite:///")))
        self.look(figures)
        figures.publishes += generation(self.trial.directory)
        told = everything_in([self.root]) + done.stdout.encode() + done.stderr.encode()
        figures.leaked += [f"{self.name}: {secret}" for secret in SECRETS if secret.encode() in told]

    def close(self) -> None:
        """Kill the daemon and the writer."""
        self.daemon.process.kill()
        self.daemon.process.wait()
        self.writer._process.kill()
        self.writer._process.communicate()


def _sqlite(path: Path, mode: str) -> str:
    connection: sqlite3.Connection = create_sqlite(path, journal_mode=mode)
    fill_sqlite(connection)
    connection.close()
    return f"sqlite:///{path}"


@contextmanager
def places(root: Path, server: PostgresServer) -> Iterator[list[Place]]:
    """The three databases. The SQLite files lie outside of the directories that are searched for secrets."""
    with ExitStack() as stack:
        url = stack.enter_context(server.database())
        with PostgresConnection(url) as connection:
            fill_postgres(connection)
        urls = {
            "delete": _sqlite(root / "delete.sqlite3", "delete"),
            "wal": _sqlite(root / "wal.sqlite3", "wal"),
            "postgresql": url,
        }
        made: list[Place] = []
        for seed, (name, own) in enumerate(urls.items(), start=1):
            made.append(Place(name, own, root, seed))
            stack.callback(made[-1].close)
        yield made


def soak(minutes: float, seed: int) -> Figures:
    """Kill daemons and restart the server for so many minutes, and count the results."""
    figures, draw = Figures(), random.Random(seed)
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="autoexport-soak-")))
        server = stack.enter_context(running_server())
        made = stack.enter_context(places(root, server))
        deadline = time.monotonic() + 60 * minutes
        while time.monotonic() < deadline:
            time.sleep(draw.uniform(0, LONGEST_LIFE_S / len(made)))
            if draw.random() < RESTART_SHARE:
                server.restart(draw.choice(("fast", "immediate")))
                figures.restarts += 1
            draw.choice(made).kill(figures)
        for place in made:
            place.finish(figures)
    return figures


def main() -> int:
    """Run the soak and print the figures. Returns 1 if anything was torn, missed or leaked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}", flush=True)
    figures = soak(chosen.minutes, chosen.seed)
    print(figures.table(chosen.minutes))
    for found in (*figures.torn, *figures.missed, *figures.leaked):
        print(found, file=sys.stderr)
    return 1 if figures.torn or figures.missed or figures.leaked else 0


if __name__ == "__main__":
    sys.exit(main())
