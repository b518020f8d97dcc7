"""What the announcements point at: one function per tokenizer, from (path or None, device) to an object."""

from pathlib import Path

import muse_baselines as announced
from muse_baselines import clip, convolutional, dc_ae as dcae, unilip as uni, vision, vtp as vtp_model
from muse_baselines.files import Published
from muse_core.model.tokenizer import Origin


def _origin(name: str, path: str | None, published: Published, licence: str, pixels: int) -> Origin:
    return Origin(name=name, source=path or published.hubs[0], licence=licence, resolution=pixels)


def vqgan(path: str | None, device: str) -> convolutional.ConvolutionalTokenizer:
    """Load VQGAN."""
    published = Published("vqgan", "VQGAN, a .ckpt of taming-transformers", ("CompVis/vqgan_imagenet_f16_16384",))
    return convolutional.load(path, device, published, _origin("VQGAN", path, published, announced.VQGAN.licence, 256))


def llamagen_vq(path: str | None, device: str) -> convolutional.ConvolutionalTokenizer:
    """Load LlamaGen's VQ tokenizer."""
    published = Published("llamagen-vq", "LlamaGen's vq_ds16_c2i.pt", ("FoundationVision/LlamaGen",))
    origin = _origin("LlamaGen VQ", path, published, announced.LLAMAGEN_VQ.licence, 256)
    return convolutional.load(path, device, published, origin)


def va_vae(path: str | None, device: str) -> convolutional.ConvolutionalTokenizer:
    """Load VA-VAE."""
    published = Published("va-vae", "VA-VAE, a .pt of LightningDiT", ("hustvl/vavae-imagenet256-f16d32-dinov2",))
    origin = _origin("VA-VAE", path, published, announced.VA_VAE.licence, 256)
    return convolutional.load(path, device, published, origin)


def sd_vae(path: str | None, device: str) -> convolutional.ConvolutionalTokenizer:
    """Load Stable Diffusion's autoencoder."""
    hubs = ("stabilityai/sd-vae-ft-ema", "stabilityai/sd-vae-ft-mse")
    published = Published("sd-vae", "Stable Diffusion's autoencoder", hubs)
    origin = _origin("SD-VAE", path, published, announced.SD_VAE.licence, 256)
    return convolutional.load(path, device, published, origin)


def flux_vae(path: str | None, device: str) -> convolutional.ConvolutionalTokenizer:
    """Load FLUX's autoencoder."""
    hubs = ("black-forest-labs/FLUX.1-schnell/vae", "black-forest-labs/FLUX.1-dev/vae")
    published = Published("flux-vae", "FLUX's autoencoder, ae.safetensors or the folder vae", hubs)
    origin = _origin("FLUX-VAE", path, published, announced.FLUX_VAE.licence, 256)
    return convolutional.load(path, device, published, origin)


def dc_ae(path: str | None, device: str) -> dcae.DcAeTokenizer:
    """Load DC-AE."""
    hubs = ("mit-han-lab/dc-ae-f32c32-sana-1.0-diffusers", "mit-han-lab/dc-ae-f32c32-sana-1.1-diffusers")
    published = Published("dc-ae", "DC-AE f32c32", hubs)
    return dcae.load(path, device, published, _origin("DC-AE", path, published, announced.DC_AE.licence, 256))


_UNILIP_HUB = ("kanashi6/UniLIP",)


def _unilip(name: str, path: str | None, device: str, pixels: int, rule: uni.Rule) -> uni.UniLipTokenizer:
    published = Published(name, "UniLIP's 1b_unilip.pth or 2b_unilip.pth", _UNILIP_HUB)
    title = "UniLIP padded" if rule == "padded" else f"UniLIP {pixels}"
    return uni.load(path, device, published, _origin(title, path, published, announced.UNILIP.licence, pixels), rule)


def unilip(path: str | None, device: str) -> uni.UniLipTokenizer:
    """Load UniLIP for 224 pixels."""
    return _unilip("unilip", path, device, 224, "plain")


def unilip_448(path: str | None, device: str) -> uni.UniLipTokenizer:
    """Load UniLIP for 448 pixels."""
    return _unilip("unilip-448", path, device, 448, "plain")


def unilip_padded(path: str | None, device: str) -> uni.UniLipTokenizer:
    """Load UniLIP with the padding of its published 256-pixel numbers."""
    return _unilip("unilip-padded", path, device, 256, "padded")


def vtp(path: str | None, device: str) -> vtp_model.VtpTokenizer:
    """Load VTP."""
    hubs = tuple(f"MiniMaxAI/VTP-{size}-f16d64" for size in ("Base", "Large", "Small"))
    published = Published("vtp", "VTP's folder", hubs)
    origin = _origin(_vtp_title(path), path, published, announced.VTP.licence, 256)
    return vtp_model.load(path, device, published, origin)


def _vtp_title(path: str | None) -> str:
    """VTP-S, VTP-B or VTP-L where the folder's name says it; the three are never mixed up in a table."""
    folder = Path(path).name if path else "VTP-Base"
    words = {"Small": "VTP-S", "Base": "VTP-B", "Large": "VTP-L"}
    return next((title for word, title in words.items() if word in folder), f"VTP ({folder})")


def internvit(path: str | None, device: str) -> vision.VisionTokenizer:
    """Load InternViT."""
    hubs = ("OpenGVLab/InternVL3-1B", "OpenGVLab/InternVL3-1B-hf", "OpenGVLab/InternVL3-2B")
    published = Published("internvit", "InternVL3's folder", hubs)
    origin = _origin("InternViT", path, published, announced.INTERNVIT.licence, 224)
    return vision.load_internvit(path, device, published, origin)


def dinov3(path: str | None, device: str) -> vision.VisionTokenizer:
    """Load DINOv3."""
    published = Published("dinov3", "DINOv3's folder or .pth", ("facebook/dinov3-vith16plus-pretrain-lvd1689m",))
    origin = _origin("DINOv3", path, published, announced.DINOV3.licence, 224)
    return vision.load_dinov3(path, device, published, origin)


def openclip(path: str | None, device: str) -> clip.ClipTokenizer:
    """Load a CLIP."""
    published = Published("openclip", "an open_clip folder", ("laion/CLIP-ViT-L-14-laion2B-s32B-b82K",))
    return clip.load(path, device, published, _origin("OpenCLIP", path, published, announced.OPENCLIP.licence, 224))
