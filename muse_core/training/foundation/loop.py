"""One resumable training loop for the parts of the pack: scenes in, one objective, weights out."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from muse_core.files import write_atomically
from muse_core.training.foundation.stream import SceneBatch, scene_batches
from muse_core.training.schedule import cosine_multiplier
from muse_core.training.state import optimizer_state, random_state, restore_optimizer, restore_random

Objective = Callable[[SceneBatch, float], dict[str, Tensor]]


@dataclass(frozen=True)
class Recipe:
    """How one part is trained; `steps * batch_size` fresh scenes are seen."""

    steps: int
    batch_size: int
    lr: float
    warmup_steps: int = 200
    weight_decay: float = 0.05
    beta2: float = 0.98
    clip: float = 1.0
    colour_jitter: float = 0.5
    bf16: bool = False
    seed: int = 0
    save_every: int = 250
    log_every: int = 50


def _groups(module: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    trained = [p for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]


def _save(folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    tensors, rest = optimizer_state(optimizer, "optimizer")
    weights = {f"model.{name}": value.contiguous() for name, value in module.state_dict().items()}
    scratch = folder / "progress.safetensors.part"
    note = json.dumps({"step": step, "optimizer": rest})
    save_file({**weights, **tensors, **random_state()}, scratch, metadata={"state": note})
    scratch.replace(folder / "progress.safetensors")


def _resume(folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    path = folder / "progress.safetensors"
    if not path.exists():
        return 0
    from safetensors import safe_open

    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        note = json.loads(file.metadata()["state"])
    weights = {name[len("model.") :]: value for name, value in tensors.items() if name.startswith("model.")}
    module.load_state_dict(weights)
    restore_optimizer(optimizer, "optimizer", tensors, note["optimizer"])
    restore_random(tensors)
    return int(note["step"])


def fit(
    module: nn.Module,
    objective: Objective,
    recipe: Recipe,
    folder: Path,
    *,
    after_step: Callable[[float], None] | None = None,
    report: Callable[[int], dict[str, float]] | None = None,
) -> None:
    """Train `module` in place, continuing from `folder` when it holds progress.

    Args:
        objective: maps a batch and the progress in [0, 1) to named terms, which are added up.
        after_step: called with the progress after each optimizer step (a teacher's average, say).
        report: extra figures to log with each save.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "recipe.json", json.dumps(asdict(recipe), indent=2))
    torch.manual_seed(recipe.seed)
    optimizer = torch.optim.AdamW(_groups(module, recipe.weight_decay), lr=recipe.lr, betas=(0.9, recipe.beta2))
    first = _resume(folder, module, optimizer)
    batches = scene_batches(recipe.batch_size, first * recipe.batch_size, recipe.colour_jitter)
    began = time.monotonic()
    for step in range(first, recipe.steps):
        rate = recipe.lr * cosine_multiplier(step, recipe.steps, recipe.warmup_steps, end=0.01)
        for group in optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bf16):
            terms = objective(next(batches), step / recipe.steps)
        loss = torch.stack(list(terms.values())).sum()
        if not loss.isfinite():
            raise FloatingPointError(f"loss is not finite at step {step}")
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), recipe.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if after_step:
            after_step(step / recipe.steps)
        done = step + 1
        if done % recipe.log_every == 0:
            speed = (done - first) * recipe.batch_size / (time.monotonic() - began)
            text = "  ".join(f"{name} {value.item():.4f}" for name, value in terms.items())
            print(f"step {done}/{recipe.steps}  {text}  {speed:.0f} img/s", flush=True)
        if done % recipe.save_every == 0 or done == recipe.steps:
            _save(folder, module, optimizer, done)
            if report:
                print(f"step {done}  " + json.dumps(report(done)), flush=True)
