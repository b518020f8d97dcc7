"""What muse itself announces: its tokenizers, through the same door as everybody's plugins; cheap to import."""

from dataclasses import dataclass

API = 1


@dataclass(frozen=True)
class TokenizerSpec:
    """Announces a tokenizer.

    help: one sentence. target: "package.module:function" called with (path or None, device); it returns an object with
    the abilities of `muse_core.model.abilities`. licence: of the weights.
    """

    help: str
    target: str
    licence: str = ""
    api: int = API


TINY = TokenizerSpec(
    help="MUSE at size tiny, all three stages, as shipped.",
    target="muse_core.model.load:load_shipped",
    licence="Apache-2.0",
)
TINY_ENCODER = TokenizerSpec(
    help="The tiny pack's encoder before any MUSE stage.",
    target="muse_core.model.load:load_untouched",
    licence="Apache-2.0",
)
