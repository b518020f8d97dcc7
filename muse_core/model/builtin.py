"""What muse itself announces: its tokenizers, through the same door as everybody's plugins; cheap to import."""

from dataclasses import dataclass

API = 1


@dataclass(frozen=True)
class PublishedScore:
    """A number that a publication printed; it is shown apart from what is measured here, with its source.

    of: which model. metric: rfid, psnr, ssim, gfid, zeroshot, linear or miou; fractions are fractions. source: who
    printed it. protocol: what is known of how it was made, and what speaks against comparing it.
    """

    of: str
    metric: str
    value: float
    source: str
    protocol: str


@dataclass(frozen=True)
class TokenizerSpec:
    """Announces a tokenizer.

    help: one sentence. target: "package.module:function" called with (path or None, device); it returns an object with
    the abilities of `muse_core.model.abilities`. licence: of the weights. abilities: names from
    `muse_core.model.abilities.ABILITIES` that such an object has, for listings; a file may support fewer.
    published: what others printed about it.
    """

    help: str
    target: str
    licence: str = ""
    abilities: tuple[str, ...] = ()
    published: tuple[PublishedScore, ...] = ()
    api: int = API


@dataclass(frozen=True)
class GeneratorSpec:
    """Announces a generator of latents.

    help: one sentence. target: "package.module:function" called with (path or None, device); it returns a
    `muse_core.model.generating.Generates`. licence: of the weights.
    """

    help: str
    target: str
    licence: str = ""
    api: int = API


_PAPER = "MUSE paper, main table"
_MUSE = "MUSE (1B), not this tokenizer"
MUSE_PUBLISHED = (
    PublishedScore(_MUSE, "rfid", 0.62, _PAPER, "the public code evaluates at 224 px, bytes by truncation"),
    PublishedScore(_MUSE, "gfid", 3.08, _PAPER, "no script for it is public"),
    PublishedScore(
        _MUSE,
        "zeroshot",
        0.771,
        _PAPER,
        "crop 224; above the 75.25 % of the CLIP whose text tower scores it",
    ),
    PublishedScore(_MUSE, "linear", 0.852, _PAPER, "no augmentation, the best epoch on val"),
    PublishedScore(_MUSE, "miou", 0.465, _PAPER, "ADE20K squashed to 512, 10 epochs, absent classes counted 0"),
)

TINY = TokenizerSpec(
    help="MUSE at size tiny, all three stages, as shipped.",
    target="muse_core.model.load:load_shipped",
    licence="Apache-2.0",
    abilities=("encodes", "decodes", "featurizes", "aligns", "attends"),
    published=MUSE_PUBLISHED,
)
TINY_ENCODER = TokenizerSpec(
    help="The tiny pack's encoder before any MUSE stage.",
    target="muse_core.model.load:load_untouched",
    licence="Apache-2.0",
    abilities=("featurizes", "aligns", "attends"),
)
