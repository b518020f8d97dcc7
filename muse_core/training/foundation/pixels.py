"""The pixel autoencoder of the pack: a small DC-AE trained to reconstruct scenes; its decoder half is shipped."""

import math
from pathlib import Path

import torch
from diffusers import AutoencoderDC
from torch import Tensor, nn
from torch.nn import functional

from muse_core.evaluation.pixels import mean_of_finite, psnr, to_bytes
from muse_core.files import write_atomically
from muse_core.model.weights import tiny
from muse_core.training.foundation.export import export_part, note_training
from muse_core.training.foundation.loop import Recipe, fit
from muse_core.training.foundation.stream import SceneBatch, fixed_scenes

RECIPE = Recipe(steps=2_500, batch_size=32, lr=2e-3, weight_decay=0.01, warmup_steps=100, bf16=True, colour_jitter=0.3)
UNIT_SPREAD_WEIGHT = 0.01


class PixelModel(nn.Module):
    """The autoencoder and its loss: absolute and squared error, and latents of about unit spread.

    Without the last term the latents' spread is arbitrary (2.65 in one run), and a connector that starts near zero
    would first have to find it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.autoencoder: AutoencoderDC = tiny.new_pixels()
        self.error = 1.0

    def forward(self, batch: SceneBatch, progress: float) -> dict[str, Tensor]:
        """Return the loss terms of a batch."""
        target = batch.images * 2 - 1
        z = self.autoencoder.encode(target).latent
        prediction = self.autoencoder.decode(z).sample
        spread = z.float().std(dim=(0, 2, 3))
        squared = functional.mse_loss(prediction.float(), target)
        self.error = squared.item() / 4
        return {
            "absolute": functional.l1_loss(prediction.float(), target),
            "squared": squared,
            "spread": UNIT_SPREAD_WEIGHT * (spread - 1).square().mean(),
        }


def train(folder: Path, recipe: Recipe = RECIPE) -> PixelModel:
    """Train the autoencoder, continuing from `folder`."""
    torch.manual_seed(recipe.seed)
    model = PixelModel()
    fit(model, model, recipe, folder, report=lambda _: {"psnr of last batch": -10 * math.log10(model.error)})
    return model


@torch.no_grad()
def round_trip(model: PixelModel, count: int) -> dict[str, float]:
    """PSNR in dB of encoding and decoding, mean over the images of each measured split.

    It needs the encoder half, which is not shipped: afterwards it can no longer be measured.
    """
    found = {}
    for split in ("val", "ood"):
        values = []
        for batch in fixed_scenes(split, count):
            latents = model.autoencoder.encode(batch.images * 2 - 1).latent
            prediction = model.autoencoder.decode(latents).sample / 2 + 0.5
            values.append(psnr(to_bytes(batch.images), to_bytes(prediction)))
        found[f"psnr {split}"] = mean_of_finite(torch.cat(values))
    return {**found, "images": count}


def export(model: PixelModel, progress: Path, pack: Path, recipe: Recipe = RECIPE, *, measured_on: int = 2000) -> None:
    """Write the decoder half, with the config of the whole, and what the whole does to `measured_on` scenes."""
    export_part(model.autoencoder.decoder, pack / "pixels")
    write_atomically(pack / "pixels" / "config.json", model.autoencoder.to_json_string())
    note_training(pack / "pixels", progress, recipe, "images", round_trip(model, measured_on))
