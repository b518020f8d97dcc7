"""The scores of `muse demo`: mean and spread over seeds, floors, and what the sharp losses are worth.

    python benchmarks/tiny.py RESULTS [--seeds 3] [--without-ablation]

Runs the full demo once per seed, and once more without the adversarial and perceptual terms; every finished run is kept
under RESULTS and not run again. Writes docs/tiny-results.md, which says what was not run.
"""

import argparse
import json
import shlex
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from muse_core.demo import run_demo
from muse_core.demo_record import read_record
from muse_core.files import write_atomically, write_json
from muse_core.machine import environment
from muse_core.progress import Silent

DOCUMENT = Path(__file__).parents[1] / "docs" / "tiny-results.md"
PLAIN = {"losses.perceptual": 0.0, "losses.adversarial": 0.0}

ROWS = (
    ("PSNR, dB", "eval", "psnr", "{:.2f}"),
    ("SSIM", "eval", "ssim", "{:.3f}"),
    ("FD (tiny CLIP), lower is better", "eval", "fd-tiny-clip", "{:.2f}"),
    ("zero-shot top-1, %", "zeroshot", "top1", "{:.1%}"),
    ("linear probe top-1, %", "probe-linear", "top1", "{:.1%}"),
    ("topology KL, nats", "probe-topology", "kl", "{:.4f}"),
    ("attention-to-object AUC", "probe-topology", "auc", "{:.3f}"),
    ("AUC at equal distance", "probe-topology", "auc_distance_matched", "{:.3f}"),
    ("PSNR, unseen designer, dB", "eval-unseen", "psnr", "{:.2f}"),
    ("zero-shot top-1, unseen designer, %", "zeroshot-unseen", "top1", "{:.1%}"),
)


SHIPPED = (
    (
        "linear probe top-1, %",
        "muse probe linear tiny --data demo:train:4000 --val-data demo:val:2000",
        "top1",
        "{:.1%}",
    ),
)
"""What the shipped tokenizer reaches: score, the command line that prints it, its name there, how it is written."""


def measured(command: str) -> dict[str, Any]:
    """Type a command line, and return its --json."""
    line = [sys.executable, "-m", "muse_cli", *shlex.split(command)[1:], "--json"]
    document: dict[str, Any] = json.loads(subprocess.run(line, capture_output=True, text=True, check=True).stdout)
    return document


def shipped(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the table of the tokenizer that ships. found: what each command printed."""
    lines = [
        "| score | the tokenizer that ships | untouched encoder | the command that prints it |",
        "|---|--:|--:|---|",
    ]
    for title, command, metric, form in SHIPPED:
        beside = found[command]["baselines"].get("untouched encoder", {})
        encoder = form.format(beside[metric]) if metric in beside else ""
        number = form.format(found[command]["metrics"][metric])
        lines.append(f"| {title} | {number} | {encoder} | `{command}` |")
    return lines


def finished_run(folder: Path, seed: int, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Run the demo, or read what an earlier run found."""
    kept = folder / "result.json"
    if not kept.exists():
        begun = read_record(folder) is not None
        write_json(kept, run_demo(folder, False, Silent(), seed=seed, overrides=overrides, resume=begun))
    document: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
    return document


def value(run: Mapping[str, Any], score: str, metric: str) -> float:
    """Return one number of a run."""
    return float(run["scores"][score]["metrics"][metric])


def baselines(run: Mapping[str, Any], score: str, metric: str, form: str) -> str:
    """Return what stands beside a number."""
    found = run["scores"][score]["baselines"]
    return "; ".join(f"{name} {form.format(values[metric])}" for name, values in found.items() if metric in values)


def table(runs: list[dict[str, Any]], plain: Mapping[str, Any] | None) -> list[str]:
    """Return the rows of the document."""
    lines = [
        f"| score | mean of {len(runs)} runs | smallest to largest | without sharp losses, 1 run | baselines |",
        "|---|--:|--:|--:|---|",
    ]
    for title, score, metric, form in ROWS:
        numbers = [value(run, score, metric) for run in runs]
        mean, low, high = (form.format(number) for number in (statistics.mean(numbers), min(numbers), max(numbers)))
        other = form.format(value(plain, score, metric)) if plain else "not run"
        lines.append(f"| {title} | {mean} | {low} to {high} | {other} | {baselines(runs[0], score, metric, form)} |")
    return lines


def floors(runs: list[dict[str, Any]], plain: Mapping[str, Any] | None) -> list[str]:
    """Return each floor that was set beforehand with what was reached, reached or not."""

    def mean(score: str, metric: str) -> float:
        return statistics.mean(value(run, score, metric) for run in runs)

    def base(score: str, name: str, metric: str) -> float:
        return float(runs[0]["scores"][score]["baselines"][name][metric])

    kl, raw = mean("probe-topology", "kl"), "untouched encoder"
    share = kl / base("probe-topology", "uniform", "kl")
    text = mean("zeroshot", "top1") / base("zeroshot", raw, "top1")
    linear = mean("probe-linear", "top1") / base("probe-linear", raw, "top1")
    sharp, dull = mean("eval", "fd-tiny-clip"), value(plain, "eval", "fd-tiny-clip") if plain else None
    gaussian = base("probe-topology", "distance only", "kl")
    rows = [
        ("PSNR at least 22.8 dB with the sharp losses on", mean("eval", "psnr") >= 22.8, f"{mean('eval', 'psnr'):.2f}"),
        ("FD lower than without the sharp losses", dull is not None and sharp < dull, _against(sharp, dull)),
        ("topology KL at most 0.15 of the uniform map's", share <= 0.15, f"{share:.3f}"),
        ("topology KL below the best Gaussian of distance", kl < gaussian, f"{kl:.4f} against {gaussian:.4f}"),
        ("object AUC at least 0.93", mean("probe-topology", "auc") >= 0.93, f"{mean('probe-topology', 'auc'):.3f}"),
        ("keeps 90 % of the encoder's zero-shot", text >= 0.9, f"{text:.0%}"),
        ("keeps 85 % of the encoder's linear probe", linear >= 0.85, f"{linear:.0%}"),
    ]
    lines = ["| floor | reached | value |", "|---|---|--:|"]
    return lines + [f"| {what} | {'yes' if reached else '**no**'} | {found} |" for what, reached, found in rows]


def _against(sharp: float, dull: float | None) -> str:
    return f"{sharp:.2f} against {dull:.2f}" if dull is not None else f"{sharp:.2f}, the other run was not made"


def write_document(runs: list[dict[str, Any]], plain: Mapping[str, Any] | None) -> None:
    """Write docs/tiny-results.md."""
    seen = runs[0]["scores"]["eval"]["counts"]["seen"]
    versions = environment()["versions"]
    shown = ", ".join(f"{name} {versions[name]}" for name in ("torch", "transformers", "diffusers") if name in versions)
    text = [
        "# What the tiny size reaches",
        "",
        "Written by `python benchmarks/tiny.py`: the full `muse demo` with seeds 0, 1, ..., measured on "
        f"{seen:,} fixed held-out scenes. **In-vocabulary, same sprites**: the arrangements are new, the artwork and "
        "the 98 classes were trained on. The unseen designer's artwork was never seen by any part. The structure "
        "teacher was trained **with masks**, so topology KL and both AUCs are partly supervised. Baselines are those "
        "of seed 0.",
        "",
        *table(runs, plain),
        "",
        "In the folder of a demo, its last run is measured by `muse eval stage3 --data data/val`, `muse "
        "zeroshot stage3 --data data/val`, `muse probe linear stage3 --data data/train --train-limit 4000 "
        "--val-data data/val` and `muse probe topology stage3 --val-data data/val`.",
        "",
        "## The tokenizer that ships",
        "",
        "A linear probe scores higher when it learns from more scenes, and without `--data` it learns from fewer.",
        "",
        *shipped({command: measured(command) for _, command, _, _ in SHIPPED}),
        "",
        "Sharp losses: the adversarial and the perceptual term. The perceptual term compares features of the tiny "
        "encoder; it is not LPIPS, and FD (tiny CLIP) is not rFID.",
        "",
        "## Floors that were set before training",
        "",
        *floors(runs, plain),
        "",
        f"Versions: {shown}.",
        "",
    ]
    write_atomically(DOCUMENT, "\n".join(text))


def main() -> None:
    """Run what is missing and write the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--without-ablation", action="store_true")
    options = parser.parse_args()
    runs = [finished_run(options.results / f"seed{seed}", seed, {}) for seed in range(options.seeds)]
    write_document(runs, None if options.without_ablation else finished_run(options.results / "plain", 0, PLAIN))


if __name__ == "__main__":
    main()
