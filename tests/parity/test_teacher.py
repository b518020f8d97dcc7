"""The teacher's attention, corrected where the reference is wrong, compared with the reference's own network."""

import pytest
import torch
from transformers import DINOv3ViTConfig, DINOv3ViTModel

from muse_core.model.images import imagenet_normalize
from muse_core.model.teacher import StructureTeacher, resize_attention
from tests.fixtures.regenerate import fill, image, read_json, reference_tensors
from tests.parity.closeness import assert_close


@pytest.fixture(scope="module")
def teacher() -> StructureTeacher:
    model = DINOv3ViTModel(DINOv3ViTConfig(**read_json("config")["model"]["dinov3"]))
    fill(model, prefix="dino_teacher.")
    return StructureTeacher(model)


def test_attention_among_patches(teacher: StructureTeacher) -> None:
    assert_close(teacher(image("main")[:1], (14, 14)), reference_tensors()["teacher.attn_0"])


def test_target_on_the_student_grid(teacher: StructureTeacher) -> None:
    assert_close(teacher(image("main"), (8, 8)), reference_tensors()["teacher.resized_correct"])


def test_the_reference_target_is_the_transposed_one(teacher: StructureTeacher) -> None:
    native = teacher(image("main"), (14, 14))
    # Resizing commutes with the transpose, so the reference's defect can be rebuilt from our correct function.
    transposed = resize_attention(native.mT, (14, 14), (8, 8))
    assert_close(transposed, reference_tensors()["teacher.resized_singlenorm_transposed"])


def test_a6_the_reference_target_is_normalised_twice_as_well(teacher: StructureTeacher) -> None:
    tensors = reference_tensors()
    # The public code takes the normalised image for one in [-1, 1].
    mistaken = (imagenet_normalize(image("main")) + 1) / 2
    native = teacher(mistaken, (14, 14))
    assert_close(native[:1], tensors["teacher.attn_doublenorm_0"])
    assert_close(resize_attention(native.mT, (14, 14), (8, 8)), tensors["teacher.resized_reference"])
    assert (native[:1] - tensors["teacher.attn_0"]).abs().sum(-1).mean() / 2 > 0.01  # total variation


def test_resize_alone() -> None:
    tensors = reference_tensors()
    ours = resize_attention(tensors["resize_attn.in"], (5, 5), (3, 3))
    assert_close(ours, tensors["resize_attn.out_3x3_correct"])
    wrong = resize_attention(tensors["resize_attn.in"].mT, (5, 5), (3, 3))
    assert_close(wrong, tensors["resize_attn.out_3x3_reference"])
    assert torch.all((ours - wrong).abs().amax((1, 2)) > 0.01)
