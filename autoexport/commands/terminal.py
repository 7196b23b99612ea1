"""Draws what a user of the command line sees: progress bar, tables and lines of text."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from autoexport.errors import AutoexportError

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

APPEARS_AFTER_S = 1.0
"""A shorter export shows no bar."""

DUMB = ("dumb", "unknown")
"""Values of TERM of terminals that understand no escape sequences."""

WIDTH = 80
"""Columns of wrapped text: the usual width of a terminal."""


class TerminalProgress:
    """A bar on standard error with rows done, total rows, rate and time left. It appears after one second."""

    def __init__(self, appears_after_s: float = APPEARS_AFTER_S) -> None:
        self._appears_after_s = appears_after_s
        self._total_rows: int | None = None
        self._done_rows = 0
        self._started = 0.0
        self._bar: Bar | None = None

    def start(self, total_rows: int | None) -> None:
        """Start counting from zero. `total_rows` is None if the number of rows is unknown."""
        self.finish()
        self._total_rows, self._done_rows, self._started = total_rows, 0, time.monotonic()

    def advance(self, rows: int) -> None:
        """Add `rows` to the rows that are done."""
        self._done_rows += rows
        if self._bar is None and time.monotonic() - self._started >= self._appears_after_s:
            self._bar = _bar(self._total_rows)
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self._done_rows)

    def finish(self) -> None:
        """Remove the bar, if there is one."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def terminal_progress(wanted: bool) -> TerminalProgress | None:
    """A bar if standard error is a terminal and `wanted` is true, else None."""
    return TerminalProgress() if wanted and sys.stderr.isatty() else None


def _bar(total_rows: int | None) -> Bar:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{speed:,.0f} rows/s" if speed else "", style="progress.data.speed")

    bar = Progress(
        TextColumn("exporting"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("rows"),
        Rate(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    bar.add_task("exporting", total=total_rows)
    bar.start()
    return bar


# --- tables on standard output -------------------------------------------------------------------


def print_table(
    title: str, header: Sequence[str] | None, rows: Sequence[Sequence[str]], right: Sequence[int] = ()
) -> None:
    """Print a table on a terminal; elsewhere plain lines, with two or more spaces between columns.

    `header` is None for a table without one. `right` holds the indexes of right-aligned columns. Cells are text,
    never markup.
    """
    if not sys.stdout.isatty() or os.environ.get("TERM") in DUMB:
        _print_plain(title, header, rows, right)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left", show_header=header is not None)
    for index, name in enumerate(header or [""] * len(rows[0])):
        table.add_column(name, justify="right" if index in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    # Without a colour system, rich writes no escape sequence: NO_COLOR alone would leave bold and italic.
    Console(color_system=None if os.environ.get("NO_COLOR") else "auto").print(table)


def _print_plain(
    title: str, header: Sequence[str] | None, rows: Sequence[Sequence[str]], right: Sequence[int]
) -> None:
    shown = [header, *rows] if header is not None else list(rows)
    lines = [[visible(cell) for cell in row] for row in shown]
    widths = [max(len(line[index]) for line in lines) for index in range(len(lines[0]))]
    say(title)
    for line in lines:
        cells = [
            cell.rjust(widths[index]) if index in right else cell.ljust(widths[index])
            for index, cell in enumerate(line)
        ]
        say("  ".join(cells).rstrip())


def say(line: str = "") -> None:
    """Print one line on standard output. Characters that its encoding lacks are escaped.

    A reader that has gone, such as `head`, ends no command. Raises `AutoexportError` for a full disk.
    """
    encoding = sys.stdout.encoding or "utf-8"
    with _writing():
        sys.stdout.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def flush() -> None:
    """Write out what was printed, with the errors of `say`."""
    with _writing():
        sys.stdout.flush()


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        silence()
    except OSError as exc:
        silence()
        raise unwritable(exc) from exc


def unwritable(error: OSError) -> AutoexportError:
    """The error for standard output that cannot be written."""
    return AutoexportError(
        f"Standard output cannot be written: {error.strerror or error}.",
        hint="Free some space on its disk, or send the output elsewhere.",
    )


def silence() -> None:
    """Send the rest of standard output nowhere: the interpreter writes it out at exit, and would complain."""
    descriptor = os.open(os.devnull, os.O_WRONLY)
    os.dup2(descriptor, sys.stdout.fileno())
    os.close(descriptor)


def say_wrapped(text: str) -> None:
    """Print text from a database, wrapped at 80 columns with an indent.

    A word is never broken, so that paths and names can be copied. Lines after the first are statements to be
    copied: they are not wrapped, because a name in them may have blanks.
    """
    first, *statements = text.split("\n")
    wrapped = textwrap.wrap(
        visible(first), WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
    for part in [*wrapped, *(f"  {visible(line)}" for line in statements)]:
        say(part)


def say_command(command: str, words: str = "") -> None:
    """Print a command line to be copied, behind the words if 80 columns are enough, else indented below them.

    Lines of a longer command end with a backslash before an option, so that a shell takes them as one.
    """
    if words and len(f"{words} {command}") <= WIDTH:
        say(f"{words} {command}")
        return
    if words:
        say(words)
    first, *others = _options(command)
    line = f"  {first}"
    for option in others:
        if len(f"{line} {option} \\") > WIDTH:
            say(f"{line} \\")
            line = f"    {option}"
        else:
            line += f" {option}"
    say(line)


def _options(command: str) -> list[str]:
    """The parts of a command line, each an option with its value. In other quotes than ours, it is one part."""
    try:
        words = [shlex.quote(word) for word in shlex.split(command)]
    except ValueError:
        return [command]
    if " ".join(words) != command:
        return [command]
    parts: list[str] = []
    for word in words:
        if parts and not word.startswith("--"):
            parts[-1] += f" {word}"
        else:
            parts.append(word)
    return parts


def visible(text: str) -> str:
    """Escape control characters: names come from the database and must not control the terminal."""
    return "".join(character if character.isprintable() else f"\\x{ord(character):02x}" for character in text)


def print_summary(
    directory: Path | str,
    files: Iterable[tuple[str, int, int]],
    *,
    mode: str,
    generation: int,
    duration_s: float,
) -> None:
    """Print the files of an export with bytes and rows, then mode, generation, total bytes and seconds.

    `files` yields name, bytes and rows of each file.
    """
    listed = list(files)
    rows = [[name, f"{size_bytes:,}", f"{count:,}"] for name, size_bytes, count in listed]
    print_table(f"Exported to {directory}", ("file", "bytes", "rows"), rows, right=(1, 2))
    total_bytes = sum(size_bytes for _, size_bytes, _ in listed)
    say(f"{mode} export, generation {generation}: {total_bytes:,} bytes in {duration_s:.2f} s")
