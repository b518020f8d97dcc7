"""What was asked for and fits nothing is an error that names it; what fits in part is counted and said."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from muse_core.data.census import caption_census
from muse_core.data.sample import Sample
from muse_core.data.source import open_source
from muse_core.data.writer import write_shards
from muse_core.errors import ExitCode, MuseError
from muse_core.evaluation.builtin import KNN, LINEAR, TOPOLOGY
from muse_core.evaluation.features import ProbeData
from muse_core.evaluation.metrics import make_psnr, make_ssim
from muse_core.evaluation.options import KnnOptions
from muse_core.evaluation.overlap import ImageOverlaps, PixelConfusion
from muse_core.evaluation.probing import run_probe
from muse_core.evaluation.reading import EvalData
from muse_core.evaluation.reconstruction import evaluate
from muse_core.evaluation.segmentation import SegmentOptions, segment
from muse_core.evaluation.spec import MetricContext, MetricSpec, NotMeasuredError, ProbeContext
from muse_core.evaluation.zeroshot import zeroshot
from muse_core.stages.plan import make_plan
from muse_core.training.plan import Plan
from tests.evaluation.fakes import Looks, MeanColours, Nearest, Passes, bright_classes, data, sample
from tests.evaluation.test_segmentation import CellColours, scenes
from tests.field.conftest import Case, Muse
from tests.field.inputs import coded, noise, tar
from tests.training.mini import lean

SMALL = ("--init", "none", "--steps", "3", "--batch-size", "8", "--set", "data.lanes=1")
CAPTIONS = "contrastive loss of stage {} learns from them, and {} have one"


# ---------------------------------------------------------------- captions for the contrastive loss


@pytest.mark.parametrize("stage", ["2", "3"])
def test_d2_a_stage_that_learns_from_words_needs_some(muse: Muse, case: Case, stage: str) -> None:
    folder = case("d2-no-captions")
    asked = ("train", "--stage", stage, "--size", "tiny", "--data", "t", *SMALL, "--out", "r")
    told = CAPTIONS.format(stage, "0 of 16 images in t")
    for arguments, code in ((asked, ExitCode.FILE), ((*asked, "--dry-run"), ExitCode.PROBLEMS)):
        ended = muse(*arguments)
        assert (ended.code, told in ended.err) == (code, True), ended.err
    assert [path.name for path in folder.iterdir()] == ["t"]


def test_a_later_stage_of_a_chain_is_refused_before_the_first_one_trains(muse: Muse, case: Case) -> None:
    folder = case("d2-no-captions")
    ended = muse("train", "--stage", "1-3", "--size", "tiny", "--data", "t", *SMALL[2:], "--out", "r")
    assert ended.code == ExitCode.FILE
    assert CAPTIONS.format(2, "0 of 16 images in t") in ended.err
    assert [path.name for path in folder.iterdir()] == ["t"]


def test_without_that_loss_no_caption_is_missed(muse: Muse, case: Case) -> None:
    case("d2-no-captions")
    for more in (("--stage", "1"), ("--stage", "3", "--set", "losses.contrastive=0")):
        ended = muse("train", "--size", "tiny", "--data", "t", *SMALL, "--dry-run", *more)
        assert (ended.code, "caption" in ended.out + ended.err) == (0, False), ended.err


Members = dict[str, bytes | str]
PIXELS = coded(noise(np.random.default_rng(0), 32))


def shards(folder: Path, *members: Members) -> Path:
    write_shards([{"jpg": PIXELS, **one} for one in members], folder, per_shard=4)
    return folder


def planned(where: str) -> Plan:
    return make_plan(lean(2, {"data.train": where, "data.lanes": 1}))


@pytest.mark.parametrize(
    "member", [{"txt": "a cat"}, {"caption": "a cat"}, {"json": '{"caption": "a cat"}'}, {"json": '{"text": "a cat"}'}]
)
def test_captions_count_wherever_training_reads_them(tmp_path: Path, member: Members) -> None:
    plan = planned(str(shards(tmp_path / "s", *[member] * 8)))
    assert plan.missing == []
    assert not any(line.startswith("captions") for line in plan.lines)


@pytest.mark.parametrize("member", [{"txt": " \n"}, {"json": '{"title": "a cat"}'}, {"cls": "3"}])
def test_what_is_no_caption_does_not_count(tmp_path: Path, member: Members) -> None:
    folder = shards(tmp_path / "s", *[member] * 8)
    assert [CAPTIONS.format(2, f"0 of 8 images in {folder}") in line for line in planned(str(folder)).missing] == [True]


def test_captions_of_a_part_are_counted_in_the_plan(tmp_path: Path) -> None:
    bare, captioned = Members(), Members(txt="a cat")
    folder = shards(tmp_path / "s", *[bare] * 8, *[captioned] * 4)
    plan = planned(str(folder))
    assert plan.missing == []
    line = f"captions 4 of 12 images in {folder}: images without one are contrasted with nothing"
    assert line in plan.lines


def test_each_part_of_a_mix_is_counted(tmp_path: Path) -> None:
    none, some = shards(tmp_path / "none", *[{}] * 4), shards(tmp_path / "some", {"txt": "a cat"}, {}, {}, {})
    assert [line for line in planned(f"{none} + {some} + demo").lines if line.startswith("captions")] == [
        f"captions 0 of 4 images in {none}; 1 of 4 images in {some}: images without one are contrasted with nothing"
    ]
    missing = planned(f"{none} + 0.5 {none}").missing
    assert [f"0 of 4 images in {none}, 0 of 4 images in {none}" in line for line in missing] == [True]


def test_an_index_that_counted_captions_is_believed_without_a_look(muse: Muse, tmp_path: Path) -> None:
    for number in range(6):
        (tmp_path / "d").mkdir(exist_ok=True)
        (tmp_path / f"d/{number}.jpg").write_bytes(PIXELS)
    (tmp_path / "d/3.txt").write_text("a cat")
    assert muse("shard", "d", "--out", "s", "--per-shard", "2").code == 0
    for path in (tmp_path / "s").glob("*.tar"):
        path.write_bytes(bytes(path.stat().st_size))
    assert [str(census) for census in caption_census(open_source("s"))] == ["1 of 6 images in s"]


def test_many_shards_are_looked_at_here_and_there(tmp_path: Path) -> None:
    for number in range(40):
        members = [(f"{number}-{i}.{suffix}", content) for i in range(2) for suffix, content in (("jpg", PIXELS),)]
        tar(tmp_path / f"s/{number:02d}.tar", [*members, *([(f"{number}-0.txt", b"a cat")] if number > 20 else [])])
    (census,) = caption_census(open_source(str(tmp_path / "s")))
    assert (census.captioned, census.seen, census.whole) == (1, 8, False)  # shards 0, 10, 20 and 30
    assert str(census) == f"1 of 8 images looked at in {tmp_path / 's'}"


# ---------------------------------------------------------------- labels


@pytest.mark.parametrize("spec", [KNN, LINEAR])
@pytest.mark.parametrize("side", ["train", "validation"])
def test_a_probe_without_a_label_on_one_side_says_which(spec: object, side: str) -> None:
    labelled, bare = data(bright_classes(20, 2)), data([sample(500 + k) for k in range(5)])
    bare.source.name = "bare"  # type: ignore[misc]
    train, validation = (bare, labelled) if side == "train" else (labelled, bare)
    tokenizer = MeanColours()
    here = ProbeContext(tokenizer, ProbeData(tokenizer, validation), ProbeData(tokenizer, train))
    with pytest.raises(MuseError, match="not one of the 5 samples of bare has a label"):
        run_probe("x", spec, here)  # type: ignore[arg-type]


@pytest.mark.parametrize("spec", [KNN, LINEAR])
def test_one_class_to_learn_from_is_refused(spec: object) -> None:
    tokenizer = MeanColours()
    sets = [ProbeData(tokenizer, data(bright_classes(20, 1, start))) for start in (0, 500)]
    with pytest.raises(MuseError, match="at least two classes; every training sample has the same label"):
        run_probe("x", spec, ProbeContext(tokenizer, sets[0], sets[1]))  # type: ignore[arg-type]


def test_one_labelled_image_is_measured() -> None:
    tokenizer = MeanColours()
    here = ProbeContext(
        tokenizer, ProbeData(tokenizer, data([sample(900, label=1)])), ProbeData(tokenizer, data(bright_classes(20, 2)))
    )
    assert run_probe("knn", KNN, here, KnnOptions(k=1)).metrics["top1"] in (0.0, 1.0)
    scores = zeroshot(Nearest("ab"), data([sample(900, label=1)], ("a", "b")), top=(1,))
    assert scores.protocol.fields["images"] == 1


def test_a_zero_shot_measure_of_a_single_image_without_a_label_is_refused() -> None:
    with pytest.raises(MuseError, match="not one of the 1 sample of memory has a label"):
        zeroshot(Nearest("ab"), data([sample(900)], ("a", "b")))


# ---------------------------------------------------------------- masks


def test_i1_masks_of_validation_that_say_nothing(muse: Muse, case: Case) -> None:
    case("i1-nothing-labelled")
    rule = ("--label-rule", "ade20k", "--classes", "150", "--epochs", "1")
    for train, validation in (("train", "val"), ("val", "train")):
        ended = muse("segment", "tiny", "--data", train, "--val-data", validation, *rule)
        assert ended.code == ExitCode.FILE
        assert "not one pixel of the masks of val has a label under the rule ade20k" in ended.err


def test_i2_black_and_white_masks_are_told_what_255_means(muse: Muse, case: Case) -> None:
    case("i2-black-and-white-masks")
    ended = muse("segment", "tiny", "--data", "train", "--val-data", "val", "--epochs", "1")
    assert ended.code == ExitCode.FILE
    assert "hold 1 class, " in ended.err
    assert "their values are 0 and 255, and 255 means ignored" in ended.err


def painted(value: int, other: int | None = None, count: int = 6, start: int = 0) -> EvalData:
    masks = [np.full(one.image.shape[:2], value, np.uint8) for one in scenes(count, start)]
    for mask in masks:
        mask[:3] = value if other is None else other
    return data([replace(one, mask=mask) for one, mask in zip(scenes(count, start), masks, strict=True)])


@pytest.mark.parametrize(
    ("values", "labels", "told"),
    [
        ((7,), "plain", "hold 1 class, which leaves nothing to choose between: their value is 7$"),
        ((0, 9), "ade20k", "hold 1 class, .*: their values are 0 and 9, and 0 means ignored"),
        ((0, 255), "ade20k", "not one pixel of the masks of memory has a label under the rule ade20k"),
        ((255,), "plain", "has a mask that labels a pixel"),
    ],
)
def test_training_masks_of_one_value_are_refused_with_what_they_hold(
    values: tuple[int, ...], labels: str, told: str
) -> None:
    with pytest.raises(MuseError, match=told):
        segment(CellColours(), painted(*values), painted(0, 1, start=90), SegmentOptions(labels=labels, epochs=1))


def test_validation_with_one_class_is_measured() -> None:
    options = SegmentOptions(classes=3, epochs=2, batch_size=4, rate=0.1)
    scores = segment(CellColours(), data(scenes(12)), painted(1, start=90), options).scores
    assert 0 <= scores.metrics["miou"] <= 1
    assert scores.baselines["most frequent class"] == {"miou": 1.0, "pixel_accuracy": 1.0}


def test_one_training_image_teaches_nothing_and_one_validation_image_is_measured() -> None:
    options = SegmentOptions(classes=3, epochs=2, batch_size=4, rate=0.1)
    with pytest.raises(MuseError, match="the head learned nothing: no batch of 1 training image has two"):
        segment(CellColours(), data(scenes(1)), data(scenes(4, 90)), options)
    scores = segment(CellColours(), data(scenes(4)), data(scenes(1, 90)), options).scores
    assert (scores.protocol.fields["images"], dict(scores.standard_errors)) == (1, {})


def test_images_without_a_labelled_pixel_move_no_number_and_break_no_spread() -> None:
    options = SegmentOptions(classes=3, epochs=2, batch_size=4, rate=0.1)
    blank = [replace(one, mask=np.full(one.image.shape[:2], 0, np.uint8)) for one in scenes(3, 200)]
    shifted = [replace(one, mask=one.mask + 1) for one in scenes(2, 90) if one.mask is not None]
    with_labels = replace(options, labels="ade20k")
    train = data([replace(one, mask=one.mask + 1) for one in scenes(8) if one.mask is not None])
    alone = segment(CellColours(), train, data(shifted[:1]), with_labels).scores
    beside = segment(CellColours(), train, data([*shifted[:1], *blank]), with_labels).scores
    assert beside.metrics == alone.metrics
    assert math.isfinite(beside.standard_errors["miou"])


def test_topology_says_that_there_was_no_mask_and_no_teacher() -> None:
    maps = torch.full((16, 16), 1 / 16)
    tokenizer = Looks(maps, (4, 4))
    here = ProbeContext(tokenizer, ProbeData(tokenizer, data([sample(k) for k in range(3)])))
    with pytest.raises(MuseError, match="no teacher to compare with; not one image has a mask"):
        run_probe("topology", TOPOLOGY, here)


def test_a_teacher_that_looks_everywhere_alike_divides_by_nothing() -> None:
    maps = torch.full((16, 16), 1 / 16)
    tokenizer = Looks(maps, (4, 4))

    def teacher(images: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        return maps.expand(len(images), -1, -1)

    here = ProbeContext(tokenizer, ProbeData(tokenizer, data([sample(k) for k in range(3)])), teacher=teacher)
    scores = run_probe("topology", TOPOLOGY, here)
    assert scores.metrics["kl"] == pytest.approx(0, abs=1e-6)
    assert math.isfinite(scores.metrics.get("kl_over_uniform", 0.0))


# ---------------------------------------------------------------- nothing, and one image


@pytest.mark.parametrize("make", [make_psnr, make_ssim])
def test_a_metric_that_saw_nothing_says_so(make: Callable[[MetricContext], object]) -> None:
    with pytest.raises(NotMeasuredError, match="no image was seen"):
        make(MetricContext()).result()  # type: ignore[attr-defined]


def test_pixels_without_a_class_have_no_score_and_no_division() -> None:
    empty = PixelConfusion(3)
    for number in (empty.mean_iou, empty.accuracy):
        with pytest.raises(MuseError, match="no pixel with a class"):
            number()
    overlaps = ImageOverlaps(3)
    for _ in range(4):
        overlaps.add(torch.full((2, 2), 255), torch.zeros(2, 2, dtype=torch.int64))
    assert overlaps.standard_error() == 0.0


def test_one_image_is_reconstructed_and_none_is_an_error() -> None:
    metrics = {
        name: MetricSpec("x", f"muse_core.evaluation.metrics:make_{name}", "higher") for name in ("psnr", "ssim")
    }
    scores = evaluate(Passes(0.1), data([sample(1)]), metrics)
    assert (set(scores.metrics), dict(scores.standard_errors)) == ({"psnr", "ssim"}, {})
    with pytest.raises(MuseError, match="no usable sample in memory"):
        evaluate(Passes(), data([]), metrics)


@pytest.mark.slow
def test_one_image_goes_through_every_measure(muse: Muse, tmp_path: Path) -> None:
    """A number, or a sentence; never a bug."""
    (one,) = scenes(1)
    image = np.kron(one.image, np.ones((4, 4, 1), np.uint8))
    mask = np.kron(one.mask if one.mask is not None else one.image, np.ones((4, 4), np.uint8))
    write_shards([Sample("", image, "a cat", 1, mask)], tmp_path / "one", classes=("ant", "bee"))
    both = ("--data", "demo:train:16", "--val-data", "one")
    for arguments in (
        ("eval", "tiny", "--data", "one"),
        ("zeroshot", "tiny", "--data", "one"),
        ("probe", "knn", "tiny", "--data", "one", "--val-data", "demo:val:2"),
        ("probe", "topology", "tiny", "--val-data", "one"),
        ("probe", "conflict", "tiny", "--val-data", "one"),
        ("segment", "tiny", "--epochs", "1", *both),
        ("segment", "tiny", "--epochs", "1", "--data", "one", "--val-data", "one"),
    ):
        ended = muse(*arguments, "--json")
        assert ended.code in (0, ExitCode.SETTINGS, ExitCode.FILE), (arguments, ended.err)
        assert "bug" not in ended.err
        assert ended.code or json.loads(ended.out)["metrics"]
