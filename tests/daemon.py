"""Runs the daemon as a process, and waits for facts about it instead of a time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from autoexport.daemon.report import Report
from autoexport.daemon.status_socket import ask
from autoexport.sources.sqlite.watch import YOUNG_S, take_stamp
from tests.conftest import program_environment
from tests.deadlines import deadline_s
from tests.outputs import DEFAULT_FILES, PUBLIC_NAMES

LIMIT_S = 20.0
"""Seconds on the reference machine, for `deadline_s`."""

PUBLISHED = (*DEFAULT_FILES, "manifest.json")


def wait_until(
    condition: Callable[[], object], what: str, limit_s: float = LIMIT_S, every_s: float = 0.02
) -> None:
    """Ask again and again until it is so. Raises AssertionError after the deadline of `limit_s` seconds."""
    began = time.monotonic()
    while not condition():
        waited_s = time.monotonic() - began
        assert waited_s < deadline_s(limit_s), f"not within {waited_s:.1f} s: {what}"
        threading.Event().wait(every_s)


class Daemon:
    """`python -m autoexport --monitor` on one database and export directory; killed at the end if need be."""

    def __init__(
        self,
        url: str,
        directory: Path,
        *arguments: str,
        interval_s: float = 0.5,
        env: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
        program: Sequence[str] = ("-m", "autoexport"),
    ) -> None:
        self.directory = directory
        self._file = None if url.startswith("postgresql:") else Path(url.removeprefix("sqlite:///"))
        self.log = directory.parent / f"daemon-{directory.name}-{os.urandom(4).hex()}.log"
        command = [
            *prefix, sys.executable, *program, "--monitor", "--database-url", url,
            "--export-dir", str(directory), "--interval", str(interval_s),
            "--log-format", "json", "--log-level", "debug", *arguments,
        ]  # fmt: skip
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=directory.parent, env=program_environment(env), stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # its children as well
        self.process.wait()
        if error is not None:
            sys.stderr.write(self.log.read_text())

    # --- what it says ------------------------------------------------------------------------------------

    def events(self, name: str) -> list[dict[str, Any]]:
        """The log lines of this name so far."""
        lines = [line for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [event for event in map(json.loads, lines) if event["event"] == name]

    def wait_for(self, name: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait until there are so many log lines of this name."""
        wait_until(lambda: len(self.events(name)) >= count or self.process.poll() is not None, f"{count} × {name}")
        found = self.events(name)
        assert len(found) >= count, f"it ended with {self.process.returncode} before {count} × {name}"
        return found

    @property
    def report(self) -> Report | None:
        """Its answer on the status socket; None if it does not answer."""
        answer = ask(self.directory / ".autoexport")
        return Report.from_json(answer) if answer else None

    def wait_for_report(self, condition: Callable[[Report], object], what: str, every_s: float = 0.05) -> None:
        """Wait until its report meets the condition. Each question costs the daemon a little."""
        wait_until(lambda: (report := self.report) is not None and condition(report), what, every_s=every_s)

    def wait_until_idle(self) -> None:
        """Wait until it has exported, has checked a young file again, and has nothing left to do."""
        asked_at = time.time()
        wait_until(lambda: self.rests(asked_at), "it watches and has nothing to do", every_s=0.1)

    def rests(self, asked_at: float) -> bool:
        """Whether it has nothing to do after what was committed by this moment (seconds since the epoch)."""
        report = self.report
        if report is None or report.state != "watching" or report.oldest_change_at is not None:
            return False
        if not self.events("export.published") and not self.events("export.unchanged"):
            return False
        # With file events there is no check without a change, but the last one is made when the file is not young.
        old_at = asked_at if self._file is None else take_stamp(self._file).newest_s + YOUNG_S
        return (report.last_check_at or 0) >= old_at

    def checked_after(self, moment: float) -> None:
        """Wait until a check was completed that began after this moment (seconds since the epoch)."""
        self.wait_for_report(
            lambda report: (report.last_check_at or 0) > moment + report.interval_s,
            "another check was completed",
            every_s=2,
        )

    # --- what it is told ---------------------------------------------------------------------------------

    def export_now(self) -> bool:
        """Ask for an export with SIGUSR1; whether it published."""
        before = len(self.events("export.unchanged")), len(self.events("export.published"))
        self.process.send_signal(signal.SIGUSR1)
        wait_until(
            lambda: (len(self.events("export.unchanged")), len(self.events("export.published"))) != before,
            "the export that was asked for",
        )
        return len(self.events("export.published")) > before[1]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(deadline_s(LIMIT_S))


# --- what is on disk -----------------------------------------------------------------------------


def generation(directory: Path) -> int:
    """The generation of the published files; 0 if there are none."""
    try:
        return int(json.loads((directory / "manifest.json").read_text())["generation"])
    except FileNotFoundError:
        return 0


def project_names(directory: Path) -> list[str]:
    """The names of the published projects; none where nothing is published."""
    try:
        tree = json.loads((directory / "database_export.json").read_text())
    except FileNotFoundError:
        return []
    return [project["name"] for project in tree["projects"]]


def leftovers(directory: Path) -> list[str]:
    """Names in the export and state directories that a stopped exporter should not leave."""
    known = {*PUBLIC_NAMES, ".autoexport", ".gitignore", "leader.lock", "publish.lock",
             "ledger.json", "position", "status.json", "unlisted"}  # fmt: skip
    manifest = directory / "manifest.json"
    listed = json.loads(manifest.read_bytes())["files"] if manifest.exists() else {}
    # Label files that no list names stay for ten minutes; they are noted.
    noted = directory / ".autoexport" / "unlisted"
    waiting = [line.partition(" ")[2] for line in noted.read_text().splitlines()] if noted.exists() else []
    public = {str(path) for name in (*listed, *waiting) for path in (Path(name), *Path(name).parents)}
    found = (str(path.relative_to(directory)) for path in directory.rglob("*") if path.name not in known)
    below = tuple(name for name in listed if name.endswith("/"))
    return sorted(name for name in found if name not in public and not f"{name}/".startswith(below))
