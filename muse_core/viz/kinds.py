"""Which files a figure can be written to, known before anything that draws is imported."""

from pathlib import Path

from muse_core.errors import ExitCode, MuseError

KINDS = ("png", "svg", "pdf", "html")


def kind_of(out: Path) -> str:
    """Return what a file is by the ending of its name.

    Raises:
        MuseError: it is none of those that figures can be.
    """
    kind = out.suffix.lower().lstrip(".")
    if kind not in KINDS:
        raise MuseError(
            f"{out.name} does not end in .png, .svg, .pdf or .html, so the kind of picture is not known",
            hint=f"write to {out.with_suffix('.png').name}",
            exit_code=ExitCode.SETTINGS,
        )
    return kind


def refuse_other_kinds(out: Path | None, static: bool = False) -> None:
    """Refuse a file that no figure can be written to, or, for what is drawn once and for all, a page to move through.

    Raises:
        MuseError: its name ends in something else.
    """
    if out is not None and kind_of(out) == "html" and static:
        raise MuseError(
            f"{out.name}: a page shows what the point under the pointer looks at, and not all points together",
            hint=f"write to {out.with_suffix('.png').name}, or leave out --query all",
            exit_code=ExitCode.SETTINGS,
        )


def refuse_other_heads(head: int | str, heads: int, name: str) -> None:
    """Refuse a head that there is not; "mean" and "all" are always there.

    Raises:
        MuseError: with exit code 3, when none of `heads` has this number.
    """
    if head not in ("mean", "all") and head not in range(heads):
        raise MuseError(
            f"'{name}' has no head {head}", hint=f"choose 0 to {heads - 1}, mean or all", exit_code=ExitCode.SETTINGS
        )
