"""Structure measures: equal to slow definitions, and fooled by nothing that only knows distance."""

import math

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from muse_core.errors import MuseError
from muse_core.evaluation.topology import (
    UNKNOWN,
    ObjectRanking,
    TeacherMaps,
    attention_kl,
    colour_similarity,
    gaussian_map,
    patch_objects,
    squared_distances,
)

GRID = (4, 5)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_maps(batch: int, n: int, seed: int = 0) -> Tensor:
    return torch.softmax(2 * torch.randn(batch, n, n, generator=generator(seed)), -1)


def random_objects(batch: int, n: int) -> Tensor:
    return torch.randint(-1, 3, (batch, n), generator=generator(5))


def ranked(scores: Tensor, objects: Tensor) -> ObjectRanking:
    ranking = ObjectRanking()
    ranking.add(scores, objects, GRID)
    return ranking


def slow_scores(scores: Tensor, objects: Tensor) -> tuple[float, float]:
    distance = squared_distances(GRID)
    aucs, wins, pairs = [], 0.0, 0
    for b in range(len(objects)):
        for q in range(objects.shape[1]):
            others = torch.arange(objects.shape[1]) != q
            own = (objects[b] == objects[b, q])[others]
            if objects[b, q] <= 0 or own.all() or not own.any():
                continue
            row = scores[b, q][others]
            aucs.append(roc_auc_score(own.numpy(), row.numpy()))
            for p in torch.nonzero(own).flatten():
                for m in torch.nonzero(~own).flatten():
                    if distance[q][others][p] == distance[q][others][m]:
                        wins += 1.0 if row[p] > row[m] else 0.5 if row[p] == row[m] else 0.0
                        pairs += 1
    return sum(aucs) / len(aucs), wins / pairs


def test_both_aucs_equal_their_definitions_with_and_without_ties() -> None:
    objects = random_objects(3, 20)
    for scores in (random_maps(3, 20), (random_maps(3, 20) * 60).round()):
        auc, matched = slow_scores(scores, objects)
        found = ranked(scores, objects).result()
        assert found is not None
        assert found.auc == pytest.approx(auc, abs=1e-12)
        assert found.auc_distance_matched == pytest.approx(matched, abs=1e-12)


def test_distance_alone_scores_exactly_one_half_when_distances_are_matched() -> None:
    objects = random_objects(4, 20)
    for scores in (-squared_distances(GRID).float(), gaussian_map(GRID, 1.3), gaussian_map(GRID, 0.05)):
        found = ranked(scores, objects).result()
        assert found is not None
        assert found.auc_distance_matched == 0.5


def test_distance_alone_looks_good_on_compact_objects_when_they_are_not_matched() -> None:
    masks = torch.zeros(1, 64, 64, dtype=torch.uint8)
    masks[:, :32, :32] = 1
    ranking = ObjectRanking()
    ranking.add(-squared_distances((8, 8)).float(), patch_objects(masks, (8, 8)), (8, 8))
    found = ranking.result()
    assert found is not None
    assert found.auc > 0.85
    assert found.auc_distance_matched == 0.5


def test_perfect_attention_scores_one_and_inverted_attention_zero() -> None:
    objects = random_objects(2, 20)
    perfect = (objects[:, :, None] == objects[:, None, :]).float()
    for scores, expected in ((perfect, 1.0), (-perfect, 0.0)):
        found = ranked(scores, objects).result()
        assert found is not None
        assert (found.auc, found.auc_distance_matched) == (expected, expected)


def test_batches_add_up() -> None:
    scores, objects = random_maps(6, 20), random_objects(6, 20)
    parts = ObjectRanking()
    parts.add(scores[:2], objects[:2], GRID)
    parts.add(scores[2:], objects[2:], GRID)
    whole, split = ranked(scores, objects).result(), parts.result()
    assert whole is not None
    assert split is not None
    assert split.auc == pytest.approx(whole.auc, abs=1e-12)
    assert (split.queries, split.pairs) == (whole.queries, whole.pairs)


@pytest.mark.parametrize("objects", [torch.zeros(2, 20), torch.ones(2, 20), -torch.ones(2, 20)])
def test_nothing_to_compare_is_no_score(objects: Tensor) -> None:
    assert ranked(random_maps(2, 20), objects.long()).result() is None


def test_attention_that_is_not_finite_is_refused() -> None:
    maps = random_maps(1, 20)
    maps[0, 3, 4] = float("nan")
    with pytest.raises(MuseError, match="not finite"):
        ranked(maps, random_objects(1, 20))


def test_a_patch_belongs_to_what_covers_more_than_half_of_it() -> None:
    masks = torch.zeros(1, 8, 8, dtype=torch.uint8)
    masks[0, :4, :2] = 1  # exactly half of the first patch
    masks[0, :4, 4:7] = 2  # three quarters of the second
    assert patch_objects(masks, (2, 2)).tolist() == [[-1, 2, 0, 0]]


def test_patches_of_a_grid_that_does_not_divide_the_mask_are_stretched_first() -> None:
    masks = torch.zeros(1, 7, 10, dtype=torch.uint8)
    masks[0, :, 5:] = 3
    assert patch_objects(masks, (2, 2)).tolist() == [[0, 3, 0, 3]]


def test_unknown_patches_are_neither_queries_nor_compared() -> None:
    scores, objects = random_maps(3, 20), random_objects(3, 20)
    objects[:, 7] = UNKNOWN
    raised = scores.clone()
    raised[:, :, 7] = 1.0
    known, disturbed = ranked(scores, objects).result(), ranked(raised, objects).result()
    assert known == disturbed
    assert patch_objects(torch.full((1, 4, 4), 255, dtype=torch.uint8), (1, 1)).tolist() == [[UNKNOWN]]


def test_kl_is_zero_for_the_teacher_itself_and_the_mean_over_queries_otherwise() -> None:
    teacher, student = random_maps(3, 20), random_maps(3, 20, seed=1)
    assert attention_kl(teacher, teacher).abs().max() < 1e-5
    expected = (teacher * (teacher.log() - student.log())).sum(-1).mean(-1)
    assert attention_kl(student, teacher).tolist() == pytest.approx(expected.tolist(), rel=1e-4)


def test_baselines_equal_their_definitions_over_all_images() -> None:
    teacher = random_maps(7, 20)
    maps = TeacherMaps(GRID)
    for part in torch.split(teacher, 3):
        maps.add(part)
    uniform = torch.full((7, 20, 20), 1 / 20)
    assert maps.uniform_kl() == pytest.approx(float(attention_kl(uniform, teacher).mean()), abs=1e-6)
    sigma, kl = maps.best_gaussian()
    assert kl == pytest.approx(float(attention_kl(gaussian_map(GRID, sigma), teacher).mean()), abs=1e-6)
    assert maps.kl_of(maps.mean()) <= kl <= maps.uniform_kl() + 1e-6


def test_the_best_gaussian_finds_the_sigma_that_made_the_maps() -> None:
    maps = TeacherMaps((8, 8))
    maps.add(gaussian_map((8, 8), 1.7).expand(2, -1, -1))
    sigma, kl = maps.best_gaussian()
    assert sigma == pytest.approx(1.7, abs=1e-2)
    assert kl == pytest.approx(0.0, abs=1e-5)


def test_no_sigma_beats_the_best_gaussian() -> None:
    maps = TeacherMaps(GRID)
    maps.add(random_maps(5, 20))
    best = maps.best_gaussian()[1]
    assert all(best <= maps.kl_of(gaussian_map(GRID, math.exp(x / 4))) + 1e-9 for x in range(-8, 16))


def test_colour_similarity_ranks_equal_patches_first() -> None:
    images = torch.zeros(1, 3, 8, 8)
    images[:, 0, :, :4] = 1
    similarity = colour_similarity(images, (2, 2))[0]
    assert similarity[0].tolist() == [0.0, -1.0, 0.0, -1.0]
