"""`python -m muse_cli` is `muse`."""

from typing import NoReturn

from muse_cli.ending import end
from muse_cli.main import main


def console() -> NoReturn:
    """Run the command line of this process, and end the process."""
    end(main())


if __name__ == "__main__":
    console()
