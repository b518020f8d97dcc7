"""What muse itself announces: its metrics and its probes, through the same door as everybody's plugins."""

from muse_core.evaluation.spec import MetricSpec, ProbeSpec

PSNR = MetricSpec(
    help="Peak signal-to-noise ratio in dB, per image, then the mean.",
    target="muse_core.evaluation.metrics:make_psnr",
    better="higher",
)
SSIM = MetricSpec(
    help="Structural similarity, 7 x 7 windows, per image, then the mean.",
    target="muse_core.evaluation.metrics:make_ssim",
    better="higher",
)
FD_TINY_CLIP = MetricSpec(
    help="Frechet distance on the features of the tiny pack's CLIP.",
    target="muse_core.evaluation.tiny_clip:make_fd_tiny_clip",
    better="lower",
    needs="the tiny pack, which ships with muse",
)
_INCEPTION = "Inception's weights in MUSE_WEIGHTS"
RFID = MetricSpec(
    help="Frechet distance between originals and reconstructions on Inception features.",
    target="muse_core.evaluation.inception:make_rfid",
    better="lower",
    needs=_INCEPTION,
)
KID = MetricSpec(
    help="Kernel distance on Inception features, with its spread over subsets.",
    target="muse_core.evaluation.inception:make_kid",
    better="lower",
    needs=_INCEPTION,
)
PRECISION_RECALL = MetricSpec(
    help="Share of reconstructions near originals, and of originals near reconstructions.",
    target="muse_core.evaluation.inception:make_precision_recall",
    better="higher",
    needs=_INCEPTION,
)
INCEPTION_SCORE = MetricSpec(
    help="How surely and variously Inception names the reconstructions.",
    target="muse_core.evaluation.inception:make_inception_score",
    better="higher",
    needs=_INCEPTION,
)
FD_DINOV2 = MetricSpec(
    help="Frechet distance on DINOv2's class token.",
    target="muse_core.evaluation.foundation:make_fd_dinov2",
    better="lower",
    needs="DINOv2's weights in MUSE_WEIGHTS or torch's downloads",
)
FD_CLIP = MetricSpec(
    help="Frechet distance on OpenAI's CLIP image embedding.",
    target="muse_core.evaluation.foundation:make_fd_clip",
    better="lower",
    needs="CLIP's weights in MUSE_WEIGHTS",
)
LPIPS = MetricSpec(
    help="Perceptual distance on VGG16, per image, then the mean.",
    target="muse_core.evaluation.lpips:make_lpips",
    better="lower",
    needs="the weights of VGG16 and of LPIPS in MUSE_WEIGHTS",
)

LINEAR = ProbeSpec(
    help="How well a linear classifier reads the frozen features.",
    target="muse_core.evaluation.linear:measure",
    settings="muse_core.evaluation.options:LinearOptions",
)
KNN = ProbeSpec(
    help="How often the nearest training images have the right class.",
    target="muse_core.evaluation.knn:measure",
    settings="muse_core.evaluation.options:KnnOptions",
)
TOPOLOGY = ProbeSpec(
    help="Whether attention stays on the object, and agrees with the teacher's.",
    target="muse_core.evaluation.attention:measure",
    settings="muse_core.evaluation.options:TopologyOptions",
    needs=("attends",),
    train=False,
)
CONFLICT = ProbeSpec(
    help="Whether the losses pull the same weights apart, as trained and without stop-gradients.",
    target="muse_core.stages.conflict:measure",
    settings="muse_core.evaluation.options:ConflictOptions",
    needs=("encodes", "decodes"),
    train=False,
)
