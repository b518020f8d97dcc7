"""Every command line of the product that writes, and what lies where it is typed."""

import re
from dataclasses import dataclass
from pathlib import Path

from muse_core.registry import discover

ROOT = Path(__file__).parents[2]
MINE = "my own work"
INDEXES = ("job.json", "index.json", "status.json", "config.json", "saved.json", "comparison.json")
"""By which muse knows its folders: files of a stranger may be called so."""


@dataclass(frozen=True)
class Writer:
    """A command line that ends with the option that names an output.

    cheap: it takes not more than seconds. ending: of the files that it writes.
    """

    line: str
    cheap: bool = True
    ending: str = "json"


EVAL = "eval tiny --data demo:val:2 --metric psnr"
SEGMENT = "segment tiny --data demo:train:8 --val-data demo:val:2 --epochs 1 --classes 96"
FILES = {
    "eval --out": Writer(f"{EVAL} --out"),
    "eval --save-stats": Writer("eval --data demo:val:4 --size-px 64 --metric fd-tiny-clip --save-stats", ending="npz"),
    "zeroshot --out": Writer("zeroshot tiny --data demo:val:4 --out"),
    "segment --out": Writer(f"{SEGMENT} --out"),
    "segment --picture": Writer(f"{SEGMENT} --picture", ending="png"),
    "attn-viz --out": Writer("attn-viz y.jpg --checkpoint tiny --out", ending="png"),
    "infer --features": Writer("infer y.jpg --checkpoint tiny --out o --features", ending="npz"),
    "inspect --out": Writer("inspect s --sample 2 --out", ending="png"),
    "report --out": Writer("report run --out", ending="html"),
    **{
        f"probe {name} --out": Writer(
            f"probe {name} tiny --val-data demo:val:16 --data demo:train:32 --out", name == "knn"
        )
        for name in sorted(discover("muse.probes"))
    },
}
FOLDERS = {
    "shard --out": Writer("shard d --out"),
    "infer --latents": Writer("infer s --checkpoint tiny --latents"),
    "export --out": Writer("export tiny --out"),
    "train --out": Writer("train --stage 1 --size tiny --data demo --init none --steps 1 --batch-size 8 --out", False),
    "compare --out": Writer("compare tiny --data demo:val --limit 2 --measure eval --set metrics=[psnr] --out"),
    "eval --save-images": Writer(f"{EVAL} --save-images"),
    "segment --save-masks": Writer(f"{SEGMENT} --save-masks"),
}
BESIDE = {"infer --out", "demo --out"}
"""Where names step aside: files in the folder, or the folder itself."""
INPUTS = {"--config", "--reference", "--classes", "--templates", "--masks", "--captions"}


def everything(folder: Path) -> dict[str, bytes | None]:
    """All that is in a folder, hidden files and empty folders too; the cache is muse's."""
    return {
        re.sub(r"tfevents.*", "tfevents", path.relative_to(folder).as_posix()): (
            path.read_bytes() if path.is_file() else None
        )
        for path in sorted(folder.rglob("*"))
        if path.relative_to(folder).parts[0] != "cache"
    }
