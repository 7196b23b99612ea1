"""Runs exports and kills them as told on standard input: `python -m tests.crash.yard URL DIRECTORY`.

Each export is a process of its own, forked off this one, which has loaded everything and has no thread;
so a kill costs a tenth of a second, not the start of an interpreter. Orders, a line each: `call 17` (ends
itself with SIGKILL ahead of its 17th system call on the export directory), `after 0.05` (killed so many
seconds after it began), `whole` (not at all). The answer is a line of JSON.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from autoexport.errors import AutoexportError
from tests.conftest import REPOSITORY, program_environment
from tests.disk_calls import Call, watched
from tests.trials import Trial


@dataclass(frozen=True)
class Death:
    """How an export ended: by SIGKILL or by itself, where, and after how many seconds."""

    killed: bool
    at: str
    duration_s: float


class Yard:
    """The process that runs and kills the exports."""

    def __init__(self, url: str, directory: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.yard", url, str(directory)], cwd=REPOSITORY,
            env=program_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip

    def order(self, order: str) -> Death:
        """Carry out an order and wait for its end. An export that fails by itself is an AssertionError."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(order + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        assert "error" not in answer, answer["error"]
        return Death(**answer)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)  # an export in hand as well
        self._process.communicate()


# --- in the yard -----------------------------------------------------------------------------------


def _export(trial: Trial, last_call: int | None, told: IO[str]) -> None:
    """Export, in the child, which kills itself ahead of the call of this number."""

    def end(call: Call) -> None:
        if call.number == last_call:
            told.write(str(call))
            told.flush()
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        if last_call is None:
            trial.export()
        else:
            with watched([trial.directory], end):
                trial.export()
    except AutoexportError as error:
        told.write(f"error: {error}")
        told.flush()
        os._exit(1)


def _carry_out(trial: Trial, order: str) -> dict[str, object]:
    word, _, number = order.partition(" ")
    reading, writing = os.pipe()
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(reading)
        with os.fdopen(writing, "w") as told:
            _export(trial, int(number) if word == "call" else None, told)
        os._exit(0)
    os.close(writing)
    if word == "after":
        time.sleep(float(number))
        os.kill(child, signal.SIGKILL)
    with os.fdopen(reading) as said:
        at = said.read()
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status) and os.waitstatus_to_exitcode(status):
        return {"error": at or f"it ended with {os.waitstatus_to_exitcode(status)}"}
    return {"killed": os.WIFSIGNALED(status), "at": at, "duration_s": time.monotonic() - began}


def main() -> None:
    """Carry out orders until there are no more."""
    trial = Trial(sys.argv[1], Path(sys.argv[2]))
    trial.settings.database  # noqa: B018 - loads what parses it, before the first fork
    for line in sys.stdin:
        sys.stdout.write(json.dumps(_carry_out(trial, line.strip())) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
