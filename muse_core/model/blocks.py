"""Synergistic blocks by their numbers, from 0 or, negative, from the last."""

from muse_core.errors import MuseError


def refuse_other_blocks(number: int, blocks: int) -> None:
    """Refuse a block that there is not.

    Raises:
        MuseError: `blocks` are there, and none has this number.
    """
    if not -blocks <= number < blocks:
        raise MuseError(f"there is no block {number}", hint=f"choose from 0 to {blocks - 1}")
