"""Token dropping sees the right tokens; the losses see the right words."""

import pytest
import torch
from torch import Tensor

from muse_core.model.images import imagenet_normalize
from muse_core.model.text import WordTokenizer
from muse_core.model.weights import tiny
from muse_core.training.foundation.backbone import CaptionModel, keep_some
from muse_core.training.foundation.stream import SceneBatch, fixed_scenes


@pytest.fixture(scope="module")
def batch() -> SceneBatch:
    return next(fixed_scenes("train", 4, batch_size=4))


def numbered(images: int, patches: int) -> Tensor:
    """Tokens that carry their own place: (B, 1 + n, 1), the class token 0."""
    return torch.arange(patches + 1.0).expand(images, -1)[..., None]


def test_the_class_token_stays_first_and_patches_stay_whole() -> None:
    kept = keep_some(numbered(200, 16), 5)[..., 0]
    assert kept.shape == (200, 6)
    assert (kept[:, 0] == 0).all()
    assert all(len(set(row.tolist())) == 6 for row in kept)  # none twice, and the class token not among the patches
    assert set(kept[:, 1:].flatten().tolist()) == set(range(1, 17))


def test_every_image_keeps_its_own_choice() -> None:
    kept = keep_some(numbered(8, 64), 16)[..., 0]
    assert len({tuple(sorted(row.tolist())) for row in kept}) == 8


def test_tokens_are_dropped_after_they_got_their_positions(captioned: CaptionModel, batch: SceneBatch) -> None:
    whole = captioned.backbone.embeddings(imagenet_normalize(batch.images))
    torch.manual_seed(0)
    kept = keep_some(whole, 64)
    found = (kept[0, 1:, None] == whole[0, None, 1:]).all(-1)  # each one is, to the bit, a token of the whole picture
    assert found.any(1).all()


def test_keeping_all_is_the_encoder_itself(captioned: CaptionModel, batch: SceneBatch) -> None:
    with torch.no_grad():
        tokens = captioned.backbone(imagenet_normalize(batch.images)).last_hidden_state[:, 1:]
        assert torch.allclose(captioned.pooled(batch.images, 256), tokens.mean(1), atol=1e-5)


def test_dropping_tokens_changes_little_but_something(captioned: CaptionModel, batch: SceneBatch) -> None:
    with torch.no_grad():
        whole, part = captioned.pooled(batch.images, 256), captioned.pooled(batch.images, 64)
    assert not torch.equal(whole, part)
    assert torch.nn.functional.cosine_similarity(whole, part).min() > 0.7


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
