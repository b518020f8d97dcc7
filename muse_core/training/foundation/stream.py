"""Fresh scenes for ever, rendered in a worker process.

Letters: B scenes, S side in pixels, K objects of a scene (at most 3).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from muse_core.data.scenes import SPLITS, SceneMaker

MAX_OBJECTS = 3


@dataclass(frozen=True)
class SceneBatch:
    """images (B, 3, S, S) in [0, 1]; masks (B, S, S) with k for the k-th object; classes (B, K), -1 where there is none."""

    images: Tensor
    captions: list[str]
    masks: Tensor
    classes: Tensor


class SceneStream(IterableDataset[SceneBatch]):
    """Batches of training scenes from number `start` on; scene n is the same whoever asks for it."""

    def __init__(self, batch_size: int, start: int, colour_jitter: float) -> None:
        self.batch_size = batch_size
        self.start = start
        self.colour_jitter = colour_jitter

    def __iter__(self) -> Iterator[SceneBatch]:
        torch.set_num_threads(1)
        split = SPLITS["train"]
        maker = SceneMaker(split.designers, size=64, colour_jitter=self.colour_jitter)
        position = self.start
        while True:
            yield self._batch([maker.scene(split.first_seed + position + i) for i in range(self.batch_size)])
            position += self.batch_size

    def _batch(self, scenes: list) -> SceneBatch:  # type: ignore[type-arg]
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


def scene_batches(batch_size: int, start: int, colour_jitter: float) -> Iterator[SceneBatch]:
    """Iterate batches of fresh training scenes, rendered beside the training process."""
    stream = SceneStream(batch_size, start, colour_jitter)
    return iter(DataLoader(stream, batch_size=None, num_workers=1, prefetch_factor=4))
