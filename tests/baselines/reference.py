"""The rivals' fixtures: every weight and input redrawn by the rule of `fixtures/baselines/README.md`."""

import json
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

FOLDER = Path(__file__).parents[1] / "fixtures" / "baselines"
SYSTEMS = ("vavae", "vqgan", "unilip", "vtp_rms", "vtp_ln", "internvit", "dinov3", "lightningdit")
_GAINS = {"weight", "ls1", "ls2", "gamma", "lambda1", "lambda_1", "lambda_2"}


@cache
def _manifest() -> Any:
    return json.loads((FOLDER / "manifest.json").read_text())


def entry(system: str) -> Any:
    """What the manifest tells of a system: config, inputs, keys, outputs, witness."""
    return _manifest()["systems"][system]


def config(system: str) -> Any:
    """The sizes that the reference was built with."""
    return entry(system)["config"]


@cache
def outputs(system: str) -> dict[str, Tensor]:
    """What the reference computed."""
    return load_file(FOLDER / f"{system}.safetensors")


def _generator(name: str) -> torch.Generator:
    seed = zlib.crc32((_manifest()["salt"] + name).encode())
    return torch.Generator("cpu").manual_seed(seed)


def weight(key: str, shape: tuple[int, ...]) -> Tensor:
    """Draw the weight of a published key."""
    x = torch.randn(shape, generator=_generator(key))
    if len(shape) >= 2:
        return x / float(torch.tensor(shape[1:]).prod()) ** 0.5 if key.endswith("weight") else 0.5 * x
    return 1 + 0.1 * x if key.rsplit(".", 1)[-1] in _GAINS else 0.1 * x


@cache
def weights(system: str) -> dict[str, Tensor]:
    """All weights of a system under their published names."""
    return {key: weight(key, tuple(shape)) for key, shape in entry(system)["keys"].items()}


def noise(system: str, name: str) -> Tensor:
    """Draw an input of the kind `normal`."""
    told = entry(system)["inputs"][name]
    return torch.randn(told["shape"], generator=_generator("input." + told["name"]))


def image(system: str, name: str) -> Tensor:
    """Draw an input (B, 3, H, W) in [0, 1), before the normalisation that belongs into the tokenizer."""
    told = entry(system)["inputs"][name]
    return torch.rand(told["shape"], generator=_generator("input." + told["name"]))
