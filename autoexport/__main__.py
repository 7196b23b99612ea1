"""Starts the command line for `python -m autoexport` and the installed command."""

import gc
import os
import sys

from autoexport.runtime import tuning


def run() -> None:
    """Load the command line, run it and exit with its code."""
    _open_standard_streams()
    tuning.load_without_rich()
    gc.disable()  # Loaded modules stay: searching them for garbage takes a tenth of the start.
    from autoexport.cli import main

    code = main()
    gc.freeze()  # Spares the interpreter a last search for garbage at exit.
    sys.exit(code)


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
