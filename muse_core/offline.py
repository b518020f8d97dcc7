"""MUSE_OFFLINE=1: nothing is fetched, and the libraries that could fetch something are told so too."""

import os
import re

from muse_core.errors import MuseError
from muse_core.switches import is_on

OFFLINE = "MUSE_OFFLINE"
"""Set to 1, this variable forbids every connection to another machine."""

LIBRARIES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
"""What the hub's libraries read, when they are imported."""

_HERE = {"file", "local", "memory"}
_PROTOCOL = re.compile(r"([a-z][a-z0-9+.-]*)://")


def is_offline() -> bool:
    """Return whether the user forbids connections."""
    return is_on(OFFLINE)


def tell_libraries() -> None:
    """Hand the wish down to the hub's libraries, in this process and in those it starts."""
    if is_offline():
        os.environ.update(dict.fromkeys(LIBRARIES, "1"))


def refuse_address(where: str) -> None:
    """Refuse an address on another machine, or a command that might ask one, while connections are forbidden.

    Raises:
        MuseError: it is one, and MUSE_OFFLINE is set.
    """
    away = [protocol for protocol in _PROTOCOL.findall(where) if protocol not in _HERE]
    if is_offline() and (away or where.startswith("pipe:")):
        raise MuseError(
            f"{where} is not on this machine, and {OFFLINE}=1 forbids to fetch it",
            hint=f"name a folder of this machine, or unset {OFFLINE}",
        )
