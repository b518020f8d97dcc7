"""Training steps of every stage on a GPU without numbers: devices, number formats and waits.

Size 1b is in tests/extras/test_steps_of_1b.py, which takes longer.

A wait that the table below does not hold fails with its file and line: mend it, or say here why it may stay.
"""

from typing import Any

import pytest

from tests.gpu.conftest import Ask, CaseError
from tests.gpu.waits import ROOT

ALLOWED = {
    "muse_core/model/images.py _column": "mean and deviation of ImageNet, 12 bytes",
    "muse_core/losses/contrastive.py caption_groups": "what captions are equal, known on the host alone",
    "muse_core/model/text.py __call__": "captions as numbers of words, where one has not been embedded before",
}
"""Waits of any step, by file and function, and why they are there."""

ALLOWED_ONCE = {"muse_core/stages/objective.py _decoded": "which images are decoded; kept from the first step on"}
"""Waits of the first step alone."""

LOSSES = {
    1: {"pixel", "perceptual", "topology"},
    2: {"pixel", "perceptual", "topology", "contrastive"},
    3: {"pixel", "perceptual", "topology", "contrastive", "adversarial"},
}
STREAMS = {1: {"shared", "topology", "pixels"}, 2: {"shared", "topology", "pixels", "semantic"}}
STREAMS[3] = STREAMS[2]
ON_DEVICE = "float32 cuda:0"


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_a_step_of_tiny_computes_everything_on_the_device(fake: Ask, stage: int) -> None:
    found = fake("steps", size="tiny", stage=stage, images=4, count=2)
    check_scalars(found, stage)
    check_state(found, stage, steps=2)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_the_host_waits_only_where_it_may(fake: Ask, stage: int) -> None:
    first, second = fake("steps", size="tiny", stage=stage, images=4, count=2)["waits"]
    assert unexpected(first, ALLOWED | ALLOWED_ONCE) == []
    assert unexpected(second, ALLOWED) == []


@pytest.mark.slow
def test_every_wait_that_is_allowed_is_there(fake: Ask) -> None:
    first, _ = fake("steps", size="tiny", stage=3, images=4, count=2)["waits"]
    assert {without_line(wait) for wait in first} == set(ALLOWED | ALLOWED_ONCE)


@pytest.mark.slow
def test_a_wait_in_a_loss_is_named_with_its_line(fake: Ask) -> None:
    (step,) = fake("steps", size="tiny", stage=1, images=2, count=1, bug="item_in_loss")["waits"]
    found = unexpected(step, ALLOWED | ALLOWED_ONCE)
    line = line_of("assert float(loss.detach())")
    assert found == [f"tests/gpu/steps.py:{line} _loss_that_is_read: _local_scalar_dense of ()"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bug", "stage", "place", "message"),
    [
        ("cpu_rotary", 1, "muse_core/model/rotary.py", "at least two devices, cuda:0 and cpu"),
        ("cpu_buffer", 3, "muse_core/losses/adversarial.py", "wrong device, found cpu, expected cuda:0"),
        ("mixed_precision", 3, "muse_core/model/discriminator.py", "(torch.bfloat16) and weight type (torch.float32)"),
    ],
)
def test_a_mix_of_devices_or_number_formats_raises(fake: Ask, bug: str, stage: int, place: str, message: str) -> None:
    with pytest.raises(CaseError) as caught:
        fake("steps", size="tiny", stage=stage, images=2, count=1, bug=bug)
    assert message in caught.value.message
    assert caught.value.place.startswith(place)


def check_scalars(found: dict[str, Any], stage: int) -> None:
    """Losses, gradient norms and the discriminator's numbers are all there, float32 and on the device."""
    seen = found["seen"]
    opponent = {"discriminator", "real", "fake"} if stage == 3 else set()
    expected = {f"loss/{name}" for name in LOSSES[stage]} | {f"gradient/{name}" for name in STREAMS[stage]}
    opponent |= {"loss", "gradient of discriminator"} if stage == 3 else set()
    assert set(seen) == expected | {f"discriminator/{name}" for name in opponent}
    assert set(seen.values()) == {ON_DEVICE}


def check_state(found: dict[str, Any], stage: int, steps: int) -> None:
    """Every weight was moved by its optimizer, the average followed, and all of it lies on the device."""
    assert found["precision"] == "bf16"
    assert found["moments"] == found["weights"] > 0
    assert found["averaged"] == steps
    assert found["opponents"] == (stage == 3)
    assert (found["opponent_moments"] > 0) == (stage == 3)
    assert found["devices"] == ["cuda:0"]


def unexpected(waits: dict[str, int], allowed: dict[str, str]) -> list[str]:
    """Name the waits of a step that the table does not hold."""
    return [wait for wait in waits if without_line(wait) not in allowed]


def without_line(wait: str) -> str:
    """FILE:LINE FUNCTION: KIND -> FILE FUNCTION, which stays when lines above it are added."""
    place, function = wait.split(": ")[0].split(" ")
    return f"{place.rpartition(':')[0]} {function}"


def line_of(text: str) -> int:
    """The line of `steps.py` that holds a text."""
    lines = (ROOT / "tests/gpu/steps.py").read_text(encoding="utf-8").splitlines()
    (number,) = [number for number, line in enumerate(lines, start=1) if text in line]
    return number
