"""`muse attn-viz --against`: MUSE and its rivals in one figure, as in the paper's appendix; who has none is said."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from muse_core.errors import ExitCode
from tests.baselines import published
from tests.cli.conftest import Muse

RIVALS = ("vqgan", "unilip", "dinov3", "dc-ae")


@pytest.fixture
def against(tmp_path: Path) -> list[str]:
    Image.effect_noise((80, 64), 90).convert("RGB").save("photo.jpg")
    return [word for name in RIVALS for word in ("--against", published.write(name, tmp_path / name))]


def test_the_appendix_figure(muse: Muse, against: list[str]) -> None:
    ended = muse("attn-viz", "photo.jpg", "--checkpoint", "tiny", *against, "--query", "40,20", "--out", "a.svg")
    assert ended.code == 0, ended.err
    for name in ("muse-tiny", "VQGAN", "UniLIP 224", "DINOv3"):
        assert re.search(rf"^{name} \(.*: entropy", ended.out, re.MULTILINE)
    assert "DC-AE: no attention to show" in ended.out
    assert "no attention to show: DC-AE" in Path("a.svg").read_text()  # matplotlib keeps the words as a comment


def test_in_the_page_each_has_its_own_grid(muse: Muse, against: list[str]) -> None:
    document = muse(
        "attn-viz", "photo.jpg", "--checkpoint", "tiny", *against, "--out", "a.html", "--json"
    ).json  # fmt: skip
    assert document["no_attention"] == ["DC-AE"]
    page = Path("a.html").read_text()
    assert "No attention to show: DC-AE." in page
    scene = json.loads(page.split('<script type="application/json">')[1].split("</script>")[0])["scenes"][0]
    grids = {drawn["name"]: drawn["grid"] for drawn in scene["maps"]}
    assert grids["VQGAN"] == [4, 5]
    assert grids["DINOv3"] == [4, 5]
    assert grids["UniLIP 224"] == [6, 6]  # 64 x 80 pixels padded to 84 x 84


def test_the_first_one_must_have_attention(muse: Muse, against: list[str], tmp_path: Path) -> None:
    ended = muse("attn-viz", "photo.jpg", "--checkpoint", f"dc-ae:{tmp_path}/dc-ae")
    assert ended.code == ExitCode.FILE
    assert "does not support this" in ended.err
