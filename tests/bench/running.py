"""Runs commands as measured processes, and contenders against each other in rounds."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.results import BenchError, Value, middle, ratio

REPOSITORY = Path(__file__).resolve().parents[2]
_LAUNCH = Path(__file__).with_name("launch.py")
_AMBIENT = ("DB_EXPORT_", "LOG_", "PG")
STATE = ".autoexport"


@dataclass(frozen=True, slots=True)
class Command:
    """A program with its arguments; its output goes to `stdout`, or is discarded."""

    arguments: Sequence[str]
    stdout: Path | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """One measured run: wall and processor time in seconds, memory in MB, output size in bytes.

    `memory_mb` is the largest resident memory of any of its processes. `failure` is the message of a run that
    failed.
    """

    seconds: float
    cpu_s: float
    memory_mb: float
    output_bytes: int = 0
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Contender:
    """A program that is compared.

    `commands` export into a directory, one after the other. `absent` is the reason why it does not take part.
    """

    name: str
    commands: Callable[[Path], Sequence[Command]]
    absent: str | None = None


@dataclass(slots=True)
class Score:
    """The runs of a contender, in the order of the rounds."""

    contender: Contender
    runs: list[Run] = field(default_factory=list)

    @property
    def failure(self) -> str | None:
        """The reason why there is nothing to compare; None if there is something."""
        return self.contender.absent or next((run.failure for run in self.runs if run.failure), None)

    def seconds(self) -> list[float]:
        """The seconds of all rounds; empty if one failed."""
        return [] if self.failure else [run.seconds for run in self.runs]

    def cpu_s(self) -> list[float]:
        """The processor seconds of all rounds, of all processes; empty if one failed."""
        return [] if self.failure else [run.cpu_s for run in self.runs]


# --- one run -------------------------------------------------------------------------------------


def environment() -> dict[str, str]:
    """The environment without any setting of the exporter."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_AMBIENT)}
    kept.pop("DATABASE_URL", None)
    return kept | {"PYTHONPATH": str(REPOSITORY)}


def python(module: str, *arguments: str) -> list[str]:
    """The command line of one of the bench's modules."""
    return [sys.executable, "-m", module, *arguments]


def exporter(url: str, directory: Path, *flags: str) -> Command:
    """The command of one export by this exporter."""
    common = ("--no-progress", "--log-level", "warning")
    return Command(python("autoexport", "--database-url", url, "--export-dir", str(directory), *common, *flags))


def run_once(commands: Sequence[Command], scratch: Path) -> Run:
    """Run commands one after the other. The times add up; the memory is that of the largest."""
    total = Run(0.0, 0.0, 0.0)
    for command in commands:
        one = _measured(command, scratch)
        total = Run(
            total.seconds + one.seconds,
            total.cpu_s + one.cpu_s,
            max(total.memory_mb, one.memory_mb),
            0,
            one.failure,
        )
        if one.failure:
            break
    return total


def _measured(command: Command, scratch: Path) -> Run:
    result, said = scratch / "launch.json", scratch / "launch.stderr"
    launch = [sys.executable, "-I", "-S", str(_LAUNCH), str(result), str(command.stdout or os.devnull), str(said)]
    subprocess.run([*launch, *command.arguments], cwd=scratch, env=environment(), check=True)
    measured = json.loads(result.read_text())
    failure = None
    if measured["code"]:
        lines = said.read_text(errors="replace").strip().splitlines()
        failure = f"failed ({measured['code']}): {lines[-1] if lines else 'it said nothing'}"
    return Run(measured["seconds"], measured["cpu_s"], measured["memory_mb"], 0, failure)


def answer_of(arguments: Sequence[str], scratch: Path) -> dict[str, object]:
    """Run a child module of the bench and read the JSON object that it prints. Raises BenchError."""
    done = subprocess.run(arguments, cwd=scratch, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise BenchError(f"{' '.join(arguments[1:3])}: {lines[-1] if lines else done.returncode}")
    answer: dict[str, object] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def size_of(directory: Path) -> int:
    """The size of the files of a directory in bytes, without the exporter's private ones."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files if STATE not in path.parts)


def must(run: Run) -> Run:
    """Return the run. Raises BenchError if it failed."""
    if run.failure:
        raise BenchError(run.failure)
    return run


# --- rounds --------------------------------------------------------------------------------------


def race(contenders: Sequence[Contender], rounds: int, scratch: Path) -> list[Score]:
    """Run every contender once in each round, each time in another order, into an empty directory.

    The disk is idle when a run begins. Its output is deleted before the next run.
    """
    scores = [Score(contender) for contender in contenders]
    for number in range(rounds):
        turn = number % len(scores)
        for score in scores[turn:] + scores[:turn]:
            if score.failure:
                continue
            directory = scratch / "output"
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(parents=True)
            os.sync()
            run = run_once(score.contender.commands(directory), scratch)
            score.runs.append(Run(run.seconds, run.cpu_s, run.memory_mb, size_of(directory), run.failure))
            shutil.rmtree(directory)
    return scores


def standing(scores: Sequence[Score], images: int) -> list[dict[str, Value]]:
    """One row for each contender; `our_ratio` is the first one's time over this one's."""
    first, first_cpu_s = scores[0].seconds(), scores[0].cpu_s()
    rows: list[dict[str, Value]] = []
    for score in scores:
        row: dict[str, Value] = {"images": images, "who": score.contender.name}
        if score.failure:
            rows.append({**row, "remark": score.failure})
            continue
        seconds = score.seconds()
        row |= {"median_s": middle(seconds), "fastest_s": min(seconds), "slowest_s": max(seconds)}
        row |= {"our_ratio": ratio(first, seconds), "cpu_s": middle(score.cpu_s())}
        row |= {"our_cpu_ratio": ratio(first_cpu_s, score.cpu_s())}
        row |= {"memory_mb": max(run.memory_mb for run in score.runs)}
        row |= {"output_mb": score.runs[-1].output_bytes / 1e6}
        rows.append(row)
    return rows


def number_of(mapping: Mapping[str, object], name: str) -> float:
    """A number out of a child's answer. Raises BenchError."""
    value = mapping.get(name)
    if not isinstance(value, int | float):
        raise BenchError(f"the child did not say {name}")
    return float(value)
