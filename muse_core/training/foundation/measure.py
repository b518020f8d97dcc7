"""How well a small DINOv3's attention finds objects, by the project's own measures, beside maps that learned nothing.

Letters: B images, n = h * w patches, H heads.
"""

import copy
from collections.abc import Iterable

import torch
from torch import Tensor
from transformers import DINOv3ViTModel

from muse_core.evaluation.topology import (
    ObjectRanking,
    TeacherMaps,
    attention_kl,
    colour_similarity,
    patch_objects,
    squared_distances,
)
from muse_core.model.images import imagenet_normalize
from muse_core.model.teacher import StructureTeacher
from muse_core.training.foundation.stream import SIDE, fixed_scenes
from muse_core.training.foundation.teacher import same_segment

PATCH = 8
GRID = (SIDE // PATCH, SIDE // PATCH)

Figures = dict[str, float]


def measure_attention(model: DINOv3ViTModel, split: str, count: int) -> Figures:
    """Measure the map that MUSE learns from: last layer, mean over heads, among patches.

    Returns:
        auc and auc_distance_matched (`muse_core.evaluation.attention`), and kl, the divergence in nats of the map from
        the one in which patches attend in proportion to the segments they share.
    """
    teacher, ranking, divergence = StructureTeacher(copy.deepcopy(model)), ObjectRanking(), 0.0
    for batch in fixed_scenes(split, count):
        maps = teacher(batch.images, GRID)
        ranking.add(maps, patch_objects(batch.masks, GRID), GRID)
        divergence += float(attention_kl(maps, same_segment(batch.masks, PATCH)).sum())
    return {**_ranked(ranking), "kl": divergence / count}


def measure_baselines(split: str, count: int) -> dict[str, Figures]:
    """Measure, on the same scenes, maps that need no learning.

    "distance and colour" sharpens nothing: it ranks patches by the sum of both, each in units of its own spread.
    """
    rankings = {name: ObjectRanking() for name in ("distance only", "patch colour", "distance and colour")}
    target = TeacherMaps(GRID)
    for batch in fixed_scenes(split, count):
        objects = patch_objects(batch.masks, GRID)
        near = -squared_distances(GRID).double().sqrt()
        colour = colour_similarity(batch.images, GRID).double()
        both = near / near.std() + colour / colour.std()
        for ranking, maps in zip(rankings.values(), (near, colour, both), strict=True):
            ranking.add(maps, objects, GRID)
        target.add(same_segment(batch.masks, PATCH))
    found = {name: _ranked(ranking) for name, ranking in rankings.items()}
    found["distance only"]["kl"] = target.best_gaussian()[1]
    return {**found, "uniform": {"kl": target.uniform_kl()}}


@torch.no_grad()
def survey_heads(model: DINOv3ViTModel, split: str, count: int) -> dict[str, Figures]:
    """Measure every layer and head: "layer 0, mean", "layer 0, head 0" ... to auc and auc_distance_matched.

    To choose among these is to learn from masks: choose on training scenes, and say so.
    """
    model = copy.deepcopy(model).eval()
    model.set_attn_implementation("eager")
    rankings: dict[str, ObjectRanking] = {}
    for batch in fixed_scenes(split, count):
        objects = patch_objects(batch.masks, GRID)
        layers: Iterable[Tensor] = model(imagenet_normalize(batch.images), output_attentions=True).attentions
        for index, weights in enumerate(layers):
            among = weights[:, :, -objects.shape[1] :, -objects.shape[1] :]  # B H n n
            maps = {"mean": among.mean(1), **{f"head {head}": among[:, head] for head in range(among.shape[1])}}
            for name, one in maps.items():
                rankings.setdefault(f"layer {index}, {name}", ObjectRanking()).add(one, objects, GRID)
    return {name: _ranked(ranking) for name, ranking in rankings.items()}


def _ranked(ranking: ObjectRanking) -> Figures:
    found = ranking.result()
    return {} if found is None else {"auc": found.auc, "auc_distance_matched": found.auc_distance_matched}
