"""Starts the command line for `python -m autoexport` and the installed command."""

import contextlib
import gc
import os
import signal
import sys

from autoexport.runtime import tuning


def run() -> None:
    """Load the command line, run it and exit with its code."""
    _open_standard_streams()
    _end_in_one_line()
    tuning.load_without_rich()
    gc.disable()  # Loaded modules stay: searching them for garbage takes a tenth of the start.
    from autoexport.cli import main

    code = main()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # It has ended, and its exit code says how.
    if "obstore" in sys.modules:
        _leave_at_once(code)
    gc.freeze()  # Spares the interpreter a last search for garbage at exit.
    sys.exit(code)


def _leave_at_once(code: int) -> None:
    """Exit without tearing the interpreter down: a thread of obstore that then calls into it aborts the process.

    Seen once after an answer of 500: SIGABRT in place of exit code 1, below the message of the error. Python ends
    such a thread (https://docs.python.org/3.11/c-api/init.html#c.PyGILState_Ensure), through the frames of Rust.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _end_in_one_line() -> None:
    """Let signals end the process without a traceback, until the command has its own handlers."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)


def _end(number: int, _: object) -> None:
    line_break = b"\n" if os.isatty(2) else b""  # The terminal shows ^C on this line.
    os.write(2, line_break + b"interrupted: the published files are complete and unchanged\n")
    os._exit(128 + number)


def _open_standard_streams() -> None:
    """Open closed standard streams on /dev/null: else the next opened file would get their descriptor."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r+"))  # noqa: SIM115 - open until the process ends


if __name__ == "__main__":
    run()
