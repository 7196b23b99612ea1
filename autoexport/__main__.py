"""`python -m autoexport`, and the installed command."""

import gc
import os
import sys

from autoexport.runtime import tuning


def run() -> None:
    """Load the command line, run it, exit."""
    _open_what_is_closed()
    tuning.load_without_rich()
    gc.disable()  # What is being loaded stays: looking through it again and again takes a tenth of the start.
    from autoexport.cli import main

    code = main()
    gc.freeze()  # So that the interpreter, which ends now, does not look through all of it once more.
    sys.exit(code)


def _open_what_is_closed() -> None:
    """Have all three standard streams: what is opened next would take the place of one that is closed."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r+"))  # noqa: SIM115 - until the end


if __name__ == "__main__":
    run()
