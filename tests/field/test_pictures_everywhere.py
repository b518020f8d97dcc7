"""One file is one image in every command."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from muse_core.data.sample import Batch
from muse_core.image_files import FRAMES
from muse_core.progress import Progress
from tests.field.conftest import Muse
from tests.field.images import Odd, deep, lying, moving, uneven
from tests.field.inputs import coded, mask_of, put, tar
from tests.field.seen_images import samples

# ---------------------------------------------------------------- all commands


def walked() -> list[Odd]:
    """Files of the tokenizer's own size, so that a crop is all of it; two classes, each with a mask."""
    turned_ones = [lying("PNG", orientation, orientation) for orientation in (1, 3, 5, 6, 8)]
    return [
        *turned_ones,
        lying("WEBP", 7),
        lying("TIFF", 6, 11),
        lying("JPEG", 8, 12),
        *list(deep())[:2],
        *list(moving())[:3],
    ]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> set[bytes]:
    """The pixels of every image that a network of muse was given, or a training step."""
    from muse_core.model.network import MuseNetwork
    from muse_core.training.reading import Reader

    found: set[bytes] = set()
    connect: Callable[..., Any] = MuseNetwork.connect
    next_batch = Reader.next

    def noticed(network: MuseNetwork, images: Any, **how: Any) -> Any:
        found.update(rows(images.detach().permute(0, 2, 3, 1).cpu().numpy()))
        return connect(network, images, **how)

    def noticed_batch(reader: Reader, progress: Progress) -> Batch:
        batch: Batch = next_batch(reader, progress)
        found.update(rows(batch.images.permute(0, 2, 3, 1).numpy()))
        return batch

    monkeypatch.setattr(MuseNetwork, "connect", noticed)
    monkeypatch.setattr(Reader, "next", noticed_batch)
    return found


def rows(images: np.ndarray[Any, Any]) -> list[bytes]:
    return [np.rint(one * 255).astype(np.uint8).tobytes() for one in images]


@pytest.fixture
def folder(muse: Muse, tmp_path: Path) -> list[Odd]:
    """Shards `s` of all files in `d`, with masks and classes, in the order of their keys."""
    files = sorted(walked(), key=lambda one: one.name)
    for number, one in enumerate(files):
        put(tmp_path / f"d/{one.name}", one.content)
        put(tmp_path / f"d/{one.name.rpartition('.')[0]}.cls", str(number % 2))
        put(tmp_path / f"m/{one.name.rpartition('.')[0]}.png", coded(mask_of(64, 64), "PNG"))
    assert muse("shard", "d", "--masks", "m", "--out", "s").code == 0
    others = [(f"{number}.png", coded(uneven(number), "PNG")) for number in range(20, 24)]
    tar(tmp_path / "t/0.tar", [*others, *((f"{number}.cls", b"%d" % (number % 2)) for number in range(20, 24))])
    return files


COMMANDS = {
    "infer": "infer d --checkpoint tiny --size-px 64 --out o",
    "infer --compare": "infer d --checkpoint tiny --size-px 64 --compare --features f.npz --out o",
    "infer --latents": "infer s --checkpoint tiny --size-px 64 --latents l",
    "eval": "eval tiny --data s --metric psnr --size-px 64",
    "zeroshot": "zeroshot tiny --data s --classes c.txt",
    "probe knn": "probe knn tiny --data t --val-data s --k 1",
    "probe linear": "probe linear tiny --data t --val-data s --epochs 1",
    "probe topology": "probe topology tiny --val-data s",
    "segment": "segment tiny --data s --val-data s --epochs 1 --size-px 64",
    "compare": "compare tiny --data s --train-data s --measure eval --size-px 64",
    "train": "train --stage 1 --size tiny --data s --init none --steps 1 --batch-size 13 --set data.lanes=1"
    " --set data.workers=0 --out r",
}
"""Every command that gives image files to a network, as it is typed over the same files."""


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_gives_the_same_pixels_to_its_network(
    muse: Muse, folder: list[Odd], seen: set[bytes], name: str
) -> None:
    Path("c.txt").write_text("cat\ndog\n")
    ended = muse(*COMMANDS[name].split())
    assert ended.code == 0, ended.err
    missing = [one.name for one in folder if one.pixels.tobytes() not in seen]
    assert missing == []
    assert ended.err.count(f"3 images {FRAMES}") == ended.err.count(FRAMES) == 1


@pytest.mark.slow
def test_training_says_it_of_held_out_data_too(muse: Muse, folder: list[Odd]) -> None:
    ended = muse(*COMMANDS["train"].split(), "--val-data", "s")
    assert (ended.code, ended.err.count(f"warning: s: 3 images {FRAMES}")) == (0, 1), ended.err


def test_attention_is_drawn_over_the_same_pixels(muse: Muse, folder: list[Odd], seen: set[bytes]) -> None:
    for one in folder:
        ended = muse("attn-viz", f"d/{one.name}", "--checkpoint", "tiny", "--size-px", "64", "--out", f"{one.name}.png")
        assert ended.code == 0, ended.err
        assert one.pixels.tobytes() in seen, one.name


def test_contact_sheets_show_the_same_pixels(muse: Muse, folder: list[Odd]) -> None:
    from muse_core.inspection.shards import pick_samples

    found = pick_samples("s", len(folder))
    assert [one.image.tobytes() for one in found] == [one.pixels.tobytes() for one in folder]


def test_re_encoded_shards_hold_the_same_pixels(muse: Muse, folder: list[Odd]) -> None:
    assert muse("shard", "d", "--masks", "m", "--resize", "64", "--out", "o").code == 0
    for sample, one in zip(samples("o"), folder, strict=True):
        lossy = one.name.endswith(("jpg", "webp"))  # kept in a format that cannot hold all of them
        assert np.abs(sample.image.astype(int) - one.pixels).max() <= (12 if lossy else 0), one.name


def test_members_of_shards_are_the_files(folder: list[Odd]) -> None:
    with tarfile.open("s/000000.tar") as stored:
        images = [member for member in stored.getmembers() if member.name.count(".") == 1 and ".cls" not in member.name]
        contents = [io.BytesIO(stored.extractfile(member).read()).getvalue() for member in images]  # type: ignore[union-attr]
    assert contents == [one.content for one in folder]
