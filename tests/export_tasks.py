"""Plans, ranges and commits of a snapshot that several processes export to a lake."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from types import MappingProxyType
from typing import Any

from autoexport.cli import main
from tests.conftest import Finished, program_environment
from tests.deadlines import deadline_s
from tests.processes import started

RANGES = 3


def run(*arguments: str) -> Finished:
    """Run the program in this process: starting Python each time would take longer than the work."""
    output, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(output), redirect_stderr(errors):
        code = main(arguments)
    return Finished(code, output.getvalue(), errors.getvalue())


class Plan:
    """An `export-plan` that runs. `found` is what it printed."""

    def __init__(self, url: str, lake: Path | str, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.url, self.lake, self.process = url, lake, process
        line = process.stdout.readline()
        assert line, process.communicate()
        self.found: dict[str, Any] = json.loads(line)
        self.snapshot: str = self.found["snapshot"]

    def range(self, task: int, of: int = RANGES, **other: str) -> Finished:
        """Export one range."""
        return self._run("export-range", *("--task", str(task), "--of", str(of)), **other)

    def commit(self, **other: str) -> Finished:
        """Commit all ranges."""
        return self._run("export-commit", **other)

    def _run(self, command: str, *options: str, **other: str) -> Finished:
        return run(*self.command(command, **other), *options)

    def command(self, command: str, **other: str) -> list[str]:
        """A command on this snapshot, with the arguments that all have."""
        given = {"url": self.url, "snapshot": self.snapshot, "out": str(self.lake), **other}
        return [command, given["url"], "--snapshot", given["snapshot"], "--out", given["out"]]

    def ended(self) -> tuple[int, str]:
        """The exit code and the errors of the plan."""
        _, errors = self.process.communicate(timeout=deadline_s(60))
        return self.process.returncode, errors


@contextmanager
def planned(
    url: str, lake: Path | str, *options: str, of: int = RANGES, env: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Plan]:
    """A plan, killed at the end if it still runs."""
    named = (url, "--lake", str(lake), "--of", str(of), *options)
    command = [sys.executable, "-m", "autoexport", "export-plan", *named]
    with started(
        command, env=program_environment(env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        yield Plan(url, lake, process)


def exported(
    url: str, lake: Path | str, of: int = RANGES, env: Mapping[str, str] = MappingProxyType({})
) -> dict[str, Any]:
    """Export all ranges, the last one first, and commit; what the commit printed."""
    with planned(url, lake, of=of, env=env) as plan:
        for task in reversed(range(of)):
            assert plan.range(task, of).exit_code == 0
        done = plan.commit()
        assert (done.exit_code, *plan.ended()) == (0, 0, ""), done
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed
