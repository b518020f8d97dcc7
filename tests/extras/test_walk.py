"""The road of the README from an empty folder, with nothing but `pip install .` behind it.

Every "next:" is typed as it stands.
"""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.e2e.test_road import photographs
from tests.extras.walk import PLACEHOLDER, Shell, install

CLASSES = ["astronaut", "chelsea", "coffee", "rocket"]
ROAD = (
    "muse doctor",
    "muse shard photos --classes folders",
    "muse shard photos --classes folders --split train=0.7,val=0.3 --out halves",
    "muse train --stage 1 --size tiny --data photos-shards",
    "muse eval --data photos-shards",
    "muse zeroshot --data photos-shards",
    "muse probe linear --data halves --val-data halves",
    "muse segment --data demo:train:48 --val-data demo:val:24",
    "muse infer 'photos/*/*' --compare --out seen",
    "muse attn-viz photos/chelsea/0002.jpg photos/coffee/0001.jpg --out attention.png",
    "muse attn-viz photos/coffee/0001.jpg --teacher --out attention.html",
    "muse report latest --out report.html",
    "muse ls runs",
)
FEW = {"MUSE_TRAIN__TRAINING__STEPS": "3", "OMP_NUM_THREADS": "1"}
"""What is not as the README has it: few steps, and one thread, as many tests may run at once."""


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """The walk, done."""
    folder = tmp_path_factory.mktemp("walk")
    here = folder / "here"
    photographs(here / "photos", 160, captions=True, classes=True)
    walker = Shell(install(folder), here, FEW)
    for line in ROAD:
        walker.type(line)
    yield walker
    shutil.rmtree(folder)


def test_nothing_but_the_product_and_what_it_asks_for_is_installed(shell: Shell) -> None:
    code = "import muse_core, importlib.util as u; print(muse_core.__file__, *map(u.find_spec, ('skimage', 'pytest')))"
    done = subprocess.run(
        [shell.programs / "python", "-I", "-c", code], cwd="/", capture_output=True, text=True, check=True
    )
    where, *absent = done.stdout.split()
    assert Path(where).is_relative_to(shell.programs.parent)
    assert absent == ["None", "None"]


def test_every_line_of_the_walk_ends_well(shell: Shell) -> None:
    for typed in shell.typed.values():
        print(f"{typed.seconds:6.1f} s  {typed.line}")
    bad = {typed.line: typed.out[-2000:] for typed in shell.typed.values() if typed.code != 0}
    assert bad == {}


def test_what_comes_next_can_be_typed_and_leads_through_all_stages(shell: Shell) -> None:
    said = [line for typed in list(shell.typed) for line in shell.following(typed)]
    assert [line for line in said if PLACEHOLDER.search(line)] == []
    assert "muse inspect photos-shards" in said
    assert "muse train --stage 1-3 --size tiny --data photos-shards" in said
    assert any(line.startswith("muse train --stage 3 --size tiny --init runs/") for line in said)
    assert any(line.startswith("muse eval runs/") and line.endswith(" --data halves") for line in said)
    assert sum(line.startswith("muse report runs/") for line in said) == 5, "of each run that is the end of its command"
    assert shell.typed.keys() >= set(said)


def test_the_runs_are_finished_and_listed(shell: Shell) -> None:
    listed = shell.typed["muse ls runs"].out
    assert listed.count("finished") == 9
    for stage in (1, 2, 3):
        assert listed.count(f"tiny-stage{stage}-") == 3


def test_the_measures_are_of_these_photographs(shell: Shell) -> None:
    (run,) = {path.parent.parent for path in (shell.folder / "runs").glob("*/results/zeroshot.json")}
    scores = {path.stem: json.loads(path.read_text()) for path in (run / "results").glob("*.json")}
    assert scores.keys() >= {"eval", "zeroshot", "probe-linear", "segment"}
    assert scores["eval"]["counts"]["seen"] == scores["zeroshot"]["counts"]["seen"] == 160
    assert scores["zeroshot"]["baselines"]["chance"]["top1"] == pytest.approx(1 / len(CLASSES))
    assert 20 < scores["probe-linear"]["counts"]["seen"] < 80


def test_pictures_and_pages_are_there(shell: Shell) -> None:
    assert len(list((shell.folder / "seen").glob("*.png"))) == 160
    with Image.open(shell.folder / "attention.png") as drawn:
        assert min(drawn.size) > 300
    for name in ("report.html", "attention.html"):
        assert (shell.folder / name).stat().st_size > 10_000
