"""Being told to stop."""

from muse_core.errors import ExitCode


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived; whatever saves its state on Ctrl-C saves it now too."""

    exit_code = int(ExitCode.TERMINATED)
