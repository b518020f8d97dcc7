"""`muse doctor`: versions, devices, memory, weights, and whether results can be written."""

import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from muse_cli.output import out, size_text, table
from muse_core.errors import ExitCode, MuseError
from muse_core.suggestions import choices

if TYPE_CHECKING:
    from muse_core.model.weights.parts import Found

TRACKERS = {
    "tensorboard": ("tensorboard",),
    "wandb": ("wandb",),
    "mlflow": ("mlflow-skinny", "mlflow"),
    "trackio": ("trackio",),
}
"""By the names that `muse train --track` takes, the packages of which one brings it."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `problem` says what is wrong with it and `hint` how to mend it."""

    what: str
    found: str
    problem: str | None = None
    hint: str | None = None


def doctor(
    size: Annotated[str, typer.Option("--size", help="Look for everything this size needs.")] = "tiny",
) -> None:
    """Say what this machine can do, and what is missing for a size; exit 8 if something is."""
    from muse_core.machine import environment, support

    refuse_unknown(size)
    out.say(f"doctor: this machine, and everything that size {size} needs")
    import torch  # noqa: F401  # a broken installation shows here, and not when the first network is built

    machine = {**environment(), "support": support()}
    findings = [*weights(size), *writing(), *optional_packages()]
    problems = [finding for finding in findings if finding.problem]
    lines = [version_table(machine), "", table([(f.what, f.found) for f in findings])]
    document = {
        "size": size,
        **{key: value for key, value in machine.items() if key != "command"},
        "findings": [vars(finding) for finding in findings],
        "problems": [f"{finding.what}: {finding.problem}" for finding in problems],
    }
    out.result(document, "\n".join(lines))
    if problems:
        missing = "\n".join(f"  {f.what}: {f.problem}" + (f"\n    {f.hint}" if f.hint else "") for f in problems)
        raise MuseError(f"this machine is not ready for {size}:\n{missing}", exit_code=ExitCode.PROBLEMS)


def version_table(machine: dict[str, Any]) -> str:
    """Lay out versions and devices."""
    versions = [(name, version or "not installed") for name, version in machine["versions"].items()]
    devices = [(d["name"], f"{d['description']}, {size_text(d['memory'])}") for d in machine["devices"]]
    return table([*versions, ("system", f"{machine['platform']} ({machine['support']})"), *devices])


def weights(size: str) -> list[Finding]:
    """Look for the published parts that a size is built from, and for what only measuring needs."""
    from muse_core.model.weights.parts import find_parts

    return [*(part_finding(found) for found in find_parts(size)), inception()]


def refuse_unknown(size: str) -> None:
    """Refuse a size that there is not.

    Raises:
        MuseError: exit code 3.
    """
    from muse_core.model.weights.parts import PARTS

    if size not in PARTS:
        raise MuseError(f"there is no size {size!r}", hint=choices(size, PARTS), exit_code=ExitCode.SETTINGS)


def part_finding(found: "Found") -> Finding:
    """Say of one part where it is, what it is for and under which licence; a file that is cut short is a problem."""
    from muse_core.model.weights.parts import damage_of

    part = found.part
    about = f"{part.purpose}; licence: {part.licence}"
    if found.folder is None:
        what = f"missing ({about})"
        return Finding(part.hub, what, f"not found; it is the {part.purpose}, licence: {part.licence}", found.remedy)
    damage = damage_of(found)
    return Finding(part.hub, f"{found.file} ({about})", damage, found.remedy if damage else None)


def inception() -> Finding:
    """Look for the one part that only a metric needs; its absence is no problem."""
    from muse_core.evaluation.spec import NotMeasuredError
    from muse_core.evaluation.weights import INCEPTION, find_weights

    try:
        found = str(find_weights(INCEPTION))
    except NotMeasuredError as error:
        found = f"missing; without it rFID is not measured: {error.hint}"
    return Finding(INCEPTION.hub, f"{found} (licence: {INCEPTION.licence})")


def writing() -> list[Finding]:
    """Try to write where runs go, and say how much room there is."""
    from muse_core.machine import free_space
    from muse_core.runs import runs_dir

    folder = runs_dir()
    existing = next(path for path in [folder.absolute(), *folder.absolute().parents] if path.exists())
    room = f"{folder}, {size_text(free_space(folder))} free"
    try:
        with tempfile.NamedTemporaryFile(dir=existing):
            return [Finding("runs folder", room)]
    except OSError as error:
        return [Finding("runs folder", room, f"cannot be written: {error.strerror}", "set MUSE_RUNS to another folder")]


def optional_packages() -> list[Finding]:
    """Say which trackers can be used; their absence is no problem."""
    from muse_core.machine import versions
    from muse_core.training.tracker_kinds import remedy

    found = versions(package for packages in TRACKERS.values() for package in packages)
    has = {name: next(filter(None, map(found.get, packages)), None) for name, packages in TRACKERS.items()}
    return [
        Finding(name, f"{has[name]} (muse train --track {name})" if has[name] else f"not installed; {remedy(name)}")
        for name in TRACKERS
    ]


def show_version() -> None:
    """Print what `muse --version` prints: muse, torch, accelerate, device."""
    from muse_core.machine import devices, versions

    known = versions(("torch", "accelerate"))
    device = devices()[0]
    text = "\n".join(f"{name} {version or 'not installed'}" for name, version in known.items())
    out.result({**known, "device": device.name}, f"{text}\ndevice {device.name} ({device.description})")
