"""Being told to stop."""

from muse_core.errors import ExitCode


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived; whatever saves its state on Ctrl-C saves it now too."""

    exit_code = int(ExitCode.TERMINATED)


def ending_of(error: BaseException) -> str:
    """Say how an interruption ended a command, and which step is saved where the error's `saved` tells."""
    what = "terminated" if isinstance(error, Terminated) else "interrupted"
    saved = getattr(error, "saved", None)
    return f"{what}; {saved}" if saved else what
