"""What muse itself announces: its tokenizers, through the same door as everybody's plugins; cheap to import."""

from dataclasses import dataclass

API = 1


@dataclass(frozen=True)
class TokenizerSpec:
    """Announces a tokenizer.

    help: one sentence. target: "package.module:function" called with (path or None, device); it returns an object with
    the abilities of `muse_core.model.abilities`. licence: of the weights. abilities: names from
    `muse_core.model.abilities.ABILITIES` that such an object has, for listings; a file may support fewer.
    """

    help: str
    target: str
    licence: str = ""
    abilities: tuple[str, ...] = ()
    api: int = API


TINY = TokenizerSpec(
    help="MUSE at size tiny, all three stages, as shipped.",
    target="muse_core.model.load:load_shipped",
    licence="Apache-2.0",
    abilities=("encodes", "decodes", "featurizes", "aligns", "attends"),
)
TINY_ENCODER = TokenizerSpec(
    help="The tiny pack's encoder before any MUSE stage.",
    target="muse_core.model.load:load_untouched",
    licence="Apache-2.0",
    abilities=("featurizes", "aligns", "attends"),
)
