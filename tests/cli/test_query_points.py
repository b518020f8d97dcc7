"""`attn-viz --query` speaks of the file's pixels, whatever size the tokenizer sees."""

import numpy as np
import pytest

from muse_cli.commands.attn_viz import scaled
from muse_core.errors import ExitCode, MuseError

FILE = np.zeros((3, 200, 300), np.float32)
SEEN = np.zeros((3, 128, 192), np.float32)


def test_a_point_keeps_its_place_when_the_picture_is_scaled() -> None:
    assert scaled((150, 100), FILE, SEEN) == pytest.approx((96, 64))
    assert scaled((299, 199), FILE, SEEN) == pytest.approx((191.36, 127.36))
    assert scaled((10, 20), FILE, FILE) == (10, 20)


def test_a_point_outside_the_file_is_refused_with_the_range() -> None:
    with pytest.raises(MuseError, match="300,10 lies outside") as refusal:
        scaled((300, 10), FILE, SEEN)
    assert refusal.value.exit_code == ExitCode.SETTINGS
    assert refusal.value.hint == "x goes from 0 to 299 and y from 0 to 199"
