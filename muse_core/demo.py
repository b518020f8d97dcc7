"""`muse demo`: made data, shards, three tiny stages, scores, pictures, one report; minutes on a CPU, no network."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt

from muse_core import api
from muse_core.command_lines import quote
from muse_core.data.owned import INDEX_NAME, SHARDS
from muse_core.data.sample import Sample
from muse_core.data.source import open_source
from muse_core.data.writer import write_scene_shards
from muse_core.demo_record import DemoRecord, Journal, begun, default_place, resumed, way_on
from muse_core.errors import MuseError, explained
from muse_core.evaluation.kept_scores import keep, read_kept
from muse_core.evaluation.protocol import Scores
from muse_core.files import read_json, undo_aside
from muse_core.marks import Mark
from muse_core.model.load import untouched_baseline
from muse_core.ownership import write_file
from muse_core.progress import Progress
from muse_core.run_files import remove_begun
from muse_core.runs import RunFolder, is_run
from muse_core.settings.presets import STAGES
from muse_core.stages.start import resume as resume_run
from muse_core.viz.attention import attention_content, attention_figure, figure_bytes
from muse_core.viz.grids import sample_strip
from muse_core.viz.maps import AttentionMap, Scene
from muse_core.viz.report import Figure, report_page
from muse_core.viz.runview import read_run
from muse_core.viz.story import NextStep

IN_VOCABULARY = "in-vocabulary, same sprites: held-out arrangements of artwork and classes that were trained on"
UNSEEN = "unseen designer: the same classes, drawn by somebody whose artwork no part was trained on"
LATENTS = "Held-out scenes, encoded to 8 x 8 cells of 16 numbers and back."
LOOKS = "Where the marked point looks: MUSE's last block, the encoder before MUSE, the teacher."
WITH_MASKS = "the structure teacher was trained with masks, so numbers taken with masks are partly supervised"


@dataclass(frozen=True)
class Length:
    """How much of everything a demo does."""

    train_scenes: int
    val_scenes: int
    unseen_scenes: int
    probe_scenes: int
    overrides: Mapping[str, Any]


FULL = Length(8_000, 2_000, 1_000, 4_000, {})
QUICK = Length(
    1_600,
    256,
    128,
    512,
    {
        "training.steps": 24,
        "training.log_every": 4,
        "training.eval_every": 12,
        "training.sample_every": 12,
        "training.save_every": 24,
    },
)
TARS = 16
PICTURES = 6


@dataclass(frozen=True)
class Places:
    """Where a demo puts things."""

    root: Path

    @property
    def train(self) -> Path:
        """Training shards."""
        return self.root / "data" / "train"

    @property
    def val(self) -> Path:
        """Held-out shards."""
        return self.root / "data" / "val"

    @property
    def unseen(self) -> Path:
        """Shards by the unseen designer."""
        return self.root / "data" / "ood"

    def run(self, stage: int) -> Path:
        """Run folder of a stage."""
        return self.root / f"stage{stage}"


def run_demo(
    out: Path | None,
    quick: bool,
    progress: Progress,
    *,
    seed: int = 0,
    overrides: Mapping[str, Any] | None = None,
    resume: bool = False,
) -> dict[str, Any]:
    """Do everything once and write it under `out`, or beside it where something else lies.

    Args:
        out: a folder; by default one in the runs folder, or with `resume` that of the demo last at work.
        quick: a tenth of the training.
        progress: who is told.
        seed: of everything random but the scenes.
        overrides: settings of all three stages, by dotted key.
        resume: go on with a demo that was stopped, as it was asked for then.

    Returns:
        a JSON-able document: scores, files, seconds, and `summary`, the same in words.

    Raises:
        MuseError: a demo is there already, or with `resume` there is none that can go on.
        KeyboardInterrupt: it was stopped and can go on.
    """
    asked = DemoRecord(quick, seed, overrides or {})
    begin = resumed(out, quick, progress) if resume else begun(out or default_place(quick), asked, progress)
    with begin as journal, _told_how_to_go_on(journal):
        return _do(journal, progress)


@contextmanager
def _told_how_to_go_on(journal: Journal) -> Iterator[None]:
    """Record why a demo stopped, and say how it goes on."""
    way = way_on(journal.root)
    try:
        yield
    except KeyboardInterrupt as error:
        with suppress(OSError):
            journal.note(state="interrupted")
        error.hint = f"{way} goes on with {journal.record.at}"  # type: ignore[attr-defined]
        raise
    except Exception as error:
        with suppress(OSError):  # a disk that is full takes no record either
            journal.note(state="failed")
        known = explained(error)
        if known is None:
            raise
        raise MuseError(known.what, _with_way(known.hint, way), known.exit_code) from error


def _with_way(hint: str | None, way: str) -> str:
    """Return the hint of an error in a demo: a stage goes on with the demo, everything else before it."""
    if hint is None:
        return way
    return (
        re.sub(r"muse train --resume ('[^']*'|\S+)", way, hint)
        if "muse train --resume" in hint
        else f"{hint}; then {way}"
    )


def _do(journal: Journal, progress: Progress) -> dict[str, Any]:
    places, quick = Places(journal.root), journal.record.quick
    length = QUICK if quick else FULL
    length = replace(length, overrides={**length.overrides, **journal.record.overrides})
    journal.note(at="making the data")
    _write_data(places, length, progress)
    for stage in STAGES:
        journal.note(at=f"stage {stage}")
        _train(stage, places, length, journal.record.seed, progress)
    journal.note(at="measuring")
    tokenizer = api.load_tokenizer(places.run(3))
    scores = _measure(tokenizer, places, length, journal, progress)
    journal.note(at="drawing")
    report = _report(places, _draw(tokenizer, places), quick, journal.seconds)
    journal.note(at="the end", state="finished")
    return _document(places, scores, report, journal.seconds, quick)


def _write_data(places: Places, length: Length, progress: Progress) -> None:
    plan = (
        ("train", length.train_scenes, places.train),
        ("val", length.val_scenes, places.val),
        ("ood", length.unseen_scenes, places.unseen),
    )
    for split, count, folder in plan:
        if _is_written(folder, split, count):
            continue
        undo_aside(folder.parent, folder.name)
        progress.say(f"making {count:,} captioned scenes ({split})")
        write_scene_shards(split, count, folder, per_shard=-(-count // TARS), overwrite=True)


def _is_written(folder: Path, split: str, count: int) -> bool:
    """Return whether an earlier attempt wrote these shards, and all of them are still there."""
    files = set(SHARDS.own_files(folder) or ())
    if not files:
        return False
    index = read_json(folder / INDEX_NAME)
    is_whole = {entry["name"] for entry in index["shards"]} <= files
    return is_whole and (index["count"], index["settings"].get("source")) == (count, f"demo:{split}")


def _train(stage: int, places: Places, length: Length, seed: int, progress: Progress) -> None:
    folder = places.run(stage)
    if not is_run(folder):
        remove_begun(folder)
        chain = {"run.init": str(places.run(stage - 1))} if stage > 1 else {}
        overrides = {"run.seed": seed, "data.val": str(places.val), **chain, **length.overrides}
        api.train(stage, "tiny", str(places.train), str(folder), overrides, progress)
    elif RunFolder(folder).status.state != "finished":
        resume_run(RunFolder(folder), progress)


def _measure(
    tokenizer: object, places: Places, length: Length, journal: Journal, progress: Progress
) -> dict[str, Scores]:
    """Measure what an earlier attempt has not, and write each of the scores into the last run at once."""
    val, unseen, train = str(places.val), str(places.unseen), str(places.train)
    measurements: dict[str, Callable[[], Scores]] = {
        "eval": lambda: api.evaluate(tokenizer, val, progress=progress),
        "zeroshot": lambda: api.zeroshot(tokenizer, val, progress=progress),
        "probe-linear": lambda: api.probe(
            "linear", tokenizer, train, val, train_limit=length.probe_scenes, progress=progress
        ),
        "probe-topology": lambda: api.probe("topology", tokenizer, train, val, progress=progress),
        "eval-unseen": lambda: api.evaluate(tokenizer, unseen, progress=progress),
        "zeroshot-unseen": lambda: api.zeroshot(tokenizer, unseen, progress=progress),
    }
    found: dict[str, Scores] = {}
    for name, measure in measurements.items():
        run = RunFolder.open(places.run(3))
        kept = read_kept(run.result_path(journal.record.scores.get(name, "")))
        found[name] = kept or measure()
        if kept is None:
            path, _ = keep(found[name], run.result_path(name))
            journal.note(scores={**journal.record.scores, name: path.stem})
    return found


@dataclass(frozen=True)
class Pictures:
    """What the report shows: scenes to explore and figures."""

    scenes: Sequence[Scene]
    figures: Sequence[Figure]


def _draw(tokenizer: Any, places: Places) -> Pictures:
    samples = [sample for sample, _ in zip(_samples(places), range(PICTURES), strict=False)]
    images = torch.stack([torch.tensor(sample.image) for sample in samples]).permute(0, 3, 1, 2).float() / 255
    scenes = _scenes(tokenizer, images, [_on_an_object(sample) for sample in samples])
    size = (images.shape[-2], images.shape[-1])
    rebuilt = tokenizer.decode(tokenizer.encode(images).z, size).clamp(0, 1)
    rows = [[image.numpy(), picture.numpy()] for image, picture in zip(images, rebuilt, strict=True)]
    strip = BytesIO()
    sample_strip(rows, ("input", "reconstruction"), side=192, across=3).save(strip, "PNG")
    attention = figure_bytes(attention_figure(scenes[0]), "png")
    write_file(places.root / "reconstructions.png", strip.getvalue(), Mark("reconstructions"), step_aside=True)
    for number, scene in enumerate(scenes, start=1):
        path = places.root / f"attention-{number}.png"
        write_file(path, attention_content(scene, path), Mark("attention"), step_aside=True)
    return Pictures(
        scenes,
        (
            Figure("Reconstructions", LATENTS, strip.getvalue()),
            Figure("Attention", LOOKS, attention),
        ),
    )


def _samples(places: Places) -> Any:
    return (item for item in open_source(str(places.val)).once() if hasattr(item, "image"))


def _on_an_object(sample: Sample) -> tuple[float, float]:
    """A point (x, y) inside an object: the pixel deepest in it, or the middle where no mask tells."""
    mask = np.ones(sample.image.shape[:2], np.uint8) if sample.mask is None else sample.mask
    depth = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return float(x), float(y)


def _scenes(tokenizer: Any, images: torch.Tensor, queries: Sequence[tuple[float, float]]) -> list[Scene]:
    found, raw = tokenizer.attention(images), untouched_baseline(tokenizer)
    before = raw.attention(images) if raw else None
    teacher = api.load_teacher(tokenizer)(images, found.grid)
    scenes = []
    for index, image in enumerate(images):
        maps = [AttentionMap("MUSE", found.patches()[index].numpy(), found.grid, "last block, mean of heads")]
        if before:
            patches = before.patches()[index].numpy()
            maps.append(AttentionMap("encoder before MUSE", patches, before.grid, "last layer, mean of heads"))
        target = AttentionMap("teacher", teacher[index].numpy(), found.grid)
        scenes.append(Scene(image.numpy(), tuple(maps), target, queries=(queries[index],)))
    return scenes


def _report(places: Places, pictures: Pictures, quick: bool, seconds: float) -> Path:
    length = "a quick look at a tenth of the training: judge the mechanism, not the numbers" if quick else "complete"
    intro = (
        "A MUSE tokenizer of size tiny, trained through its three stages on made scenes of real artwork, on this "
        f"machine, in {seconds / 60:.1f} minutes ({length}). Scores are {IN_VOCABULARY}. Note that {WITH_MASKS}."
    )
    page = report_page(
        [read_run(places.run(stage)) for stage in STAGES],
        title="MUSE, trained here",
        intro=intro,
        figures=pictures.figures,
        attention=pictures.scenes,
        next_steps=_next_steps(places),
    )
    return write_file(places.root / "report.html", page, Mark("report"), step_aside=True)


def _next_steps(places: Places) -> tuple[NextStep, ...]:
    run = places.run(3)
    return (
        NextStep(
            f"muse attn-viz your-photo.jpg --checkpoint {quote(run)} --teacher", "See where it looks in your picture."
        ),
        NextStep(
            f"muse infer your-photo.jpg --checkpoint {quote(run)} --compare", "See what survives of your picture."
        ),
        NextStep("muse train --stage 1-3 --size tiny --seed 1", "Train your own with another seed."),
    )


def _document(
    places: Places, scores: Mapping[str, Scores], report: Path, seconds: float, quick: bool
) -> dict[str, Any]:
    return {
        "command": "demo",
        "quick": quick,
        "runs": [str(places.run(stage)) for stage in STAGES],
        "report": str(report),
        "scores": {name: found.to_json() for name, found in scores.items()},
        "seconds": round(seconds, 1),
        "summary": "\n".join([*_table(scores), "", *_next(places, report, seconds)]),
    }


def _table(scores: Mapping[str, Scores]) -> list[str]:
    """Every score with what it stands beside; the wording says how far each may be trusted."""
    rebuilt, text, linear, look = (scores[name] for name in ("eval", "zeroshot", "probe-linear", "probe-topology"))
    rows = [
        ("PSNR", f"{rebuilt.metrics['psnr']:.2f} dB", f"SSIM {rebuilt.metrics['ssim']:.3f}"),
        ("FD (tiny CLIP)", f"{rebuilt.metrics['fd-tiny-clip']:.3g}", "distance of features, lower is better"),
        ("zero-shot top-1", _percent(text.metrics["top1"]), _beside(text, "top1")),
        ("linear probe top-1", _percent(linear.metrics["top1"]), _beside(linear, "top1")),
        ("topology KL", f"{look.metrics['kl']:.4f}", _beside(look, "kl", "{:.4f}")),
        ("attention on object", f"AUC {look.metrics['auc']:.3f}", _beside(look, "auc", "{:.3f}")),
        (
            "  at equal distance",
            f"AUC {look.metrics['auc_distance_matched']:.3f}",
            _beside(look, "auc_distance_matched", "{:.3f}"),
        ),
        ("unseen designer", f"{scores['eval-unseen'].metrics['psnr']:.2f} dB", "PSNR"),
        ("", _percent(scores["zeroshot-unseen"].metrics["top1"]), _beside(scores["zeroshot-unseen"], "top1")),
    ]
    seen = rebuilt.counts["seen"]
    return [
        f"Scores on {seen:,} held-out scenes ({IN_VOCABULARY}):",
        *(f"  {name:<20} {value:<12} {beside}" for name, value, beside in rows),
        f"  ({WITH_MASKS})",
    ]


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _beside(scores: Scores, metric: str, form: str | None = None) -> str:
    found = [
        f"{name} {form.format(values[metric]) if form else _percent(values[metric])}"
        for name, values in scores.baselines.items()
        if metric in values
    ]
    return ", ".join(found)


def _next(places: Places, report: Path, seconds: float) -> list[str]:
    commands = [f"  {step.command}" for step in _next_steps(places)]
    return [f"Report: {report} (done in {seconds / 60:.1f} minutes)", "Try next:", *commands]
