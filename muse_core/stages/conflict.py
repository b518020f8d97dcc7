"""The probe `conflict`: whether the losses that a tokenizer was trained with pull the same weights apart.

It stands beside the training because it asks the training's own objective; it measures with `evaluation.conflict`.
Letters: B images.
"""

import time
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from muse_core.data.sample import Batch
from muse_core.errors import ExitCode, MuseError
from muse_core.evaluation.conflict import EVERYTHING, ConflictMeter, Meeting, gradient, groups_of
from muse_core.evaluation.options import ConflictOptions
from muse_core.evaluation.protocol import Protocol, Row, Scores
from muse_core.evaluation.reading import Tally, named, read
from muse_core.evaluation.spec import ProbeContext
from muse_core.model.checkpoint import read_state
from muse_core.model.network import MuseNetwork
from muse_core.model.routing import ROUTINGS, Routing
from muse_core.model.tokenizer import MuseTokenizer
from muse_core.settings.layers import resolve
from muse_core.settings.presets import preset
from muse_core.settings.train import TrainSettings
from muse_core.stages.conflict_figure import draw
from muse_core.stages.judging import build_judges
from muse_core.stages.objective import Objective, Trainee
from muse_core.stages.setup import build_objective, objectives_of
from muse_core.stages.stage import STAGES, divide

STREAMS: Mapping[str, tuple[str, ...]] = {
    "pixels": ("pixel", "perceptual"),
    "topology": ("topology",),
    "contrastive": ("contrastive",),
}
"""Which losses of the objective make up a stream. The adversarial one is left out: it needs a trained discriminator."""


@dataclass(frozen=True)
class _Setup:
    """The objective of a stage, on a copy of the network whose weights may move."""

    network: MuseNetwork
    objective: Objective
    streams: tuple[str, ...]
    weights: Mapping[str, Tensor]
    stage: int
    routing: str

    def losses(self, batch: Batch, routing: Routing) -> dict[str, Tensor]:
        """Return the weighted loss of each stream."""
        encoder = any(name.startswith("encoder.") for name in self.weights)
        trainee = Trainee(self.network, train_encoder=encoder, routing=routing, gradient_scale=1.0)
        output = self.objective.run(trainee, batch)
        terms, _ = self.objective.terms(output, batch, self.network.connector.logit_scale)
        parts = {stream: [name for name in STREAMS[stream] if name in terms] for stream in self.streams}
        return {stream: self.objective.total({name: terms[name] for name in names}) for stream, names in parts.items()}


def measure(context: ProbeContext, options: ConflictOptions) -> Scores:
    """Compare the gradients of each pair of streams, with the stage's stop-gradients and without any.

    Raises:
        MuseError: several processes, no MUSE tokenizer, fewer than two streams, streams that the stage lacks, or no
            batch of two images.
    """
    if context.validation.team.world > 1:  # the contrastive loss would reach over the batches of all of them
        raise MuseError("gradients are compared by one process", "--devices cpu, or one GPU", ExitCode.USAGE)
    started = time.perf_counter()
    setup = _setup(context, options)
    groups = groups_of(setup.network, set(setup.weights))
    routed, joint = (ConflictMeter(groups, setup.streams) for _ in range(2))
    changes, tally = _Changes(setup.streams), Tally()
    for batch in _batches(context, options, tally):
        if "contrastive" in setup.streams and sum(bool(text.strip()) for text in batch.captions) < 2:
            raise MuseError(
                f"{context.validation.data.name} has no captions, so the contrastive loss says nothing",
                hint="data with captions, or --between pixels,topology",
            )
        losses = setup.losses(batch, ROUTINGS[setup.routing])
        gradients = {stream: gradient(loss, setup.weights) for stream, loss in losses.items()}
        routed.add(gradients)
        changes.add(_after_steps(setup, batch, losses, gradients, options.step))
        free = setup.losses(batch, ROUTINGS["joint"])
        joint.add({stream: gradient(loss, setup.weights) for stream, loss in free.items()})
    if not changes.batches:
        raise MuseError(
            f"{context.validation.data.name} gave no batch of two images", hint="more data, or no --limit 1"
        )
    rows = _rows(routed, joint)
    figure = draw(routed, joint, changes.means(), f"{named(context.tokenizer)}, routing {setup.routing}")
    return replace(
        _scores(context, setup, options, tally, rows, routed, joint, changes),
        pictures={"probe-conflict": figure},
        seconds=time.perf_counter() - started,
    )


def _setup(context: ProbeContext, options: ConflictOptions) -> _Setup:
    tokenizer = context.tokenizer
    if not isinstance(tokenizer, MuseTokenizer):
        raise MuseError(f"{named(tokenizer)} is no MUSE tokenizer: it has no losses to compare")
    settings = _settings(tokenizer, options)
    network = deepcopy(tokenizer.network).requires_grad_(True)
    judges = build_judges(
        settings.run.size, settings.losses, network.connector.caption_width, torch.device(context.device)
    )
    objective = build_objective(settings, judges)
    division = divide(network, STAGES[settings.run.stage], objectives_of(settings))
    for name, weight in network.named_parameters():
        weight.requires_grad_(name in division.trained)
    weights = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
    return _Setup(network, objective, _streams(objective, options), weights, settings.run.stage, _routing(settings))


def _settings(tokenizer: MuseTokenizer, options: ConflictOptions) -> TrainSettings:
    """Return the recipe of the stage that the tokenizer comes from, fitted to its own network."""
    size, connector = tokenizer.origin.size, tokenizer.network.connector
    stage = options.stage or _stage_of(tokenizer)
    flags = {"run.size": size, "run.stage": stage, "model.blocks": len(connector.blocks)}
    flags |= {"model.layout": connector.layout, "training.batch_size": options.batch_size, "data.lanes": 1}
    flags |= {"training.reconstruct": options.batch_size}
    if options.routing or connector.layout == "released":
        flags["training.routing"] = options.routing or "released"
    settings, _ = resolve(TrainSettings, command="train", flags=flags, preset=preset(size, stage), environ={})
    return settings


def _stage_of(tokenizer: MuseTokenizer) -> int:
    folder = Path(tokenizer.origin.source)
    return read_state(folder).stage if (folder / "state.json").is_file() else max(STAGES)


def _routing(settings: TrainSettings) -> str:
    return settings.training.routing


def _streams(objective: Objective, options: ConflictOptions) -> tuple[str, ...]:
    there = [stream for stream, parts in STREAMS.items() if any(part in objective.weights for part in parts)]
    wanted = [name.strip() for name in options.between.split(",") if name.strip()] or there
    asked = tuple(dict.fromkeys({"pixel": "pixels"}.get(name, name) for name in wanted))
    absent = [name for name in asked if name not in there]
    if absent or len(asked) < 2:
        what = f"no loss of this stage is called {', '.join(absent)}" if absent else "a conflict needs two losses"
        raise MuseError(what, hint=f"--between two of {','.join(there)}", exit_code=ExitCode.SETTINGS)
    return asked


def _batches(context: ProbeContext, options: ConflictOptions, tally: Tally) -> Iterator[Batch]:
    data = context.validation.data
    most = options.batches * options.batch_size
    limited = replace(data, batch_size=options.batch_size, limit=min(data.limit or most, most))
    for batch in read(limited, context.progress, f"gradients on {data.name}", tally):
        if len(batch) > 1:
            yield batch
        else:
            tally.skip("alone in a batch", 1)


def _after_steps(
    setup: _Setup,
    batch: Batch,
    losses: Mapping[str, Tensor],
    gradients: Mapping[str, Mapping[str, Tensor | None]],
    size: float,
) -> dict[tuple[str, str], float]:
    """Return the relative change of loss j after one step down the gradient of loss i, by (i, j).

    The step is as long as would lower loss i by the fraction `size`, if it were a plane.
    """
    found: dict[tuple[str, str], float] = {}
    for i, down in gradients.items():
        energy = sum(float(part.double().square().sum()) for part in down.values() if part is not None)
        length = size * float(losses[i].detach()) / energy if energy else 0.0
        before = {name: setup.weights[name].detach().clone() for name, part in down.items() if part is not None}
        with torch.no_grad():
            for name in before:
                step = down[name]
                assert step is not None
                setup.weights[name].sub_(length * step)
            after = setup.losses(batch, ROUTINGS[setup.routing])
            for name, value in before.items():
                setup.weights[name].copy_(value)
        found |= {(i, j): float(after[j] / losses[j].detach()) - 1 for j in losses}
    return found


class _Changes:
    """The mean over batches of what a step on one loss does to each."""

    def __init__(self, streams: tuple[str, ...]) -> None:
        self._sums = {(i, j): 0.0 for i in streams for j in streams}
        self.batches = 0

    def add(self, found: Mapping[tuple[str, str], float]) -> None:
        for pair, value in found.items():
            self._sums[pair] += value
        self.batches += 1

    def means(self) -> dict[tuple[str, str], float]:
        return {pair: value / self.batches for pair, value in self._sums.items()}

    def rows(self) -> list[Row]:
        return [{"step on": i, "loss": j, "relative change": value} for (i, j), value in self.means().items()]


def _rows(routed: ConflictMeter, joint: ConflictMeter) -> list[Row]:
    rows: list[Row] = []
    for group in routed.groups:
        for a, b in routed.pairs:
            here, free = routed.meeting(group, a, b), joint.meeting(group, a, b)
            rows.append(
                {
                    "weights": group,
                    "pair": f"{a}-{b}",
                    "cosine": _shown(here),
                    "standard error": here.error,
                    "without stop-gradients": _shown(free),
                    "energy of the first": here.energies[0],
                    "energy of the second": here.energies[1],
                }
            )
    return rows


def _shown(meeting: Meeting) -> float | str:
    return "disjoint" if meeting.cosine is None else meeting.cosine


def _scores(
    context: ProbeContext,
    setup: _Setup,
    options: ConflictOptions,
    tally: Tally,
    rows: list[Row],
    routed: ConflictMeter,
    joint: ConflictMeter,
    changes: _Changes,
) -> Scores:
    metrics, errors, disjoint = {}, {}, {}
    for prefix, meter in (("cosine", routed), ("joint-cosine", joint)):
        for a, b in meter.pairs:
            name, met = f"{prefix}/{a}-{b}", meter.meeting(EVERYTHING, a, b)
            if met.cosine is None:
                disjoint[name] = "disjoint: the two losses meet in no trained weight"
                continue
            metrics[name] = met.cosine
            if met.error is not None:
                errors[name] = met.error
    fields = {
        **context.validation.data.describe(),
        "images": tally.seen,
        "stage": setup.stage,
        "routing": setup.routing,
        "weights": {name: setup.objective.weights[name] for s in setup.streams for name in STREAMS[s]
                    if name in setup.objective.weights},
        "recipe": options.model_dump(),
        "precision": "float32",
    }  # fmt: skip
    return Scores(
        command="probe conflict",
        tokenizer=named(context.tokenizer),
        metrics=metrics,
        protocol=Protocol(fields),
        counts=tally.counts(),
        standard_errors=errors,
        tables={"where streams meet": rows, "one step on one loss": changes.rows()},
        notes=[
            "joint-cosine: the same weights with every stop-gradient removed",
            "missing gradients count as zero; the adversarial loss is not among the streams",
        ],
        not_measured=disjoint,
    )
