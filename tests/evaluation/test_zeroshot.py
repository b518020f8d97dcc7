"""Zero-shot: every class counts, class 0 too, and what cannot be known is refused."""

from pathlib import Path

import open_clip
import pytest
import torch
from torch import Tensor

from muse_core.data.sample import Sample
from muse_core.errors import MuseError
from muse_core.evaluation.named import named_classes, named_templates
from muse_core.evaluation.zeroshot import class_embeddings, zeroshot
from tests.evaluation.fakes import SIDE, MeanColours, Nearest, bright_classes, data, sample

NAMES = ("red", "green", "blue", "grey", "white", "black", "pink", "brown")


def test_images_are_classified_by_the_nearest_sentence() -> None:
    scores = zeroshot(Nearest(NAMES), data(bright_classes(80, 8), NAMES), templates=["a {} thing", "{}"])
    assert scores.metrics["top1"] > 0.95
    assert scores.metrics["top5"] == 1.0
    assert scores.baselines["chance"] == {"top1": 1 / 8, "top5": 5 / 8}
    assert scores.counts["seen"] == 80


def test_c5_class_zero_counts() -> None:
    only_class_zero = [sample(k, label=0) for k in range(9)]
    scores = zeroshot(Nearest(NAMES), data(only_class_zero, NAMES))
    assert scores.protocol.fields["images"] == 9
    assert scores.counts == {"seen": 9, "skipped": {}}
    assert scores.metrics["top1"] == 1.0
    assert scores.tables["per class"] == [{"class": "red", "images": 9, "top1": 1.0, "taken for": None}]


def test_unlabelled_samples_are_counted_not_scored() -> None:
    items = [*bright_classes(8, 8), sample(50), sample(51)]
    scores = zeroshot(Nearest(NAMES), data(items, NAMES))
    assert scores.counts == {"seen": 10, "skipped": {"unlabelled": 2}}
    assert scores.protocol.fields["images"] == 8


def test_accuracy_equals_counting_by_hand() -> None:
    tokenizer, reading = Nearest(NAMES[::-1]), data(bright_classes(40, 8), NAMES)
    scores = zeroshot(tokenizer, reading, classes=NAMES, top=(1, 3))
    rows = class_embeddings(tokenizer, NAMES, ["{}"])
    images = torch.stack([torch.from_numpy(item.image.copy()).permute(2, 0, 1) for item in reading.source.items])  # type: ignore[attr-defined]
    order = (tokenizer.image_embed(images.float() / 255) @ rows.T).argsort(-1, descending=True)
    labels = torch.arange(40) % 8
    for k in (1, 3):
        expected = (order[:, :k] == labels[:, None]).any(-1).double().mean().item()
        assert scores.metrics[f"top{k}"] == pytest.approx(expected)


def test_the_worst_classes_come_first_with_what_they_are_taken_for() -> None:
    scores = zeroshot(Nearest(NAMES[::-1]), data(bright_classes(40, 8), NAMES))
    rows = scores.tables["per class"]
    assert [row["top1"] for row in rows] == sorted(row["top1"] for row in rows)  # type: ignore[type-var]
    assert rows[0]["taken for"] in NAMES
    assert rows[0]["taken for"] != rows[0]["class"]


def test_class_embeddings_are_normalised_means_of_normalised_sentences() -> None:
    class Long:
        logit_scale = 1.0

        def image_embed(self, images: torch.Tensor) -> torch.Tensor:
            return images

        def text_embed(self, texts: list[str]) -> torch.Tensor:
            return torch.tensor([[float(len(text)), 1.0] for text in texts])

    rows = class_embeddings(Long(), ["ab", "c"], ["{}", "the {}"])
    units = [torch.nn.functional.normalize(torch.tensor([length, 1.0]), dim=0) for length in (2.0, 6.0)]
    expected = torch.nn.functional.normalize((units[0] + units[1]) / 2, dim=0)
    assert torch.allclose(rows[0], expected)
    assert torch.allclose(rows.norm(dim=1), torch.ones(2))


def test_embedded_classes_are_cached_by_wording(tmp_path: Path) -> None:
    tokenizer = Nearest(NAMES)
    first = class_embeddings(tokenizer, NAMES, ["{}"], tmp_path)
    texts = tokenizer.texts
    assert torch.equal(class_embeddings(tokenizer, NAMES, ["{}"], tmp_path), first)
    assert tokenizer.texts == texts + 2  # the two sentences that tell which tower it is
    class_embeddings(tokenizer, NAMES, ["a {}"], tmp_path)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 2
    files[0].write_bytes(b"damaged")
    files[1].write_bytes(b"damaged")
    assert torch.equal(class_embeddings(tokenizer, NAMES, ["{}"], tmp_path), first)


def test_the_untouched_encoder_sees_the_same_images() -> None:
    scores = zeroshot(Nearest(NAMES[::-1]), data(bright_classes(40, 8), NAMES), baseline=Nearest(NAMES))
    assert scores.baselines["untouched encoder"]["top1"] > 0.95 > scores.metrics["top1"]


def test_top_k_of_no_more_than_k_classes_is_not_a_score() -> None:
    scores = zeroshot(Nearest(NAMES[:3]), data(bright_classes(9, 3), NAMES[:3]))
    assert set(scores.metrics) == {"top1"}
    assert "only 3 classes" in scores.not_measured["top5"]


def test_a_label_beyond_the_class_list_is_an_error() -> None:
    with pytest.raises(MuseError, match="the label 3, but there are only 3 classes"):
        zeroshot(Nearest(NAMES[:3]), data(bright_classes(16, 8), NAMES[:3]))


def test_data_without_labels_class_names_or_choice_is_refused() -> None:
    with pytest.raises(MuseError, match="has a label"):
        zeroshot(Nearest(NAMES), data([sample(1)], NAMES))
    with pytest.raises(MuseError, match="does not say what its labels mean"):
        zeroshot(Nearest(NAMES), data(bright_classes(8, 8)))
    with pytest.raises(MuseError, match="nothing to choose between"):
        zeroshot(Nearest(NAMES), data(bright_classes(8, 1), NAMES[:1]))


def test_a_tokenizer_without_text_is_refused() -> None:
    with pytest.raises(MuseError, match="does not align"):
        zeroshot(MeanColours(), data(bright_classes(8, 8), NAMES))


@pytest.mark.parametrize("template", ["a picture", "{} and {}"])
def test_a_template_has_exactly_one_place_for_the_class(template: str) -> None:
    with pytest.raises(MuseError, match="exactly one"):
        zeroshot(Nearest(NAMES), data(bright_classes(8, 8), NAMES), templates=[template])


def test_equal_class_names_are_pointed_out() -> None:
    names = (*NAMES[:7], "red")
    assert "cannot be told apart: red" in zeroshot(Nearest(names), data(bright_classes(8, 8), names)).notes[0]


def test_lists_come_by_name_or_from_files(tmp_path: Path) -> None:
    assert len(named_classes("imagenet")) == 1000
    assert named_classes("imagenet")[0] == "tench"
    assert named_templates("plain") == ("{}",)
    assert len(named_templates("openai")) == 80
    assert all(template.count("{}") == 1 for template in named_templates("openai") + named_templates("simple"))
    path = tmp_path / "classes.txt"
    path.write_text("cat\n\ndog\n")
    assert named_classes(str(path)) == ("cat", "dog")
    with pytest.raises(MuseError, match="neither a file of templates nor a name"):
        named_templates(str(tmp_path / "missing.txt"))


def test_zeroshot_equals_open_clips_classifier() -> None:
    import open_clip
    from open_clip import build_zero_shot_classifier

    torch.manual_seed(0)
    model = open_clip.model.CLIP(
        embed_dim=16,
        vision_cfg=open_clip.CLIPVisionCfg(layers=1, width=16, head_width=8, patch_size=8, image_size=16),
        text_cfg=open_clip.CLIPTextCfg(context_length=16, vocab_size=49408, width=16, heads=2, layers=1),
    ).eval()
    tokenize = open_clip.SimpleTokenizer(context_length=16)
    names, templates = ["cat", "dog", "fire truck", "owl"], ["a photo of a {}.", "the {}"]
    theirs = build_zero_shot_classifier(model, tokenize, names, [lambda c, t=t: t.format(c) for t in templates])

    class OpenClip:
        logit_scale = 1.0

        def image_embed(self, images: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.normalize(model.encode_image(images), dim=-1)

        def text_embed(self, texts: list[str]) -> torch.Tensor:
            return torch.nn.functional.normalize(model.encode_text(tokenize(texts)), dim=-1)

    ours = class_embeddings(OpenClip(), names, templates)
    assert torch.allclose(ours.T, theirs, atol=1e-6)


class FromOpenClip:
    """A small random open_clip model as a tokenizer."""

    logit_scale = 100.0

    def __init__(self) -> None:
        torch.manual_seed(0)
        vision = {"image_size": SIDE, "layers": 2, "width": 32, "head_width": 8, "patch_size": 8}
        text = {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 4, "layers": 2}
        self.model = open_clip.CLIP(embed_dim=16, vision_cfg=vision, text_cfg=text).eval()
        self.words = open_clip.SimpleTokenizer(context_length=24)

    @torch.no_grad()
    def image_embed(self, images: Tensor) -> Tensor:
        found: Tensor = self.model.encode_image(images, normalize=True)
        return found

    @torch.no_grad()
    def text_embed(self, texts: list[str]) -> Tensor:
        found: Tensor = self.model.encode_text(self.words(texts), normalize=True)
        return found


def test_it_says_what_open_clips_classifier_says() -> None:
    tokenizer, names = FromOpenClip(), list(named_classes("imagenet"))[:12]
    ours = class_embeddings(tokenizer, names, named_templates("simple"))
    theirs = open_clip.build_zero_shot_classifier(
        tokenizer.model, tokenizer.words, names, open_clip.SIMPLE_IMAGENET_TEMPLATES, num_classes_per_batch=5
    )
    assert torch.allclose(ours, theirs.T, atol=1e-6)

    items = bright_classes(60, 12)
    scores = zeroshot(tokenizer, data(items, tuple(names)), templates=named_templates("simple"))
    pixels = torch.stack(
        [torch.from_numpy(one.image).permute(2, 0, 1) / 255 for one in items if isinstance(one, Sample)]
    )
    guesses = (tokenizer.image_embed(pixels) @ theirs).topk(5).indices
    right = guesses == (torch.arange(60) % 12)[:, None]
    assert scores.metrics["top1"] == pytest.approx(float(right[:, 0].double().mean()))
    assert scores.metrics["top5"] == pytest.approx(float(right.any(1).double().mean()))


def test_an_accuracy_has_the_standard_error_of_its_share() -> None:
    scores = zeroshot(Nearest(NAMES), data([*bright_classes(8, 8), sample(50, label=3, brightness=0)], NAMES))
    share = scores.metrics["top1"]
    assert scores.standard_errors["top1"] == pytest.approx((share * (1 - share) / 9) ** 0.5)


def test_the_confusion_is_drawn() -> None:
    few = zeroshot(Nearest(NAMES), data(bright_classes(24, 8), NAMES))
    assert few.pictures["zeroshot"].startswith(b"\x89PNG")


def test_the_class_lists_and_templates_of_open_clip_go_by_name() -> None:
    assert named_classes("imagenet")[0] == "tench"
    assert (len(named_classes("imagenet")), len(named_templates("openai")), len(named_templates("simple"))) == (
        1000,
        80,
        7,
    )
    assert all(template.count("{}") == 1 for template in named_templates("openai"))
