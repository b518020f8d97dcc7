"""`python -m muse_cli` is `muse`."""

import sys

from muse_cli.main import main

if __name__ == "__main__":
    sys.exit(main())
