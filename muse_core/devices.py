"""What a run is planned for: devices of this machine, or of another one."""

import re
from dataclasses import dataclass
from typing import Literal

from muse_core import machine
from muse_core.errors import ExitCode, MuseError

GB, GIB = 10**9, 2**30
_ASSUMED = re.compile(r"(?:(?P<cpu>cpu):|(?P<count>[1-9]\d*)x)?(?P<size>\d+(?:\.\d+)?)(?P<unit>GB|GiB)", re.IGNORECASE)


@dataclass(frozen=True)
class Devices:
    """How many devices of a kind a run computes on, the bytes of memory of one (None: not known), and whether this
    machine has them. Processes on CPUs share its memory."""

    kind: Literal["cuda", "mps", "cpu"]
    count: int
    memory: int | None
    here: bool = True

    def __str__(self) -> str:
        name = {"cuda": "GPU", "mps": "Apple GPU", "cpu": "CPU process"}[self.kind]
        named = f"{self.count} {name}{'es' if self.kind == 'cpu' else 's'}" if self.count > 1 else f"one {name}"
        share = " each" if self.count > 1 else ""
        memory = "memory not known" if self.memory is None else f"{self.memory / GIB:.1f} GiB{share}"
        return f"{named}, {memory}"


def devices_here(asked: str, size: str) -> Devices:
    """Return the devices of this machine that `--devices` means for a network of a size.

    Raises:
        MuseError: this machine does not have them (exit code 6), or the words mean nothing (3).
    """
    names = chosen_for(asked, size)
    kind: Literal["cuda", "mps", "cpu"] = (
        "cuda" if names[0].startswith("cuda") else "mps" if names[0] == "mps" else "cpu"
    )
    memories = [device.memory for device in machine.devices() if device.name in names]
    least = min((memory for memory in memories if memory is not None), default=None)
    shared = least // len(names) if least is not None and kind == "cpu" else least
    return Devices(kind, len(names), shared)


def chosen_for(asked: str, size: str) -> tuple[str, ...]:
    """Return the names of the devices that `--devices` means for a network of a size.

    Raises:
        MuseError: as `choose_devices`.
    """
    chosen = machine.choose_devices(asked)
    return chosen[:1] if asked == "auto" and size == "tiny" else chosen  # so small a network gains nothing from more


def planned_devices(asked: str, size: str) -> Devices:
    """Return what `--devices` means, of another machine where this one does not have them.

    Raises:
        MuseError: the words mean nothing (exit code 3).
    """
    try:
        return devices_here(asked, size)
    except MuseError as error:
        if error.exit_code != ExitCode.MACHINE:
            raise
    if asked == "mps":
        return Devices("mps", 1, None, here=False)
    alone = asked.startswith("cuda")
    count = 1 if alone else len(asked.strip(",").split(",")) if "," in asked else int(asked)
    return Devices("cuda", count, None, here=False)


def assumed_devices(text: str) -> Devices:
    """Read a machine that is assumed: 8x80GB, 80GiB, or cpu:32GB. GB are 10^9 bytes, GiB 2^30.

    Raises:
        MuseError: it is none (exit code 2).
    """
    found = _ASSUMED.fullmatch(text.strip())
    if not found:
        raise MuseError(f"--assume {text}: expected a machine such as 8x80GB or cpu:32GB", exit_code=ExitCode.USAGE)
    unit = GB if found["unit"].lower() == "gb" else GIB
    kind: Literal["cuda", "cpu"] = "cpu" if found["cpu"] else "cuda"
    return Devices(kind, int(found["count"] or 1), int(float(found["size"]) * unit), here=False)
