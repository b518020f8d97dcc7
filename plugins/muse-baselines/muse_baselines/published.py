"""What was printed about the rivals, by whom, and under which protocol; where printed numbers disagree, both stand."""

from muse_core.model.builtin import PublishedScore

_MUSE = "MUSE paper, main table"
_ADM = "50k samples, ADM evaluator, LightningDiT-XL/1"


def _rows(of: str, source: str, protocol: str, **values: float) -> tuple[PublishedScore, ...]:
    return tuple(PublishedScore(of, metric, value, source, protocol) for metric, value in values.items())


VQGAN = (
    *_rows("VQGAN f16, 1024 codes", "taming-transformers", "val, 256 px, torch-fidelity", rfid=7.94),
    *_rows("VQGAN f16, 16384 codes", "taming-transformers", "val, 256 px, torch-fidelity", rfid=4.98),
    *_rows("VQGAN f16", "taming-transformers", "1.4 B transformer, rejection sampling", gfid=5.20),
    *_rows("VQGAN", _MUSE, "equals no f16 number of taming's; the figure is known of ViT-VQGAN", rfid=1.28),
    *_rows("VQGAN", _MUSE, "the protocol is not stated", gfid=5.20, miou=0.154),
)
LLAMAGEN_VQ = (
    *_rows("LlamaGen f16", "LlamaGen", "256 px, ADM evaluator", rfid=2.19),
    *_rows("LlamaGen f16", "LlamaGen", "384 px resized to 256, ADM evaluator", rfid=0.94),
    *_rows("LlamaGen f16", "LlamaGen", "512 px resized to 256, ADM evaluator", rfid=0.70),
)
VA_VAE = (
    *_rows("VA-VAE f16d32", "LightningDiT", "a sample of the posterior, 256 px", rfid=0.28),
    *_rows("VA-VAE f16d32", "LightningDiT", f"{_ADM}, 800 epochs, no guidance", gfid=2.17),
    *_rows("VA-VAE f16d32", "LightningDiT", f"{_ADM}, 800 epochs, guidance", gfid=1.35),
    *_rows("VA-VAE f16d32", "LightningDiT", f"{_ADM}, 64 epochs, no guidance", gfid=5.14),
    *_rows("VA-VAE", _MUSE, "matches no number of its authors; not stated", rfid=0.46, gfid=3.92, miou=0.185),
)
SD_VAE = (
    *_rows("SD-VAE f8d4", "VTP, table", "50k val, 256 px", rfid=0.61),
    *_rows("SD-VAE f8d4", "UniTok", "not stated; differs from the other", rfid=0.87),
)
DC_AE = (
    *_rows("DC-AE f32c32 SANA 1.0", "its model card", "MJHQ at 1024 px", rfid=0.339, psnr=29.31),
    *_rows("DC-AE f32c32 SANA 1.1", "its model card", "MJHQ at 1024 px", rfid=0.314, psnr=29.74),
)
UNILIP = (
    *_rows("UniLIP, 256 px", "UniLIP", "padded to 280, ImageNet val", rfid=0.79, psnr=22.99),
    *_rows("UniLIP, 256 px", "UniLIP", "padded to 280; data range 2 on images in [0, 1]", ssim=0.747),
    *_rows("UniLIP, 448 px", "UniLIP", "plain, ImageNet val", rfid=0.31, psnr=24.62),
    *_rows("UniLIP, 448 px", "UniLIP", "plain; data range 2 on images in [0, 1]", ssim=0.788),
    *_rows("UniLIP", _MUSE, "not stated", rfid=0.74, gfid=3.62, linear=0.836, miou=0.368),
    *_rows("UniLIP", _MUSE, "impossible from its weights alone: it has no text tower", zeroshot=0.757),
)
_VTP = "its repository, 256 px; encoded in bfloat16, bytes by truncation, pytorch-fid"
_VTP_PROBE = "squashed to 256 (zero-shot); the best of a sweep on val (linear probe)"
_VTP_GEN = "LightningDiT-XL, 80 epochs, no guidance"
VTP = (
    *_rows("VTP-S", "VTP, table", _VTP, rfid=0.98),
    *_rows("VTP-S", "VTP, table", _VTP_PROBE, zeroshot=0.667, linear=0.775),
    *_rows("VTP-S", "VTP, table", _VTP_GEN, gfid=5.46),
    *_rows("VTP-B", "VTP, table", _VTP, rfid=0.74),
    *_rows("VTP-B", "VTP, table", _VTP_PROBE, zeroshot=0.732, linear=0.810),
    *_rows("VTP-B", "VTP, table", _VTP_GEN, gfid=3.88),
    *_rows("VTP-L", "VTP, table", _VTP, rfid=0.36),
    *_rows("VTP-L", "VTP, table", _VTP_PROBE, zeroshot=0.782, linear=0.857),
    *_rows("VTP-L", "VTP, table", _VTP_GEN, gfid=2.81),
    *_rows("VTP-L", "VTP, figure", _VTP_GEN, gfid=2.62),
    *_rows("VTP, size not said", _MUSE, "nearest to VTP-B, equal to no size", rfid=0.73, gfid=3.08),
    *_rows("VTP, size not said", _MUSE, "not stated", zeroshot=0.712, linear=0.814, miou=0.321),
)
INTERNVIT = _rows("InternViT-300M", _MUSE, "class token, no augmentation, the best epoch on val", linear=0.825)
OPENCLIP = _rows(
    "ViT-L-14 laion2b_s32b_b82k", "open_clip, results table", "ImageNet val, 80 templates, 224 px", zeroshot=0.7525
)
