"""AdamW over named weights, its schedule, and the clip per stream."""

from collections.abc import Iterable, Mapping

from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from muse_core.errors import ExitCode, MuseError
from muse_core.stages.stage import STREAM_OF, part_of
from muse_core.training.schedule import cosine_multiplier

_NO_DECAY = ("bias", "norm", "gate", "embeddings", "lambda_")


def decays(name: str, weight: Tensor) -> bool:
    """Matrices decay; vectors, norms, gates and embeddings do not."""
    return weight.ndim >= 2 and not any(word in name for word in _NO_DECAY)


def build_optimizer(
    weights: Mapping[str, nn.Parameter],
    *,
    lr: float,
    encoder_lr_scale: float,
    weight_decay: float,
    betas: tuple[float, float],
    spoilt: Tensor | None = None,
) -> Optimizer:
    """Group weights by whether they decay and whether they belong to the encoder, which learns more slowly.

    spoilt: a scalar on their device; while it is 1, a step changes nothing, and nobody has to ask the device about it.
    """
    groups: list[dict[str, object]] = []
    for encoder in (False, True):
        for decay in (True, False):
            chosen = [
                weight
                for name, weight in weights.items()
                if name.startswith("encoder.") == encoder and decays(name, weight) == decay
            ]
            if chosen:
                rate = lr * encoder_lr_scale if encoder else lr
                settings = {"lr": rate, "peak": rate, "weight_decay": weight_decay if decay else 0.0}
                groups.append({"params": chosen, **settings})
    optimizer = AdamW(groups, lr=lr, betas=betas, fused=fused(weights.values()))
    if spoilt is not None and optimizer.defaults["fused"]:
        optimizer.found_inf = spoilt  # type: ignore[attr-defined]
    return optimizer


def fused(weights: Iterable[Tensor]) -> bool | None:
    """Say whether one kernel can update many weights at once here; None leaves it to torch."""
    return True if all(weight.device.type in ("cpu", "cuda") for weight in weights) else None


def set_rate(optimizer: Optimizer, step: int, *, steps: int, warmup_steps: int, end: float) -> float:
    """Set every group's rate for optimizer step `step` (0-based) and return the factor on the peak rate."""
    factor = cosine_multiplier(step, steps, warmup_steps, end)
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor
    return factor


def clip_streams(weights: Mapping[str, nn.Parameter], largest: float) -> dict[str, Tensor]:
    """Clip the gradient norm of each stream on its own and return the norms before."""
    streams: dict[str, list[nn.Parameter]] = {}
    for name, weight in weights.items():
        if weight.grad is not None:
            streams.setdefault(STREAM_OF[part_of(name)], []).append(weight)
    return {stream: nn.utils.clip_grad_norm_(members, largest) for stream, members in streams.items()}


def refuse_dead_weights(weights: Mapping[str, nn.Parameter]) -> None:
    """Refuse weights that were to train but got no gradient from any loss.

    Raises:
        MuseError: names them. In the public code a fifth of the block weights silently never train.
    """
    dead = [name for name, weight in weights.items() if weight.grad is None]
    if dead:
        shown = ", ".join(dead[:5]) + (f" and {len(dead) - 5} more" if len(dead) > 5 else "")
        raise MuseError(
            f"{len(dead)} weights are to be trained but no active loss reaches them: {shown}",
            hint="switch their loss on, or report this with config.yaml",
            exit_code=ExitCode.SETTINGS,
        )


def refuse_idle_step(terms: Mapping[str, Tensor], step: int) -> None:
    """Refuse a step whose losses reach no weight that trains.

    Raises:
        MuseError: names the losses.
    """
    if not any(term.requires_grad for term in terms.values()):
        active = ", ".join(terms) or "none is active"
        raise MuseError(
            f"step {step}: no loss reaches a weight that trains (losses: {active})",
            hint="muse config keys train, and see losses.*",
            exit_code=ExitCode.SETTINGS,
        )


def named(parameters: Iterable[tuple[str, nn.Parameter]]) -> dict[str, nn.Parameter]:
    """Collect the parameters that train."""
    return {name: weight for name, weight in parameters if weight.requires_grad}
