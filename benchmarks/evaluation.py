"""What measuring costs: all metrics over decoding alone, a probe's sweep over a single head, pixels one by one.

    python benchmarks/evaluation.py [--images 512] [--repeats 3]

Runs on the tokenizer that ships with muse and on built-in scenes, in one process on the CPU, and prints a table in
Markdown. Each number is the median of the repeats of both sides, taken in turn; nothing is read from a cache.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from muse_core.data.source import open_source
from muse_core.evaluation.builtin import FD_TINY_CLIP, LINEAR, PSNR, SSIM
from muse_core.evaluation.features import ProbeData
from muse_core.evaluation.pixels import psnr, ssim, to_bytes
from muse_core.evaluation.probing import run_probe
from muse_core.evaluation.reading import EvalData, Tally, read
from muse_core.evaluation.reconstruction import evaluate, reconstruct
from muse_core.evaluation.spec import ProbeContext
from muse_core.model.load import load_tokenizer
from muse_core.progress import Silent

Work = Callable[[], object]
METRICS = {"psnr": PSNR, "ssim": SSIM, "fd-tiny-clip": FD_TINY_CLIP}


def seconds(work: Work) -> float:
    """Return the processor seconds of a piece of work; other programs on the machine do not count."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def compared(whole: Work, part: Work, repeats: int) -> tuple[float, float]:
    """Return the medians of two pieces of work, done in turn after one round that is not counted."""
    whole(), part()
    found = [(seconds(whole), seconds(part)) for _ in range(repeats)]
    return statistics.median(a for a, _ in found), statistics.median(b for _, b in found)


def all_metrics(tokenizer: object, data: EvalData) -> tuple[Work, Work]:
    """Measure everything that needs no download; and only read, encode and decode."""

    def decode_alone() -> None:
        for batch in read(data, Silent(), "", Tally()):
            reconstruct(tokenizer, tokenizer, batch.images)  # type: ignore[arg-type]

    return lambda: evaluate(tokenizer, data, METRICS), decode_alone


def sweep(tokenizer: object, train: EvalData, validation: EvalData) -> tuple[Work, Work]:
    """Run the whole linear probe, features included; and the same with one recipe instead of a sweep."""
    context = ProbeContext(tokenizer, ProbeData(tokenizer, validation), ProbeData(tokenizer, train))
    single = {"rates": (0.3,), "decays": (1e-3,)}
    return lambda: run_probe("linear", LINEAR, context), lambda: run_probe("linear", LINEAR, context, single)


def pixels(tokenizer: object, data: EvalData) -> tuple[Work, Work]:
    """Compare images by scikit-image one by one; and in batches, by what muse does."""
    batches = [batch.images for batch in read(data, Silent(), "", Tally())]
    pairs = [(to_bytes(images), to_bytes(reconstruct(tokenizer, tokenizer, images))) for images in batches]  # type: ignore[arg-type]

    def one_by_one() -> None:
        for originals, made in pairs:
            for a, b in zip(originals.numpy(), made.numpy(), strict=True):
                peak_signal_noise_ratio(a, b)
                structural_similarity(a, b, channel_axis=0)

    return one_by_one, lambda: [(psnr(a, b), ssim(a, b)) for a, b in pairs]


def main() -> None:
    """Measure and print the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--images", type=int, default=512)
    options.add_argument("--repeats", type=int, default=3)
    asked = options.parse_args()
    torch.set_num_threads(1)
    tokenizer = load_tokenizer("tiny")
    train, validation = (EvalData(open_source(f"demo:{split}:{asked.images}"), 64) for split in ("train", "val"))
    rows = [
        ("PSNR, SSIM and FD (tiny CLIP) / reading, encoding and decoding alone", all_metrics(tokenizer, validation)),
        ("linear probe with its sweep of 20 / with one recipe, features included", sweep(tokenizer, train, validation)),
        ("PSNR + SSIM by scikit-image one by one / in batches", pixels(tokenizer, validation)),
    ]
    print("| what | first, s | second, s | ratio |\n|---|--:|--:|--:|")
    for what, (whole, part) in rows:
        first, second = compared(whole, part, asked.repeats)
        print(f"| {what} | {first:.2f} | {second:.2f} | {first / second:.2f} |", flush=True)
    print(f"\n{asked.images} images of 64 x 64, one thread, processor seconds, median of {asked.repeats}.")


if __name__ == "__main__":
    main()
