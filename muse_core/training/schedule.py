"""Learning-rate schedule: linear warm-up that never starts at zero, then a cosine."""

import math


def cosine_multiplier(step: int, steps: int, warmup_steps: int, end: float) -> float:
    """Return the factor on the peak rate at optimizer step `step` (0-based).

    Warm-up gives (step + 1) / warmup_steps, so that the first step already learns; afterwards the factor falls
    from 1 to `end` along half a cosine, reaching `end` at `steps`.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1, steps - warmup_steps))
    return end + (1 - end) * 0.5 * (1 + math.cos(math.pi * progress))
