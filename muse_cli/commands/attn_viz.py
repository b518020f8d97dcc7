"""`muse attn-viz`: what the synergistic blocks look at, as a picture and in numbers."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from muse_cli.commands.infer import counted, short_side_of, size_in_pixels, tell_notes
from muse_cli.options import CheckpointOption, ConfigFile, Devices, OverwriteFile, Sets
from muse_cli.output import out
from muse_core.command_lines import quote
from muse_core.errors import ExitCode, MuseError

if TYPE_CHECKING:
    from muse_core.pictures import Picture
    from muse_core.settings.measuring import AttentionSettings
    from muse_core.viz.maps import AttentionMap, Scene
    from muse_core.viz.panels import Look

ALL = "all"


Queries = Annotated[
    list[str] | None,
    typer.Option(
        "--query",
        metavar="X,Y|all",
        help="What this pixel of the file looks at; repeatable. all: what each patch receives from all.",
        show_default="the most decided patch",
    ),
]


def attn_viz(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Images, folders or patterns.")],
    checkpoint: CheckpointOption = None,
    layer: Annotated[
        str | None, typer.Option("--layer", metavar="N|last|all", help="Which block, from 0.", show_default="last")
    ] = None,
    head: Annotated[
        str | None, typer.Option("--head", metavar="N|mean|all", help="Which head, from 0.", show_default="mean")
    ] = None,
    query: Queries = None,
    teacher: Annotated[
        bool | None, typer.Option("--teacher", help="Add the teacher's map and the agreement with it.")
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option("--against", metavar="TOKENIZER", help="Another tokenizer beside it; repeatable."),
    ] = None,
    style: Annotated[
        str | None, typer.Option("--style", metavar="overlay|grid", help="How to draw.", show_default="overlay")
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option(
            "--scale", metavar="K", help="Colours end at K times uniform.", show_default="a round number that fits"
        ),
    ] = None,
    size_px: Annotated[
        str | None,
        typer.Option(
            "--size-px", metavar="N|native", help="Short side.", show_default="at most twice the training size"
        ),
    ] = None,
    out_file: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help=".png, .svg, .pdf or .html", show_default="IMAGE-attention.png"),
    ] = None,
    overwrite: OverwriteFile = False,
    devices: Devices = None,
    config: ConfigFile = None,
    sets: Sets = None,
) -> None:
    """Draw what the synergistic blocks look at."""
    from muse_cli.settings import resolve_as
    from muse_cli.stopping import ending_soon
    from muse_cli.tokenizer import chosen_or_newest
    from muse_core.ownership import refuse_taken
    from muse_core.settings.measuring import AttentionSettings
    from muse_core.viz.kinds import refuse_other_kinds

    flags = {"layer": number_or_word(layer), "head": number_or_word(head), "style": style, "scale": scale}
    flags |= {"teacher": teacher, "size_px": size_in_pixels(size_px), "devices": devices}
    settings, _ = resolve_as(AttentionSettings, "attn-viz", flags, sets, config)
    asked = points_of(query)
    refuse_other_kinds(out_file, static=asked is None)
    files = files_of(images)
    refuse_taken(out_file, overwrite, files)
    notes, where = Counter[str](), chosen_or_newest(checkpoint)
    tell_drawn(files, [where, *(against or [])], settings)
    photos = [Photo.read(file, asked or (), notes) for file in files]  # what is wrong is told before loading
    with ending_soon():
        tokenizers, silent = loaded(where, against or [], settings.devices)
        scenes = scenes_of(photos, tokenizers, silent, settings, asked)
    tell_notes(notes)
    target = drawn(scenes, files, out_file, settings, asked is None, overwrite)
    give(files, target, scenes, silent)


MOST_IMAGES = 24
"""In one figure, which is then about 19,000 pixels high; many viewers open nothing beyond 32,767."""


@dataclass(frozen=True)
class Photo:
    """An image as it is drawn. pixels: (3, h, w) of a copy that is large enough; full_size: (H, W) of the file."""

    file: Path
    pixels: "Picture"
    full_size: tuple[int, int]

    @classmethod
    def read(cls, file: Path, asked: Sequence[tuple[float, float]], notes: Counter[str]) -> "Photo":
        """Read an image, and refuse points that lie outside.

        Raises:
            MuseError: it cannot be read, or a point lies outside.
        """
        import numpy as np

        from muse_core.pictures import read_picture
        from muse_core.viz.figures import LONGEST_PHOTO
        from muse_core.viz.maps import refuse_outside
        from muse_core.viz.pixels import as_pixels, reduce

        original = read_picture(file, notes=notes)
        height, width = original.shape[-2:]
        refuse_outside(asked, (height, width), file.name)
        pixels = np.asarray(reduce(as_pixels(original), LONGEST_PHOTO).transpose(2, 0, 1), np.float32) / np.float32(255)
        return cls(file, pixels, (height, width))


def files_of(named: list[str]) -> list[Path]:
    """Find the images, as many as a figure holds; in folders, what muse made of others is left out.

    Raises:
        MuseError: something named matches no image, or muse made all of them.
    """
    from muse_core.ownership import is_result
    from muse_core.pictures import find_pictures

    plain = [text for text in named if not Path(text).is_dir() and not any(sign in text for sign in "*?[")]
    for text in plain:
        if not Path(text).exists():
            raise MuseError(f"{text} does not exist")
    files = find_pictures(named)
    taken = {Path(text) for text in plain}
    left = [file for file in files if file in taken or not is_result(file)]
    if not left:
        raise MuseError(
            f"muse made all images in {files[0].parent}", hint=f"name the files: muse attn-viz {quote(files[0])}"
        )
    if len(left) > MOST_IMAGES:
        out.warn(
            f"draws the first {MOST_IMAGES} of {len(left):,} images, as one figure holds no more: name those to see"
        )
    return left[:MOST_IMAGES]


def tell_drawn(files: list[Path], tokenizers: list[str], settings: "AttentionSettings") -> None:
    """Say whose attention to what is drawn.

    Raises:
        MuseError: there is no such tokenizer, device, block or head.
    """
    from muse_core.machine import choose_devices
    from muse_core.model.blocks import refuse_other_blocks
    from muse_core.model.locating import look_up
    from muse_core.viz.kinds import refuse_other_heads

    named = [look_up(where) for where in tokenizers]
    for where, each in zip(tokenizers, named, strict=True):
        if isinstance(settings.layer, int) and each.blocks is not None:
            refuse_other_blocks(settings.layer, each.blocks)
        if each.heads is not None:
            refuse_other_heads(settings.head, each.heads, where)
    out.say(f"attn-viz: {', '.join(each.text for each in named)} on {counted(files)}")
    choose_devices(settings.devices)


def loaded(where: str, against: list[str], devices: str) -> tuple[list[Any], tuple[str, ...]]:
    """Load the tokenizers that show attention, and the names of those asked for that show none."""
    from muse_cli.tokenizer import load
    from muse_core.machine import pick_device
    from muse_core.model.abilities import Attends

    device = pick_device(devices)
    others = [load(other, device) for other in against]
    first = load(where, device, "attends")
    silent = tuple(other.info.name for other in others if not isinstance(other, Attends))
    return [first, *(other for other in others if isinstance(other, Attends))], silent


def scenes_of(
    photos: Sequence[Photo],
    tokenizers: Sequence[Any],
    silent: tuple[str, ...],
    settings: "AttentionSettings",
    asked: Sequence[tuple[float, float]] | None,
) -> list["Scene"]:
    """Ask all tokenizers for their attention to all images; where no point was asked for, one is chosen."""
    from muse_core.api import load_teacher
    from muse_core.pictures import read_picture
    from muse_core.viz.maps import Scene, with_queries

    teacher = load_teacher(tokenizers[0]) if settings.teacher else None
    short_side = short_side_of(settings.size_px, tokenizers[0].info.resolution)
    scenes = []
    for photo in photos:
        picture = read_picture(photo.file, short_side)
        scene = Scene(
            image=photo.pixels,
            maps=tuple(part for each in tokenizers for part in maps_of(each, picture, photo.full_size, settings)),
            teacher=teacher_map(teacher, tokenizers[0], picture, photo.full_size) if teacher else None,
            queries=tuple(asked or ()),
            title=photo.file.name,
            silent=silent,
            full_size=photo.full_size,
        )
        scenes.append(scene if asked is None else with_queries(scene))
    return scenes


def drawn(
    scenes: Sequence["Scene"],
    files: Sequence[Path],
    out_file: Path | None,
    settings: "AttentionSettings",
    everywhere: bool,
    overwrite: bool,
) -> Path:
    """Write the figure or page to the file asked for, else beside nothing of the user's; return where it is."""
    from muse_cli.writing import written_default
    from muse_core.viz.attention import attention_content, save_attention

    look: Look = "received" if everywhere else "query"
    if out_file is not None:
        return save_attention(
            scenes, out_file, style=settings.style, look=look, scale=settings.scale, overwrite=overwrite
        )
    target = Path("attention.png" if len(files) > 1 else f"{files[0].stem}-attention.png")
    content = attention_content(scenes, target, style=settings.style, look=look, scale=settings.scale)
    return written_default(target, content, "attention", *files)


def give(files: Sequence[Path], target: Path, scenes: Sequence["Scene"], silent: tuple[str, ...]) -> None:
    """Print the numbers of the maps, and who of those named has none."""
    from muse_core.viz.maps import measure

    entries = [{"image": file, **measure(scene)} for file, scene in zip(files, scenes, strict=True)]
    only = entries[0] if len(entries) == 1 else {}
    found = {**only, "out": target, "images": entries, "no_attention": list(silent)}
    lines = [line for file, scene in zip(files, scenes, strict=True) for line in in_words(file, scene)]
    told = [f"{name}: no attention to show" for name in silent]
    out.result(found, "\n".join([str(target), *lines, *told]))


def number_or_word(text: str | None) -> int | str | None:
    """Read a number if it is one; other words are left to the settings to judge."""
    return int(text) if text and text.lstrip("-").isdigit() else text


def points_of(texts: list[str] | None) -> tuple[tuple[float, float], ...] | None:
    """Read the points asked for: none where one is to be chosen, and None for all patches together.

    Raises:
        MuseError: something is neither X,Y nor "all", or both are asked for.
    """
    if ALL not in (texts or []):
        return tuple(point(text) for text in texts or [])
    if len(texts or []) > 1:
        raise MuseError("--query all and further --query exclude each other", exit_code=ExitCode.USAGE)
    return None


def point(text: str) -> tuple[float, float]:
    """Read X,Y.

    Raises:
        MuseError: it is something else.
    """
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        raise MuseError(
            f"--query {text}: expected X,Y in pixels", hint="--query 120,80, or --query all", exit_code=ExitCode.USAGE
        ) from None
    return x, y


def maps_of(
    tokenizer: Any, picture: "Picture", full_size: tuple[int, int], settings: "AttentionSettings"
) -> list["AttentionMap"]:
    """Ask a tokenizer for the maps of the layers and heads that the settings name."""
    from muse_core.viz.attention import heads_of

    count = tokenizer.info.attention_layers
    layers = {"last": [-1], "all": list(range(count))}.get(str(settings.layer), [settings.layer])
    maps: list[AttentionMap] = []
    for layer in layers:
        number = int(layer) % count if -count <= int(layer) < count else int(layer)
        maps += heads_of(one_map(tokenizer, picture, full_size, number), settings.head)
    return maps


def one_map(tokenizer: Any, picture: "Picture", full_size: tuple[int, int], layer: int) -> "AttentionMap":
    """Ask a tokenizer for the map of one layer."""
    import torch

    from muse_core.viz.attention import AttentionMap

    attention = tokenizer.attention(torch.from_numpy(picture)[None], layer)
    weights = attention.patches()[0].cpu().numpy()
    span = span_of(tokenizer, picture, attention.grid, full_size)
    return AttentionMap(tokenizer.info.name, weights, attention.grid, f"block {layer}", span, block=layer)


def span_of(
    tokenizer: Any, picture: "Picture", grid: tuple[int, int], full_size: tuple[int, int]
) -> tuple[float, float] | None:
    """Return the pixels of the file that a grid covers where padding makes it reach beyond; None where unknown."""
    strides = {layer.stride for layer in tokenizer.info.feature_layers.values()}
    height, width = picture.shape[-2:]
    fitting = [s for s in strides if grid == (-(-height // s), -(-width // s))]
    if len(fitting) != 1:
        return None
    return grid[0] * fitting[0] * full_size[0] / height, grid[1] * fitting[0] * full_size[1] / width


def teacher_map(teacher: Any, tokenizer: Any, picture: "Picture", full_size: tuple[int, int]) -> "AttentionMap":
    """Ask the structure teacher of a tokenizer's size for its map on the tokenizer's grid."""
    import torch

    from muse_core.viz.attention import AttentionMap

    grid = tokenizer.info.tokens_at(picture.shape[-2], picture.shape[-1])
    weights = teacher(torch.from_numpy(picture)[None], grid)[0].cpu().numpy()
    return AttentionMap("teacher", weights, grid, span=span_of(tokenizer, picture, grid, full_size))


def in_words(file: Path, scene: "Scene") -> list[str]:
    """Return the lines that say what the figure says: for each query the numbers of all maps at it."""
    from muse_core.viz.maps import numbers
    from muse_core.viz.panels import in_full

    lines = []
    for query in scene.queries or (None,):
        lines.append(f"{file.name}, {where(query, scene)}")
        for attention in scene.drawn:
            patch = None if query is None else attention.patch_at(*query, scene.size)
            name = f"{attention.name} ({attention.note})" if attention.note else attention.name
            lines.append(f"{name}: {in_full(numbers(attention, scene.teacher, patch, scene.size))}")
    return lines


def where(query: tuple[float, float] | None, scene: "Scene") -> str:
    """Say which point is drawn, in the pixels of the file."""
    if query is None:
        return "what each patch receives from all; means over all queries"
    chosen = "; the most decided patch, --query X,Y asks for another" if scene.chosen else ""
    return f"query {query[0]:g},{query[1]:g} of {scene.size[1]} x {scene.size[0]}{chosen}"
