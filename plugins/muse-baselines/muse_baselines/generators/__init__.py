"""Generators of latents: what a tokenizer's gFID is measured with. Only announcements, as for the tokenizers."""

from muse_core.model.builtin import GeneratorSpec

LIGHTNINGDIT = GeneratorSpec(
    help="LightningDiT, the class-conditional generator of VA-VAE and of VTP.",
    target="muse_baselines.generators.loading:lightningdit",
    licence="MIT",
)
