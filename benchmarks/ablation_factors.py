"""What the ablation varies, one factor at a time, and what it measures; nothing here runs anything."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

DEFAULT = "default"


@dataclass(frozen=True)
class Configuration:
    """One way of training.

    differs: from the paper's defaults, as `run.recipe=muse` reads them, in words. changes: settings of all stages;
    later: of stages 2 and 3 only. kind: a factor that the rule judges, the stress setting, or a further run that helps
    to read the others. conflict: whether the gradients of the finished tokenizer are compared, with which routing
    (None: the stage's own).
    """

    name: str
    differs: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    later: Mapping[str, Any] = field(default_factory=dict)
    kind: Literal["factor", "stress", "further"] = "factor"
    conflict: bool = False
    routing: Literal["joint"] | None = None

    def settings(self, stage: int) -> dict[str, Any]:
        """Return what differs from the preset in a stage, by dotted key."""
        return {**self.changes, **(self.later if stage > 1 else {})}


JOINT = {"training.routing": "joint"}
NARROW = {"model.width": 32}
LOUD = {"losses.contrastive": 4.0}

CONFIGURATIONS = (
    Configuration(DEFAULT, "nothing: strict, strict, open; topology on every block; anchor mixed in", conflict=True),
    Configuration("open", "routing `open` in all stages", {"training.routing": "open"}),
    Configuration("joint", "routing `joint` in all stages: no stop-gradient", JOINT, conflict=True, routing="joint"),
    Configuration("no-topology", "topology weight 0; W_Q and W_K keep their random start", {"losses.topology": 0.0}),
    Configuration("last-block", "topology on the last block only", {"losses.topology_blocks": "last"}),
    Configuration("not-injected", "the anchor is not mixed into the texture", {"model.inject": False}),
    Configuration("raw-anchor", "the anchor reads the block's input as it is", {"model.semantic_input": "raw"}),
    Configuration(
        "released", "`run.recipe=released`: the public code's layout and routing", {"run.recipe": "released"}
    ),
    Configuration("stress", "width 32 for 128, contrastive weight 4 for 0.2 and 0.1", NARROW, LOUD, "stress", True),
    Configuration("stress-joint", "the same, and routing `joint`", NARROW | JOINT, LOUD, "stress", True, "joint"),
    Configuration(
        "joint-no-topology",
        "routing `joint` and topology weight 0: attention learns from pixels and captions",
        JOINT | {"losses.topology": 0.0},
        kind="further",
    ),
)
"""In the order in which they are run: the stress setting's counterpart and the further run come last."""

FACTORS = tuple(one.name for one in CONFIGURATIONS if one.kind == "factor" and one.name != DEFAULT)


@dataclass(frozen=True)
class Quantity:
    """One number of a run: which measurement holds it under which name, and how it is printed."""

    name: str
    title: str
    measure: str
    metric: str
    form: str
    higher: bool = True


QUANTITIES = (
    Quantity("psnr", "PSNR, dB", "eval", "psnr", "{:.2f}"),
    Quantity("ssim", "SSIM", "eval", "ssim", "{:.3f}"),
    Quantity("fd", "FD (tiny CLIP)", "eval", "fd-tiny-clip", "{:.1f}", higher=False),
    Quantity("zeroshot", "zero-shot top-1", "zeroshot", "top1", "{:.1%}"),
    Quantity("linear", "linear probe top-1", "linear", "top1", "{:.1%}"),
    Quantity("miou", "mIoU", "segment", "miou", "{:.2%}"),
    Quantity("kl", "topology KL, nats", "topology", "kl", "{:.4f}", higher=False),
    Quantity("auc", "object AUC", "topology", "auc", "{:.3f}"),
)
BY_NAME = {quantity.name: quantity for quantity in QUANTITIES}
