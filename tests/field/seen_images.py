"""What samples show, for the tests of reading."""

import csv
from pathlib import Path
from typing import Any

import numpy as np

from muse_core.data.sample import Sample
from muse_core.data.source import open_source
from tests.field.inputs import Pixels

GREY_OF = {2: (10, 11), 24: (130,), 45: (244, 245)}
"""Columns of the ramp, and what is seen there."""


def samples(where: str | Path) -> list[Sample]:
    found = list(open_source(str(where)).once())
    assert all(isinstance(one, Sample) for one in found), found
    return [one for one in found if isinstance(one, Sample)]


def skipped(folder: str | Path) -> dict[str, str]:
    with (Path(folder) / "skipped.csv").open(newline="") as stream:
        return dict(list(csv.reader(stream))[1:])


def is_red(pixels: Pixels) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return (pixels[..., 0] > 150) & (pixels[..., 1] < 100)


def under_the_red(sample: Sample) -> float:
    """Share of the red pixels that have mask value 1."""
    assert sample.mask is not None
    return float((sample.mask[is_red(sample.image)] == 1).mean())
