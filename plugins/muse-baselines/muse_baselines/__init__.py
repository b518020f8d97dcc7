"""The rivals of the MUSE tables as tokenizers: what each is, what it can do, and under which licence.

Only announcements; the code behind them is imported when one is used.
"""

from muse_baselines import published
from muse_core.model.builtin import TokenizerSpec

_PIXELS = ("encodes", "decodes", "featurizes", "attends")
_LOOKS = ("featurizes", "attends")

VQGAN = TokenizerSpec(
    help="VQGAN of taming-transformers: 16 x 16 codes at 256 pixels.",
    target="muse_baselines.loaders:vqgan",
    licence="MIT (code; the weights' is not stated apart)",
    abilities=_PIXELS,
    published=published.VQGAN,
)
LLAMAGEN_VQ = TokenizerSpec(
    help="LlamaGen's VQ tokenizer: unit-length codes of width 8.",
    target="muse_baselines.loaders:llamagen_vq",
    licence="MIT (code; parts carry their own, the weights' is not stated apart)",
    abilities=_PIXELS,
    published=published.LLAMAGEN_VQ,
)
VA_VAE = TokenizerSpec(
    help="VA-VAE, f16d32: an autoencoder aligned with DINOv2.",
    target="muse_baselines.loaders:va_vae",
    licence="MIT",
    abilities=_PIXELS,
    published=published.VA_VAE,
)
SD_VAE = TokenizerSpec(
    help="Stable Diffusion's autoencoder, f8d4.",
    target="muse_baselines.loaders:sd_vae",
    licence="MIT (weights)",
    abilities=_PIXELS,
    published=published.SD_VAE,
)
FLUX_VAE = TokenizerSpec(
    help="FLUX's autoencoder, f8d16.",
    target="muse_baselines.loaders:flux_vae",
    licence="Apache-2.0 (schnell), non-commercial (dev)",
    abilities=_PIXELS,
)
DC_AE = TokenizerSpec(
    help="DC-AE f32c32 of SANA: linear attention, so no attention maps.",
    target="muse_baselines.loaders:dc_ae",
    licence="Apache-2.0 (code)",
    abilities=("encodes", "decodes", "featurizes"),
    published=published.DC_AE,
)
UNILIP = TokenizerSpec(
    help="UniLIP's tokenizer at 224 pixels, resized plainly.",
    target="muse_baselines.loaders:unilip",
    licence="unclear: the authors' badge says Apache-2.0, no licence file was found",
    abilities=_PIXELS,
    published=published.UNILIP,
)
UNILIP_448 = TokenizerSpec(
    help="UniLIP's tokenizer at 448 pixels, resized plainly.",
    target="muse_baselines.loaders:unilip_448",
    licence=UNILIP.licence,
    abilities=_PIXELS,
    published=published.UNILIP,
)
UNILIP_PADDED = TokenizerSpec(
    help="UniLIP's tokenizer at 256 pixels, padded to 280 as for its published numbers.",
    target="muse_baselines.loaders:unilip_padded",
    licence=UNILIP.licence,
    abilities=_PIXELS,
    published=published.UNILIP,
)
VTP = TokenizerSpec(
    help="VTP-S, -B or -L: its folder tells which.",
    target="muse_baselines.loaders:vtp",
    licence="modified MIT (MiniMax VTP must be named above 100 M monthly users)",
    abilities=("encodes", "decodes", "featurizes", "aligns", "attends"),
    published=published.VTP,
)
INTERNVIT = TokenizerSpec(
    help="InternViT, the vision tower of InternVL3.",
    target="muse_baselines.loaders:internvit",
    licence="MIT (tower), Qwen tag on the InternVL3 repositories",
    abilities=_LOOKS,
    published=published.INTERNVIT,
)
DINOV3 = TokenizerSpec(
    help="DINOv3, from the hub's folder or the authors' file.",
    target="muse_baselines.loaders:dinov3",
    licence="DINOv3 License (own terms, passes on to derivatives)",
    abilities=_LOOKS,
)
OPENCLIP = TokenizerSpec(
    help="A CLIP in open_clip's published layout.",
    target="muse_baselines.loaders:openclip",
    licence="MIT (code; the weights' differ)",
    abilities=("featurizes", "aligns", "attends"),
    published=published.OPENCLIP,
)
