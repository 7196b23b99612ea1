"""`python -m autoexport`."""

import sys

from autoexport.cli import main

if __name__ == "__main__":
    sys.exit(main())
