"""What a training step costs, part by part, what each shortcut saves, and how near it all comes to the machine's peak.

`python -m benchmarks.training` steps through size tiny and a mid-size at 224 px on one thread of the CPU and prints the
tables that docs/training-speed.md shows. On a CPU, time is that of this process, so that other work on the machine
counts little; every figure that matters is a ratio of two times of one run. `--device cuda` does the same at the
published shapes of 1b in bf16 with the largest batch that fits, and against a plain variant of the step.
"""

import argparse
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, field

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import AdamW

from benchmarks.networks import Networks, build
from benchmarks.peaks import Call, Flops, Stopwatch, count, peaks
from muse_core.losses.contrastive import contrastive_loss
from muse_core.losses.pixel import pixel_loss
from muse_core.losses.topology import topology_loss
from muse_core.machine import versions
from muse_core.model.captions import CaptionCache
from muse_core.model.images import imagenet_normalize
from muse_core.model.routing import ROUTINGS
from muse_core.stages.adversary import Adversary, Judged
from muse_core.stages.stage import STREAM_OF, part_of
from muse_core.training.learner import Learner, Opposition
from muse_core.training.optimization import Optimization, parameter_groups
from muse_core.training.task import Compute, Partition

BATCH = {"tiny": 8, "mid": 1}
OPEN = ROUTINGS["open"]
GIGA = 1e9


@dataclass
class Step:
    """A step of stage 3, whole and in parts that can be run alone."""

    nets: Networks
    batch: int
    device: torch.device
    low: torch.dtype | None = None
    images: Tensor = field(init=False)
    captions: list[str] = field(init=False)

    def __post_init__(self) -> None:
        draws = torch.Generator().manual_seed(0)
        side = self.nets.side
        self.images = torch.rand(self.batch, 3, side, side, generator=draws).to(self.device)
        self.captions = [f"picture number {index}" for index in range(self.batch)]
        network = self.nets.network
        weights = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
        streams = {name: STREAM_OF[part_of(name)] for name in weights}
        accelerator = Accelerator(cpu=self.device.type == "cpu")
        self.learner = self.learning(network, Partition(parameter_groups(weights, 1e-5, 1e-4), streams), accelerator)
        self.cache = CaptionCache(self.nets.text)
        self.adversary = Adversary(
            self.nets.discriminator, lr=1e-5, weight_decay=0.0, lecam=0.001, start=0, compute=Compute(self.device)
        )
        rival = self.learning(self.adversary.module, self.adversary.partition, accelerator, ())
        self.opposition = Opposition(self.adversary, rival)
        with torch.no_grad():
            self.tokens = network.encoder(self.images)
            out = network.connector(self.tokens, OPEN)
            self.grid, self.latents = out.grid, out.latents
            self.picture = network.decode(out.latents, (side, side)).float()
        self.target = self.nets.teacher(self.images, self.grid)

    @staticmethod
    def learning(
        module: nn.Module, partition: Partition, accelerator: Accelerator, decays: Sequence[float] = (0.999,)
    ) -> Learner:
        """Return a module with its optimizer and averages."""
        return Learner(module, Optimization(module, partition, betas=(0.9, 0.999), clip=1.0), accelerator, decays)

    def lowered(self) -> AbstractContextManager[object]:
        """Compute in half precision, where that was asked for."""
        return torch.autocast(self.device.type, self.low) if self.low else nullcontext()

    def teacher(self) -> Tensor:
        """Where the teacher looks."""
        with self.lowered():
            return self.nets.teacher(self.images, self.grid)

    def encoder(self) -> None:
        """Both ways through the encoder."""
        with self.lowered():
            self.nets.network.encoder(self.images).float().square().mean().backward()

    def blocks(self, mapped: tuple[int, ...] | None = None) -> None:
        """Both ways through adapter and blocks."""
        with self.lowered():
            out = self.nets.network.connector(self.tokens.detach().requires_grad_(), OPEN, 1.0, mapped)
        parts = [out.latents, *out.attentions, *out.anchors]
        torch.stack([part.float().square().mean() for part in parts]).sum().backward()

    def decoder(self) -> None:
        """Both ways through the decoder."""
        with self.lowered():
            latents = self.latents.detach().requires_grad_()
            self.nets.network.decode(latents, (self.nets.side,) * 2).float().square().mean().backward()

    def losses(self) -> None:
        """All losses but those of the discriminator, both ways, from what the networks made."""
        picture = self.picture.detach().requires_grad_()
        with self.lowered():
            found = self.nets.perceptual(picture, self.images) + pixel_loss(picture, self.images)
            text = self.cache(self.captions)
        image = functional.normalize(torch.ones_like(text), dim=-1).requires_grad_()
        found = found + contrastive_loss(image, text, torch.tensor(2.6, device=self.device)).loss
        student = self.target[:, None].detach().requires_grad_()
        (found + topology_loss(student, self.target)).backward()

    def discriminator(self) -> None:
        """The term of the generator, both ways, and the discriminator's own turn."""
        picture = self.picture.detach().requires_grad_()
        with self.lowered():
            with self.opposition.resting():
                self.adversary.term(picture).backward()
            self.opposition.judge([Judged(self.images, self.picture.detach(), 1.0)])
        self.opposition.learner.step()

    def update(self) -> None:
        """Clip, step, average; gradients are left as they are."""
        self.learner.optimization.clip_gradients()
        self.learner.optimization.optimizer.step()
        self.learner.averages[0].update()

    def whole(self) -> None:
        """One step as training takes it."""
        network, side = self.nets.network, self.nets.side
        with self.opposition.resting(), self.lowered():
            out = network.connector(network.encoder(self.images), OPEN)
            picture = network.decode(out.latents, (side, side)).float()
            embedded = network.connector.embed(out.anchors[-1])
            wanted, text = self.nets.teacher(self.images, out.grid), self.cache(self.captions)
            terms = [
                pixel_loss(picture, self.images),
                2.0 * self.nets.perceptual(picture, self.images),
                0.5 * self.adversary.term(picture),
            ]
        terms.append(0.2 * torch.stack([topology_loss(one, wanted) for one in out.attentions]).mean())
        terms.append(0.1 * contrastive_loss(embedded, text, network.connector.logit_scale).loss)
        torch.stack(terms).sum().backward()
        self.update()
        self.learner.optimization.optimizer.zero_grad(set_to_none=True)
        with self.lowered():
            self.opposition.judge([Judged(self.images, picture.detach(), 1.0)])
        self.opposition.learner.step()

    def parts(self) -> dict[str, Call]:
        """What the step is made of; the optimizer last, when there are gradients."""
        return {
            "teacher": self.teacher,
            "encoder": self.encoder,
            "blocks": self.blocks,
            "decoder": self.decoder,
            "losses": self.losses,
            "discriminator": self.discriminator,
            "optimizer": self.update,
        }


def part_rows(step: Step, watch: Stopwatch, peak: Flops) -> list[str]:
    """Time and count each part and the whole; the peak's time is that which the operations would take at best."""
    measured = {name: (watch(call), count(call)) for name, call in step.parts().items()}
    step.learner.optimization.optimizer.zero_grad(set_to_none=True)
    whole, flops = watch(step.whole), count(step.whole)
    rows = ["| part | share of the step | GFLOP an image | fraction of the peak |", "|---|---:|---:|---:|"]
    for name, (seconds, counted) in {**measured, "whole step": (whole, flops)}.items():
        reached = at_peak(counted, peak) / seconds
        said = f"{reached:.2f}" if counted.total else "no products"
        rows.append(f"| {name} | {seconds / whole:.3f} | {counted.total / step.batch / GIGA:.2f} | {said} |")
    return rows


def at_peak(flops: Flops, peak: Flops) -> float:
    """Return the seconds that operations take at the measured peak."""
    return flops.conv / peak.conv + flops.matmul / peak.matmul


def full_teacher(step: Step) -> Call:
    """The plain way to the target: every layer, with its map, held until the end."""
    eager = deepcopy(step.nets.teacher.model)
    eager.set_attn_implementation("eager")

    def call() -> object:
        with torch.no_grad(), step.lowered():
            return eager(imagenet_normalize(step.images), output_attentions=True).attentions[-1]

    return call


def decoder_rows_first(step: Step) -> Call:
    """The decoder with weights and pictures row by row in memory."""
    decoder = deepcopy(step.nets.network.decoder).to(memory_format=torch.contiguous_format)

    def call() -> None:
        latents = step.latents.detach().contiguous().requires_grad_()
        with step.lowered():
            decoder(latents, (step.nets.side,) * 2).float().square().mean().backward()

    return call


def one_by_one(step: Step) -> Call:
    """Optimizer and average as loops over weights, the average over all that is frozen too."""
    weights = {
        name: nn.Parameter(weight.detach().clone()) for name, weight in step.learner.optimization.weights.items()
    }
    for weight in weights.values():
        weight.grad = torch.full_like(weight, 1e-6)
    optimizer = AdamW(weights.values(), lr=1e-5, foreach=False, fused=False)
    everything = [*weights.values(), *step.nets.teacher.model.parameters()]
    shadow = [weight.detach().clone() for weight in everything]

    @torch.no_grad()
    def call() -> None:
        nn.utils.clip_grad_norm_(weights.values(), 1.0)
        optimizer.step()
        for mean, weight in zip(shadow, everything, strict=True):
            mean.lerp_(weight.detach(), 0.001)

    return call


def shortcut_rows(step: Step, watch: Stopwatch, whole: float) -> list[str]:
    """Compare each shortcut with the plain way, in time and in operations."""
    for weight in step.learner.optimization.weights.values():
        weight.grad = torch.full_like(weight, 1e-6)
    pairs: Mapping[str, tuple[Call, Call]] = {
        "teacher: fused attention, q and k of the last layer": (full_teacher(step), step.teacher),
        "blocks: no map where no loss looks": (lambda: step.blocks(None), lambda: step.blocks(())),
        "captions: embedded once": (lambda: step.nets.text(step.captions), lambda: step.cache(step.captions)),
        "decoder: channels last": (decoder_rows_first(step), step.decoder),
        "optimizer and average: one kernel, trained weights only": (one_by_one(step), step.update),
    }
    rows = ["| shortcut | plain / shortcut, time | plain / shortcut, operations | saves of a step |"]
    rows.append("|---|---:|---:|---:|")
    for name, (plain, short) in pairs.items():
        before, after = watch(plain), watch(short)
        long, brief = count(plain).total, count(short).total
        bound = f"{long / brief:.2f}" if long and brief else "none are left" if long else "no products"
        rows.append(f"| {name} | {before / after:.2f} | {bound} | {(before - after) / whole:.3f} |")
    return rows


def plain_step(step: Step) -> Call:
    """The step without shortcuts, at the same batch: all teacher maps, captions each step, average over everything."""
    teach, text, average = full_teacher(step), step.nets.text, one_by_one(step)

    def call() -> None:
        teach()
        with step.lowered():
            text(step.captions)
        step.whole()
        average()

    return call


def largest_batch(nets: Networks, device: torch.device, low: torch.dtype) -> int:
    """Double the batch until the memory is full."""
    batch = 8
    while True:
        try:
            Step(nets, 2 * batch, device, low).whole()
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            return batch
        batch *= 2


def on_gpu(watch: Stopwatch) -> None:
    """Print images per second, the fraction of the peak, and the ratio to the plain step, at the largest batch."""
    nets, low = build("1b", watch.device), torch.bfloat16
    step = Step(nets, largest_batch(nets, watch.device, low), watch.device, low)
    peak = peaks(watch, low)
    whole, flops = watch(step.whole), count(step.whole)
    print(f"1b, stage 3, bf16, batch {step.batch}: {step.batch / whole:.1f} images/s")
    print(f"model FLOPs utilisation {flops.total / whole / peak.matmul:.3f} of the measured matmul peak")
    print("\n".join(part_rows(step, watch, peak)))
    half = Step(nets, step.batch // 2, watch.device, low)  # the plain step holds more
    print(f"plain / this step at batch {half.batch}: {(watch(plain_step(half)) / watch(half.whole)):.2f}")


def on_cpu(watch: Stopwatch, sizes: list[str]) -> None:
    """Print the two tables of each size."""
    torch.set_num_threads(1)
    peak = peaks(watch, torch.float32)
    print(f"peak of one thread: {peak.matmul / GIGA:.0f} GFLOP/s in products, {peak.conv / GIGA:.0f} in convolutions")
    for size in sizes:
        step = Step(build(size, watch.device), BATCH[size], watch.device)
        print(f"\n### {size}: {step.nets.side} px, {step.batch} images\n")
        print("\n".join(part_rows(step, watch, peak)), flush=True)
        print()
        print("\n".join(shortcut_rows(step, watch, watch(step.whole))), flush=True)
        data_row(size, step, watch)


def data_row(size: str, step: Step, watch: Stopwatch) -> None:
    """Print how long drawing a batch of scenes takes beside the step; only tiny has scenes of its size."""
    if size != "tiny":
        return
    from muse_core.data.loader import Batches
    from muse_core.data.source import open_source
    from muse_core.data.transforms import train_transform

    transform = train_transform(step.nets.side, flip=False)
    batches = iter(Batches(open_source("demo", size=step.nets.side), batch_size=step.batch, transform=transform))
    print(f"\ndata, one reader: {watch(lambda: next(batches)) / watch(step.whole):.3f} of a step")


def main() -> None:
    """Say what the machine is and how busy, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--rounds", type=int, default=2, help="of which the best counts")
    parser.add_argument("--sizes", nargs="+", default=["tiny", "mid"], choices=("tiny", "mid"))
    asked = parser.parse_args()
    found = versions(("torch", "transformers", "diffusers"))
    busy = f"{os.getloadavg()[0]:.1f} of {os.cpu_count()} cores wanted by all programs"
    print(", ".join(f"{name} {version}" for name, version in found.items()), f"; {busy}")
    watch = Stopwatch(torch.device(asked.device), asked.rounds)
    on_gpu(watch) if asked.device == "cuda" else on_cpu(watch, asked.sizes)


if __name__ == "__main__":
    main()
