"""The built-in scenes are what their description says: statistics, captions, masks, splits, artwork."""

import re
from collections import Counter
from importlib.resources import files

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from muse_core.data.scenes import (
    CLASSES,
    COLOURS,
    DESIGNERS,
    GROUPS,
    MAX_WORDS,
    SPLITS,
    TEXTURES,
    WORDS,
    Scene,
    SceneMaker,
    available,
    load_sheet,
    maker,
    scene_at,
)
from muse_core.errors import MuseError

TRAINING = SPLITS["train"].designers


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [scene_at("train", index) for index in range(4000)]


def test_there_are_98_classes_in_five_groups() -> None:
    assert len(CLASSES) == len({one.name for one in CLASSES}) == len({one.codepoint for one in CLASSES}) == 98
    assert Counter(one.group for one in CLASSES) == dict(zip(GROUPS, (28, 22, 12, 9, 27), strict=True))


def test_sheets_hold_48_pixel_sprites_with_alpha() -> None:
    for designer in DESIGNERS:
        sheet = load_sheet(designer.name)
        assert sheet.shape == (98, 48, 48, 4)
        assert sheet.dtype == np.uint8
        assert not sheet[sheet[..., 3] == 0].any()


def test_at_least_three_designers_train_and_every_class_has_two_of_them() -> None:
    assert len(TRAINING) >= 3
    assert np.stack([available(name) for name in TRAINING]).sum(0).min() >= 2


def test_the_unseen_designer_draws_every_class_and_never_trains() -> None:
    assert SPLITS["ood"].designers == ("fluent",)
    assert "fluent" not in SPLITS["train"].designers + SPLITS["val"].designers
    assert available("fluent").all()


def test_splits_share_no_seed() -> None:
    spans = sorted((split.first_seed, split.first_seed + split.capacity) for split in SPLITS.values())
    assert all(end <= start for (_, end), (start, _) in zip(spans, spans[1:], strict=False))
    with pytest.raises(MuseError, match="outside the split"):
        SPLITS["train"].seed(10**9)


def test_every_object_is_drawn_by_a_designer_of_its_split_who_drew_its_class(scenes: list[Scene]) -> None:
    drawn = {(one.designer, one.class_index) for scene in scenes for one in scene.objects}
    assert {designer for designer, _ in drawn} == set(TRAINING)
    assert all(available(designer)[index] for designer, index in drawn)
    assert all(one.designer == "fluent" for index in range(200) for one in scene_at("ood", index).objects)


def test_45_35_20_percent_have_one_two_three_objects(scenes: list[Scene]) -> None:
    counts = np.bincount([len(scene.objects) for scene in scenes], minlength=4) / len(scenes)
    np.testing.assert_allclose(counts, [0, 0.45, 0.35, 0.20], atol=0.03)


def test_main_objects_span_40_to_72_percent_and_others_22_to_36(scenes: list[Scene]) -> None:
    main = np.array([scene.objects[0].side for scene in scenes]) / 64
    other = np.array([one.side for scene in scenes for one in scene.objects[1:]]) / 64
    for sides, low, high in ((main, 0.40, 0.72), (other, 0.22, 0.36)):
        assert low <= sides.min() < low + 0.01
        assert high - 0.01 < sides.max() <= high
        assert abs(sides.mean() - (low + high) / 2) < 0.01


def test_rotation_stays_within_20_degrees_and_half_are_mirrored(scenes: list[Scene]) -> None:
    objects = [one for scene in scenes for one in scene.objects]
    angles = np.array([one.rotation for one in objects])
    assert 19.9 < np.abs(angles).max() <= 20
    assert abs(angles.mean()) < 1
    assert abs(np.mean([one.flipped for one in objects]) - 0.5) < 0.03


def test_the_visible_size_is_the_announced_one(scenes: list[Scene]) -> None:
    for scene in scenes[:500]:
        if len(scene.objects) == 1:
            x0, y0, x1, y1 = scene.objects[0].box
            assert 0.80 <= max(x1 - x0, y1 - y0) / scene.objects[0].side <= 1.32


def test_labels_are_the_main_object_and_nearly_uniform(scenes: list[Scene]) -> None:
    assert all(scene.label == scene.objects[0].class_index for scene in scenes)
    counts = np.bincount([scene.label for scene in scenes], minlength=98)
    assert counts.min() > 15
    assert counts.max() < 75


def test_objects_of_one_scene_are_of_different_classes(scenes: list[Scene]) -> None:
    assert all(len({one.class_index for one in scene.objects}) == len(scene.objects) for scene in scenes)


def test_twelve_colours_and_five_textures_all_occur(scenes: list[Scene]) -> None:
    assert Counter(scene.colour for scene in scenes).keys() == {name for name, _ in COLOURS}
    assert Counter(scene.texture for scene in scenes).keys() == set(TEXTURES)
    assert (len(COLOURS), len(TEXTURES)) == (12, 5)


def test_a_fifth_of_the_pixels_is_foreground(scenes: list[Scene]) -> None:
    assert abs(np.mean([(scene.mask > 0).mean() for scene in scenes]) - 0.21) < 0.02


def test_captions_use_only_the_listed_words_and_all_of_them(scenes: list[Scene]) -> None:
    assert {word for scene in scenes for word in scene.caption.split()} == set(WORDS)
    assert list(WORDS) == sorted(set(WORDS))
    assert max(len(scene.caption.split()) for scene in scenes) <= MAX_WORDS


def test_captions_have_the_right_articles_and_verbs(scenes: list[Scene]) -> None:
    text = "\n".join(scene.caption for scene in scenes)
    assert not re.search(r"\ba [aeio]", text)
    assert not re.search(r"\ba u(?!nicorn)", text)
    assert not re.search(r"\ban ([^aeiou]|unicorn)", text)
    assert not re.search(r"\ba (glasses|scissors|grapes|cherries|broccoli|bread|corn|coffee)\b", text)
    assert re.search(r"there are some (grapes|cherries)", text)
    assert not re.search(r"there is some (grapes|cherries)|there are (a|an)\b", text)


def test_captions_name_every_object_and_the_main_one_first(scenes: list[Scene]) -> None:
    for scene in scenes:
        at = [scene.caption.find(CLASSES[one.class_index].phrase) for one in scene.objects]
        assert min(at) == at[0] >= 0


def test_a_caption_with_one_relation_tells_the_truth(scenes: list[Scene]) -> None:
    axis = {"left of": (0, 1), "right of": (0, -1), "above": (1, 1), "below": (1, -1)}
    checked = 0
    for scene in (one for one in scenes if len(one.objects) == 2):
        relation = next((words for words in axis if f" {words} " in scene.caption), None)
        if relation is None:
            continue
        way, sign = axis[relation]
        (ax, ay, bx, by), (cx, cy, dx, dy) = (one.box for one in scene.objects)
        difference = ((cx + dx - ax - bx) / 2, (cy + dy - ay - by) / 2)[way]
        assert difference * sign > -4  # boxes are of what is visible, so an overlap moves them a little
        checked += 1
    assert checked > 500


def test_masks_number_the_objects_and_boxes_bound_them(scenes: list[Scene]) -> None:
    for scene in scenes[:1000]:
        assert set(np.unique(scene.mask)) - {0} == set(range(1, len(scene.objects) + 1))
        for k, one in enumerate(scene.objects, start=1):
            x0, y0, x1, y1 = one.box
            rows, columns = np.nonzero(scene.mask == k)
            assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (x0, y0, x1, y1)


def test_masks_follow_the_pixels_that_belong_to_objects() -> None:
    # Recolouring changes objects and nothing else, so what changes must be what the mask says.
    plain, tinted = SceneMaker(("noto",)), SceneMaker(("noto",), colour_jitter=1.0)
    inside, stray = [], []
    for seed in range(300):
        one, other = plain.scene(seed), tinted.scene(seed)
        np.testing.assert_array_equal(one.mask, other.mask)
        assert one.caption == other.caption
        changed = np.abs(one.image.astype(int) - other.image).max(-1) > 8
        stray.append((changed & ~binary_dilation(one.mask > 0, iterations=1)).mean())
        inside.append(changed[one.mask > 0].mean())
    assert np.mean(stray) < 0.0005  # soft edges, steam, shadows
    assert np.mean(inside) > 0.9  # greys, black and white stay what they are


def test_class_masks_hold_class_indices_from_one(scenes: list[Scene]) -> None:
    for scene in scenes[:100]:
        expected = {0} | {one.class_index + 1 for one in scene.objects}
        assert set(np.unique(scene.class_mask())) == expected
        np.testing.assert_array_equal(scene.class_mask() > 0, scene.mask > 0)


@pytest.mark.parametrize("size", [32, 64, 96, 224])
def test_a_scene_is_a_pure_function_of_designers_size_and_seed(size: int) -> None:
    one, other = SceneMaker(("noto", "twemoji"), size).scene(7), SceneMaker(("noto", "twemoji"), size).scene(7)
    assert one.image.shape == (size, size, 3)
    np.testing.assert_array_equal(one.image, other.image)
    np.testing.assert_array_equal(one.mask, other.mask)
    assert (one.caption, one.objects) == (other.caption, other.objects)


def test_neighbouring_seeds_give_different_scenes() -> None:
    assert len({maker("train").scene(seed).image.tobytes() for seed in range(100)}) == 100


def test_a_designer_who_drew_a_subset_only_shows_that() -> None:
    classes = {one.class_index for seed in range(500) for one in SceneMaker(("streamline",)).scene(seed).objects}
    assert available("streamline")[sorted(classes)].all()
    assert len(classes) == available("streamline").sum() < 98


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(MuseError) as designer:
        load_sheet("nobody")
    with pytest.raises(MuseError) as split:
        maker("test")
    assert "noto" in str(designer.value.hint)
    assert "val" in str(split.value.hint)


def test_every_sheet_ships_with_its_licence() -> None:
    folder = files("muse_core.data.scenes").joinpath("artwork")
    licences = {entry.name for entry in folder.joinpath("licences").iterdir()}
    for designer in DESIGNERS:
        assert folder.joinpath(f"{designer.name}.webp").is_file()
        assert any(designer.licence in name for name in licences)
