"""What `muse train` says before it trains, for a new run and for one that goes on: which stages, on what, the plan."""

from typing import TYPE_CHECKING

from muse_cli.output import out
from muse_core.errors import ExitCode, MuseError

if TYPE_CHECKING:
    from muse_core.devices import Devices
    from muse_core.settings.train import TrainSettings
    from muse_core.training.plan import Plan


def stages_of(text: str | None) -> list[int | None]:
    """Read --stage: a number, or a range such as 1-3; without it the other layers say.

    Raises:
        MuseError: it is neither.
    """
    if text is None:
        return [None]
    first, dash, last = text.partition("-")
    if not first.isdigit() or (dash and not last.isdigit()):
        raise MuseError(f"--stage {text}: expected 1, 2, 3 or 1-3", hint="muse ls stages", exit_code=ExitCode.USAGE)
    found: list[int | None] = list(range(int(first), int(last or first) + 1))
    if not found:
        raise MuseError(f"--stage {text}: there is no stage in it", hint="--stage 1-3", exit_code=ExitCode.USAGE)
    return found


def say_first(text: str) -> None:
    """Say something, if this process is alone or the first of those that a launcher started."""
    from muse_cli.joining import launched

    rank = launched()
    if rank is None or rank.index == 0:
        out.say(text)


def devices_for(settings: "TrainSettings", assume: str | None) -> "Devices":
    """Return what a plan is for: the machine that is assumed, or the devices that the settings name, here or not.

    Raises:
        MuseError: the words mean nothing.
    """
    from muse_cli.joining import launched
    from muse_cli.launch import devices_in
    from muse_core.devices import assumed_devices, planned_devices

    if assume:
        return assumed_devices(assume)
    if launched():
        return devices_in(settings)
    return planned_devices(settings.training.devices, settings.run.size)


def tell(plans: "list[Plan]") -> None:
    """Print plans, and end with everything that is missing.

    Raises:
        MuseError: with exit code 8, when something is missing.
    """
    from muse_cli.joining import launched

    rank = launched()
    if rank and rank.index:
        out.mute()
    lines = [line for plan in plans for line in plan.lines]
    missing = list(dict.fromkeys(entry for plan in plans for entry in plan.missing))
    out.result({"command": "train", "plan": lines, "missing": missing}, "\n".join(lines))
    if missing:
        what = "this cannot start; missing:\n" + "\n".join(f"  - {entry}" for entry in missing)
        raise MuseError(what, hint="muse doctor", exit_code=ExitCode.PROBLEMS)
