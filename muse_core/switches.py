"""The MUSE_* variables that switch something on or off, such as MUSE_OFFLINE."""

import os

from muse_core.errors import ExitCode, MuseError

ON = ("1", "true", "yes", "on")
OFF = ("", "0", "false", "no", "off")


def is_on(name: str) -> bool:
    """Return whether a variable switches something on; one that is empty is as good as none.

    Raises:
        MuseError: it says neither (exit code 3).
    """
    text = os.environ.get(name, "").strip().lower()
    if text not in ON + OFF:
        raise MuseError(
            f"{name}={os.environ[name]}: neither on nor off",
            hint=f"{name}=1 or {name}=0; also {', '.join(ON[1:])}, {', '.join(OFF[2:])}",
            exit_code=ExitCode.SETTINGS,
        )
    return text in ON
