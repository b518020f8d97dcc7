"""`muse attn-viz FOLDER`: as many images as one figure holds, and how many are left out."""

from pathlib import Path

from PIL import Image

from muse_cli.commands.attn_viz import MOST_IMAGES
from tests.cli.conftest import Muse


def test_of_a_large_folder_the_first_images_are_drawn_and_the_rest_is_counted(muse: Muse) -> None:
    Path("photos").mkdir()
    for number in range(MOST_IMAGES + 3):
        Image.effect_noise((32, 32), 90).save(f"photos/{number:03d}.png")
    ended = muse("attn-viz", "photos", "--checkpoint", "tiny", "--out", "a.png", "--size-px", "32")
    assert ended.code == 0, ended.err
    assert f"draws the first {MOST_IMAGES} of {MOST_IMAGES + 3} images" in ended.err
    assert "000.png" in ended.out + ended.err
    assert Image.open("a.png").height < 32_767
