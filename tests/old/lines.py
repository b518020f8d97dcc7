"""The command lines that are typed to the old code and to the new: the smallest runs of every stage, and scores.

Every path in them is relative, so that both codes write the same words.
"""

from collections.abc import Mapping

STEPS = 20
MIDDLE = 10
"""Where every run saves on its way, and is resumed from."""

LEAN = (
    "--size tiny --batch-size 8 --seed 0 --devices cpu --set model.width=32 --set model.resolution=32 "
    "--set model.heads=4 --set model.blocks=2 --set training.reconstruct=4 --set training.sample_every=20 "
    "--set training.log_every=1 --set training.track=[none] --set training.threads=1 --set optim.lr=1e-3 "
    f"--set data.workers=0 --set data.val_images=6 --steps {STEPS} --save-every {MIDDLE} --set training.eval_every=10"
)
DEMO = "--data demo --set data.lanes=4 --set data.val=demo:val"
SHARDS = "--data shards --set data.lanes=1 --set data.val=shards"

RUNS: Mapping[str, str] = {
    "runs/stage1": f"train --stage 1 --init none --out runs/stage1 {DEMO} {LEAN}",
    "runs/stage2": f"train --stage 2 --init runs/stage1 --out runs/stage2 {DEMO} {LEAN}",
    "runs/stage3": f"train --stage 3 --init runs/stage2 --out runs/stage3 {DEMO} {LEAN}",
    "runs/shards1": f"train --stage 1 --init none --out runs/shards1 {SHARDS} {LEAN}",
}
"""Run folder -> the command that makes it; a later one may begin from an earlier one."""

SCORES: Mapping[str, str] = {
    "eval": "eval tiny --data demo:val:256 --metric psnr --metric ssim --metric fd-tiny-clip --batch-size 32",
    "zeroshot": "zeroshot tiny --data demo:val:256 --batch-size 32",
    "knn": "probe knn tiny --data demo:train:256 --val-data demo:val:256",
    "linear": "probe linear tiny --data demo:train:256 --val-data demo:val:256",
    "topology": "probe topology tiny --val-data demo:val:256",
    "segment": "segment tiny --data demo:train:64 --val-data demo:val:256 --epochs 1",
}
"""Scores of the shipped tokenizer."""

ON_RUNS: Mapping[str, str] = {
    "eval": "eval runs/stage3 --data demo:val:32 --metric psnr --metric ssim",
    "zeroshot": "zeroshot runs/stage3 --data demo:val:32",
    "knn": "probe knn runs/stage3 --data demo:train:32 --val-data demo:val:32",
}
"""Scores of a run of the lean network, whose checkpoint the old code wrote."""
