"""Which tokenizer and which data a command means, and telling the user when they were not named."""

from typing import Any

from muse_cli.output import out
from muse_core.errors import ExitCode, MuseError


def chosen_or_newest(where: str | None) -> str:
    """Return what was named; else the newest finished run of a tokenizer; else the tokenizer that ships with muse.

    Raises:
        MuseError: `latest` was named, and there is none.
    """
    from muse_core.run_search import latest_finished, newest_finished
    from muse_core.runs import runs_dir

    name, colon, pointer = (where or "").partition(":")
    if name not in ("", "latest"):
        return str(where)
    newest = latest_finished() if name else newest_finished()
    if newest is not None:
        out.say(f"using {newest.path}, the newest finished run")
        return f"{newest.path}{colon}{pointer}"
    out.say(f"no finished run in {runs_dir()}: using the tokenizer that ships with muse (tiny)")
    return "tiny"


def data_or_demo(where: str | None, option: str = "--data") -> str:
    """Return what was named by an option, else the built-in held-out scenes."""
    if where is None:
        out.say(f"no {option}: measuring on the built-in held-out scenes (demo:val)")
        return "demo:val"
    return where


def training_or_demo(where: str | None, option: str = "--data") -> str:
    """Return what was named by an option to learn from, else the built-in scenes for training."""
    if where is None:
        out.say(f"no {option}: learning from the built-in scenes (demo:train)")
        return "demo:train"
    return where


def both_or_demo(train: str | None, held_out: str | None) -> tuple[str, str]:
    """Return what to learn from and what to measure on: as named, or the built-in scenes for both.

    Raises:
        MuseError: one of the two is the user's own and the other is not named, so that it would be other scenes.
    """
    for named, option, other in ((train, "--data", "--val-data"), (held_out, "--val-data", "--data")):
        if named is not None and not named.startswith("demo") and None in (train, held_out):
            raise MuseError(
                f"{option} {named} needs data beside it to {'measure on' if option == '--data' else 'learn from'}",
                hint=f"{other} DATA; {other} demo:{'val' if option == '--data' else 'train'} takes the built-in scenes",
                exit_code=ExitCode.USAGE,
            )
    return training_or_demo(train), data_or_demo(held_out, "--val-data")


def load(where: str, device: str, *needs: str) -> Any:
    """Load a tokenizer, with the abilities that a command needs, such as "decodes".

    Raises:
        MuseError: it cannot be loaded, or lacks one of them.
    """
    with out.doing(f"loading {where}"):
        from muse_core.api import load_tokenizer
        from muse_core.errors import MuseError
        from muse_core.model.abilities import ABILITIES, abilities

        tokenizer: Any = load_tokenizer(where, device=device)
    for name in needs:
        if not isinstance(tokenizer, ABILITIES[name]):
            has = ", ".join(abilities(tokenizer)) or "nothing that muse knows"
            raise MuseError(f"{where} does not support this: it has {has}, not {name}")
    return tokenizer
