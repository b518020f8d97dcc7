"""The first line of a command that measures: which tokenizer, which data, how; and all that is cheap to refuse.

Nothing here imports torch, whose import takes longer than all of this, or opens a network or an image.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from muse_cli.output import out

if TYPE_CHECKING:
    from muse_core.data.source import Source


@dataclass(frozen=True)
class DataWanted:
    """Data that a command will read, in the words of `--data`; `limit` images of them, None for all."""

    where: str
    split: str = "val"
    limit: int | None = None

    def in_words(self) -> str:
        """Return what they are and how many; an address is not asked before it is read.

        Raises:
            MuseError: there are none.
        """
        from muse_core.data.places import is_address
        from muse_core.data.source import open_source

        if any(is_address(part) for part in self.where.replace(" + ", "::").split("::")):
            return self.where
        source = open_source(self.where, split=self.split)
        return f"{source.name}, {amount(source, self.limit)}"


def amount(source: "Source", limit: int | None) -> str:
    """Write how many images will be read, as far as that is known before."""
    from muse_core.data.vocabulary import counted

    count = source.count
    if limit is not None and (count is None or limit < count):
        return counted(limit, "image") if count is None else f"{limit:,} of {counted(count, 'image')}"
    if count is not None:
        return counted(count, "image")
    return counted(source.max_lanes, "shard") if source.max_lanes else "images not counted"


def refuse_layers(where: str, layers: Iterable[str]) -> None:
    """Refuse names of feature layers that a tokenizer lacks, as far as small files tell which it has.

    Raises:
        MuseError: it has no such layer, or there is no such tokenizer.
    """
    from muse_core.model.blocks import feature_layers, refuse_other_layer
    from muse_core.model.locating import look_up

    blocks = look_up(where).blocks
    for layer in layers if blocks is not None else ():
        refuse_other_layer(where, layer, feature_layers(blocks or 0))


def brief(command: str, tokenizers: Iterable[str], data: Iterable[DataWanted], how: str, devices: str) -> None:
    """Say what will be measured on what, and refuse what is not there.

    Raises:
        MuseError: there is no such tokenizer, there are no such data, or this machine has no such device.
    """
    from muse_core.machine import choose_devices
    from muse_core.model.locating import look_up

    named = ", ".join(look_up(where).text for where in tokenizers)
    read = ", then ".join(wanted.in_words() for wanted in data)
    out.say(f"{command}: {named}{' on ' if named else ''}{read}; {how}")
    choose_devices(devices)
