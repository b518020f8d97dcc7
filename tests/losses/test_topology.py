"""The student's head mean is drawn to the teacher's rows."""

import math

import pytest
import torch
from torch import Tensor

from muse_core.errors import MuseError
from muse_core.losses.topology import topology_loss


def attention(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).softmax(-1)


def test_no_loss_when_the_head_mean_is_the_target() -> None:
    student = attention(2, 4, 9, 9)
    assert topology_loss(student, student.mean(1)).item() == pytest.approx(0, abs=1e-6)


def test_single_heads_stay_free() -> None:
    low, high = torch.tensor([[0.9, 0.1], [0.9, 0.1]]), torch.tensor([[0.1, 0.9], [0.1, 0.9]])
    opposite_heads = torch.stack((low, high))[None]
    assert topology_loss(opposite_heads, torch.full((1, 2, 2), 0.5)).item() == pytest.approx(0, abs=1e-6)


def test_it_is_the_divergence_from_teacher_to_student_averaged_over_queries() -> None:
    target = torch.tensor([[[1.0, 0.0], [0.5, 0.5]]])
    student = torch.tensor([[[[0.25, 0.75], [0.5, 0.5]]]])
    assert topology_loss(student, target).item() == pytest.approx(math.log(4) / 2, rel=1e-6)


def test_a_teacher_that_ignores_a_pair_is_no_accident() -> None:
    student = attention(1, 2, 3, 3).requires_grad_()
    loss = topology_loss(student, torch.eye(3)[None])
    loss.backward()
    assert torch.isfinite(loss)
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()


def test_a_student_that_ignores_what_the_teacher_sees_pays_a_finite_price() -> None:
    student = torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])
    loss = topology_loss(student, torch.tensor([[[1.0, 0.0], [1.0, 0.0]]]))
    assert loss.item() == pytest.approx(-math.log(1e-8), rel=1e-3)


def test_descending_it_brings_the_student_to_the_teacher() -> None:
    target = attention(1, 6, 6, seed=1)
    scores = torch.zeros(1, 2, 6, 6, requires_grad=True)
    optimizer = torch.optim.Adam([scores], lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        topology_loss(scores.softmax(-1), target).backward()
        optimizer.step()
    torch.testing.assert_close(scores.softmax(-1).mean(1), target, rtol=0, atol=1e-3)


def test_half_precision_attention_is_compared_in_float32() -> None:
    loss = topology_loss(attention(1, 2, 4, 4).bfloat16(), attention(1, 4, 4, seed=1))
    assert loss.dtype == torch.float32


def test_a_target_for_another_grid_is_refused() -> None:
    with pytest.raises(MuseError, match=r"\(1, 4, 4\).*\(1, 9, 9\)"):
        topology_loss(attention(1, 2, 4, 4), attention(1, 9, 9))
