"""An image lies nearest to its own caption; missing and repeated captions teach nothing false."""

import math

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from muse_core.losses.contrastive import caption_groups, contrastive_loss

LOG_SCALE = torch.tensor(math.log(14.0))


def rows(count: int, seed: int) -> Tensor:
    return normalize(torch.randn(count, 8, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_it_is_the_symmetric_cross_entropy() -> None:
    image, text = rows(5, 0), rows(5, 1)
    logits = 14.0 * image @ text.mT
    expected = (cross_entropy(logits, torch.arange(5)) + cross_entropy(logits.mT, torch.arange(5))) / 2
    result = contrastive_loss(image, text, LOG_SCALE)
    torch.testing.assert_close(result.loss, expected)
    assert result.negatives == 4


def test_matching_pairs_cost_less_than_shuffled_ones() -> None:
    image = rows(6, 0)
    matched = contrastive_loss(image, image, LOG_SCALE).loss
    assert matched < contrastive_loss(image, image.roll(1, 0), LOG_SCALE).loss


def test_a8_an_empty_caption_is_neither_positive_nor_negative() -> None:
    image, text = rows(4, 0).requires_grad_(), rows(4, 1)
    found = caption_groups(["a cat", "", "a dog", "  \n"])
    assert found.positives.tolist() == [True, False, True, False]
    result = contrastive_loss(image, text, LOG_SCALE, positives=found.positives, groups=found.groups)
    captioned = contrastive_loss(image[::2], text[::2], LOG_SCALE)
    torch.testing.assert_close(result.loss, captioned.loss)
    assert result.negatives == captioned.negatives == 1
    result.loss.backward()
    assert image.grad is not None
    assert image.grad[1::2].abs().max() == 0
    assert image.grad[::2].abs().min() > 0


def test_a8_a_duplicate_caption_is_not_a_negative() -> None:
    text = rows(3, 1)
    text[2] = text[0]
    image = rows(3, 0).requires_grad_()
    found = caption_groups(["a cat", "a dog", " a cat"])
    result = contrastive_loss(image, text, LOG_SCALE, groups=found.groups)
    assert result.negatives == 1  # two for the dog, one for each cat
    logits = (14.0 * image @ text.mT).detach()
    logits[0, 2] = logits[2, 0] = -math.inf
    expected = (cross_entropy(logits, torch.arange(3)) + cross_entropy(logits.mT, torch.arange(3))) / 2
    torch.testing.assert_close(result.loss, expected)


def test_a8_empty_and_duplicate_captions_together_leave_finite_gradients() -> None:
    image, text = rows(4, 0).requires_grad_(), rows(4, 1).requires_grad_()
    found = caption_groups(["a cat", "a cat", "", "a cat"])
    result = contrastive_loss(image, text, LOG_SCALE, positives=found.positives, groups=found.groups)
    result.loss.backward()
    assert result.negatives == 0
    assert result.loss.item() == 0
    assert image.grad is not None
    assert torch.isfinite(image.grad).all()


def test_a8_a_batch_without_captions_costs_nothing_and_still_has_a_gradient_path() -> None:
    image, text = rows(3, 0).requires_grad_(), rows(3, 1).requires_grad_()
    log_scale = LOG_SCALE.clone().requires_grad_()
    result = contrastive_loss(image, text, log_scale, positives=torch.zeros(3, dtype=torch.bool))
    result.loss.backward()
    assert result.loss.item() == 0
    for leaf in (image, text, log_scale):
        assert leaf.grad is not None
        assert leaf.grad.abs().max() == 0


def test_a8_temperature_is_capped() -> None:
    image, text = rows(4, 0), rows(4, 1)
    beyond = contrastive_loss(image, text, torch.tensor(10.0)).loss
    torch.testing.assert_close(beyond, contrastive_loss(image, text, torch.tensor(math.log(100.0))).loss)
    lower = contrastive_loss(image, text, torch.tensor(10.0), max_scale=5).loss
    torch.testing.assert_close(lower, contrastive_loss(image, text, torch.tensor(math.log(5.0))).loss)


def test_a8_a_temperature_above_the_cap_can_come_back_but_not_go_further() -> None:
    angles = torch.tensor([0.0, 0.05, 0.1])
    image = torch.stack((angles.cos(), angles.sin()), dim=1)
    log_scale = torch.tensor(6.0, requires_grad=True)
    (wrong_pairs,) = torch.autograd.grad(contrastive_loss(image, image.roll(1, 0), log_scale).loss, log_scale)
    assert wrong_pairs > 0.1  # descending makes the scale smaller
    (right_pairs,) = torch.autograd.grad(contrastive_loss(image, image, log_scale).loss, log_scale)
    assert right_pairs == 0  # descending would make it larger still


def test_equal_captions_get_equal_numbers_in_every_process() -> None:
    assert caption_groups(["a cat"]).groups.item() == caption_groups(["x", "a cat "]).groups[1].item()
    assert caption_groups(["a cat"]).groups.item() == 7491139519574695330  # whatever PYTHONHASHSEED is


def test_logits_keep_their_digits_under_mixed_precision() -> None:
    image, text, scale = rows(5, 0), rows(5, 1), torch.tensor(math.log(100.0))
    exact = contrastive_loss(image, text, scale).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(contrastive_loss(image, text, scale).loss, exact)


def test_rows_of_other_processes_are_negatives() -> None:
    """Seen from one process of two whose `gather` puts the other's rows behind its own."""
    image, text, others = rows(2, 0), rows(2, 1), iter([torch.ones(2).long(), rows(2, 2), rows(2, 3)])
    result = contrastive_loss(image, text, LOG_SCALE, gather=lambda own: torch.cat((own, next(others))))
    whole = contrastive_loss(torch.cat((image, rows(2, 2))), torch.cat((text, rows(2, 3))), LOG_SCALE)
    torch.testing.assert_close(result.loss, whole.loss)
    assert result.negatives == 3
