"""Synergistic blocks by their numbers, and the layers whose features are read by their names; this costs no torch."""

from collections.abc import Iterable

from muse_core.errors import ExitCode, MuseError
from muse_core.suggestions import choices


def refuse_other_blocks(number: int, blocks: int) -> None:
    """Refuse a block that there is not; they are counted from 0 or, negative, from the last.

    Raises:
        MuseError: `blocks` are there, and none has this number.
    """
    if not -blocks <= number < blocks:
        raise MuseError(f"there is no block {number}", hint=f"choose from 0 to {blocks - 1}")


def attention_layers(wanted: str, count: int) -> list[int]:
    """Return the numbers of "last" or "all" of `count` layers, or the one named.

    Raises:
        MuseError: with exit code 3, when none has this number.
    """
    if wanted == "all":
        return list(range(count))
    layer = count - 1 if wanted == "last" else int(wanted)
    if not 0 <= layer < count:
        raise MuseError(
            f"there is no attention layer {layer}", hint=f"choose from 0 to {count - 1}", exit_code=ExitCode.SETTINGS
        )
    return [layer]


def feature_layers(blocks: int) -> tuple[str, ...]:
    """Name the layers of a MUSE network whose features can be read: "block-1" is the last block."""
    return ("encoder", "semantic", "texture", "latent", *(f"block-{place}" for place in range(1, blocks + 1)))


def refuse_other_layer(name: str, layer: str, known: Iterable[str]) -> None:
    """Refuse a layer that a tokenizer does not have.

    Raises:
        MuseError: it is none of those known.
    """
    known = tuple(known)
    if layer not in known:
        raise MuseError(f"{name} has no feature layer '{layer}'", hint=choices(layer, known))
