"""Several tokenizers under one ruler: the same images, the same size, the same recipes; what each cannot do is said."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from muse_core import api
from muse_core.data.source import open_source
from muse_core.errors import ExitCode, MuseError
from muse_core.evaluation.features import ProbeData
from muse_core.evaluation.generation import GenerationOptions, latent_shape, measure_generation
from muse_core.evaluation.options import LinearOptions
from muse_core.evaluation.probing import run_probe
from muse_core.evaluation.protocol import Scores
from muse_core.evaluation.reading import EvalData
from muse_core.evaluation.reconstruction import evaluate
from muse_core.evaluation.segmentation import SegmentOptions
from muse_core.evaluation.spec import MetricSpec, ProbeContext
from muse_core.evaluation.zeroshot import zeroshot
from muse_core.model.abilities import abilities
from muse_core.model.generating import load_generator
from muse_core.progress import Progress, Silent
from muse_core.registry import discover
from muse_core.suggestions import choices


@dataclass(frozen=True)
class Ruler:
    """What every tokenizer is measured by.

    data: labelled images, with masks for segmentation. train_data: what probes and heads learn from. size: shorter side
    in pixels; None for what the first tokenizer prefers. limit, train_limit: how many images. metrics: of
    reconstruction, by name; none for all that can be measured. measures: names from `MEASURES`. generators: what
    `load_generator` takes, by what the tokenizer is named as whose latents it makes.
    """

    data: str = "demo:val"
    train_data: str = "demo:train"
    size: int | None = None
    limit: int | None = None
    train_limit: int | None = None
    batch_size: int = 64
    metrics: tuple[str, ...] = ()
    measures: tuple[str, ...] = ("eval", "generate", "zeroshot", "linear", "segment")
    classes: tuple[str, ...] | None = None
    templates: tuple[str, ...] = ("{}",)
    linear: LinearOptions = field(default_factory=LinearOptions)
    segment: SegmentOptions = field(default_factory=SegmentOptions)
    generators: Mapping[str, str] = field(default_factory=dict)
    generation: GenerationOptions = field(default_factory=GenerationOptions)


@dataclass(frozen=True)
class Compared:
    """One tokenizer: what was typed for it, what it is, its scores, and why others are missing, by measure."""

    where: str
    name: str
    licence: str
    source: str
    parameters: int
    tokens: tuple[int, int]
    scores: tuple[Scores, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Subject:
    """A tokenizer on its device, and how it is measured."""

    where: str
    tokenizer: Any
    ruler: Ruler
    size: int
    progress: Progress

    def data(self, where: str, split: str, limit: int | None) -> EvalData:
        """Open data at the size that all share."""
        return EvalData(
            open_source(where, split=split, size=self.size),
            size=self.size,
            batch_size=self.ruler.batch_size,
            limit=limit,
            device=str(getattr(self.tokenizer, "device", "cpu")),
        )

    def validation(self) -> EvalData:
        """Open what is measured on."""
        return self.data(self.ruler.data, "val", self.ruler.limit)


def compare(
    wheres: Sequence[str], ruler: Ruler, *, device: str = "cpu", progress: Progress | None = None
) -> list[Compared]:
    """Measure several tokenizers alike, one after another; each is loaded once before anything is measured.

    Args:
        wheres: what `load_tokenizer` takes, each once. ruler: how. device: where. progress: who is told.

    Raises:
        MuseError: there is none, one is named twice, one cannot be loaded, a measure or metric is unknown, or nothing
            at all can be measured. That some of them cannot be measured in some way is no error: it is in `missing`,
            with the reason.
    """
    _check(wheres, ruler)
    # Loading is checked for all of them first: a wrong path must not be found after an hour of measuring.
    infos = {where: api.load_tokenizer(where, device).info for where in wheres}
    size = ruler.size or int(infos[wheres[0]].resolution)
    for where, generator in ruler.generators.items():
        latent_shape(infos[where], load_generator(generator, device).info, size)
    found = [_compared(where, ruler, size, device, progress or Silent()) for where in wheres]
    if not any(one.scores for one in found):
        reasons = {f"{measure}: {why}" for one in found for measure, why in one.missing.items()}
        raise MuseError("\n  ".join(["nothing could be measured:", *sorted(reasons)]), hint="other data, or --measure")
    return found


def _check(wheres: Sequence[str], ruler: Ruler) -> None:
    if not wheres:
        raise MuseError("there is nothing to compare", hint="muse compare tiny tiny-encoder", exit_code=ExitCode.USAGE)
    strange = sorted(set(ruler.generators) - set(wheres))
    if strange:
        raise MuseError(
            f"a generator is given for {', '.join(strange)}, which is not compared", exit_code=ExitCode.USAGE
        )
    twice = sorted({where for where in wheres if list(wheres).count(where) > 1})
    if twice:
        raise MuseError(f"{', '.join(twice)} is named twice", exit_code=ExitCode.USAGE)
    for kind, chosen, known in (
        ("measure", ruler.measures, list(MEASURES)),
        ("metric", ruler.metrics, list(discover("muse.metrics"))),
    ):
        unknown = [name for name in chosen if name not in known]
        if unknown:
            raise MuseError(
                f"no {kind} is called {', '.join(unknown)}",
                hint=choices(unknown[0], known),
                exit_code=ExitCode.USAGE,
            )


def _compared(where: str, ruler: Ruler, size: int, device: str, progress: Progress) -> Compared:
    tokenizer = api.load_tokenizer(where, device)
    subject = _Subject(where, tokenizer, ruler, size, progress)
    found = dict(_measured(subject))
    info = tokenizer.info
    return Compared(
        where=where,
        name=info.name,
        licence=info.licence,
        source=info.source,
        parameters=sum(info.parameters.values()),
        tokens=info.tokens_at(size, size),
        scores=tuple(result for result in found.values() if isinstance(result, Scores)),
        missing={name: result for name, result in found.items() if isinstance(result, str)},
    )


def _measured(subject: _Subject) -> Iterator[tuple[str, Scores | str]]:
    """Measure in every way that was asked for; a reason in words stands where that cannot be done."""
    has = abilities(subject.tokenizer)
    for name in subject.ruler.measures:
        needs, measure = MEASURES[name]
        lacking = [need for need in needs if need not in has]
        if lacking:
            yield name, f"not supported: it has no {' and no '.join(_WORDS[need] for need in lacking)}"
            continue
        try:
            yield name, measure(subject)
        except MuseError as error:  # data without labels or masks, parts that are not on disk: told, and on we go
            yield name, str(error)


def _eval(subject: _Subject) -> Scores:
    known = discover("muse.metrics")
    specs: dict[str, MetricSpec] = {name: known[name].load() for name in subject.ruler.metrics or known}
    return evaluate(subject.tokenizer, subject.validation(), specs, progress=subject.progress)


def _generate(subject: _Subject) -> Scores:
    ruler, device = subject.ruler, str(getattr(subject.tokenizer, "device", "cpu"))
    where = ruler.generators.get(subject.where)
    if where is None:
        raise MuseError("no generator was given for it (--generator TOKENIZER=NAME:PATH)")
    return measure_generation(
        subject.tokenizer,
        load_generator(where, device),
        subject.validation(),
        subject.data(ruler.train_data, "train", ruler.train_limit),
        ruler.generation,
        progress=subject.progress,
    )


def _zeroshot(subject: _Subject) -> Scores:
    return zeroshot(
        subject.tokenizer,
        subject.validation(),
        classes=subject.ruler.classes,
        templates=subject.ruler.templates,
        cache=api.cache_folder() / "text",
        progress=subject.progress,
    )


def _linear(subject: _Subject) -> Scores:
    cache, ruler = api.cache_folder() / "features", subject.ruler
    train = subject.data(ruler.train_data, "train", ruler.train_limit)
    context = ProbeContext(
        tokenizer=subject.tokenizer,
        validation=ProbeData(subject.tokenizer, subject.validation(), cache, subject.progress),
        train=ProbeData(subject.tokenizer, train, cache, subject.progress),
        device=str(getattr(subject.tokenizer, "device", "cpu")),
        progress=subject.progress,
    )
    return run_probe("linear", discover("muse.probes")["linear"].load(), context, ruler.linear)


def _segment(subject: _Subject) -> Scores:
    ruler = subject.ruler
    return api.segment(
        subject.tokenizer,
        ruler.train_data,
        ruler.data,
        ruler.segment,
        size=subject.size,
        limit=ruler.limit,
        train_limit=ruler.train_limit,
        batch_size=ruler.batch_size,
        progress=subject.progress,
    ).scores


MEASURES: Mapping[str, tuple[tuple[str, ...], Callable[[_Subject], Scores]]] = {
    "eval": (("encodes", "decodes"), _eval),
    "generate": (("decodes",), _generate),
    "zeroshot": (("aligns",), _zeroshot),
    "linear": (("featurizes",), _linear),
    "segment": (("featurizes",), _segment),
}
"""By name: the abilities that each needs, and how it is done."""

_WORDS = {
    "encodes": "encoder",
    "decodes": "decoder",
    "aligns": "alignment with text",
    "featurizes": "features",
    "attends": "attention",
}
