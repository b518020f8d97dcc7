"""Published weights that only metrics use: where they may lie, and reading them without running what they contain."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from muse_core.evaluation.spec import NotMeasuredError
from muse_core.model.weights.parts import Part, weights_folder
from muse_core.model.weights.reading import open_tensors

INCEPTION = Part(
    "inception",
    "toshas/torch-fidelity",
    "InceptionV3 in TensorFlow's layout, for rFID, KID, precision, recall and the Inception score",
    "Apache-2.0",
    (
        "weights-inception-2015-12-05-6726825d.pth",
        "pt_inception-2015-12-05-6726825d.pth",
        "inception.safetensors",
    ),
)
DINOV2 = Part(
    "dinov2",
    "facebookresearch/dinov2",
    "DINOv2, for fd-dinov2",
    "Apache-2.0",
    ("dinov2_vitl14_pretrain.pth", "dinov2_vitb14_pretrain.pth", "dinov2_vits14_pretrain.pth", "dinov2.safetensors"),
)
CLIP = Part(
    "clip",
    "timm/vit_base_patch32_clip_224.openai",
    "OpenAI's CLIP ViT-B/32, for fd-clip",
    "MIT",
    ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"),
)
VGG16 = Part(
    "vgg16", "muse/vgg16", "features of LPIPS", "BSD-3-Clause", ("vgg16-397923af.pth", "vgg16.pth", "model.safetensors")
)
LPIPS_HEADS = Part(
    "lpips", "muse/lpips-vgg", "channel weights of LPIPS", "BSD-2-Clause", ("vgg.pth", "model.safetensors")
)


def find_weights(part: Part) -> Path:
    """Return the file of a part: in `MUSE_WEIGHTS` under its hub name, or where torch keeps its own downloads.

    Raises:
        NotMeasuredError: it is in neither; the message says where it may be put.
    """
    own, shared = weights_folder() / part.hub, Path(torch.hub.get_dir()) / "checkpoints"
    # In torch's shared folder only names that end in a hash or tell the network say what a file is; not vgg.pth.
    telling = [name for name in part.files if re.search(r"-[0-9a-f]{8}\.pth$|^dinov2_\w+_pretrain\.pth$", name)]
    for path in [own / name for name in part.files] + [shared / name for name in telling]:
        if path.is_file():
            return path
    raise NotMeasuredError(
        f"{part.purpose}: {part.files[0]} is not on this machine", hint=f"put {part.files[0]} into {own}"
    )


def read_weights(path: Path) -> Mapping[str, Tensor]:
    """Read a file of named tensors, safetensors or a torch file.

    Raises:
        MuseError: it is damaged, holds no named tensors, or would have to run code to be read.
    """
    return dict(open_tensors(path, "weights of a metric"))
