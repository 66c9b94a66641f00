"""``python -m bonas``: the command line under the interpreter's name; knows nothing else."""

import sys

from bonas.cli import main

if __name__ == "__main__":
    sys.exit(main())
