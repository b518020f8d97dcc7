"""The probe itself: its settings become the options of `muse probe dimensions`."""

from typing import Literal

import torch
from pydantic import Field

from muse_core.evaluation.spec import ProbeContext
from muse_core.settings import Section


class Settings(Section):
    """Options of `muse probe dimensions`."""

    features: Literal["pooled", "patch"] = Field("pooled", description="the tokenizer's pooled feature, or patch mean")


def measure(context: ProbeContext, settings: Settings) -> dict[str, float]:
    """Return (sum of variances)^2 / (sum of squared variances) over the principal directions.

    It is D where all D directions vary alike and 1 where only one does.
    """
    found = context.validation.features(settings.features)  # .features (n, D), .labels (n,)
    centred = found.features.double() - found.features.double().mean(0)
    variances = torch.linalg.svdvals(centred) ** 2
    used = float(variances.sum() ** 2 / (variances**2).sum())
    return {"dimensions": used, "share": used / centred.shape[1]}
