"""Metrics, classes and sentences by their names, without importing what computes with them."""

from collections.abc import Sequence
from pathlib import Path

from muse_core.errors import ExitCode, MuseError
from muse_core.evaluation.spec import MetricSpec
from muse_core.registry import discover
from muse_core.suggestions import choices
from muse_core.text_files import composed, lines_of, read_text_file


def metrics_named(names: Sequence[str] | None) -> dict[str, MetricSpec]:
    """Return the metrics of these names, all that are installed without any.

    Raises:
        MuseError: a name is unknown.
    """
    known = discover("muse.metrics")
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise MuseError(
            f"no metric is called {', '.join(unknown)}",
            hint=choices(unknown[0], known),
            exit_code=ExitCode.USAGE,
        )
    return {name: known[name].load() for name in names or known}


def named_classes(which: str) -> tuple[str, ...]:
    """Return class names: "imagenet" for open_clip's 1000, else one per line of a file.

    Raises:
        MuseError: the file cannot be read, or is empty.
    """
    if which == "imagenet":
        from open_clip import IMAGENET_CLASSNAMES

        return tuple(IMAGENET_CLASSNAMES)
    return _lines(Path(which), "classes", ("imagenet",))


def named_templates(which: str) -> tuple[str, ...]:
    """Return templates: "plain" for the class alone, open_clip's "openai" (80) or "simple" (7), else a file's lines.

    Raises:
        MuseError: the file cannot be read, or is empty.
    """
    if which == "plain":
        return ("{}",)
    if which in ("openai", "simple"):
        from open_clip import OPENAI_IMAGENET_TEMPLATES, SIMPLE_IMAGENET_TEMPLATES

        templates = OPENAI_IMAGENET_TEMPLATES if which == "openai" else SIMPLE_IMAGENET_TEMPLATES
        return tuple(template("{}") for template in templates)
    return _lines(Path(which), "templates", ("plain", "openai", "simple"))


def _lines(path: Path, what: str, names: tuple[str, ...]) -> tuple[str, ...]:
    if not path.exists():
        hint = f"a file with one per line, or a name: {choices(str(path), names)}"
        raise MuseError(f"{path} is neither a file of {what} nor a name of some", hint=hint, exit_code=ExitCode.FILE)
    try:
        text = read_text_file(path)
    except (OSError, MuseError) as error:
        raise MuseError(f"no {what} could be read from {path}: {error}", hint="one per line, in UTF-8") from error
    lines = tuple(composed(line) for line in lines_of(text))
    if not lines:
        raise MuseError(f"{path} holds no {what}")
    return lines


def refuse_unnamed(classes: str | None, templates: str) -> None:
    """Refuse files of classes or sentences that cannot be read; the names that come with open_clip are not asked.

    Raises:
        MuseError: as `named_classes` and `named_templates`.
    """
    if classes not in (None, "imagenet"):
        named_classes(str(classes))
    if templates not in ("openai", "simple"):
        named_templates(templates)
