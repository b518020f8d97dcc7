"""The README's table of GPU memory is what `--dry-run` computes for the same settings, row by row."""

import re
from pathlib import Path

import pytest

from muse_core.devices import GIB, Devices
from muse_core.stages.plan import make_plan
from tests.training.test_cost import settings

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
DEVICES = 8


def rows() -> list[tuple[str, int, int, int, int, float, float]]:
    """size, stage, devices, images a device, pixels, GiB reserved, of it activations; a row of two sizes gives two."""
    found = []
    line = r"\| ([\w ]+), (\d)( \(one device\))? \| (\d+) \| (\d+) \| ([\d.]+) \| ([\d.]+) \|"
    for names, stage, alone, images, pixels, total, kept in re.findall(line, README):
        devices = 1 if alone else DEVICES
        found += [
            (size, int(stage), devices, int(images), int(pixels), float(total), float(kept))
            for size in names.split(" or ")
        ]
    return found


def test_the_table_has_every_stage_of_the_real_sizes() -> None:
    assert {row[:2] for row in rows()} >= {(size, stage) for size in ("1b", "3b") for stage in (1, 2, 3)}
    assert len(rows()) == 9


SAME_SHAPES = [row for row in rows() if row[0] == "3b" and (row[1], row[4]) != (3, 224)]
"""3b has the shapes of 1b (test_cost.py), so it is computed once more for one row only."""


@pytest.mark.slow
@pytest.mark.parametrize("row", [row for row in rows() if row not in SAME_SHAPES], ids=str)
def test_a_row_is_computed(row: tuple[str, int, int, int, int, float, float]) -> None:
    size, stage, devices, images, pixels, total, kept = row
    chosen = settings(
        size,
        stage,
        training__precision="bf16",
        training__batch_size=images * devices,
        model__resolution=pixels,
    )
    plan = make_plan(chosen, devices=Devices("cuda", devices, None))
    assert plan.cost is not None
    activations = plan.cost.memory()["activations"]
    assert (round(plan.cost.reserved() / GIB, 1), round(activations / GIB, 1)) == (total, kept)


SPEED = (Path(__file__).parents[2] / "docs/training-speed.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "images"), [(1, 48), (3, 32), (3, 8)])
def test_the_docs_show_the_plan_beside_what_was_measured(stage: int, images: int) -> None:
    found = re.search(rf"\| stage {stage}, {images} images \| ([\d.]+) \| ([\d.]+)(?: to ([\d.]+))? \|", SPEED)
    assert found
    cost = make_plan(settings("1b", stage, training__batch_size=images), devices=Devices("cuda", 1, None)).cost
    assert cost is not None
    assert round(cost.reserved() / GIB, 1) == float(found[1])
    for measured in filter(None, (found[2], found[3])):
        assert float(found[1]) == pytest.approx(float(measured), rel=0.1)


def test_rows_of_a_preset_have_its_batch() -> None:
    """The first rows are what happens without any option on eight devices."""
    for size, stage, devices, images, pixels, *_ in rows():
        preset = settings(size, stage)
        if pixels == preset.model.resolution:
            assert images * devices == preset.training.batch_size
