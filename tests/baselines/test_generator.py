"""LightningDiT equals its authors' code: network, training terms, sampler, guidance; its file is read strictly."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from muse_baselines.generators.flow import on_the_way, time_points
from muse_baselines.generators.keys import library_names, sizes_of
from muse_baselines.generators.loading import LightningDiTGenerator, lightningdit
from muse_baselines.generators.network import flow_terms, tables
from torch import Tensor, nn

from muse_core.errors import ExitCode, MuseError
from muse_core.model.generating import Generates, Sampling, load_generator
from muse_core.registry import discover
from tests.baselines import published, reference
from tests.baselines.test_parity import close

SYSTEM = "lightningdit"


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> LightningDiTGenerator:
    return lightningdit(str(published.lightningdit(tmp_path_factory.mktemp("dit"))), "cpu")


def stored(name: str) -> Tensor:
    return reference.outputs(SYSTEM)[name]


# --- parity -----------------------------------------------------------------------------------------------------------


def test_noise_is_redrawn_exactly() -> None:
    assert torch.equal(reference.noise(SYSTEM, "z"), stored("z"))


def test_tables_of_positions() -> None:
    place, rotary = tables((4, 4), 64, 16)
    close(place[None], SYSTEM, "pos_embed")
    sine, cosine = rotary.chunk(2, dim=-1)
    close(sine, SYSTEM, "rope_sin")
    close(cosine, SYSTEM, "rope_cos")


def test_velocity(generator: LightningDiTGenerator) -> None:
    z, t, y = stored("z"), stored("t"), stored("y")
    with torch.no_grad():
        close(generator.network(z, t, y), SYSTEM, "velocity")
        close(generator.network(z, t, torch.full_like(y, 10)), SYSTEM, "null_velocity")


def test_what_it_is_trained_on(generator: LightningDiTGenerator) -> None:
    noise, data, t = reference.noise(SYSTEM, "z"), reference.noise(SYSTEM, "x1"), stored("t")
    x, wanted = on_the_way(noise, data, t)
    close(x, SYSTEM, "train_xt")
    close(wanted, SYSTEM, "train_ut")
    with torch.no_grad():
        squared, apart = flow_terms(generator.network(x, t, stored("y")), wanted)
    close(squared, SYSTEM, "train_mse")
    close(apart, SYSTEM, "train_cos")


@pytest.mark.parametrize(
    ("name", "sampling"),
    [
        ("sample_plain", Sampling(points=9, shift=1.0)),
        ("sample_shift0.3", Sampling(points=9, shift=0.3)),
        ("sample_vtp_shift0.075", Sampling(points=9, shift=0.075)),
        (
            "sample_cfg4_start0.11_shift0.3",
            Sampling(points=9, shift=0.3, guidance=4.0, guidance_channels=3, guidance_start=0.11),
        ),
    ],
)
def test_samples(generator: LightningDiTGenerator, name: str, sampling: Sampling) -> None:
    close(generator.generate(stored("z"), stored("y"), sampling), SYSTEM, name)


def test_every_tensor_of_the_fixture_is_compared() -> None:
    here = Path(__file__).read_text()
    assert [name for name in reference.outputs(SYSTEM) if f'"{name}"' not in here] == []


def test_epsilons(generator: LightningDiTGenerator) -> None:
    norms = [norm for norm in generator.network.modules() if isinstance(norm, nn.RMSNorm)]
    assert {norm.eps for norm in norms} == {1e-6}
    assert len(norms) == 2 * 3 + 1


# --- what follows from the description alone --------------------------------------------------------------------------


def test_guidance_acts_on_all_channels_unless_told_otherwise(generator: LightningDiTGenerator) -> None:
    z, y = stored("z"), stored("y")
    one, some, all_ = (
        generator.generate(z, y, Sampling(points=3, guidance=scale, guidance_channels=channels))
        for scale, channels in ((1.0, None), (3.0, 3), (3.0, None))
    )
    assert not torch.allclose(some[:, :3], one[:, :3])
    assert not torch.allclose(all_[:, 3:], some[:, 3:])


def test_shift_is_the_reciprocal_of_diffusers() -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=1 / 0.3)
    scheduler.set_timesteps(sigmas=torch.linspace(1, 0, 9)[:-1].tolist())
    torch.testing.assert_close(time_points(9, 0.3), 1 - scheduler.sigmas, rtol=0, atol=1e-6)


# --- the file ---------------------------------------------------------------------------------------------------------


def test_the_averaged_weights_are_taken_and_sizes_are_read(generator: LightningDiTGenerator) -> None:
    assert isinstance(generator, Generates)
    info = generator.info
    assert (info.channels, info.grid, info.classes, info.stats) == (8, (4, 4), 10, None)
    assert info.parameters == sum(tensor.numel() for tensor in reference.weights(SYSTEM).values())
    assert float(generator.network.norm.weight.abs().sum()) > 0  # those of the last step are zeros in this file


@pytest.mark.parametrize(("width", "heads"), [(1152, 16), (768, 12), (1536, 24)])
def test_published_widths_imply_their_heads(width: int, heads: int) -> None:
    shapes = {
        "x_embedder.proj.weight": (width, 32, 1, 1),
        "blocks.0.mlp.w3.weight": (width, 1),
        "y_embedder.embedding_table.weight": (1001, width),
    }
    assert sizes_of(shapes, {}).heads == heads


def test_the_published_size_has_its_published_count() -> None:
    """LightningDiT-XL/1 on 32 channels: 675.0 M parameters."""
    from muse_baselines.generators.keys import DitSizes
    from muse_baselines.generators.network import LightningDiT

    with torch.device("meta"):
        network = LightningDiT(DitSizes(1152, 28, 16, int(8 / 3 * 1152), 1, 32, 1000, False, (16, 16)))
    assert round(sum(weight.numel() for weight in network.parameters()) / 1e6) == 675


@pytest.mark.parametrize("given", [{}, {"device": "meta", "dtype": torch.float16}, {"device": None, "dtype": None}])
def test_norms_are_made_by_every_age_of_timm(given: dict[str, Any]) -> None:
    """timm hands `device` and `dtype` to the norm it is given from 1.0.21 on, and its width alone before."""
    from muse_baselines.generators.network import _norm

    norm = _norm(8, **given)
    assert (norm.weight.shape, norm.eps) == ((8,), 1e-6)
    if given.get("device"):
        assert (norm.weight.device.type, norm.weight.dtype) == ("meta", torch.float16)


def test_a_file_with_query_norms_is_loaded_and_its_norms_act(tmp_path: Path, generator: LightningDiTGenerator) -> None:
    head = generator.network.sizes.width // generator.network.sizes.heads
    norms = {
        f"blocks.{block}.attn.{name}.weight": torch.full((head,), 0.5)
        for block in range(generator.network.sizes.depth)
        for name in ("q_norm", "k_norm")
    }
    file = published.lightningdit(tmp_path)
    torch.save({"ema": {**reference.weights(SYSTEM), **norms}}, file)
    normed = lightningdit(str(file), "cpu").network
    assert normed.sizes.query_norm
    for name, weight in norms.items():
        assert torch.equal(normed.get_parameter(name), weight)
    with torch.no_grad():
        plain, other = (network(stored("z"), stored("t"), stored("y")) for network in (generator.network, normed))
    assert other.isfinite().all()
    assert not torch.allclose(plain, other)


@pytest.mark.slow
def test_the_oldest_timm_that_is_declared_gives_the_same_numbers() -> None:
    """MUSE_OLDEST_TIMM names a folder into which `pip install --no-deps --target` put it."""
    folder = os.environ.get("MUSE_OLDEST_TIMM", "")
    if not folder:
        pytest.skip("MUSE_OLDEST_TIMM names no folder")
    root = Path(__file__).parents[2]
    declared = tomllib.loads((root / "plugins/muse-baselines/pyproject.toml").read_text())["project"]["dependencies"]
    (oldest,) = [line.removeprefix("timm>=") for line in declared if line.startswith("timm")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([folder, os.environ.get("PYTHONPATH", "")])}
    environment.pop("MUSE_OLDEST_TIMM")
    said = subprocess.check_output([sys.executable, "-c", "import timm; print(timm.__version__)"], env=environment)
    assert said.decode().strip() == oldest
    tests = ["tests/baselines/test_generator.py", "tests/baselines/test_parity.py"]
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", *tests], cwd=root, env=environment, check=False)
    assert done.returncode == 0


def test_names_are_mapped_one_to_one() -> None:
    keys = list(reference.weights(SYSTEM))
    ours = [name for key in keys for name in library_names(key)]
    assert len(set(ours)) == len(keys)
    assert library_names("pos_embed") == library_names("feat_rope.freqs_sin") == []


@pytest.mark.parametrize("change", ["missing", "unexpected", "reshaped", "other"])
def test_a_file_that_does_not_fit_is_refused(change: str, tmp_path: Path) -> None:
    state = dict(reference.weights(SYSTEM))
    if change == "missing":
        del state["blocks.1.attn.qkv.bias"]
    if change == "unexpected":
        state["blocks.1.attn.rel_pos"] = torch.zeros(2)
    if change == "reshaped":
        state["final_layer.linear.weight"] = torch.zeros(16, 64)
    if change == "other":
        state = {"conv_in.weight": torch.zeros(2)}
    torch.save(state, tmp_path / "dit.pt")
    with pytest.raises(MuseError) as caught:
        load_generator(f"lightningdit:{tmp_path}/dit.pt")
    assert caught.value.exit_code == ExitCode.FILE
    assert "dit.pt" in str(caught.value)


def test_statistics_beside_the_file_come_along(tmp_path: Path) -> None:
    file = published.lightningdit(tmp_path)
    torch.save({"mean": torch.ones(1, 8, 1, 1), "std": torch.full((1, 8, 1, 1), 2.0)}, tmp_path / "latents_stats.pt")
    stats = load_generator(f"lightningdit:{file}").info.stats
    assert stats is not None
    assert (stats.mean[0], stats.std[7]) == (1.0, 2.0)


def test_it_is_announced() -> None:
    assert discover("muse.generators")["lightningdit"].load().licence == "MIT"
    with pytest.raises(MuseError, match="there is no generator 'diffusion'"):
        load_generator("diffusion:x.pt")
