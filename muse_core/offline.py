"""What leaves this machine: nothing unasked, and with MUSE_OFFLINE=1 nothing at all.

Libraries are told by variables, which they read when they are imported; what the user set stays.
"""

import os
import re
from collections.abc import Mapping

from muse_core.errors import MuseError
from muse_core.switches import is_on

OFFLINE = "MUSE_OFFLINE"
"""Set to 1, this variable forbids every connection to another machine."""

LIBRARIES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
"""What the hub's libraries read, when they are imported."""

REPORTS: Mapping[str, str] = {
    "DO_NOT_TRACK": "true",  # mlflow knows no other word for it
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_CONSOLE": "off",
    "WANDB_DISABLE_CODE": "true",
    "WANDB_DISABLE_GIT": "true",
    "WANDB_X_DISABLE_META": "true",
}
"""What keeps libraries from reporting about their users, and wandb from sending the terminal's lines, sources, changes
that are not committed, and the command line beside what it is told."""

_HERE = {"file", "local", "memory", "sqlite"}
_PROTOCOL = re.compile(r"([a-z][a-z0-9+.-]*)://")


def is_offline() -> bool:
    """Return whether the user forbids connections."""
    return is_on(OFFLINE)


def tell_libraries() -> None:
    """Switch off reports, and hand the wish to stay offline down, in this process and in those it starts."""
    for name, value in REPORTS.items():
        os.environ.setdefault(name, value)
    if is_offline():
        os.environ.update(dict.fromkeys(LIBRARIES, "1"))


def is_away(where: str) -> bool:
    """Return whether a place is an address on another machine."""
    return any(protocol not in _HERE for protocol in _PROTOCOL.findall(where))


def refuse_address(where: str) -> None:
    """Refuse an address on another machine, or a command that might ask one, while connections are forbidden.

    Raises:
        MuseError: it is one, and MUSE_OFFLINE is set.
    """
    if is_offline() and (is_away(where) or where.startswith("pipe:")):
        raise MuseError(
            f"{where} is not on this machine, and {OFFLINE}=1 forbids to fetch it",
            hint=f"name a folder of this machine, or unset {OFFLINE}",
        )
