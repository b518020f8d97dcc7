"""The recipe of each size and stage: what the second layer of the settings says.

1b and 3b have the hyper-parameters of the public code's configurations; tiny is ours, chosen by measurement. Where
paper and public code disagree, `run.recipe` chooses:

    muse      the paper's block, routing and per-block losses with the public code's weights and rates; what we train
    paper     what the paper says and draws: attention open to the pixels, only the named weights in stages 1 and 2,
              reconstruction weighted x 0.1 there with its gradient whole (Figure 2)
    released  what the public code trains: its block, its routing, losses on the last block, reconstruction at full
              weight with half of its gradient in stages 1 and 2
"""

from collections.abc import Callable, Mapping
from typing import Any

Preset = Mapping[str, Mapping[str, Any]]

SIZES = ("tiny", "1b", "3b")
STAGES = {
    1: "topology: attention learns the teacher's structure",
    2: "semantics: values learn the captions' meaning",
    3: "synergy: everything is tuned together",
}

_ROUTING = {1: "strict", 2: "strict", 3: "open"}
_TOPOLOGY = {1: 2.0, 2: 5.0, 3: 0.2}
_CONTRASTIVE = {1: 0.0, 2: 0.2, 3: 0.1}
_PERCEPTUAL = {1: 1.1, 2: 1.1, 3: 2.0}

_RELEASED_OPTIM = {
    ("1b", 1): {"lr": 4e-4, "end_lr": 1e-5, "warmup_steps": 2_000, "discriminator_lr": 4e-4, "gradient_scale": 0.5},
    ("1b", 2): {"lr": 2e-4, "end_lr": 1e-5, "warmup_steps": 5_000, "discriminator_lr": 2e-4, "gradient_scale": 0.5},
    ("1b", 3): {"lr": 5e-5, "end_lr": 1e-6, "warmup_steps": 1_000, "discriminator_lr": 1e-4, "gradient_scale": 1.0},
    ("3b", 1): {"lr": 4e-4, "end_lr": 1e-5, "warmup_steps": 5_000, "discriminator_lr": 4e-4, "gradient_scale": 0.5},
    ("3b", 2): {"lr": 2e-4, "end_lr": 1e-5, "warmup_steps": 5_000, "discriminator_lr": 2e-4, "gradient_scale": 0.5},
    ("3b", 3): {"lr": 5e-5, "end_lr": 1e-6, "warmup_steps": 1_000, "discriminator_lr": 1e-4, "gradient_scale": 1.0},
}
_RELEASED_STEPS = {("1b", 1): 50_000, ("1b", 2): 50_000, ("1b", 3): 50_000}
_RELEASED_STEPS |= {("3b", 1): 75_000, ("3b", 2): 75_000, ("3b", 3): 50_000}

_TINY_MODEL = {"width": 128, "heads": 4, "blocks": 3, "latent_channels": 16, "resolution": 64}
# A short run cannot wait for AdamW's usual memory of a thousand steps: beta2 is lower than at the real sizes.
_TINY_OPTIM = {
    1: {"lr": 2e-3, "end_lr": 2e-4, "warmup_steps": 20, "beta2": 0.95},
    2: {"lr": 1.2e-3, "end_lr": 1e-4, "warmup_steps": 10, "beta2": 0.95},
    3: {"lr": 1e-3, "end_lr": 2e-5, "warmup_steps": 10, "beta2": 0.95, "discriminator_lr": 4e-4},
}
_TINY_TRAINING = {
    1: {"steps": 280, "batch_size": 32, "reconstruct": 24},
    2: {"steps": 160, "batch_size": 40, "reconstruct": 16},
    3: {"steps": 320, "batch_size": 24, "reconstruct": 24},
}
_TINY_COMMON = {"save_every": 120, "eval_every": 60, "sample_every": 60, "log_every": 10}


def preset(size: str, stage: int, recipe: str = "muse") -> Preset:
    """Return the settings that a size, a stage and a recipe imply, as sections of plain values.

    Raises:
        KeyError: for one that does not exist; the settings class refuses those first.
    """
    sections = _of_size(size, stage)
    changes = RECIPES[recipe](sections, stage)
    return {name: {**values, **changes.get(name, {})} for name, values in sections.items()}


def preset_for(asked: Mapping[str, Any]) -> Preset:
    """Return the preset of what the other layers ask for so far, as sections; what does not exist has none.

    The demo's held-out scenes belong to the demo's training scenes: beside other data nothing is held out unless asked.
    """
    run, data = (asked[name] if isinstance(asked.get(name), Mapping) else {} for name in ("run", "data"))
    size, stage, recipe = run.get("size", "1b"), run.get("stage", 1), run.get("recipe", "muse")
    # What does not exist is refused, with its origin, when the settings are checked. Not hashed: it may be a list.
    if size not in list(SIZES) or stage not in list(STAGES) or recipe not in list(RECIPES):
        return {}
    sections = dict(preset(size, stage, recipe))
    if data.get("train") not in (None, sections["data"].get("train")) and not _is_demo(data["train"]):
        sections["data"] = {name: value for name, value in sections["data"].items() if name != "val"}
    return sections


def _is_demo(where: object) -> bool:
    return isinstance(where, str) and where.partition(":")[0] == "demo"


def _as_it_is(sections: Preset, stage: int) -> Preset:
    return {}


def _paper(sections: Preset, stage: int) -> Preset:
    losses = sections["losses"]
    if stage == 3:
        return {"training": {"routing": "figure-open"}}
    weaker = {name: PAPER_RECONSTRUCTION * losses[name] for name in ("pixel", "perceptual")}
    training = {"routing": "figure", "trains": "paper"}
    return {"losses": weaker, "optim": {"gradient_scale": 1.0}, "training": training}


def _released(sections: Preset, stage: int) -> Preset:
    return {
        "model": {"layout": "released", "inject": False},
        "losses": {"topology_blocks": "last"},
        "training": {"routing": "released"},
    }


PAPER_RECONSTRUCTION = 0.1
RECIPES: Mapping[str, Callable[[Preset, int], Preset]] = {"muse": _as_it_is, "paper": _paper, "released": _released}


def _of_size(size: str, stage: int) -> Preset:
    losses: dict[str, Any] = {
        "pixel": 1.0,
        "perceptual": _PERCEPTUAL[stage],
        "topology": _TOPOLOGY[stage],
        "contrastive": _CONTRASTIVE[stage],
        "adversarial": 0.5 if stage == 3 else 0.0,
    }
    if size == "tiny":
        return {
            "model": _TINY_MODEL,
            "losses": {**losses, **_tiny_losses(stage)},
            "optim": {**_TINY_OPTIM[stage], "average_decay": 0.99},
            "training": {**_TINY_TRAINING[stage], **_TINY_COMMON, "routing": _ROUTING[stage], "precision": "fp32"},
            "data": {"train": "demo", "val": "demo:val"},
        }
    return {
        "model": {"width": 512, "heads": 8, "blocks": 6, "latent_channels": 32, "resolution": 224},
        "losses": losses,
        "optim": {**_RELEASED_OPTIM[size, stage], "average_decay": 0.999},
        "training": {
            "steps": _RELEASED_STEPS[size, stage],
            "batch_size": 256 if stage == 3 else 384,
            "routing": _ROUTING[stage],
            "save_every": 5_000 if size == "1b" else 7_500,
            "eval_every": 5_000 if size == "1b" else 7_500,
            "sample_every": 2_500 if size == "3b" or stage == 3 else 2_000,
        },
        "data": {"flip": True},
    }


def _tiny_losses(stage: int) -> dict[str, Any]:
    return {"perceptual": 0.3, "perceptual_kind": "tiny-features", "adversarial": 0.005 if stage == 3 else 0.0}
