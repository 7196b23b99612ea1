"""What a person at a terminal sees, and what a program that reads the output gets."""

from __future__ import annotations

import os
import pty
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from autoexport.commands.terminal import (
    TerminalProgress,
    print_summary,
    print_table,
    say_command,
    say_wrapped,
    terminal_progress,
)
from tests.processes import started

ROOT = Path(__file__).parents[2]


def on_a_terminal(code: str) -> str:
    """What a Python program writes to the terminal that it runs on, as standard output and error."""
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "PYTHONPATH": str(ROOT)}
    with started([sys.executable, "-c", code], stdout=slave, stderr=slave, env=environment) as process:
        os.close(slave)
        written = b""
        while True:
            try:
                chunk = os.read(master, 65536)
            except OSError:  # Linux says EIO when the last writer is gone
                break
            if not chunk:
                break
            written += chunk
        os.close(master)
        assert process.wait() == 0, written
    return written.decode()


@pytest.mark.parametrize("folder", ["b" * 20, "b" * 40, "with blanks and --option " * 4])
def test_a_long_command_is_pasted_as_one(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Lines of at most 80 columns where an option fits, and a shell reads the same words."""
    words = ["printf", "%s|", "--database-url", folder, "--export-dir", folder, "--config", "autoexport.toml"]
    say_command(shlex.join(words), "To see it:")
    title, _, command = capsys.readouterr().out.partition("\n  ")
    assert title == "To see it:"
    assert all(len(line) <= 80 for line in command.splitlines()) or " " in folder
    assert subprocess.check_output(["sh", "-c", command], text=True) == "".join(f"{word}|" for word in words[2:])


def test_a_short_command_stands_behind_its_words(capsys: pytest.CaptureFixture[str]) -> None:
    """On one line, with nothing to join."""
    say_command("autoexport check --verbose", "To see it:")
    assert capsys.readouterr().out == "To see it: autoexport check --verbose\n"


def test_no_bar_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Standard error is no terminal here."""
    assert terminal_progress(True) is None


def test_a_bar_on_a_terminal_unless_it_is_not_wanted() -> None:
    """`--no-progress` turns it off."""
    shown = on_a_terminal(
        "from autoexport.commands.terminal import terminal_progress as t; print(t(True) is None, t(False) is None)"
    )
    assert shown.strip() == "False True"


def test_the_bar_counts_rows_and_goes_away() -> None:
    """Rows done of rows counted and the rate, on standard error, while the export runs."""
    shown = on_a_terminal(
        "from autoexport.commands.terminal import TerminalProgress\n"
        "p = TerminalProgress(appears_after_s=0.0); p.start(4000)\n"
        "for _ in range(4): p.advance(1000)\n"
        "p.finish(); p.finish()\n"
    )
    assert "4000/4000" in shown
    assert "rows" in shown
    assert shown.rstrip().endswith("\x1b[2K")  # the line is cleared at the end


def test_a_short_export_shows_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing appears before the second is over."""
    progress = TerminalProgress(appears_after_s=3600)
    progress.start(None)
    progress.advance(10)
    progress.finish()
    assert capsys.readouterr() == ("", "")


def test_elsewhere_the_table_is_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """Aligned, without colours; control characters of names from the database are made visible."""
    print_table("Title", ("name", "rows"), [["a\x1b[31m", "1"], ["bb\nc", "1,000"]], right=(1,))
    assert capsys.readouterr().out == ("Title\nname        rows\na\\x1b[31m      1\nbb\\x0ac    1,000\n")


def test_wrapped_text_keeps_words_and_line_breaks_whole(capsys: pytest.CaptureFixture[str]) -> None:
    """At most 80 columns except for a longer word, following lines indented; control characters are visible."""
    say_wrapped("warning: " + "word " * 30 + "\x1b[31m " + "x" * 100 + "\nCREATE INDEX i ON t (a);")
    lines = capsys.readouterr().out.splitlines()
    assert " ".join(lines).split() == ["warning:", *["word"] * 30, "\\x1b[31m", "x" * 100,
                                       "CREATE", "INDEX", "i", "ON", "t", "(a);"]  # fmt: skip
    assert [line for line in lines if len(line) > 80] == ["  " + "x" * 100]
    assert all(line.startswith("  ") for line in lines[1:])
    assert lines[-1] == "  CREATE INDEX i ON t (a);"


def test_the_summary_names_files_bytes_rows_mode_and_duration(capsys: pytest.CaptureFixture[str]) -> None:
    """One line a file and one for the whole."""
    print_summary(
        Path("out"),
        [("database_export.json", 1_234_567, 10), ("images.csv", 1_000, 10)],
        mode="incremental",
        generation=7,
        duration_s=0.5,
    )
    assert capsys.readouterr().out == (
        "Exported to out\n"
        "file                      bytes  rows\n"
        "database_export.json  1,234,567    10\n"
        "images.csv                1,000    10\n"
        "incremental export, generation 7: 1,235,567 bytes in 0.50 s\n"
    )


def test_on_a_terminal_the_table_has_lines_and_no_markup_is_read() -> None:
    """A name like `[red]` is a name."""
    shown = on_a_terminal(
        "from autoexport.commands.terminal import print_table as show\n"
        "show('T', ('a', 'b'), [['[red]x', '1']], (1,))"
    )
    assert "[red]x" in shown
    assert "━" in shown
