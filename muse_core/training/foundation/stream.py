"""Fresh scenes for ever, rendered in a worker process; and the fixed scenes that parts are measured on.

Letters: B scenes, S side in pixels, K objects of a scene (at most 3).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from muse_core.data.scenes import SPLITS, SceneMaker
from muse_core.data.scenes.compose import Scene
from muse_core.data.scenes.splits import scene_at

MAX_OBJECTS = 3
SIDE = 64


@dataclass(frozen=True)
class SceneBatch:
    """images (B, 3, S, S) in [0, 1]; masks (B, S, S), k for the k-th object; classes (B, K), -1 where there is none."""

    images: Tensor
    captions: list[str]
    masks: Tensor
    classes: Tensor

    @property
    def labels(self) -> Tensor:
        """Class of each scene's main object, (B,)."""
        return self.classes[:, 0]


def collate_scenes(scenes: Sequence[Scene]) -> SceneBatch:
    """Stack scenes of one size."""
    images = torch.from_numpy(np.stack([scene.image for scene in scenes]))
    classes = torch.full((len(scenes), MAX_OBJECTS), -1)
    for row, scene in zip(classes, scenes, strict=True):
        row[: len(scene.objects)] = torch.tensor([item.class_index for item in scene.objects])
    return SceneBatch(
        images=images.permute(0, 3, 1, 2).float() / 255,
        captions=[scene.caption for scene in scenes],
        masks=torch.from_numpy(np.stack([scene.mask for scene in scenes])),
        classes=classes,
    )


class SceneStream(IterableDataset[SceneBatch]):
    """Batches of training scenes from number `start` on; scene n is the same whoever asks for it."""

    def __init__(self, batch_size: int, start: int, colour_jitter: float) -> None:
        self.batch_size = batch_size
        self.start = start
        self.colour_jitter = colour_jitter

    def __iter__(self) -> Iterator[SceneBatch]:
        torch.set_num_threads(1)
        split = SPLITS["train"]
        maker = SceneMaker(split.designers, size=SIDE, colour_jitter=self.colour_jitter)
        position = self.start
        while True:
            yield collate_scenes([maker.scene(split.seed(position + i)) for i in range(self.batch_size)])
            position += self.batch_size


def scene_batches(batch_size: int, start: int, colour_jitter: float) -> Iterator[SceneBatch]:
    """Iterate batches of fresh training scenes, rendered beside the training process."""
    stream = SceneStream(batch_size, start, colour_jitter)
    # A generator of its own: the loader draws a seed when it starts, which after a resume would shift all that the
    # training itself draws.
    return iter(DataLoader(stream, batch_size=None, num_workers=1, prefetch_factor=4, generator=torch.Generator()))


def fixed_scenes(split: str, count: int, batch_size: int = 100) -> Iterator[SceneBatch]:
    """Iterate the first `count` scenes of a split, as drawn: the scenes of `demo:SPLIT:COUNT`."""
    for start in range(0, count, batch_size):
        yield collate_scenes([scene_at(split, index, SIDE) for index in range(start, min(start + batch_size, count))])
