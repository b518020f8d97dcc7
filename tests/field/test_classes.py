"""A label means its class: wherever two sets meet, classes are joined by name, or both lists are shown."""

import json
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from muse_core.data.sample import Sample, Skip
from muse_core.data.source import Source, open_source
from muse_core.data.vocabulary import imagenet_classes
from muse_core.data.writer import write_shards
from muse_core.errors import ExitCode, MuseError
from muse_core.evaluation.builtin import KNN
from muse_core.evaluation.features import ProbeData
from muse_core.evaluation.options import KnnOptions
from muse_core.evaluation.probing import run_probe
from muse_core.evaluation.protocol import Protocol, Scores
from muse_core.evaluation.reading import EvalData, classes_of, mask_names
from muse_core.evaluation.segmentation import SegmentOptions, segment
from muse_core.evaluation.spec import ProbeContext, ProbeSpec
from muse_core.evaluation.zeroshot import zeroshot
from tests.evaluation.fakes import SIDE, MeanColours, MemorySource, Nearest, data, sample
from tests.evaluation.test_segmentation import CellColours, scenes
from tests.field.conftest import Case, Muse

ANIMALS = ("ant", "bee", "cat", "dog")
Write = Callable[..., Path]


def shades(labels: Sequence[int], names: Sequence[str], start: int = 0, among: Sequence[str] = ANIMALS) -> list[Sample]:
    """Images whose brightness is that of the class which their label has among `names`."""
    return [
        sample(start + key, label=label, brightness=among.index(names[label].strip()) * 200 // len(among))
        for key, label in enumerate(labels)
    ]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a folder of shards with these names in its index."""

    def make(folder: str, samples: Iterable[Sample], names: Sequence[str] = (), **index: object) -> Path:
        path = tmp_path / folder
        write_shards(samples, path, classes=names)
        if index:
            document = json.loads((path / "index.json").read_text())
            (path / "index.json").write_text(json.dumps({**document, **index}))
        return path

    return make


def named_labels(source: Source) -> list[tuple[str, int]]:
    """The class that a source says each sample has, and which of the shades it really is."""
    return [_named(item, classes_of(source) or ()) for item in source.once()]


def _named(item: Sample | Skip, names: Sequence[str]) -> tuple[str, int]:
    assert isinstance(item, Sample)
    return names[item.label], round((float(item.image[..., 0].mean()) - 15.5) / 50)


def right(pairs: list[tuple[str, int]]) -> bool:
    return all(ANIMALS.index(name.strip()) == shade for name, shade in pairs)


# ---------------------------------------------------------------- the handed cases


@pytest.mark.slow
@pytest.mark.parametrize("probe", ["knn", "linear"])
def test_b1_a_class_that_validation_lacks_moves_no_other(muse: Muse, case: Case, probe: str) -> None:
    case("b1-missing-class")
    assert (muse("shard", "train").code, muse("shard", "val").code) == (0, 0)
    few = ("--epochs", "5", "--least-steps", "50") if probe == "linear" else ()
    ended = muse("probe", probe, "tiny", "--data", "train-shards", "--val-data", "val-shards", *few, "--json")
    assert ended.code == 0, ended.err
    assert ended.json["metrics"]["top1"] == 1.0
    assert [row["class"] for row in ended.json["tables"]["per class"]] == ["bee", "cat"]


@pytest.mark.slow
def test_b2_a_subset_of_imagenet_is_scored_as_its_own_classes(muse: Muse, case: Case) -> None:
    case("b2-imagenet-subset")
    assert muse("shard", "d").code == 0
    ended = muse("zeroshot", "tiny", "--data", "d-shards", "--classes", "imagenet", "--json")
    assert ended.code == 0, ended.err
    assert {row["class"] for row in ended.json["tables"]["per class"]} == {"Chihuahua", "pug", "tabby cat"}
    assert ended.json["protocol"]["classes"] == 1000


@pytest.mark.slow
def test_b2_a_list_from_a_file_is_joined_by_name_or_refused_with_both_lists(muse: Muse, case: Case) -> None:
    folder = case("b2-imagenet-subset")
    assert muse("shard", "d").code == 0
    (folder / "words.txt").write_text("pug\na boat\ntabby cat\nChihuahua\n")
    ended = muse("zeroshot", "tiny", "--data", "d-shards", "--classes", "words.txt", "--json")
    assert {row["class"] for row in ended.json["tables"]["per class"]} == {"Chihuahua", "pug", "tabby cat"}
    (folder / "others.txt").write_text("pug\nboat\ncar\nbus\n")
    ended = muse("zeroshot", "tiny", "--data", "d-shards", "--classes", "others.txt")
    assert ended.code == ExitCode.FILE
    assert "3 classes (n02085620, n02110958, n02123045)" in ended.err
    assert "4 classes (pug, boat, car, bus); not in the list: n02085620, n02123045" in ended.err


# ---------------------------------------------------------------- zero-shot


def shaded(names: Sequence[str] | None, labels: Sequence[int] = (0, 1, 2, 3, 2, 1)) -> EvalData:
    return data(shades(labels, names or ANIMALS), None if names is None else tuple(names))


@pytest.mark.parametrize("names", [ANIMALS, ANIMALS[::-1], (" dog", "bee\n", "ant", "cat")])
def test_a_list_in_any_order_finds_every_class(names: tuple[str, ...]) -> None:
    scores = zeroshot(Nearest(ANIMALS), shaded(names), classes=[*ANIMALS], top=(1,))
    assert scores.metrics["top1"] == 1.0
    assert sorted(str(row["class"]) for row in scores.tables["per class"]) == [*ANIMALS]


def test_a_longer_list_keeps_all_its_classes_to_choose_from() -> None:
    scores = zeroshot(Nearest(ANIMALS), shaded(("dog", "bee"), (0, 1, 1)), classes=ANIMALS, top=(1,))
    assert (scores.metrics["top1"], scores.protocol.fields["classes"]) == (1.0, 4)


def test_data_without_names_take_the_list_by_number_and_nothing_beyond_it() -> None:
    assert zeroshot(Nearest(ANIMALS), shaded(None), classes=ANIMALS, top=(1,)).metrics["top1"] == 1.0
    with pytest.raises(MuseError, match=r"has the label 2, but there are only 2 classes \(ant, bee\)"):
        zeroshot(Nearest(ANIMALS), shaded(None), classes=ANIMALS[:2])


def test_other_words_for_as_many_classes_are_taken_by_number_and_said() -> None:
    words = ("ant", "honey bee", "cat", "hound")
    scores = zeroshot(Nearest(words), shaded(ANIMALS), classes=words, top=(1,))
    assert scores.metrics["top1"] == 1.0
    assert scores.notes == ["2 classes not named in the list, taken by number: bee as honey bee, dog as hound"]


def test_as_many_words_with_a_name_in_another_place_are_refused() -> None:
    with pytest.raises(MuseError, match="not in the list: cat, dog"):
        zeroshot(Nearest(ANIMALS), shaded(ANIMALS), classes=("bee", "ant", "lion", "hound"))


@pytest.mark.parametrize(
    ("folders", "classes", "means"),
    [
        (("0", "1", "10", "2"), "abcdefghijk", "abkc"),  # labels that were sorted as text
        (("3", "7"), "abcdefghijk", "dh"),
        (("1", "10", "2"), "abc", "acb"),  # they begin at 1
    ],
)
def test_folders_called_by_numbers_are_these_numbers(folders: tuple[str, ...], classes: str, means: str) -> None:
    for label, meant in enumerate(means):
        scores = zeroshot(Nearest(classes), data([sample(0, label=label)], folders), classes=[*classes], top=(1,))
        assert [row["class"] for row in scores.tables["per class"]] == [meant]


def test_accents_are_the_same_however_they_are_stored() -> None:
    stored = tuple(unicodedata.normalize("NFD", name) for name in ("Bär", "Kätzchen"))
    items = [sample(0, label=1), sample(1, label=1)]
    scores = zeroshot(Nearest(("Kätzchen", "Bär")), data(items, stored), classes=("Kätzchen", "Bär"), top=(1,))
    assert [row["class"] for row in scores.tables["per class"]] == ["Kätzchen"]


def test_wordnet_ids_go_into_sentences_as_words() -> None:
    items = [sample(key, label=key % 2) for key in range(4)]
    scores = zeroshot(Nearest(("pug",)), data(items, ("n02110958", "n02123045")), top=(1,))
    assert {row["class"] for row in scores.tables["per class"]} == {"pug", "tabby cat"}


def test_imagenet_from_its_recipe_is_joined_by_wordnet_id(write: Write) -> None:
    """Two names of open_clip's list occur twice; the ids tell them apart, in every order."""
    ids, words = imagenet_classes()
    twice = [number for number, word in enumerate(words) if word == "sunglasses"]
    items = [sample(key, label=number) for key, number in enumerate(twice)]
    source = open_source(str(write("recipe", items, words, class_keys=ids)))
    scores = zeroshot(Nearest(("pug",)), EvalData(source, SIDE), classes=words, top=(1,))
    assert [(row["class"], row["images"]) for row in scores.tables["per class"]] == [("sunglasses", 1)] * 2
    few = data([sample(9, label=0)], (ids[twice[1]],))
    assert [row["class"] for row in zeroshot(Nearest(("pug",)), few, classes=words).tables["per class"]] == [
        "sunglasses"
    ]


def test_a_name_that_stands_for_two_classes_is_refused() -> None:
    with pytest.raises(MuseError, match="2 classes are called 'cat'"):
        zeroshot(Nearest(ANIMALS), shaded(("cat", "ant"), (0, 1)), classes=("bee", "cat", "ant", "cat"))


# ---------------------------------------------------------------- train and held-out data of probes


def context(train: Sequence[Sample], names: object, validation: Sequence[Sample], others: object) -> ProbeContext:
    tokenizer = MeanColours()
    held_out, learning = data(validation, others), data(train, names)  # type: ignore[arg-type]
    return ProbeContext(tokenizer, ProbeData(tokenizer, held_out), ProbeData(tokenizer, learning))


TRAIN = shades([0, 1, 2, 3] * 5, ANIMALS)


@pytest.mark.parametrize("names", [("dog", "cat", "bee", "ant"), ("cat", "dog"), ("ant", "bee", "cat", "dog")])
def test_held_out_data_in_another_order_score_the_same(names: tuple[str, ...]) -> None:
    held_out = shades([number % len(names) for number in range(12)], names, start=500)
    scores = run_probe("knn", KNN, context(TRAIN, ANIMALS, held_out, names), KnnOptions(k=3))
    assert scores.metrics["top1"] == 1.0
    assert {row["class"] for row in scores.tables["per class"]} == set(names)


def test_a_class_that_training_never_showed_is_named() -> None:
    held_out = shades([0, 1], ("dog", "bee"), start=500)
    seen = [one for one in TRAIN if one.label != 3]
    scores = run_probe("knn", KNN, context(seen, ANIMALS[:3], held_out, ("dog", "bee")), KnnOptions(k=3))
    assert scores.metrics["top1"] == 0.5
    assert scores.notes == ["1 class of the validation data never occurs in training and cannot be right: dog"]
    assert scores.baselines["chance"]["top1"] == pytest.approx(0.5 / 3)  # of two images one can be right


def test_sets_without_a_class_in_common_are_refused_with_both_lists() -> None:
    with pytest.raises(MuseError, match=r"has 4 classes \(ant, bee, cat, dog\), .* has 2 classes \(oak, elm\)"):
        run_probe("knn", KNN, context(TRAIN, ANIMALS, [sample(500, label=0)], ("oak", "elm")), KnnOptions(k=3))


def test_long_lists_are_shortened() -> None:
    many = tuple(f"thing {number}" for number in range(1500))
    with pytest.raises(MuseError, match=r"1,500 classes \(thing 0, .*thing 7 and 1,492 more\)"):
        run_probe("knn", KNN, context(TRAIN, ANIMALS, [sample(500, label=0)], many), KnnOptions(k=3))


@pytest.mark.parametrize("sides", [(ANIMALS, None), (None, ANIMALS), (None, None)])
def test_with_one_side_unnamed_numbers_are_taken_as_they_are(sides: tuple[object, object]) -> None:
    held_out = shades([0, 1, 2, 3], ANIMALS, start=500)
    scores = run_probe("knn", KNN, context(TRAIN, sides[0], held_out, sides[1]), KnnOptions(k=3))
    assert scores.metrics["top1"] == 1.0


@pytest.mark.parametrize("sides", [(ANIMALS, None), (None, ANIMALS), (ANIMALS, ANIMALS)])
def test_a_number_beyond_the_names_is_refused(sides: tuple[object, object]) -> None:
    odd = [*shades([0, 1, 2, 3], ANIMALS, start=500), sample(900, label=7)]
    train, held_out = (odd, TRAIN[:8]) if sides[0] is None else (TRAIN, odd)
    with pytest.raises(MuseError, match=r"has the label 7, but there are only 4 classes \(ant, bee, cat, dog\)"):
        run_probe("knn", KNN, context(train, sides[0], held_out, sides[1]), KnnOptions(k=3))


def test_a_probe_of_a_plugin_gets_what_is_joined(install: Callable[..., None]) -> None:
    seen: list[tuple[object, list[int], list[int]]] = []

    def measure(here: ProbeContext, settings: object) -> Scores:
        labels = [item.label for item in here.validation.data.source.once() if isinstance(item, Sample)]
        seen.append((here.validation.classes, here.validation.features().labels.tolist(), labels))
        return Scores("x", "x", {}, Protocol({}), {"seen": 0, "skipped": {}})

    install("muse.probes", "own", "own_probe:measure", measure=measure, Settings=KnnOptions)
    spec = ProbeSpec(help="Own.", target="own_probe:measure", settings="own_probe:Settings")
    run_probe(
        "own", spec, context(TRAIN, ANIMALS, shades([0, 1, 1], ("dog", "emu"), 500, (*ANIMALS, "emu")), ("dog", "emu"))
    )
    assert seen == [((*ANIMALS, "emu"), [3, 4, 4], [3, 4, 4])]


def test_features_kept_with_other_numbers_are_not_taken(tmp_path: Path) -> None:
    held_out = shades([0, 1, 0, 1], ("dog", "cat"), start=500)
    for names in (ANIMALS, ("dog", "cat", "bee", "ant"), ANIMALS):
        train = shades([0, 1, 2, 3] * 5, names)
        here = context(train, names, held_out, ("dog", "cat"))
        here = replace(here, validation=replace(here.validation, cache=tmp_path))
        assert run_probe("knn", KNN, here, KnnOptions(k=3)).metrics["top1"] == 1.0
    assert len(list(tmp_path.iterdir())) == 2  # the last one found the first one's


# ---------------------------------------------------------------- several folders as one


@pytest.mark.parametrize("how", ["{a} + {b}", "0.3 {a} + 0.7 {b}", "{root}/{{a,b}}/000000.tar", "{root}/*/*.tar"])
def test_labels_of_several_folders_mean_one_class(write: Write, tmp_path: Path, how: str) -> None:
    a = write("a", shades([0, 1, 2], ("cat", "ant", "bee")), ("cat", "ant", "bee"))
    b = write("b", shades([0, 1, 1], ("dog", "cat"), start=50), ("dog", "cat"))
    source = open_source(how.format(a=a, b=b, root=tmp_path))
    assert classes_of(source) == ("cat", "ant", "bee", "dog")
    assert right(named_labels(source))
    lane = source.lane(0, 1, seed=0)
    assert right([_named(next(lane), classes_of(source) or ()) for _ in range(12)])


def test_masks_of_several_folders_mean_one_class(write: Write) -> None:
    first, second = (
        replace(sample(key), mask=np.array([[0, 1], [2, 255]], np.uint8).repeat(8, 0).repeat(8, 1)) for key in (1, 2)
    )
    a = write("a", [first], mask_classes=["wall", "sky"])
    b = write("b", [second], mask_classes=["sky", "sea"])
    source = open_source(f"{a} + {b}")
    assert mask_names(source, "plain") == ("other", "wall", "sky", "sea")
    values = [
        item.mask[::8, ::8].tolist() for item in source.once() if isinstance(item, Sample) and item.mask is not None
    ]
    assert values == [[[0, 1], [2, 255]], [[0, 2], [3, 255]]]


def test_a_mix_with_the_built_in_scenes_knows_their_words(write: Write) -> None:
    a = write("a", [sample(0, label=0), sample(1, label=1)], ("cat", "zebra"))
    source = open_source(f"demo:val:3 + {a}")
    names = classes_of(source) or ()
    items = [item for item in source.once() if isinstance(item, Sample)]
    assert [names[item.label] for item in items[3:]] == ["a cat", "zebra"]
    assert [item.label for item in items[:3]] == [
        i.label for i in open_source("demo:val:3").once() if isinstance(i, Sample)
    ]


def test_numbers_without_names_in_a_mix_fit_or_are_refused(write: Write) -> None:
    a = write("a", shades([0, 1], ANIMALS), ANIMALS)
    fits = write("fits", shades([2, 3], ANIMALS, start=50))
    beyond = write("beyond", [sample(90, label=4)])
    assert right(named_labels(open_source(f"{a} + {fits}")))
    mixed = EvalData(open_source(f"{a} + {beyond}"), SIDE)
    with pytest.raises(MuseError, match="has the label 4, but there are only 4 classes"):
        zeroshot(Nearest(ANIMALS), mixed, classes=ANIMALS)


def test_numbers_without_names_beside_two_numberings_mean_nothing(write: Write) -> None:
    a, b = write("a", shades([0], ANIMALS), ANIMALS), write("b", shades([0], ANIMALS[::-1], 50), ANIMALS[::-1])
    unnamed = write("unnamed", shades([1], ANIMALS, start=90))
    source = open_source(f"{a} + {b} + {unnamed}")
    with pytest.raises(MuseError, match="has the label 1, but there are only 4 classes"):
        zeroshot(Nearest(ANIMALS), EvalData(source, SIDE), classes=ANIMALS)
    assert len(list(source.once())) == 3  # training needs no labels, and goes on


def test_a_mix_is_joined_with_the_other_side_of_a_probe(write: Write) -> None:
    a = write("a", shades([0, 1, 0, 1], ("dog", "bee")), ("dog", "bee"))
    b = write("b", shades([0, 1, 0, 1], ("cat", "ant"), start=50), ("cat", "ant"))
    held_out = data(shades([0, 1, 2, 3], ANIMALS, start=500), ANIMALS)
    train, tokenizer = EvalData(open_source(f"{a} + {b}"), SIDE), MeanColours()
    here = ProbeContext(tokenizer, ProbeData(tokenizer, held_out), ProbeData(tokenizer, train))
    assert run_probe("knn", KNN, here, KnnOptions(k=1)).metrics["top1"] == 1.0


def test_sets_that_agree_are_read_without_a_change(write: Write) -> None:
    """What is kept of them under 0.1.0 stays as good as it was."""
    a = write("a", shades([0, 1], ANIMALS), ANIMALS)
    b = write("b", shades([2, 3], ANIMALS, start=50), ANIMALS)
    assert getattr(open_source(f"{a} + {b}"), "changes", 0) is None
    assert getattr(open_source(str(a)), "changes", 0) is None
    assert getattr(open_source(f"{a} + demo:val:2"), "changes", 0) is not None


# ---------------------------------------------------------------- masks


def masked(names: tuple[str, ...] | None, order: Sequence[int] = (0, 1, 2), start: int = 0) -> EvalData:
    """Scenes whose mask values 1 and 2 are stored as `order` says, in an index that names them so."""
    items = [replace(one, mask=np.array(order, np.uint8)[one.mask]) for one in scenes(12, start)]
    source = MemorySource(items)
    if names is not None:
        from muse_core.data.vocabulary import Vocabulary, classes_of_names

        source.vocabulary = Vocabulary(None, classes_of_names(names))  # type: ignore[attr-defined]
    return EvalData(source, size=SIDE, batch_size=7)


OPTIONS = SegmentOptions(epochs=20, batch_size=4, rate=0.1)


def test_masks_of_both_sides_are_joined_by_name() -> None:
    straight = segment(CellColours(), masked(("sea", "sky")), masked(("sea", "sky"), start=90), OPTIONS).scores
    turned = segment(CellColours(), masked(("sea", "sky")), masked(("sky", "sea"), (0, 2, 1), 90), OPTIONS).scores
    assert turned.metrics == straight.metrics
    assert turned.tables == straight.tables
    assert {row["class"] for row in turned.tables["per class"]} == {"other", "sea", "sky"}


def test_masks_without_names_on_one_side_keep_their_numbers() -> None:
    both = segment(CellColours(), masked(("sea", "sky")), masked(("sea", "sky"), start=90), OPTIONS).scores
    one = segment(CellColours(), masked(("sea", "sky")), masked(None, start=90), OPTIONS).scores
    assert one.metrics == both.metrics


def test_masks_without_a_class_in_common_are_refused_with_both_lists() -> None:
    with pytest.raises(MuseError, match=r"no class of masks in common: .*\(sea, sky\), .*\(oak, elm\)"):
        segment(CellColours(), masked(("sea", "sky")), masked(("oak", "elm"), start=90), OPTIONS)


@pytest.mark.parametrize("sides", [(("sea",), ("sea", "sky")), (("sea", "sky"), ("sea",)), (("sea",), None)])
def test_mask_values_beyond_the_names_are_refused(sides: tuple[tuple[str, ...], tuple[str, ...] | None]) -> None:
    train, validation = sides
    with pytest.raises(MuseError, match="holds (the value 2, which is none|a value that is none) of its"):
        segment(CellColours(), masked(train), masked(validation, start=90), replace(OPTIONS, epochs=1))


def test_names_of_labels_that_differ_are_not_lent_to_masks() -> None:
    sets = [
        EvalData(MemorySource(scenes(12, start), names), SIDE)
        for start, names in ((0, ("a", "b", "c")), (90, ("b", "c")))
    ]
    scores = segment(CellColours(), sets[0], sets[1], OPTIONS).scores
    assert {row["class"] for row in scores.tables["per class"]} == {"0", "1", "2"}
