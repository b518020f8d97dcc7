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
    target="muse_core.evaluation.metrics:make_fd_tiny_clip",
    better="lower",
    needs="the tiny pack, which ships with muse",
)

LINEAR = ProbeSpec(
    help="How well a linear classifier reads the frozen features.",
    target="muse_core.evaluation.linear:measure",
    settings="muse_core.evaluation.options:LinearOptions",
)
TOPOLOGY = ProbeSpec(
    help="Whether attention stays on the object, and agrees with the teacher's.",
    target="muse_core.evaluation.attention:measure",
    settings="muse_core.evaluation.options:TopologyOptions",
    needs=("attends",),
    train=False,
)
