"""The model card of a pack, made from its figures alone."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from muse_core.data.scenes.sprites import DESIGNERS

Figures = Mapping[str, Any]

STANDS_FOR = {
    "backbone": ("InternVL's vision encoder", "`InternVLVisionModel`, with a linear map into the text's space"),
    "text": ("the CLIP text tower", "`CLIPTextModelWithProjection`, one id per word"),
    "pixels": ("DC-AE's decoder", "decoder of `AutoencoderDC`; its encoder half is not shipped"),
    "teacher": ("DINOv3", "`DINOv3ViTModel`"),
}
_ATTENTION = ("auc", "auc_distance_matched", "kl")
_RECIPE = ("steps", "batch_size", "lr", "colour_jitter", "seed")
_SPLIT_NAMES = {"val": "validation", "ood": "unseen designer"}


def render(found: Figures) -> str:
    """Write the card as Markdown; every number in it is in `found`."""
    parts = found["parts"]
    masked = "mask" in parts["teacher"]["training"]["supervision"]
    taught = "with masks" if masked else "without masks"
    sections = [
        "# The tiny foundation pack",
        _introduction(parts, found["bytes"]),
        *([_MASKS] if masked else []),
        "## Parts\n\n" + _parts(parts),
        "## What was measured\n\n" + _conditions(found),
        "### Backbone and text tower\n\n" + _semantics(found),
        "### Pixels\n\n" + _pixels(parts["pixels"]["training"]["measured"]),
        f"### Teacher (trained {taught})\n\n" + _teacher(found["attention"]),
        "## Training data and licences\n\n" + _licences(),
        "## Make it again\n\n" + _again(parts),
    ]
    return "\n\n".join(sections) + "\n"


_MASKS = """\
> **The structure teacher was trained WITH MASKS.** Its last attention was taught, from the exact masks of the scenes,
> which patches share an object. It stands in for DINOv3, whose attention found objects without any mask. Whatever is
> measured with masks afterwards (attention to objects, segmentation) is therefore partly supervised through it: only
> runs with the same teacher compare, and a run without the topology loss has not had that information."""


def _introduction(parts: Figures, size: int) -> str:
    count = sum(part["parameters"] for part in parts.values())
    return (
        "Small networks that stand in for the published parts MUSE starts from, so that everything runs with no"
        f" download and no GPU. {count:,} parameters in half precision, {size / 1e6:.2f} MB. They know 64 x 64 scenes"
        " of 98 emoji classes and nothing else: they show how the method works, and no number here says anything"
        " about the real parts."
    )


def _parts(parts: Figures) -> str:
    rows = [
        (
            name,
            STANDS_FOR[name][0],
            STANDS_FOR[name][1],
            f"{part['parameters']:,}",
            f"{part['bytes'] / 1e6:.2f} MB",
            part["training"]["supervision"],
            f"{part['training']['samples']:,}",
            _seconds(part["training"]["cpu_seconds"]),
        )
        for name, part in parts.items()
    ]
    header = ("part", "stands in for", "class", "parameters", "file", "taught by", "scenes seen", "CPU-seconds")
    note = (
        "Backbone and text tower were trained together, as a CLIP. Scenes are fresh: none is seen twice. CPU-seconds"
        " are those of the training process, without the one that draws the scenes."
    )
    return f"{_table(header, rows)}\n\n{note}"


def _seconds(value: float) -> str:
    return f"{value:,.0f}" if value else "not recorded"


def _conditions(found: Figures) -> str:
    return (
        f"The files as shipped, the first {found['images']:,} scenes of each split, float32 arithmetic. *Validation*:"
        " seeds that no training sees, but the same artwork (in-vocabulary, same sprites). *Unseen designer*: artwork"
        " of a designer that no part was ever trained on."
    )


def _semantics(found: Figures) -> str:
    rows = []
    for split, name in _SPLIT_NAMES.items():
        zero, linear = found["zero-shot"][split], found["linear probe"][split]
        chance = _tops(linear["baselines"]["chance"])
        untrained = _tops(linear["baselines"]["untrained encoder"])
        rows.append((f"zero-shot, {name}", *_tops(zero["metrics"]), *_tops(zero["baselines"]["chance"])))
        rows.append((f"linear probe, {name}", *_tops(linear["metrics"]), *chance))
        rows.append((f"linear probe of the untrained network, {name}", *untrained, *chance))
    table = _table(("class of the main object, of 98", "top-1", "top-5", "chance top-1", "chance top-5"), rows)
    return f"{table}\n\nThe linear probe is trained on {found['probe scenes']:,} training scenes (`muse probe linear`)."


def _tops(values: Mapping[str, float]) -> tuple[str, str]:
    return f"{values['top1']:.3f}", f"{values['top5']:.3f}" if "top5" in values else ""


def _pixels(measured: Mapping[str, float]) -> str:
    table = _table(
        ("encode and decode", "PSNR"),
        [(name, f"{measured[f'psnr {split}']:.2f} dB") for split, name in _SPLIT_NAMES.items()],
    )
    return (
        f"{table}\n\nMeasured on {int(measured['images']):,} scenes of each split when the part was written, in full"
        " precision and with its own encoder half, which is not shipped. Trained on absolute and squared error only:"
        " no adversary, no perceptual term."
    )


def _teacher(attention: Figures) -> str:
    rows = [
        (f"{what}, {name}", *(f"{values[key]:.4f}" if key in values else "" for key in _ATTENTION))
        for split, name in _SPLIT_NAMES.items()
        for what, values in {"**teacher**": attention[split]["metrics"], **attention[split]["baselines"]}.items()
    ]
    table = _table(("last layer, mean over heads, 8 x 8 patches", "AUC", "distance-matched AUC", "KL"), rows)
    return (
        f"{table}\n\nAUC: for a patch on an object, the chance that another patch of the object is attended more than"
        " one that is not of it. Distance-matched: the same among patches equally far away, so that distance alone"
        " scores 0.5. KL, in nats: from the map in which patches attend in proportion to the segments they share;"
        " *distance only* is the Gaussian that fits these very scenes best. *distance and colour* ranks by the sum of"
        " both, each in units of its spread. The baselines need no learning."
    )


def _licences() -> str:
    rows = [
        (one.title, one.author, one.licence, "**held out**" if one.held_out else "training, validation")
        for one in DESIGNERS
    ]
    return (
        "The weights are released under Apache-2.0. They were trained on scenes drawn from the artwork below; its"
        " notices are in `NOTICE` and its licence texts in `muse_core/data/scenes/artwork/licences`.\n\n"
        + _table(("artwork", "author", "licence", "used for"), rows)
    )


def _again(parts: Figures) -> str:
    recipes = [
        (name, *(str(parts[name]["training"]["recipe"][key]) for key in _RECIPE))
        for name in ("backbone", "pixels", "teacher")
    ]
    return (
        "```sh\npython -m muse_core.training.foundation all --out DIR\n"
        "python -m muse_core.training.foundation card --pack DIR/pack\n```\n\n"
        "Each training resumes by itself and is seeded; other library versions or processors give other digits.\n\n"
        + _table(("part", "steps", "batch", "peak rate", "colour jitter", "seed"), recipes)
        + "\n\nThe whole recipe of each part is in its `training.json`, every number above in `measured.json`;"
        " how the recipes were found, and what failed, is in `docs/foundation.md`."
    )


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
