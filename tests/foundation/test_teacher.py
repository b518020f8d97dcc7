"""What the mask-supervised teacher is taught."""

import torch

from muse_core.training.foundation.stream import fixed_scenes
from muse_core.training.foundation.teacher import MaskTeacher, same_segment


def test_rows_of_the_target_sum_to_one() -> None:
    batch = next(fixed_scenes("train", 6, batch_size=6))
    target = same_segment(batch.masks, 8)
    assert target.shape == (6, 64, 64)
    assert torch.allclose(target.sum(-1), torch.ones(6, 64))


def test_the_target_of_a_hand_made_mask() -> None:
    """Patches of 2 x 2: one of object 1, one half object 1 and half background, two of background."""
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]], dtype=torch.uint8)
    row_1 = torch.tensor([1, 1 / 2, 0, 0]) / 1.5
    row_2 = torch.tensor([1 / 2, 1 / 2, 1 / 2, 1 / 2]) / 2
    row_3 = torch.tensor([0, 1 / 2, 1, 1]) / 2.5
    expected = torch.stack([row_1, row_2, row_3, row_3])
    assert torch.allclose(same_segment(mask[None], 2)[0], expected)


def test_two_objects_are_two_segments() -> None:
    mask = torch.tensor([[1, 2], [0, 3]], dtype=torch.uint8)
    assert torch.equal(same_segment(mask[None], 1)[0], torch.eye(4))


def test_the_loss_reaches_the_last_attention() -> None:
    model = MaskTeacher()
    model.vision.eval()
    model(next(fixed_scenes("train", 4, batch_size=4)), 0.0)["attention"].backward()
    queries = model.vision.model.layer[-1].attention.q_proj.weight
    assert queries.grad is not None
    assert queries.grad.abs().max() > 0
