"""Optimizer and random state as plain tensors and JSON, so that nothing on disk has to be unpickled."""

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from muse_core.tensor_files import whole


def optimizer_state(optimizer: Optimizer, prefix: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Split an optimizer's state into named tensors and a JSON-able rest."""
    state = optimizer.state_dict()
    tensors = {
        f"{prefix}.{index}.{name}": whole(value)
        for index, entry in state["state"].items()
        for name, value in entry.items()
    }
    groups = [{key: value for key, value in group.items() if key != "params"} for group in state["param_groups"]]
    return tensors, {"groups": groups}


def restore_optimizer(optimizer: Optimizer, prefix: str, tensors: dict[str, Tensor], rest: dict[str, Any]) -> None:
    """Put back what `optimizer_state` took; the parameters must stand in the same order."""
    entries: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith(f"{prefix}."):
            index, field = name[len(prefix) + 1 :].split(".", 1)
            entries.setdefault(int(index), {})[field] = value
    current = optimizer.state_dict()["param_groups"]
    groups = [{**saved, "params": group["params"]} for saved, group in zip(rest["groups"], current, strict=True)]
    optimizer.load_state_dict({"state": entries, "param_groups": groups})
    for weight, state in optimizer.state.items():
        for field, value in state.items():
            if value.shape == weight.shape:  # a fused step walks over weight and moments as they lie in memory
                state[field] = torch.empty_like(weight).copy_(value)


def random_state() -> dict[str, Tensor]:
    """Take the state of every generator that training draws from."""
    states = {"random.cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["random.cuda"] = torch.cuda.get_rng_state()
    return states


def restore_random(states: dict[str, Tensor]) -> None:
    """Put back what `random_state` took."""
    torch.set_rng_state(states["random.cpu"])
    if "random.cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["random.cuda"])
