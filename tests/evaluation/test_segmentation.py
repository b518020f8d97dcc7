"""Segmentation: the label rule, the mean over classes that are there, and a head that learns what can be learned."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchmetrics import JaccardIndex

from muse_core.data.sample import Sample
from muse_core.errors import ExitCode, MuseError
from muse_core.evaluation import patches
from muse_core.evaluation.maskpictures import palette
from muse_core.evaluation.overlap import ImageOverlaps, PixelConfusion, ade20k_labels
from muse_core.evaluation.patches import store_patches
from muse_core.evaluation.reading import EvalData, Tally
from muse_core.evaluation.segmentation import PatchHead, SegmentOptions, segment
from muse_core.evaluation.views import View, ViewName, answers, logits, looks
from muse_core.model.abilities import FeatureLayer, Features, TokenizerInfo
from muse_core.progress import Silent
from tests.evaluation.fakes import SIDE, Passes, data, sample
from tests.fixtures import regenerate

OPTIONS = SegmentOptions(classes=3, epochs=20, batch_size=4, rate=0.1)


class CellColours:
    """Patch features are the mean colours of 4 x 4 pixel cells, of an image padded to whole cells."""

    def __init__(self, stride: int = 4) -> None:
        self.stride = stride
        self.seen = 0

    @property
    def info(self) -> TokenizerInfo:
        return TokenizerInfo(
            name="cells", source="", licence="", resolution=SIDE, multiple=1, square_only=False,
            tokens_at=lambda h, w: (-(-h // self.stride), -(-w // self.stride)),
            feature_layers={"cells": FeatureLayer(3, self.stride)}, layer_for={"segment": "cells"},
        )  # fmt: skip

    def features(self, images: Tensor, layer: str | None = None) -> Features:
        self.seen += len(images)
        extra = -images.shape[-1] % self.stride
        padded = torch.nn.functional.pad(images, (0, extra, 0, extra), mode="replicate")
        patch = torch.nn.functional.avg_pool2d(padded, self.stride)
        return Features(patch, patch.mean((-2, -1)))


def scene(key: int) -> Sample:
    """Two squares whose class is their brightness."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[:8, 4 * (key % 2) : 4 * (key % 2) + 8] = 1
    mask[8:, 4 * (key % 3) :] = 2
    one = sample(key, mask=mask)
    image = one.image // 8
    image[..., 0] += mask * 100
    return Sample(one.key, image, mask=mask)


def two_classes(key: int) -> Sample:
    """A scene without its second square."""
    one = scene(key)
    assert one.mask is not None
    return Sample(one.key, one.image, mask=np.minimum(one.mask, 1))


def scenes(n: int, start: int = 0) -> list[Sample]:
    return [scene(start + k) for k in range(n)]


def test_the_label_rule_of_ade20k() -> None:
    expected = regenerate.read_json("misc")["ade_label_map"]
    stored = torch.tensor([int(value) for value in expected], dtype=torch.uint8)
    assert ade20k_labels(stored).tolist() == list(expected.values())


def test_c3_mean_iou_is_over_classes_present() -> None:
    confusion = PixelConfusion(150)
    labels = torch.arange(10).repeat_interleave(3)
    said = labels.clone()
    said[::3] = (said[::3] + 1) % 10  # each class: 2 pixels right, 1 lost, 1 taken from another
    confusion.add(labels, said)
    assert confusion.mean_iou() == pytest.approx(0.5)
    assert int((~confusion.iou().isnan()).sum()) == 10


def test_a_class_that_is_only_named_counts_as_wrong() -> None:
    confusion = PixelConfusion(3)
    confusion.add(torch.tensor([0, 0, 0, 0]), torch.tensor([0, 0, 0, 2]))
    assert confusion.mean_iou() == pytest.approx((3 / 4 + 0) / 2)


def test_mean_iou_equals_torchmetrics() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 6, (4, 20, 20), generator=generator)
    labels[labels == 4] = 3  # class 4 is absent
    said = torch.where(torch.rand(4, 20, 20, generator=generator) < 0.6, labels, (labels + 1) % 4)
    labels[0, :5] = 255
    theirs = JaccardIndex(task="multiclass", num_classes=6, ignore_index=255)(said, labels)
    confusion = PixelConfusion(6)
    for part in (slice(0, 1), slice(1, 4)):
        confusion.add(labels[part], said[part])
    assert confusion.mean_iou() == pytest.approx(float(theirs), abs=1e-6)


def test_pixels_without_a_class_are_no_score() -> None:
    confusion = PixelConfusion(3)
    confusion.add(torch.full((4,), 255), torch.zeros(4, dtype=torch.int64))
    with pytest.raises(MuseError, match="no pixel with a class"):
        confusion.mean_iou()


def test_what_shows_in_the_patches_is_found(tmp_path: Path) -> None:
    scores = segment(CellColours(), data(scenes(48)), data(scenes(12, 100)), OPTIONS, cache=tmp_path).scores
    assert scores.metrics["miou"] > 0.7  # bilinear drawing blurs the edges of cells
    assert scores.metrics["pixel_accuracy"] > scores.baselines["most frequent class"]["pixel_accuracy"]
    assert [row["class"] for row in scores.tables["per class"]] != []
    assert scores.counts == {"seen": 12, "skipped": {}}
    assert scores.protocol.fields["train_images"] == 48


def test_the_untouched_encoder_is_measured_the_same_way() -> None:
    scores = segment(CellColours(), data(scenes(16)), data(scenes(6, 100)), OPTIONS, baseline=CellColours(8)).scores
    assert scores.baselines["untouched encoder"]["miou"] < scores.metrics["miou"]


def test_a_grid_larger_than_the_image_is_cut_not_squeezed(tmp_path: Path) -> None:
    tokenizer = CellColours(stride=6)  # 16 pixels: 3 cells of 6 cover 18
    store = store_patches(tokenizer, data(scenes(4)), None, tmp_path, Silent())
    assert store.cover == (18, 18)
    head = PatchHead(3, 2)
    features = torch.rand(2, 3, 3, 3)
    whole = head.eval()(features, (18, 18), (18, 18))
    assert torch.equal(head(features, (18, 18), (16, 16)), whole[..., :16, :16])


def test_patches_are_read_once_and_kept_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patches, "_PIECE", 10)
    tokenizer = CellColours()
    store = store_patches(tokenizer, data(scenes(23)), None, tmp_path, Silent())
    seen = tokenizer.seen
    again = store_patches(tokenizer, data(scenes(23)), None, tmp_path, Silent())
    assert (dict(store.sizes), store.samples, again) == ({0: 10, 1: 10, 2: 3}, 23, store)
    assert tokenizer.seen == seen + 2  # the noise images that tell who it is
    batches = list(store.shuffled(4, torch.Generator().manual_seed(0)))
    assert sum(len(features) for features, _ in batches) == 23
    assert len(batches) == store.steps(4)
    assert all(masks.dtype == torch.uint8 for _, masks in batches)
    order = torch.cat([features for features, _ in batches])
    assert not torch.equal(order, torch.cat([store.piece(index)[0] for index in range(3)]))


def test_samples_without_a_mask_are_counted_and_left_out(tmp_path: Path) -> None:
    items = [*scenes(5), sample(90), *scenes(9, 50), *[sample(200 + k) for k in range(7)]]
    store = store_patches(CellColours(), data(items, batch_size=5), None, tmp_path, Silent())
    assert store.samples == 14
    assert store.counts == {"seen": 22, "skipped": {"no mask": 8}}


def test_c2_data_without_any_mask_is_an_error_not_a_zero() -> None:
    with pytest.raises(MuseError, match="not one of the 3 samples of memory has a mask"):
        segment(CellColours(), data([sample(1), sample(2), sample(3)]), data(scenes(4)), OPTIONS)


def test_a_class_beyond_the_count_and_an_unknown_rule_are_refused() -> None:
    with pytest.raises(MuseError, match="holds class 2, but there are only 2") as caught:  # in training
        segment(CellColours(), data(scenes(8)), data(scenes(4, 100)), SegmentOptions(classes=2, epochs=1))
    assert caught.value.exit_code == ExitCode.SETTINGS
    only_two = [two_classes(key) for key in range(4)]
    with pytest.raises(MuseError, match="holds class 2, but there are only 2"):  # in validation
        segment(CellColours(), data(only_two), data(scenes(4, 100)), SegmentOptions(epochs=1))
    with pytest.raises(MuseError, match="no label rule is called 'ade'"):
        segment(CellColours(), data(scenes(8)), data(scenes(4)), SegmentOptions(classes=3, labels="ade"))
    with pytest.raises(MuseError, match="gives no features"):
        segment(Passes(), data(scenes(8)), data(scenes(4)), OPTIONS)


def wide(key: int, times: int = 2) -> Sample:
    """A scene beside itself, mirrored: twice as wide as high, enlarged."""
    one = scene(key)
    assert one.mask is not None
    pixels = np.concatenate([one.image, one.image[:, ::-1]], 1).repeat(times, 0).repeat(times, 1)
    mask = np.concatenate([one.mask, one.mask[:, ::-1]], 1).repeat(times, 0).repeat(times, 1)
    return Sample(one.key, pixels, mask=mask)


def as_is(features: Tensor, cover: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """A head without weights: features drawn up to pixels."""
    return torch.nn.functional.interpolate(features, cover, mode="bilinear")[..., : size[0], : size[1]]


@pytest.mark.parametrize("view", ["whole", "sliding", "crop"])
def test_images_of_any_shape_are_measured_at_their_own_size(view: ViewName) -> None:
    options = SegmentOptions(epochs=20, batch_size=4, rate=0.1, view=view)
    items = [*[wide(100 + k) for k in range(5)], *scenes(3, 200), wide(300, 3)]
    found = segment(CellColours(), data(scenes(48)), data(items), options)
    assert found.scores.metrics["miou"] > 0.7
    pixels = sum(int(row["pixels"] or 0) for row in found.scores.tables["per class"])
    sizes = [SIDE * SIDE] * 9 if view == "crop" else [8 * SIDE * SIDE] * 5 + [SIDE * SIDE] * 3 + [18 * SIDE * SIDE]
    assert pixels == sum(sizes)
    assert found.scores.protocol.fields["crop"] == ("centre" if view == "crop" else "none")


def test_windows_that_agree_say_what_the_whole_image_says() -> None:
    class Flat(CellColours):
        """Features that do not depend on what else is in the window."""

    images = torch.rand(2, 3, 40, 24)
    whole = logits(Flat(1), "cells", as_is, images, View("whole", SIDE))
    windows = logits(Flat(1), "cells", as_is, images, View("sliding", SIDE))
    assert torch.allclose(whole, windows, atol=1e-6)
    assert whole.shape == (2, 3, 40, 24)


def test_answers_drawn_a_few_classes_at_a_time_equal_those_of_all_at_once() -> None:
    found = torch.randn(1, 37, 6, 9, generator=torch.Generator().manual_seed(0))
    drawn = torch.nn.functional.interpolate(found, (13, 20), mode="bilinear")[0].argmax(0)
    assert torch.equal(answers(found, (13, 20), at_once=5), drawn)
    assert torch.equal(answers(found, (6, 9)), found[0].argmax(0))


def test_neighbours_of_one_size_are_looked_at_together() -> None:
    items = [*scenes(4), wide(10), wide(11), *scenes(2, 50)]
    shapes = [
        tuple(look.images.shape) for look in looks(data(items, batch_size=3), View("whole", SIDE), Tally(), Silent())
    ]
    assert shapes == [(3, 3, 16, 16), (1, 3, 16, 16), (2, 3, 16, 32), (2, 3, 16, 16)]


def test_a_tokenizer_for_squares_is_pointed_to_windows() -> None:
    class Square(CellColours):
        @property
        def info(self) -> TokenizerInfo:
            return replace(super().info, square_only=True)

    with pytest.raises(MuseError, match="square images only") as caught:
        logits(Square(), "cells", as_is, torch.rand(1, 3, 16, 24), View("whole", SIDE))
    assert caught.value.hint == "--view sliding"
    assert logits(Square(), "cells", as_is, torch.rand(1, 3, 16, 24), View("sliding", SIDE)).shape[-1] == 24


def test_classes_are_counted_from_the_training_masks_unless_told() -> None:
    found = segment(CellColours(), data(scenes(8)), data(scenes(4, 100)), SegmentOptions(epochs=1))
    recipe = found.scores.protocol.fields["recipe"]
    assert isinstance(recipe, dict)
    assert recipe["classes"] == 3


def test_c3_a_single_class_is_an_error_not_a_perfect_score() -> None:
    only = [replace(one, mask=np.ones((SIDE, SIDE), np.uint8)) for one in scenes(4)]
    with pytest.raises(MuseError, match="hold 1 class,"):
        segment(CellColours(), data(only), data(scenes(4, 100)), SegmentOptions(epochs=1))


def test_c2_validation_data_without_any_mask_is_an_error_not_a_zero() -> None:
    with pytest.raises(MuseError, match="not one of the 2 samples of memory has a mask"):
        segment(CellColours(), data(scenes(4)), data([sample(1), sample(2)]), OPTIONS)


def test_validation_samples_without_a_mask_are_counted() -> None:
    items = [*scenes(3, 100), sample(1), replace(scene(2), mask=np.full((SIDE, SIDE), 255, np.uint8))]
    scores = segment(CellColours(), data(scenes(8)), data(items), OPTIONS).scores
    assert scores.counts == {"seen": 5, "skipped": {"no mask": 2}}
    assert scores.protocol.fields["images"] == 3


def test_the_spread_of_the_mean_is_that_of_drawing_the_images_again() -> None:
    alike, unlike = ImageOverlaps(2), ImageOverlaps(2)
    labels = torch.tensor([0, 0, 1, 1])
    for index in range(40):
        alike.add(labels, torch.tensor([0, 1, 1, 1]))
        unlike.add(labels, labels if index % 2 else 1 - labels)
    assert alike.standard_error() == pytest.approx(0, abs=1e-12)
    # A share p of images is all right, so hits are p, and the union is 2 - p: the deviation follows from p's own.
    expected = 2 / 1.5**2 * (0.5 * 0.5 / 40) ** 0.5
    assert unlike.standard_error() == pytest.approx(expected, rel=0.2)


def test_no_two_of_150_classes_have_colours_that_look_alike() -> None:
    colours = torch.from_numpy(palette()[:151].astype(np.float64))
    apart = torch.cdist(colours, colours, p=1) + 1000 * torch.eye(151)
    assert float(apart.min()) > 25
    assert float(apart[0].min()) > 60  # what is no thing, around all the others


def test_masks_and_a_strip_are_written(tmp_path: Path) -> None:
    validation: EvalData = data([*scenes(2, 100), wide(300)])
    found = segment(CellColours(), data(scenes(16)), validation, OPTIONS, masks=tmp_path / "masks")
    written = sorted((tmp_path / "masks").iterdir())
    assert len(written) == 3
    with Image.open(written[-1]) as mask:
        assert (mask.mode, mask.size) == ("P", (64, 32))
        assert set(np.unique(np.asarray(mask))) <= {0, 1, 2}
    with Image.open(BytesIO(found.scores.pictures["segment"])) as strip:
        assert strip.size[1] > len(found.examples) * 192
    assert [example.key for example in found.examples] == ["sample-0100", "sample-0101", "sample-0300"]
