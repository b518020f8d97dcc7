"""A structure teacher trained WITHOUT masks or captions: DINO with iBOT and KoLeo, across views, on its attention too.

A student sees crops of fresh scenes and must give the answers that its own running average gives:
for the whole view (DINO), for patches hidden from it (iBOT), and for patches of another view that show the same place.
Those losses hardly reach the attention among patches in the last layer, which is what MUSE learns from: the class
token's loss passes it by, and a pilot's pointed away from a patch's own object. So the student's last attention is
taught, besides, to find the patches whose answers the average finds alike.

The pack does not use it: the attempt was not finished (docs/foundation.md).

Letters: B scenes, V views, n patches, K prototypes, D width.
"""

import copy
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import DINOv3ViTModel

from muse_core.model.images import imagenet_normalize
from muse_core.model.weights import tiny
from muse_core.training.foundation.crops import Views, blob_masks, random_views, seen_from
from muse_core.training.foundation.export import export_part, note_training
from muse_core.training.foundation.loop import Recipe, fit
from muse_core.training.foundation.measure import measure_attention
from muse_core.training.foundation.stream import SceneBatch

RECIPE = Recipe(steps=2_400, batch_size=64, lr=1.5e-3, warmup_steps=150, weight_decay=0.04, save_every=200)
GLOBAL_SIDE, GLOBAL_AREA = 64, (0.45, 1.0)
LOCAL_SIDE, LOCAL_AREA, LOCALS = 32, (0.1, 0.4), 2
PATCHES = GLOBAL_SIDE // 8
PROTOTYPES = 256
HIDDEN_SHARE = 0.5
STUDENT_TEMPERATURE, TEACHER_TEMPERATURE = 0.1, 0.06
LIKENESS_TEMPERATURE = 0.15
MOMENTUM = 0.99
WEIGHTS = {"views": 1.0, "hidden": 1.0, "places": 1.0, "attention": 1.0, "spread": 0.05}


class Head(nn.Module):
    """Tokens (..., D) to unit directions, and their similarities with K prototypes, between -1 and 1."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(tiny.WIDTH, 256), nn.GELU(), nn.Linear(256, 64))
        self.prototypes = nn.Parameter(torch.randn(PROTOTYPES, 64))
        for weight in self.layers.parameters():
            if weight.ndim == 2:
                nn.init.trunc_normal_(weight, std=0.06)

    def directions(self, tokens: Tensor) -> Tensor:
        """Map tokens to unit vectors (..., 64)."""
        return functional.normalize(self.layers(tokens), dim=-1)

    def compare(self, directions: Tensor) -> Tensor:
        """Compare directions with the prototypes: (..., K)."""
        return directions @ functional.normalize(self.prototypes, dim=-1).T

    def forward(self, tokens: Tensor) -> Tensor:
        """Compare tokens with the prototypes: (..., K)."""
        return self.compare(self.directions(tokens))


@dataclass(frozen=True)
class Seen:
    """Class tokens (B, D), patch tokens (B, n, D), and the last layer's head-mean attention among patches (B, n, n)."""

    whole: Tensor
    patches: Tensor
    attention: Tensor


class Viewer(nn.Module):
    """A DINOv3 with one head for the class token and one for patches."""

    def __init__(self) -> None:
        super().__init__()
        self.vision: DINOv3ViTModel = tiny.new_teacher()
        self.vision.eval()  # in training mode DINOv3 rescales its positions at random
        self.vision.set_attn_implementation("eager")
        for weight in self.vision.parameters():
            if weight.ndim in (2, 4):  # the library's 0.02 suits wide networks
                nn.init.trunc_normal_(weight, std=0.06)
        self.whole = Head()
        self.patch = Head()

    def forward(self, images: Tensor, hidden: Tensor | None = None) -> Seen:
        """Look at images in [0, 1]; the patches in `hidden` (B, n) are replaced by the mask token."""
        out = self.vision(imagenet_normalize(images), bool_masked_pos=hidden, output_attentions=True)
        tokens = out.last_hidden_state
        prefix = 1 + int(self.vision.config.num_register_tokens)
        among = out.attentions[-1].mean(1)[:, prefix:, prefix:]
        return Seen(tokens[:, 0], tokens[:, prefix:], among / among.sum(-1, keepdim=True))


@dataclass(frozen=True)
class Told:
    """What the average says of both global views: answers for the whole (2, B, K) and for patches (2, B, n, K).

    likeness: (2, B, n, n), rows sum to 1: which patches have like directions.
    """

    whole: Tensor
    patches: Tensor
    likeness: Tensor


@torch.no_grad()
def even_answers(similarity: Tensor, temperature: float, rounds: int = 3) -> Tensor:
    """Sharpen similarities (N, K) to answers whose rows sum to 1 and that use all prototypes evenly (Sinkhorn)."""
    plan = ((similarity - similarity.max()) / temperature).exp()
    rows, columns = plan.shape
    for _ in range(rounds):
        plan = plan / plan.sum(0, keepdim=True).clamp_min(1e-12) / columns
        plan = plan / plan.sum(1, keepdim=True).clamp_min(1e-12) / rows
    return plan * rows


def disagreement(similarity: Tensor, answers: Tensor) -> Tensor:
    """Cross-entropy of the student's similarities (..., K) against answers (..., K): (...)."""
    return -(answers * (similarity / STUDENT_TEMPERATURE).log_softmax(-1)).sum(-1)


def crowding(tokens: Tensor) -> Tensor:
    """KoLeo: minus the mean log distance of unit tokens (B, D) to their nearest neighbour."""
    unit = functional.normalize(tokens, dim=-1)
    with torch.no_grad():
        nearest = (unit @ unit.T - 2 * torch.eye(len(unit))).argmax(1)
    return -(functional.pairwise_distance(unit, unit[nearest]) + 1e-6).log().mean()


@torch.no_grad()
def likeness(directions: Tensor, wide: list[Views]) -> Tensor:
    """Which patches are alike: softmax over the cosines of directions (2, B, n, 64), to (2, B, n, n).

    A patch's direction is the mean of what both views say of its place, less the mean of all patches.
    """
    centred = directions - directions.flatten(0, 2).mean(0)
    joined = []
    for mine, other in ((0, 1), (1, 0)):
        seen, inside = seen_from(centred[other], wide[mine], wide[other], PATCHES)
        joined.append(functional.normalize(centred[mine] + seen * inside[..., None], dim=-1))
    unit = torch.stack(joined)
    return (unit @ unit.mT / LIKENESS_TEMPERATURE).softmax(-1)


class SelfTeacher(nn.Module):
    """Student and average, and the losses between them."""

    def __init__(self) -> None:
        super().__init__()
        self.student = Viewer()
        self.average = copy.deepcopy(self.student).requires_grad_(False)

    @torch.no_grad()
    def follow(self, progress: float) -> None:
        """Move the average towards the student, less and less."""
        share = (1 - MOMENTUM) * (1 + math.cos(math.pi * progress)) / 2
        for mean, current in zip(self.average.parameters(), self.student.parameters(), strict=True):
            mean.lerp_(current, share)

    def forward(self, batch: SceneBatch, progress: float) -> dict[str, Tensor]:
        """Return the losses of a batch."""
        count = len(batch.images)
        wide = [random_views(batch.images, GLOBAL_SIDE, GLOBAL_AREA) for _ in range(2)]
        close = [random_views(batch.images, LOCAL_SIDE, LOCAL_AREA) for _ in range(LOCALS)]
        told = self._told(wide)
        hidden = blob_masks(2 * count, PATCHES, HIDDEN_SHARE)
        seen = self.student(torch.cat([view.images for view in wide]), hidden)
        local = self.student(torch.cat([view.images for view in close]))
        said = self.student.whole(torch.cat((seen.whole, local.whole))).unflatten(0, (2 + LOCALS, count))  # V B K
        said_patches = self.student.patch(seen.patches).unflatten(0, (2, count))  # 2 B n K
        attention = seen.attention.unflatten(0, (2, count))
        terms = {
            "views": _views_loss(said, told.whole),
            "hidden": _hidden_loss(said_patches, told.patches, hidden.unflatten(0, (2, count))),
            "places": _places_loss(said_patches, told.patches, wide),
            "attention": functional.kl_div((attention + 1e-8).log(), told.likeness, reduction="none").sum(-1).mean(),
            "spread": (crowding(seen.whole[:count]) + crowding(seen.whole[count:])) / 2,
        }
        return {name: WEIGHTS[name] * value for name, value in terms.items()}

    @torch.no_grad()
    def _told(self, wide: list[Views]) -> Told:
        seen = self.average(torch.cat([view.images for view in wide]))
        directions = self.average.patch.directions(seen.patches)
        of_patches = even_answers(self.average.patch.compare(directions).flatten(0, 1), TEACHER_TEMPERATURE)
        of_whole = even_answers(self.average.whole(seen.whole), TEACHER_TEMPERATURE)
        both = (2, len(wide[0].images))
        return Told(
            whole=of_whole.unflatten(0, both),
            patches=of_patches.unflatten(0, (*both, -1)),
            likeness=likeness(directions.unflatten(0, both), wide),
        )


def _views_loss(said: Tensor, told: Tensor) -> Tensor:
    pairs = [disagreement(said[view], told[other]) for other in range(2) for view in range(len(said)) if view != other]
    return torch.stack(pairs).mean()


def _hidden_loss(said: Tensor, told: Tensor, hidden: Tensor) -> Tensor:
    lost = disagreement(said[hidden], told[hidden])
    return lost.sum() / max(1, len(lost))


def _places_loss(said: Tensor, told: Tensor, wide: list[Views]) -> Tensor:
    total, count = said.new_zeros(()), said.new_zeros(())
    for mine, other in ((0, 1), (1, 0)):
        answers, inside = seen_from(told[other], wide[mine], wide[other], PATCHES)
        total = total + (disagreement(said[mine], answers) * inside).sum()
        count = count + inside.sum()
    return total / count.clamp_min(1)


def train(folder: Path, recipe: Recipe = RECIPE) -> SelfTeacher:
    """Train the self-supervised teacher, continuing from `folder`."""
    torch.manual_seed(recipe.seed)
    model = SelfTeacher()

    def report(_: int) -> dict[str, float]:
        return {
            f"{split} {name}": round(value, 4)
            for split in ("val", "ood")
            for name, value in measure_attention(model.average.vision, split, 200).items()
        }

    fit(model, model, recipe, folder, after_step=model.follow, report=report)
    return model


def export(model: SelfTeacher, progress: Path, pack: Path, recipe: Recipe = RECIPE) -> None:
    """Write the running average as DINOv3 is published, beside the teacher that the pack uses, not in its place."""
    export_part(model.average.vision, pack / "self-teacher")
    note_training(pack / "self-teacher", progress, recipe, "images")
