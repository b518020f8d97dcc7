"""One resumable training loop for the parts of the pack: scenes in, one objective, weights out."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from muse_core.errors import ExitCode, MuseError
from muse_core.files import read_json, write_json
from muse_core.training.foundation.stream import SceneBatch, scene_batches
from muse_core.training.schedule import cosine_multiplier
from muse_core.training.state import optimizer_state, random_state, restore_optimizer, restore_random

PROGRESS = "progress.safetensors"

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


@dataclass(frozen=True)
class Reached:
    """How far a training is: optimizer steps, and CPU-seconds of the training process (without the renderer's)."""

    step: int = 0
    cpu_seconds: float = 0.0


def _save(folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer, reached: Reached) -> None:
    tensors, rest = optimizer_state(optimizer, "optimizer")
    weights = {f"model.{name}": value.contiguous() for name, value in module.state_dict().items()}
    scratch = folder / f"{PROGRESS}.part"
    note = json.dumps({**asdict(reached), "optimizer": rest})
    save_file({**weights, **tensors, **random_state()}, scratch, metadata={"state": note})
    scratch.replace(folder / PROGRESS)


def _resume(folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> Reached:
    path = folder / PROGRESS
    if not path.exists():
        return Reached()
    tensors = load_file(path)
    note = _note(path)
    weights = {name[len("model.") :]: value for name, value in tensors.items() if name.startswith("model.")}
    module.load_state_dict(weights)
    restore_optimizer(optimizer, "optimizer", tensors, note["optimizer"])
    restore_random(tensors)
    return reached(folder)


def _note(path: Path) -> dict[str, Any]:
    with safe_open(path, "pt") as file:
        note: dict[str, Any] = json.loads(file.metadata()["state"])
    return note


def reached(folder: Path) -> Reached:
    """How far the training in `folder` is."""
    path = folder / PROGRESS
    if not path.exists():
        return Reached()
    note = _note(path)
    return Reached(int(note["step"]), float(note.get("cpu_seconds", 0.0)))


def _same_recipe(folder: Path, recipe: Recipe) -> None:
    """Note the recipe in an empty folder; refuse one whose training follows another.

    A resumed cosine of another length, or other batches, would be neither the one training nor the other.
    """
    path = folder / "recipe.json"
    if not (folder / PROGRESS).exists():
        write_json(path, asdict(recipe))
    elif read_json(path) != asdict(recipe):
        raise MuseError(
            f"{folder} holds a training with another recipe", hint="give another --out", exit_code=ExitCode.SETTINGS
        )


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

    Whoever interrupts it and starts it again gets, bit for bit, what an undisturbed training gives.

    Args:
        objective: maps a batch and the progress in [0, 1) to named terms, which are added up.
        after_step: called with the progress after each optimizer step (a teacher's average, say).
        report: extra figures to log with each save.

    Raises:
        MuseError: `folder` holds a training with another recipe, or a loss is not finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _same_recipe(folder, recipe)
    torch.manual_seed(recipe.seed)
    optimizer = torch.optim.AdamW(_groups(module, recipe.weight_decay), lr=recipe.lr, betas=(0.9, recipe.beta2))
    start = _resume(folder, module, optimizer)
    first = start.step
    batches = scene_batches(recipe.batch_size, first * recipe.batch_size, recipe.colour_jitter)
    began, cpu = time.monotonic(), time.process_time()
    for step in range(first, recipe.steps):
        rate = recipe.lr * cosine_multiplier(step, recipe.steps, recipe.warmup_steps, end=0.01)
        for group in optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bf16):
            terms = objective(next(batches), step / recipe.steps)
        loss = torch.stack(list(terms.values())).sum()
        if not loss.isfinite():
            raise MuseError(f"the loss is not finite at step {step}", exit_code=ExitCode.STOPPED)
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
            _save(folder, module, optimizer, Reached(done, start.cpu_seconds + time.process_time() - cpu))
            if report:
                print(f"step {done}  " + json.dumps(report(done)), flush=True)
