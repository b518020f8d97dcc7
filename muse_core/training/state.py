"""Optimizer and random state as plain tensors and JSON, so that nothing on disk has to be unpickled."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from muse_core.distributed import gather_objects, rank
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
            if (
                field != "step" and value.shape == weight.shape
            ):  # a fused step walks over weight and moments as they lie in memory
                state[field] = torch.empty_like(weight).copy_(value)


def random_state() -> dict[str, Tensor]:
    """Take the state of every generator that this process draws from."""
    states = {"random.cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["random.cuda"] = torch.cuda.get_rng_state()
    return states


def random_states() -> dict[str, Tensor]:
    """Take the states of all processes: those of the first by their names, of others behind their rank; all ask."""
    states = gather_objects(random_state())
    return states[0] | {f"{name}.{rank}": one for rank, own in enumerate(states) if rank for name, one in own.items()}


def restore_random(states: Mapping[str, Tensor], seed: int = 0) -> None:
    """Put back what `random_states` took of this process; `seed` is for one that was none of those."""
    own = f".{rank()}" if rank() else ""
    if f"random.cpu{own}" not in states:
        torch.manual_seed(seed)
        return
    torch.set_rng_state(states[f"random.cpu{own}"])
    if f"random.cuda{own}" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states[f"random.cuda{own}"])
