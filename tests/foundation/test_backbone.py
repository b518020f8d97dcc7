"""Token dropping sees the right tokens; the losses see the right words and pixels."""

import pytest
import torch
from torch import Tensor

from muse_core.model.images import imagenet_normalize
from muse_core.model.text import WordTokenizer
from muse_core.model.weights import tiny
from muse_core.training.foundation.backbone import CaptionModel, pick, some_patches
from muse_core.training.foundation.stream import SceneBatch, fixed_scenes


@pytest.fixture(scope="module")
def batch() -> SceneBatch:
    return next(fixed_scenes("train", 4, batch_size=4))


def test_some_patches_are_drawn_and_none_twice() -> None:
    chosen = some_patches(200, 16, 5)
    assert chosen.shape == (200, 5)
    assert all(len(set(row.tolist())) == 5 for row in chosen)
    assert set(chosen.flatten().tolist()) == set(range(16))


def test_every_image_keeps_its_own_choice() -> None:
    assert len({tuple(sorted(row.tolist())) for row in some_patches(8, 64, 16)}) == 8


def test_all_are_seen_in_their_order_where_none_is_dropped() -> None:
    assert some_patches(2, 16, 64).tolist() == [list(range(16))] * 2


def test_picked_rows_are_whole() -> None:
    rows = torch.arange(24.0).view(2, 4, 3)
    assert pick(rows, torch.tensor([[3, 0], [1, 1]])).tolist() == [
        [[9.0, 10.0, 11.0], [0.0, 1.0, 2.0]],
        [[15.0, 16.0, 17.0], [15.0, 16.0, 17.0]],
    ]


def seen(model: CaptionModel, batch: SceneBatch, keep: int) -> Tensor:
    chosen = some_patches(len(batch.images), 256, keep)
    return model.tokens(imagenet_normalize(batch.images), chosen).mean(1)


def test_seeing_all_is_the_encoder_itself(captioned: CaptionModel, batch: SceneBatch) -> None:
    with torch.no_grad():
        tokens = captioned.backbone(imagenet_normalize(batch.images)).last_hidden_state[:, 1:]
        assert torch.allclose(seen(captioned, batch, 256), tokens.mean(1), atol=1e-5)


def test_dropping_tokens_changes_little_but_something(captioned: CaptionModel, batch: SceneBatch) -> None:
    with torch.no_grad():
        whole, part = seen(captioned, batch, 256), seen(captioned, batch, 64)
    assert not torch.equal(whole, part)
    assert torch.nn.functional.cosine_similarity(whole, part).min() > 0.7


@pytest.mark.parametrize("progress", [0.0, 0.99])  # a part of the tokens, and all
def test_each_token_is_held_to_the_pixels_of_its_own_patch(
    batch: SceneBatch, monkeypatch: pytest.MonkeyPatch, progress: float
) -> None:
    """A head that knows the answer has no pixel loss, whichever tokens are seen."""
    model = CaptionModel()
    size, patch = 64, model.patch
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    number = (rows // patch * (size // patch) + columns // patch) / 256  # every pixel names its patch
    images = number.expand(4, 3, size, size)
    normalized = imagenet_normalize(images)[0, :, ::patch, ::patch].flatten(1).T  # (256, 3)
    answer = normalized.repeat(1, patch**2)
    monkeypatch.setattr(model, "tokens", lambda images, chosen: answer[chosen])
    monkeypatch.setattr(model, "pixels", torch.nn.Identity())
    monkeypatch.setattr(model, "_of_captions", lambda pooled, batch: {})
    found = model(SceneBatch(images, batch.captions, batch.masks, batch.classes), progress)
    assert found["pixels"].item() == pytest.approx(0.0, abs=1e-6)


def test_equal_captions_are_no_negatives_of_each_other(captioned: CaptionModel, batch: SceneBatch) -> None:
    twice = SceneBatch(batch.images, [batch.captions[0]] * 4, batch.masks, batch.classes)
    with torch.no_grad():
        assert captioned(twice, 0.99)["contrastive"].item() == pytest.approx(0.0, abs=1e-6)


def test_a_late_word_counts_whatever_its_number(captioned: CaptionModel) -> None:
    """With id 2 for the end, transformers would pool at the largest id, and words behind it would be invisible."""
    words = sorted(captioned.tokenizer.words)
    first, last = words[0], words[-1]
    ids = captioned.tokenizer([f"{last} {first}", last, f"{last} {words[1]}"])
    assert ids[0].max() == ids[1].max()  # the largest id is the same, and stands first
    with torch.no_grad():
        rows = captioned.text(input_ids=ids).text_embeds
    assert torch.cdist(rows, rows).fill_diagonal_(1).min() > 1e-4


def test_text_is_pooled_at_its_end(captioned: CaptionModel) -> None:
    config = captioned.text.config
    assert config.eos_token_id == WordTokenizer.END != 2
    ids = captioned.tokenizer(["a cat left of a dog", "a cat"])
    with torch.no_grad():
        out = captioned.text.text_model(input_ids=ids)
        ends = (ids == WordTokenizer.END).int().argmax(1)
    assert torch.equal(out.pooler_output, out.last_hidden_state[torch.arange(2), ends])


def test_padding_is_never_read(captioned: CaptionModel) -> None:
    ids = captioned.tokenizer(["a cat", "a dog with a hat"])
    changed = torch.where(ids == WordTokenizer.PAD, captioned.tokenizer.FIRST_WORD, ids)
    with torch.no_grad():
        before, after = (captioned.text(input_ids=one).text_embeds for one in (ids, changed))
    assert torch.allclose(before, after, atol=1e-6)


def test_a_caption_longer_than_the_context_still_ends(captioned: CaptionModel) -> None:
    ids = captioned.tokenizer(["cat " * 60])
    assert ids.shape == (1, tiny.CONTEXT)
    assert ids[0, -1] == WordTokenizer.END
