"""The built-in commands, announced as data; the entry points of group `muse.commands` name these."""

from muse_cli.spec import CommandSpec

TRAIN = CommandSpec(
    "Train a tokenizer: one stage, or all three.",
    "muse_cli.commands.train:app",
    "Train",
    (
        "muse train --stage 1-3 --size tiny",
        "muse train --stage 2 --size 1b --dry-run",
        "muse train --resume runs/tiny-stage1-20261123-1432",
    ),
)
SHARD = CommandSpec(
    "Write pictures with captions, classes and masks to shards.",
    "muse_cli.commands.shard:shard",
    "Train",
    (
        "muse shard photos",
        "muse shard photos --split train=0.9,val=0.1 --resize 256 --out small-shards",
        "muse shard photos --verify --dry-run",
    ),
)
DEMO = CommandSpec(
    "Make data, train all three stages, measure, draw and report; minutes on a CPU.",
    "muse_cli.commands.demo:demo",
    "Train",
    ("muse demo", "muse demo --quick --out /tmp/demo", "muse demo --resume"),
)
EVAL = CommandSpec(
    "Measure reconstruction: PSNR, SSIM, Frechet distance.",
    "muse_cli.commands.eval:evaluate",
    "Measure",
    (
        "muse eval --data demo:val --limit 64",
        "muse eval tiny --data demo:val:256 --metric psnr --json",
        "muse eval --data demo:val:64 --save-stats reference.npz --size-px 64 --metric fd-tiny-clip",
    ),
)
PROBE = CommandSpec(
    "Measure frozen features with a probe.",
    "muse_cli.commands.probe:app",
    "Measure",
    ("muse probe", "muse probe linear tiny --data demo:train --train-limit 512 --val-data demo:val --limit 256"),
)
ZEROSHOT = CommandSpec(
    "Classify images by text.",
    "muse_cli.commands.zeroshot:zeroshot",
    "Measure",
    ("muse zeroshot --data demo:val --limit 64", "muse zeroshot tiny --data demo:ood --limit 64 --json"),
)
SEGMENT = CommandSpec(
    "Name every pixel with a linear head on frozen patches: mIoU.",
    "muse_cli.commands.segment:segment",
    "Measure",
    (
        "muse segment tiny --data demo:train:96 --val-data demo:val:24 --epochs 2",
        "muse segment tiny --data demo:train:64 --val-data demo:val:16 --label-rule ade20k --epochs 2 --baseline",
    ),
)
COMPARE = CommandSpec(
    "Measure several tokenizers under one protocol, beside what others published.",
    "muse_cli.commands.compare:compare",
    "Measure",
    (
        "muse compare tiny tiny-encoder --data demo:val --limit 16 --measure eval,zeroshot",
        "muse compare tiny tiny-encoder --data demo:val --limit 16 --measure zeroshot --out comparison --json",
    ),
)
REPORT = CommandSpec(
    "Write one page from a run's settings, curves, samples and scores.",
    "muse_cli.commands.report:report",
    "Measure",
    ("muse report runs/tiny-stage3-20261123-1502", "muse report latest --out report.html"),
)
INFER = CommandSpec(
    "Reconstruct images, or write the latents of shards.",
    "muse_cli.commands.infer:infer",
    "Look",
    (
        "muse infer photo.jpg",
        "muse infer photos/ --compare --out reconstructions",
        "muse infer shards/ --latents latents --dtype float16",
    ),
)
INSPECT = CommandSpec(
    "Say what shards, a tokenizer or a run are, and whether they are healthy.",
    "muse_cli.commands.inspect:inspect",
    "Look",
    (
        "muse inspect shards/ --readers 2",
        "muse inspect shards/ --deep --sample 16",
        "muse inspect runs/tiny-stage3-20261123-1502",
        "muse inspect tiny",
    ),
)
ATTN_VIZ = CommandSpec(
    "Draw what the synergistic blocks look at.",
    "muse_cli.commands.attn_viz:attn_viz",
    "Look",
    (
        "muse attn-viz photo.jpg",
        "muse attn-viz photo.jpg --query 120,80 --teacher --against tiny-encoder",
        "muse attn-viz a.jpg b.jpg c.jpg --teacher --out attention.pdf",
        "muse attn-viz photo.jpg --layer all --head all --teacher --out attention.html",
    ),
)
EXPORT = CommandSpec(
    "Write a checkpoint for others: weights, config, model card.",
    "muse_cli.commands.export:export",
    "This installation",
    ("muse export tiny --out exported-tiny", "muse export latest --to hub --out for-the-hub"),
)
LS = CommandSpec(
    "List runs, sizes, stages, presets, probes, metrics or tokenizers.",
    "muse_cli.commands.ls:ls",
    "This installation",
    ("muse ls", "muse ls probes", "muse ls runs --json"),
)
CONFIG = CommandSpec(
    "Show, check and explain settings.",
    "muse_cli.commands.config:app",
    "This installation",
    ("muse config show train --size tiny --stage 1", "muse config keys train", "muse config schema train"),
)
PLUGINS = CommandSpec(
    "List plugins, and check one.",
    "muse_cli.commands.plugins:app",
    "This installation",
    ("muse plugins", "muse plugins check linear"),
)
DOCTOR = CommandSpec(
    "Say what this machine can do, and what is missing.",
    "muse_cli.commands.doctor:doctor",
    "This installation",
    ("muse doctor", "muse doctor --size 1b"),
)
