"""`python -m muse_cli` is `muse`."""

from typing import NoReturn

from muse_cli.ending import end
from muse_cli.main import main
from muse_cli.output import out


def console() -> NoReturn:
    """Run the command line of this process, and end the process."""
    out.is_program = True
    end(main())


if __name__ == "__main__":
    console()
