"""`python -m autoexport`, and the installed command."""

import gc
import sys

from autoexport import arenas


def run() -> None:
    """Load the command line, run it, exit."""
    arenas.load_without_rich()
    gc.disable()  # What is being loaded stays: looking through it again and again takes a tenth of the start.
    from autoexport.cli import main

    code = main()
    gc.freeze()  # So that the interpreter, which ends now, does not look through all of it once more.
    sys.exit(code)


if __name__ == "__main__":
    run()
