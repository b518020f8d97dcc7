"""`muse shard`: pictures to WebDataset tars."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from muse_cli.options import ConfigFile, Seed, Sets
from muse_cli.output import out, size_text
from muse_core.command_lines import quote
from muse_core.errors import ExitCode, MuseError
from muse_core.home import expanded

if TYPE_CHECKING:
    from muse_core.data.sharding.options import ShardOptions
    from muse_core.data.sharding.report import Sharded
    from muse_core.settings.sharding import ShardSettings

WHAT, HOW, WHICH = "What is stored", "How it is stored", "What is left out"

Source = Annotated[str, typer.Argument(metavar="SOURCE", help="Folder of pictures, or its address.")]
OutDir = Annotated[
    str | None, typer.Option("--out", metavar="DIR", help="Where shards go.", show_default="SOURCE-shards")
]
Recipe = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        metavar="NAME",
        help="A published layout: imagenet1k, ade20k, cc12m or blip3o.",
        show_default="any tree of pictures",
        rich_help_panel=WHAT,
    ),
]
Captions = Annotated[
    str | None,
    typer.Option(
        "--captions",
        metavar="auto|none|txt|json:FIELD|csv:FILE",
        help="auto: NAME.txt or NAME.json beside the picture.",
        show_default="auto",
        rich_help_panel=WHAT,
    ),
]
Classes = Annotated[
    str | None,
    typer.Option(
        "--classes",
        metavar="auto|none|folders|csv:FILE",
        help="auto: folders, when every picture lies exactly one deep, in several, without captions.",
        show_default="auto",
        rich_help_panel=WHAT,
    ),
]
Masks = Annotated[
    str | None,
    typer.Option("--masks", metavar="DIR", help="NAME.png there is the mask of NAME.", rich_help_panel=WHAT),
]
Split = Annotated[
    str | None,
    typer.Option(
        "--split",
        metavar="train=0.95,val=0.05",
        help="By a hash of each name: stable when files are added.",
        rich_help_panel=WHAT,
    ),
]
PerShard = Annotated[
    int | None,
    typer.Option(
        "--per-shard",
        min=1,
        help="Samples in a shard.",
        show_default="for 16 shards or more, at most 10000",
        rich_help_panel=HOW,
    ),
]
ShardSize = Annotated[
    str | None,
    typer.Option("--shard-size", metavar="SIZE", help="Or this much.", show_default="512MB", rich_help_panel=HOW),
]
Resize = Annotated[
    int | None,
    typer.Option("--resize", min=1, metavar="N", help="Shrink the shorter side to N pixels.", rich_help_panel=HOW),
]
Quality = Annotated[
    int | None,
    typer.Option("--quality", min=1, max=100, help="Of jpg and webp.", show_default="95", rich_help_panel=HOW),
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="keep|jpg|webp",
        help="keep: bytes untouched, unless resized.",
        show_default="keep",
        rich_help_panel=HOW,
    ),
]
Shuffle = Annotated[
    bool | None, typer.Option("--shuffle", help="Order by a hash of seed and name.", rich_help_panel=HOW)
]
Verify = Annotated[
    bool | None, typer.Option("--verify", help="Decode every picture; else headers are read.", rich_help_panel=WHICH)
]
MinSize = Annotated[
    int | None,
    typer.Option("--min-size", min=1, metavar="N", help="Longer side at least N pixels.", rich_help_panel=WHICH),
]
MaxRatio = Annotated[
    float | None, typer.Option("--max-ratio", min=1, help="Longer over shorter side at most.", rich_help_panel=WHICH)
]
OnError = Annotated[
    str | None,
    typer.Option(
        "--on-error",
        metavar="skip|stop",
        help="What a damaged file does.",
        show_default="skip",
        rich_help_panel=WHICH,
    ),
]
LimitErrors = Annotated[
    str | None,
    typer.Option(
        "--limit-errors",
        metavar="SHARE",
        help="Damaged files above which nothing is written; ten are always allowed.",
        show_default="1%",
        rich_help_panel=WHICH,
    ),
]
Workers = Annotated[
    str | None, typer.Option("--workers", metavar="auto|N", help="Processes.", show_default="auto: the cores")
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue an interrupted attempt.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace shards that are there.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, say what would be written, and stop.")]


def shard(
    source: Source,
    out_dir: OutDir = None,
    recipe: Recipe = None,
    captions: Captions = None,
    classes: Classes = None,
    masks: Masks = None,
    split: Split = None,
    per_shard: PerShard = None,
    shard_size: ShardSize = None,
    resize: Resize = None,
    quality: Quality = None,
    format: Format = None,
    shuffle: Shuffle = None,
    seed: Seed = None,
    verify: Verify = None,
    min_size: MinSize = None,
    max_ratio: MaxRatio = None,
    on_error: OnError = None,
    limit_errors: LimitErrors = None,
    workers: Workers = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    config: ConfigFile = None,
    sets: Sets = None,
) -> int:
    """Write pictures with their captions, classes and masks to WebDataset tars and index.json.

    The same pictures give the same bytes, by any number of processes: those of --workers, and those that torchrun or
    srun start, which share the work.
    """
    typed = dict(locals())
    from muse_cli.settings import resolve_as
    from muse_core.settings.sharding import ShardSettings

    flags = {name: typed[name] for name in ShardSettings.model_fields}
    settings, _ = resolve_as(ShardSettings, "shard", flags, sets, config)
    refuse_other_meaning(out_dir)
    if resume and overwrite:
        raise MuseError("--resume continues and --overwrite begins anew", "one of them", ExitCode.USAGE)
    out.say(f"shard: {source} to {out_dir or beside(source)}{f', as {settings.recipe}' if settings.recipe else ''}")
    from muse_core.data.sharding.shard import shard as write

    try:
        written = write(
            source,
            out_dir or beside(source),
            options_of(settings),
            workers=None if settings.workers == "auto" else settings.workers,
            resume=resume,
            overwrite=overwrite,
            dry_run=dry_run,
            progress=out.progress(),
        )
    except KeyboardInterrupt:
        if not dry_run:
            out.say("the same command with --resume goes on from here")
        raise
    if written is None:
        out.result({"command": "shard", "out": out_dir or beside(source)}, "done; the first process finishes")
        return ExitCode.DONE
    return tell(written)


def options_of(settings: "ShardSettings") -> "ShardOptions":
    """Return what core code takes, with sizes, shares and splits read."""
    from muse_core.data.sharding.options import ShardOptions, read_share, read_size, read_split

    same = settings.model_dump(exclude={"split", "shard_size", "limit_errors", "min_size", "workers"})
    return ShardOptions(
        **same,
        split=read_split(settings.split) if settings.split else None,
        shard_bytes=read_size(settings.shard_size) if settings.shard_size else None,
        limit_errors=read_share(settings.limit_errors),
        min_long_side=settings.min_size,
    )


def refuse_other_meaning(out_dir: str | None) -> None:
    """Refuse a name that `--data` would take for something else than a folder.

    Raises:
        MuseError: it is that of built-in scenes, or of a command.
    """
    if out_dir is None or "://" in out_dir:
        return
    if out_dir == "demo" or out_dir.startswith("demo:"):
        what = f"--out {out_dir}: --data {out_dir} means the built-in scenes"
        raise MuseError(what, f"--out ./{out_dir}, and --data alike", ExitCode.USAGE)
    if str(expanded(out_dir)).startswith("pipe:"):
        raise MuseError(f"--out {out_dir}: --data {out_dir} means a command", "another --out", ExitCode.USAGE)


def beside(source: str) -> str:
    """Return where shards go when nothing was said: ./images-shards for ./images."""
    if "://" in source:
        return f"{source.rstrip('/')}-shards"
    path = expanded(source)
    named = path if path.name not in ("", "..") else path.resolve()
    return str(named.with_name(f"{named.name}-shards"))


def tell(written: "Sharded") -> int:
    """Say what was written or would be. A dry run ends as writing would: damage within --limit-errors stops neither."""
    from muse_core.image_files import noted

    document: dict[str, Any] = {"command": "shard", "dry_run": written.planned, **written.as_index()}
    notes = [*written.coverage, *noted(written.notes)]
    for note in notes:  # first, so that what to type next is the last line
        out.warn(note)
    out.result({**document, "out": written.out, "errors": written.errors, "notes": notes}, in_words(written))
    return ExitCode.DONE


def in_words(written: "Sharded") -> str:
    """Lay out the end of the command."""
    from muse_core.data.vocabulary import counted

    skipped = sum(written.skipped.values())
    where = f" (see {written.out}/skipped.csv)" if skipped and not written.planned else ""
    size = f"about {size_text(written.bytes)}" if written.planned else size_text(written.bytes)
    amount = f"{counted(len(written.shards), 'shard')}, {counted(written.count, 'image')}"
    lines = [f"{amount}, {size}, {skipped:,} skipped{where}"]
    lines += [f"  {count:,} x {reason}" for reason, count in written.skipped.items()]
    lines += [f"  {split}: {counted(count, 'image')}" for split, count in written.splits.items()]
    if written.fields:
        lines.append("fields: " + ", ".join(f"{suffix} {count:,}" for suffix, count in written.fields.items()))
    if written.classes:
        shown = ", ".join(written.classes[:3]) + (", ..." if len(written.classes) > 3 else "")
        lines.append(f"{counted(len(written.classes), 'class')}, in this order: {shown}")
    lines.append(
        f"nothing written; next: {out.typed_without('--dry-run')}"
        if written.planned
        else f"next: muse inspect {quote(written.out)}"
    )
    return "\n".join(lines)
