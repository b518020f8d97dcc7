"""The page that the ablation writes: what was run, every number with its spread, the decision, each claim judged."""

import statistics
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ablation_conflict import CONFLICT, Conflicts, interference, meetings
from ablation_factors import BY_NAME, CONFIGURATIONS, DEFAULT, FACTORS, QUANTITIES, Quantity
from ablation_rule import Effect, Results, decision, qualifies

from muse_core.files import write_atomically
from muse_core.machine import environment
from muse_core.settings.presets import STAGES, preset


class Lengths(Protocol):
    """How much of everything was done."""

    @property
    def train(self) -> int: ...  # noqa: D102
    @property
    def images(self) -> int: ...  # noqa: D102
    @property
    def probe(self) -> int: ...  # noqa: D102
    @property
    def decoded(self) -> int | None: ...  # noqa: D102
    @property
    def epochs(self) -> int: ...  # noqa: D102
    def steps_of(self, stage: int) -> int: ...  # noqa: D102


@dataclass(frozen=True)
class Claim:
    """One thing that somebody says: `better` is ahead of `worse` in these quantities, or level with it."""

    text: str
    better: str
    worse: str
    quantities: tuple[str, ...]
    level: bool = False

    def verdict(self, effect: Effect | None) -> str:
        """Say whether a difference is what the claim says."""
        if effect is None:
            return "was not run"
        if self.level:
            return "shows" if effect.side == "level" else "**does not show**: they differ"
        return {"ahead": "shows", "behind": "**the opposite shows**", "level": "does not show"}[effect.side]


PAPERS = (
    Claim(
        "Keeping the streams apart beats joint training, in pixels and in meaning",
        DEFAULT,
        "joint",
        ("psnr", "fd", "zeroshot", "linear", "miou"),
    ),
    Claim(
        "Structure comes first: opening the routes only in stage 3 is better",
        DEFAULT,
        "open",
        ("psnr", "zeroshot", "miou"),
    ),
    Claim(
        "Attention that learns a teacher's structure helps pixels and meaning",
        DEFAULT,
        "no-topology",
        ("psnr", "fd", "zeroshot", "linear", "miou", "auc"),
    ),
    Claim("Every block should meet the teacher", DEFAULT, "last-block", ("psnr", "zeroshot", "miou", "kl", "auc")),
    Claim("The anchor, mixed into the texture, helps", DEFAULT, "not-injected", ("psnr", "fd", "zeroshot", "miou")),
    Claim(
        "Under provoked conflict, keeping the streams apart helps",
        "stress",
        "stress-joint",
        ("psnr", "zeroshot", "miou"),
    ),
)
PROTOTYPES = (
    Claim(
        "Reconstruction is best without topology (attention at its random start)",
        "no-topology",
        DEFAULT,
        ("psnr", "ssim", "fd"),
    ),
    Claim("The same, attention learning from pixels", "joint-no-topology", "joint", ("psnr", "ssim", "fd")),
    Claim("Topology on the last block only segments best", "last-block", DEFAULT, ("miou",)),
    Claim("So does the public code's variant", "released", DEFAULT, ("miou",)),
    Claim("A trained anchor, mixed in, gains PSNR (there a corrected one did)", DEFAULT, "not-injected", ("psnr",)),
    Claim("Joint training is level in meaning", "joint", DEFAULT, ("zeroshot", "linear"), level=True),
)


INTRODUCTION = """# One factor at a time: what decides tiny's defaults

Written by `python benchmarks/ablation.py`. Size tiny, on 64 x 64 scenes, one CPU thread a run. All
configurations have the same parts, the same {train:,} training scenes in the same order per seed, and {steps}
steps in stages 1 to 3, by the same measurements. Only the scenes are shared: every configuration trains its own
stage 1. Measured on {images:,} held-out scenes; linear probe and segmentation head learn from {probe:,}
training scenes, the head in {epochs} passes. {short} Numbers are means over seeds, with the smallest and
largest in brackets.
"""

SHORT = """These are **short runs**: tiny's own recipe has {own} steps{decoded}. Compare the rows with each other, not
with [tiny-results.md](tiny-results.md); what needs a longer training to show is not seen here."""

SUPERVISED = """**Partly supervised.** The structure teacher was trained **with masks**. mIoU, topology KL and
object AUC of a run with topology therefore contain supervision that `no-topology` and `joint-no-topology` never
had; among runs with topology they compare fairly.
"""

UNVARIED = """Not planned: several factors at once, `run.recipe=paper` with the routings of Figure 2, `strict` in
stage 3, other depths, widths (but in the stress setting) and loss weights, other sizes than tiny, and data that are
not scenes."""

RULE = """## The rule and its decision

Fixed in `benchmarks/ablation_rule.py` before any run: tiny leaves the paper's default only if mIoU gains more
than 2 standard errors while PSNR and zero-shot lose less than 2; 1b and 3b keep the paper's. Factors were
varied one at a time, so at most one is taken. The standard error of a difference is the deviation between
seeds, pooled over the paper's default and the seven factors, times the root of the summed inverse counts (for
KL and AUC without `no-topology`, whose untaught attention varies far more); all runs are measured on the same
scenes. Gains are positive where the factor is better (for FD and KL: lower); shares are in points; bold is
beyond 2 standard errors; in brackets, in how many of the seeds that both have the factor is ahead, which is no
part of the rule: the configurations of one seed see the same scenes in the same order, and what moves them all
alike is counted as uncertainty by the rule. Of so many comparisons about one in twenty is bold by chance.
"""


LONGER = """## Does it hold at tiny's own length?

The same command with {steps} steps, {decoded}, {train:,} training scenes and {probe:,} for probe and head; the
deviation between seeds is pooled over these configurations alone.
"""


@dataclass(frozen=True)
class Longer:
    """What was found of some configurations with more of everything."""

    results: Results
    scale: Lengths


def shown(values: Sequence[float], quantity: Quantity) -> str:
    """Return the mean, and the smallest and largest where there are several."""
    form = quantity.form.format
    if len(values) < 2:
        return form(values[0]) if values else "not run"
    return f"{form(statistics.mean(values))} ({form(min(values))} to {form(max(values))})"


def numbers(results: Results, raw: Mapping[str, float], names: Sequence[str]) -> Iterator[str]:
    """Yield the table of all numbers of some configurations."""
    yield "| configuration | runs | " + " | ".join(quantity.title for quantity in QUANTITIES) + " |"
    yield "|---|--:|" + "--:|" * len(QUANTITIES)
    for name in names:
        cells = [shown(results.values(name, quantity.name), quantity) for quantity in QUANTITIES]
        yield f"| `{name}` | {len(results.runs.get(name, {}))} | " + " | ".join(cells) + " |"
    if raw:
        cells = [shown([raw[quantity.name]], quantity) if quantity.name in raw else "" for quantity in QUANTITIES]
        yield "| the encoder before MUSE | | " + " | ".join(cells) + " |"
    spreads = [results.spread(quantity.name) for quantity in QUANTITIES]
    cells = [
        amount(spread, quantity) if spread is not None else ""
        for spread, quantity in zip(spreads, QUANTITIES, strict=True)
    ]
    yield "| *deviation between seeds, pooled* | | " + " | ".join(cells) + " |"


def amount(value: float, quantity: Quantity, sign: str = "") -> str:
    """Return a difference in the quantity's own unit: points for shares, one more digit than the value has."""
    if "%" in quantity.form:
        return f"{100 * value:{sign}.2f}"
    digits = int(quantity.form.split(".")[1][0]) + 1
    return f"{value:{sign}.{digits}f}"


def difference(effect: Effect | None, quantity: Quantity) -> str:
    """Return a gain with its standard error, bold where it is beyond two of them."""
    if effect is None:
        return "not known"
    text = f"{amount(effect.gain, quantity, '+')} ± {amount(effect.error, quantity)}"
    return (text if effect.side == "level" else f"**{text}**") + f" ({effect.wins}/{effect.seeds})"


def differences(results: Results) -> Iterator[str]:
    """Yield the table of what each factor gains over the paper's default, and whether the rule is met."""
    yield "| factor | " + " | ".join(quantity.title for quantity in QUANTITIES) + " | meets the rule |"
    yield "|---|" + "--:|" * len(QUANTITIES) + "---|"
    for name in (name for name in FACTORS if name in results.runs):
        cells = [difference(results.effect(name, quantity.name), quantity) for quantity in QUANTITIES]
        met = {True: "**yes**", False: "no", None: "not known"}[qualifies(results, name)]
        yield f"| `{name}` | " + " | ".join(cells) + f" | {met} |"


def judged(claims: Sequence[Claim], results: Results) -> Iterator[str]:
    """Yield a row per claim and quantity: the difference it speaks of, and whether it shows."""
    yield "| claim | compared | number | gain ± standard error (seeds ahead) | here it |"
    yield "|---|---|---|--:|---|"
    for claim in claims:
        for place, name in enumerate(claim.quantities):
            quantity, effect = BY_NAME[name], results.effect(claim.better, name, claim.worse)
            first = (claim.text, f"`{claim.better}` over `{claim.worse}`") if place == 0 else ("", "")
            cells = (*first, quantity.title, difference(effect, quantity), claim.verdict(effect))
            yield f"| {' | '.join(cells)} |"


def against_encoder(results: Results, raw: Mapping[str, float]) -> Iterator[str]:
    """Yield a row per number of the encoder before any stage: is the tokenizer that grew from it ahead?"""
    yield f"| number | the encoder before MUSE | `{DEFAULT}` | ahead of it |"
    yield "|---|--:|--:|---|"
    for name, before in raw.items():
        ours, quantity = results.values(DEFAULT, name), BY_NAME[name]
        word = ("yes" if min(ours) > before else "**no**" if max(ours) < before else "in some runs") if ours else ""
        yield f"| {quantity.title} | {shown([before], quantity)} | {shown(ours, quantity)} | {word} |"


def missing(results: Results, seeds: int) -> str:
    """Say which runs were not made."""
    lacking = [
        f"`{one.name}` ({len(results.runs.get(one.name, {}))} of {seeds} seeds)"
        for one in CONFIGURATIONS
        if len(results.runs.get(one.name, {})) < seeds
    ]
    made = "Not made: " + ", ".join(lacking) + "." if lacking else "Every planned run was made."
    return f"{made} {UNVARIED}"


def is_short(scale: Lengths) -> bool:
    """Say whether the runs had less of anything than tiny's own recipe."""
    own = [preset("tiny", stage)["training"]["steps"] for stage in STAGES]
    return scale.decoded is not None or [scale.steps_of(stage) for stage in STAGES] != own


def conclusion(results: Results, short: bool, longer: Longer | None) -> str:
    """State the decision of the rule, and what it rests on; runs at tiny's own length overrule short ones."""
    chosen, known = decision(results), [name for name in FACTORS if qualifies(results, name) is not None]
    if not known:
        return "**No decision**: it takes two seeds and the paper's default."
    met = [f"`{name}`" for name in known if qualifies(results, name)]
    if longer:
        final = decision(longer.results)
        kept = "keeps the paper's defaults" if final == DEFAULT else f"leaves the paper's default for `{final}`"
        in_short = f"In runs this short, {', '.join(met) or 'nothing'} would meet the rule"
        return f"**By the rule, tiny {kept}.** {in_short}; those at its own length decide, in the next section."
    if chosen == DEFAULT:
        return f"**Tiny keeps the paper's defaults**: none of {len(known)} factors meets the rule."
    others = "" if len(met) == 1 else f" It gains most of those that meet the rule ({', '.join(met)})."
    length = f" These were short runs: before presets change, `{chosen}` should hold at their length." if short else ""
    return (
        f"**By the rule, tiny leaves the paper's default for `{chosen}`.**{others} 1b and 3b keep the paper's.{length}"
    )


def lengthened(longer: Longer | None) -> Iterator[str]:
    """Yield the section on the longer runs; nothing when there are none."""
    if longer is None:
        return
    results, scale = longer.results, longer.scale
    names = [one.name for one in CONFIGURATIONS if one.name in results.runs]
    steps = " + ".join(str(scale.steps_of(stage)) for stage in STAGES)
    decoded = (
        f"{scale.decoded} images of each batch decoded"
        if scale.decoded
        else "as many images decoded as the recipe says"
    )
    yield wrapped(LONGER.format(steps=steps, decoded=decoded, train=scale.train, probe=scale.probe))
    yield from numbers(results, {}, names)
    yield ""
    yield from differences(results)
    untried = [f"`{name}`" for name in FACTORS if name not in results.runs]
    yield f"\nNot run at this length: {', '.join(untried) or 'nothing'}. What the paper claims, in these runs:\n"
    yield from judged([claim for claim in PAPERS if {claim.better, claim.worse} <= set(names)], results)
    yield ""


def wrapped(text: str) -> str:
    """Break paragraphs into lines."""
    return "\n\n".join(textwrap.fill(" ".join(part.split()), 118) for part in text.split("\n\n")) + "\n"


def introduction(scale: Lengths) -> str:
    """Say how much of everything was done, and how far that is from tiny's own recipe."""
    steps, own = (
        " + ".join(str(count) for count in counts)
        for counts in ([scale.steps_of(n) for n in STAGES], [preset("tiny", n)["training"]["steps"] for n in STAGES])
    )
    decoded = f" and {scale.decoded} images of each batch are decoded, not more" if scale.decoded else ""
    text = INTRODUCTION.format(
        train=scale.train,
        steps=steps,
        images=scale.images,
        probe=scale.probe,
        epochs=scale.epochs,
        short=SHORT.format(own=own, decoded=decoded) if is_short(scale) else "",
    )
    return wrapped(text)


def versions() -> str:
    """Name the versions that matter."""
    found = environment()["versions"]
    named = (f"{name} {found[name]}" for name in ("torch", "transformers", "diffusers") if name in found)
    return f"Versions: {', '.join(named)}."


def page(
    results: Results,
    conflict: Conflicts,
    raw: Mapping[str, float],
    scale: Lengths,
    seeds: int,
    longer: Longer | None = None,
) -> list[str]:
    """Return the page, by line."""
    return [
        introduction(scale),
        "`default` is the paper's default, as `run.recipe=muse` reads it.",
        "",
        "| configuration | differs from it in |",
        "|---|---|",
        *(f"| `{one.name}` | {one.differs} |" for one in CONFIGURATIONS),
        "",
        SUPERVISED,
        "## What was measured",
        "",
        *numbers(results, raw, [one.name for one in CONFIGURATIONS]),
        "",
        missing(results, seeds),
        "",
        RULE,
        *differences(results),
        "",
        conclusion(results, is_short(scale), longer),
        "",
        *lengthened(longer),
        "## What the paper claims",
        "",
        "As we read it: the comparison that would show it, and whether it does at this scale.",
        "",
        *judged(PAPERS, results),
        "",
        '"Better than its own teacher", of the linear probe; and what the prototype had for the tokens, whose mIoU was '
        "twice the encoder's:",
        "",
        *against_encoder(results, raw),
        "",
        "## What the prototype found",
        "",
        "A throwaway prototype with weaker parts, one or two seeds and no perceptual or adversarial loss had found:",
        "",
        *judged(PROTOTYPES, results),
        "",
        CONFLICT,
        *meetings(conflict),
        "",
        interference(conflict, (DEFAULT, "joint")),
        "",
        interference(conflict, ("stress", "stress-joint")),
        "",
        "Gradients that pull apart need not cost anything, and a loud loss can crowd out a quiet one at right angles: "
        "what it costs is the comparison with `joint` and `stress-joint` above.",
        "",
        versions(),
        "",
    ]


def write_page(
    where: Path,
    results: Results,
    conflict: Conflicts,
    raw: Mapping[str, float],
    scale: Lengths,
    seeds: int,
    longer: Longer | None = None,
) -> None:
    """Write the page."""
    write_atomically(where, "\n".join(page(results, conflict, raw, scale, seeds, longer)))
