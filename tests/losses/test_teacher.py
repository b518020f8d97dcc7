"""The structure teacher: frozen, out of reach, fed once-normalised pixels, and never transposed."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from transformers import DINOv3ViTConfig, DINOv3ViTModel

from muse_core.errors import MuseError
from muse_core.losses.topology import topology_loss
from muse_core.model.images import imagenet_normalize
from muse_core.model.teacher import StructureTeacher, resize_attention

CONFIG = DINOv3ViTConfig(
    hidden_size=16,
    intermediate_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_register_tokens=3,
    patch_size=8,
    image_size=32,
    initializer_range=0.5,
)


@pytest.fixture
def network() -> DINOv3ViTModel:
    torch.manual_seed(0)
    return DINOv3ViTModel(CONFIG)


def images(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


def asymmetric_map() -> Tensor:
    """Every patch of a 4x4 grid attends to the patch on its right only."""
    return torch.eye(16).roll(1, dims=1)[None]


# A1: the public code trains on the transposed map.


def test_a1_teacher_rows_are_queries() -> None:
    resized = resize_attention(asymmetric_map(), (4, 4), (4, 4))
    torch.testing.assert_close(resized, asymmetric_map())
    assert not torch.allclose(resized, asymmetric_map().mT)


def test_a1_sink_map_survives_the_resize() -> None:
    """When every token looks at one token, so does every token of the smaller grid; transposed it becomes uniform."""
    sink = torch.zeros(1, 196, 196)
    sink[..., 14 * 7 + 7] = 1
    resized = resize_attention(sink, (14, 14), (7, 7))
    watched = resized.mean(1)[0]
    assert watched.max() > 0.99
    assert int(watched.argmax()) == 7 * 3 + 3


def test_a1_attention_from_the_object_stays_attention_from_the_object() -> None:
    """Only the upper half looks at the lower right corner; that holds on a coarser, oblong grid too."""
    seen = torch.full((1, 64, 64), 1 / 64)
    seen[:, :32] = 0
    seen[:, :32, 63] = 1
    resized = resize_attention(seen, (8, 8), (4, 2))
    assert resized[0, :4, 7].min() > 0.8
    assert resized[0, 4:, 7].max() < 0.3


@pytest.mark.parametrize("column", range(8))
def test_no_patch_is_skipped_when_a_map_shrinks_a_lot(column: int) -> None:
    sink = torch.zeros(1, 64, 64)
    sink[..., column] = 1
    resized = resize_attention(sink, (8, 8), (2, 2))
    torch.testing.assert_close(resized.sum(-1), torch.ones(1, 4))
    assert int(resized[0].mean(0).argmax()) == column // 4


@pytest.mark.parametrize("grid", [(3, 3), (8, 8), (2, 5), (12, 4)])
def test_rows_sum_to_one_on_every_grid(grid: tuple[int, int]) -> None:
    random = torch.rand(2, 48, 48).softmax(-1)
    resized = resize_attention(random, (6, 8), grid)
    assert resized.shape == (2, grid[0] * grid[1], grid[0] * grid[1])
    torch.testing.assert_close(resized.sum(-1), torch.ones(resized.shape[:2]))


def test_a_map_that_does_not_fit_its_grid_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 16, 16\).*\(3, 5\)"):
        resize_attention(asymmetric_map(), (3, 5), (2, 2))


# A5: the public code leaves the teacher in training mode.


class Student(nn.Module):
    def __init__(self, teacher: StructureTeacher) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.teacher = teacher


def test_a5_teacher_never_trains(network: DINOv3ViTModel) -> None:
    network.train()
    student = Student(StructureTeacher(network)).train().requires_grad_()
    assert not any(module.training for module in student.teacher.model.modules())
    assert not any(parameter.requires_grad for parameter in student.teacher.model.parameters())
    assert set(student.state_dict()) == {"layer.weight", "layer.bias"}


def test_a5_the_same_image_always_gives_the_same_target(network: DINOv3ViTModel) -> None:
    student = Student(StructureTeacher(network)).train()
    first, second = (student.teacher(images(2, 3, 32, 32), (2, 2)) for _ in range(2))
    assert torch.equal(first, second)
    # The network would not do that by itself: in training mode its positions are rescaled at random.
    network.train()
    assert not torch.equal(student.teacher(images(2, 3, 32, 32), (2, 2)), first)


def test_the_target_has_no_gradient(network: DINOv3ViTModel) -> None:
    pixels = images(1, 3, 32, 32).requires_grad_()
    assert not StructureTeacher(network)(pixels, (2, 2)).requires_grad


# A6: the public code normalises what is already normalised.


def test_a6_teacher_input_is_normalised_once(network: DINOv3ViTModel) -> None:
    seen: list[Tensor] = []
    network.embeddings.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    white = torch.ones(1, 3, 32, 32)
    StructureTeacher(network)(white, (4, 4))
    expected = torch.tensor([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225])
    torch.testing.assert_close(seen[0].amax((0, 2, 3)), expected)
    torch.testing.assert_close(seen[0].amin((0, 2, 3)), expected)


# What it reads.


def test_it_is_the_last_layers_patch_attention_averaged_over_heads(network: DINOv3ViTModel) -> None:
    pixels = images(2, 3, 32, 32)
    expected = as_the_whole_network_says(network, pixels)
    torch.testing.assert_close(StructureTeacher(network)(pixels, (4, 4)), expected)


def as_the_whole_network_says(network: DINOv3ViTModel, pixels: Tensor) -> Tensor:
    """The last of all its maps, kept at every layer, as the public code does it."""
    eager = deepcopy(network).eval()
    eager.set_attn_implementation("eager")
    with torch.no_grad():
        attentions = eager(imagenet_normalize(pixels), output_attentions=True).attentions
    patches = attentions[-1][..., 4:, 4:].mean(1)
    among: Tensor = patches / patches.sum(-1, keepdim=True)
    return among


# F1: the public code computes all maps, and a last layer of which only the map is used.


def test_f1_only_what_the_map_depends_on_is_computed(network: DINOv3ViTModel) -> None:
    called: list[str] = []
    for name, module in network.named_modules():
        module.register_forward_hook(lambda _module, _inputs, _output, name=name: called.append(name))
    StructureTeacher(network)(images(1, 3, 32, 32), (4, 4))
    last = [name.removeprefix("model.layer.1.") for name in called if name.startswith("model.layer.1.")]
    assert sorted(last) == ["attention.k_proj", "attention.q_proj", "norm1"]
    assert "model.layer.0.attention.v_proj" in called
    assert "norm" not in called


def test_f1_no_map_is_held_but_the_last(network: DINOv3ViTModel) -> None:
    network.set_attn_implementation("eager")
    teacher, maps = StructureTeacher(network), []
    for layer in teacher.layers:
        layer.attention.register_forward_hook(lambda _module, _inputs, outputs: maps.append(outputs[1]))
    teacher(images(1, 3, 32, 32), (4, 4))
    assert maps == [None]


def test_f1_in_float64_the_shortcut_is_the_whole_network_to_the_last_digits(network: DINOv3ViTModel) -> None:
    pixels = images(2, 3, 32, 32).double()
    expected = as_the_whole_network_says(network.double(), pixels)
    torch.testing.assert_close(StructureTeacher(network)(pixels, (4, 4)), expected, rtol=1e-12, atol=0)


def test_in_half_precision_it_looks_at_the_same_patches(network: DINOv3ViTModel) -> None:
    """Half of the absolute difference of two rows, of which each sums to 1, is below 1 %; positions keep digits."""
    pixels = images(4, 3, 32, 32)
    exact = StructureTeacher(deepcopy(network))(pixels, (4, 4))
    rounded = StructureTeacher(network).to("cpu", torch.bfloat16)
    assert rounded.model.rope_embeddings.inv_freq.dtype == torch.float32
    target = rounded(pixels, (4, 4))
    assert target.dtype == torch.float32
    assert float((target - exact).abs().sum(-1).mean()) / 2 < 0.01


def test_the_target_can_be_kept_for_a_backward_pass(network: DINOv3ViTModel) -> None:
    student = torch.rand(1, 2, 16, 16).softmax(-1).requires_grad_()
    topology_loss(student, StructureTeacher(network)(images(1, 3, 32, 32), (4, 4))).backward()
    assert student.grad is not None


def test_images_are_padded_right_and_below_to_whole_patches(network: DINOv3ViTModel) -> None:
    seen: list[Tensor] = []
    network.embeddings.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    target = StructureTeacher(network)(images(1, 3, 30, 41), (4, 6))
    assert seen[0].shape == (1, 3, 32, 48)
    assert seen[0][..., 30:, :].abs().max() == 0
    assert seen[0][..., 41:].abs().max() == 0
    assert target.shape == (1, 24, 24)


def test_a_failed_call_leaves_nothing_behind(network: DINOv3ViTModel) -> None:
    teacher = StructureTeacher(network)
    with pytest.raises(RuntimeError):
        teacher(images(1, 5, 32, 32), (4, 4))
    assert not any(module._forward_hooks for module in network.modules())


def test_another_kind_of_network_is_refused() -> None:
    with pytest.raises(MuseError, match="DINOv3 ViT, not a Linear"):
        StructureTeacher(nn.Linear(2, 2))
