"""Data sets in the layouts they are published in, in miniature."""

import json
import tarfile
from pathlib import Path

import pytest
from open_clip import IMAGENET_CLASSNAMES
from timm.data.imagenet_info import ImageNetInfo  # type: ignore[import-untyped,unused-ignore]

from muse_core.data.sample import Sample
from muse_core.data.sharding.options import ShardOptions
from muse_core.data.sharding.report import Sharded
from muse_core.data.sharding.shard import shard
from muse_core.data.shards import ShardSource
from muse_core.data.vocabulary import imagenet_classes
from muse_core.errors import MuseError
from muse_core.evaluation.reading import mask_names
from tests.data.conftest import MakeTar, good, picture, with_suffixes
from tests.data.test_shard_tree import mask, put, skipped, stored

JPEG = picture(kind="JPEG")


def made(recipe: str, source: Path, **options: object) -> Sharded:
    chosen = ShardOptions(recipe=recipe, **options)  # type: ignore[arg-type]
    report = shard(str(source), str(source.parent / "out"), chosen, workers=1)
    assert report is not None
    return report


def labels(report: Sharded, split: str) -> dict[str, int]:
    source = ShardSource(report.out, split=split)
    return {sample.key: sample.label for sample in source.once() if isinstance(sample, Sample)}


def test_imagenet_classes_are_numbered_as_open_clip_numbers_them() -> None:
    """A WordNet id's description shares a word with open_clip's name of the same index, and not with the next name."""
    wnids, names = imagenet_classes()
    assert list(names) == list(IMAGENET_CLASSNAMES)
    assert [(wnids[n], names[n]) for n in (0, 1, 207, 999)] == [
        ("n01440764", "tench"),
        ("n01443537", "goldfish"),
        ("n02099601", "Golden Retriever"),
        ("n15075141", "toilet paper"),
    ]
    info = ImageNetInfo("imagenet-1k")
    described = [info.index_to_description(n, detailed=True).lower() for n in range(1000)]

    def agreeing(shift: int) -> int:
        return sum(
            any(len(word) > 2 and word in described[n] for word in names[(n + shift) % 1000].lower().split())
            for n in range(1000)
        )

    assert agreeing(0) > 960  # the others are named by synonyms, as rooster is for cock
    assert agreeing(1) < 300


def test_imagenet_folders_get_the_index_among_all_thousand_classes(tmp_path: Path) -> None:
    source = put(
        tmp_path / "imagenet",
        {
            "train/n01440764/n01440764_10026.JPEG": JPEG,
            "train/n15075141/n15075141_1.JPEG": JPEG,
            "train/n02099601/n02099601_7.JPEG": JPEG,
            "train/n02105855/n02105855_2933.JPEG": picture(kind="PNG"),  # one of ImageNet's is a png inside
            "train/n99999999/n99999999_1.JPEG": JPEG,
            "val/n02099601/ILSVRC2012_val_00000293.JPEG": JPEG,
        },
    )
    report = made("imagenet1k", source)
    assert report.splits == {"train": 4, "val": 1}
    assert list(labels(report, "train").values()) == [0, 207, 230, 999]
    assert list(labels(report, "val").values()) == [207]
    assert skipped(report) == {"train/n99999999/n99999999_1.JPEG": "class n99999999 is not one of ImageNet-1k"}
    index = json.loads((tmp_path / "out" / "val" / "index.json").read_text())
    assert index["classes"] == list(IMAGENET_CLASSNAMES)
    assert (index["class_keys"][207], index["classes"][207]) == ("n02099601", "Golden Retriever")
    assert "00002.png" in "".join(stored(report))


def test_imagenet_as_kaggle_packs_it_reads_the_classes_of_its_flat_val_from_the_table(tmp_path: Path) -> None:
    data = "ILSVRC/Data/CLS-LOC"
    source = put(
        tmp_path / "kaggle",
        {
            f"{data}/train/n01440764/n01440764_10026.JPEG": JPEG,
            f"{data}/val/ILSVRC2012_val_00000001.JPEG": JPEG,
            f"{data}/val/ILSVRC2012_val_00000002.JPEG": JPEG,
            "LOC_val_solution.csv": "ImageId,PredictionString\n"
            "ILSVRC2012_val_00000002,n01443537 85 1 499 272 \n"
            "ILSVRC2012_val_00000001,n15075141 1 2 3 4 n15075141 5 6 7 8 \n",
        },
    )
    report = made("imagenet1k", source)
    assert list(labels(report, "val").values()) == [999, 1]
    (source / "LOC_val_solution.csv").unlink()
    with pytest.raises(MuseError, match="no class folders"):
        shard(str(source), str(tmp_path / "other"), ShardOptions(recipe="imagenet1k"), workers=1)


def test_a_single_imagenet_split_is_taken_as_it_is(tmp_path: Path) -> None:
    report = made("imagenet1k", put(tmp_path / "val", {"n01443537/a.JPEG": JPEG}))
    assert (report.splits, list(labels(report, "train").values())) == ({}, [1])


def test_ade20k_pairs_images_with_their_annotations(tmp_path: Path) -> None:
    base = "ADEChallengeData2016"
    header = "Idx\tRatio\tTrain\tVal\tName\n1\t0.15\t11664\t1172\twall\n2\t0.1\t6046\t612\tbuilding, edifice\n"
    source = put(
        tmp_path / "ade",
        {
            f"{base}/images/training/ADE_train_00000001.jpg": JPEG,
            f"{base}/annotations/training/ADE_train_00000001.png": mask(),
            f"{base}/images/training/ADE_train_00000002.jpg": JPEG,
            f"{base}/images/validation/ADE_val_00000001.jpg": JPEG,
            f"{base}/annotations/validation/ADE_val_00000001.png": mask(),
            f"{base}/sceneCategories.txt": "ADE_train_00000001 bathroom\n",
            f"{base}/objectInfo150.txt": header,
        },
    )
    report = made("ade20k", source)
    assert (report.splits, report.fields) == ({"train": 1, "val": 1}, {"jpg": 2, "seg.png": 2})
    assert skipped(report) == {"training/ADE_train_00000002.jpg": "no annotation"}
    index = json.loads((tmp_path / "out" / "train" / "index.json").read_text())
    assert (index["mask_classes"], index["classes"]) == (["wall", "building, edifice"], [])
    for rule, names in (("ade20k", ("wall", "building, edifice")), ("plain", ("other", "wall", "building, edifice"))):
        assert mask_names(ShardSource(report.out, split="train"), rule) == names
    (sample,) = ShardSource(report.out, split="val").once()
    assert isinstance(sample, Sample)
    assert sample.mask is not None


@pytest.mark.parametrize("recipe", ["cc12m", "blip3o"])
def test_captioned_pairs_are_taken_from_tars(recipe: str, tmp_path: Path, make_tar: MakeTar) -> None:
    (tmp_path / "in").mkdir()
    record = b'{"caption": "from json", "original_width": 640, "original_height": 480, "status": "success"}'
    make_tar("in/00000.tar", [*good(2), *with_suffixes("000000009", {"jpg": JPEG, "txt": b"", "json": record})])
    make_tar("in/00001.tar", [*with_suffixes("x", {"jpg": JPEG, "txt": b" "}), *with_suffixes("y", {"txt": b"lost"})])
    (tmp_path / "in" / "00000_stats.json").write_text("{}")
    report = made(recipe, tmp_path / "in", min_long_side=20, max_ratio=2.0)
    found = stored(report)
    assert [name for name in found if name.endswith("txt")] == ["00000.txt", "00001.txt", "00002.txt"]
    assert (found["00002.txt"], found["00002.json"], found["00002.jpg"]) == (b"from json", record, JPEG)
    assert skipped(report) == {
        "00001.tar/x": "no caption",
        "00001.tar/y": "no image",
        "00000_stats.json": "not a tar",
    }


@pytest.mark.parametrize("recipe", ["cc12m", "blip3o"])
def test_captioned_pairs_are_taken_from_folders(recipe: str, tmp_path: Path) -> None:
    source = put(
        tmp_path / "in",
        {
            "00000/000000001.jpg": JPEG,
            "00000/000000001.txt": "a pair",
            "00000/000000001.json": '{"caption": "a pair", "status": "success"}',
            "00000/000000002.jpg": JPEG,
            "00000/000000002.txt": "another",
            "00001/000010003.jpg": JPEG,
        },
    )
    report = made(recipe, source, split={"train": 0.5, "val": 0.5})
    assert (report.count, report.classes, report.skipped) == (2, (), {"no caption": 1})
    assert report.splits == {"train": 1, "val": 1}


def test_damaged_tars_are_named_and_what_is_whole_in_them_is_kept(tmp_path: Path, make_tar: MakeTar) -> None:
    (tmp_path / "in").mkdir()
    whole = make_tar("in/a.tar", good(3))
    (tmp_path / "in" / "b.tar").write_bytes(whole.read_bytes()[:-10_240][: -(512 * 3)])
    (tmp_path / "in" / "empty.tar").write_bytes(b"")
    make_tar("in/mixed.tar", [*good(1), *good(1, first=5), ("00000.txt", b"late"), *with_suffixes("z", {"jpg": JPEG})])
    make_tar("in/twice.tar", [("q.jpg", JPEG), ("q.png", JPEG), ("q.txt", b"x")])
    report = made("cc12m", tmp_path / "in")
    reasons = skipped(report)
    assert reasons["mixed.tar/00000"] == "key occurs again later in its tar"
    assert reasons["mixed.tar/z"] == "no caption"
    assert reasons["twice.tar/q"] == "holds more than one image"
    assert reasons["empty.tar"].startswith("tar cannot be read to its end")
    assert reasons["b.tar"].startswith("tar ")
    with tarfile.open(whole) as tar:
        assert tar.extractfile("00002.jpg").read() in stored(report).values()  # type: ignore[union-attr]


def test_another_layout_is_refused_with_what_was_expected(tmp_path: Path) -> None:
    source = put(tmp_path / "in", {"a.jpg": JPEG})
    for recipe, expected in (("imagenet1k", "n01440764"), ("ade20k", "images/training")):
        with pytest.raises(MuseError, match=expected):
            shard(str(source), str(tmp_path / "out"), ShardOptions(recipe=recipe), workers=1)
