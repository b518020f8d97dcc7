"""`muse attn-viz`: what the synergistic blocks look at, as a picture and in numbers."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from muse_cli.commands.infer import short_side_of, size_in_pixels, tell_notes
from muse_cli.options import CheckpointOption, ConfigFile, Devices, OverwriteFile, Sets
from muse_cli.output import out
from muse_core.errors import ExitCode, MuseError

if TYPE_CHECKING:
    from muse_core.pictures import Picture
    from muse_core.settings.measuring import AttentionSettings
    from muse_core.viz.maps import AttentionMap, Scene


Queries = Annotated[
    list[str] | None,
    typer.Option(
        "--query", metavar="X,Y", help="Attention from this pixel; repeatable.", show_default="received attention"
    ),
]


def attn_viz(
    image: Annotated[Path, typer.Argument(metavar="IMAGE")],
    checkpoint: CheckpointOption = None,
    layer: Annotated[
        str | None, typer.Option("--layer", metavar="N|last|all", help="Which block.", show_default="last")
    ] = None,
    head: Annotated[
        str | None, typer.Option("--head", metavar="N|mean|all", help="Which head, from 1.", show_default="mean")
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
    size_px: Annotated[
        str | None,
        typer.Option(
            "--size-px", metavar="N|native", help="Short side.", show_default="at most twice the training size"
        ),
    ] = None,
    out_file: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help=".png, .svg or .html", show_default="IMAGE-attention.png"),
    ] = None,
    overwrite: OverwriteFile = False,
    devices: Devices = None,
    config: ConfigFile = None,
    sets: Sets = None,
) -> None:
    """Draw what the synergistic blocks look at."""
    from muse_cli.settings import resolve_as
    from muse_cli.tokenizer import chosen_or_newest, load
    from muse_core.machine import pick_device
    from muse_core.model.abilities import Attends
    from muse_core.ownership import refuse_taken
    from muse_core.pictures import read_picture
    from muse_core.settings.measuring import AttentionSettings
    from muse_core.viz.attention import Scene, measure

    flags = {
        "layer": number_or_word(layer),
        "head": number_or_word(head),
        "style": style,
        "teacher": teacher,
        "size_px": size_in_pixels(size_px),
        "devices": devices,
    }
    settings, _ = resolve_as(AttentionSettings, "attn-viz", flags, sets, config)
    refuse_taken(out_file, overwrite)
    notes = Counter[str]()
    original = read_picture(image, notes=notes)  # a name that is wrong is told before a network is loaded
    device = pick_device(settings.devices)
    others = [load(where, device) for where in against or []]
    tokenizers = [load(chosen_or_newest(checkpoint), device, "attends"), *(o for o in others if isinstance(o, Attends))]
    picture = read_picture(image, short_side_of(settings.size_px, tokenizers[0].info.resolution))
    scene = Scene(
        image=picture,
        maps=tuple(part for tokenizer in tokenizers for part in maps_of(tokenizer, picture, settings)),
        teacher=teacher_map(tokenizers[0], picture) if settings.teacher else None,
        queries=tuple(scaled(point(text), original, picture) for text in query or []),
        silent=tuple(other.info.name for other in others if not isinstance(other, Attends)),
    )
    tell_notes(notes)
    give(image, drawn(scene, image, out_file, settings, overwrite), measure(scene), scene.silent)


def drawn(scene: "Scene", image: Path, out_file: Path | None, settings: "AttentionSettings", overwrite: bool) -> Path:
    """Write the figure or page to the file asked for, else beside nothing of the user's; return where it is."""
    from muse_cli.writing import written_default
    from muse_core.viz.attention import attention_content, save_attention

    if out_file is not None:
        return save_attention(scene, out_file, style=settings.style, overwrite=overwrite)
    target = Path(f"{image.stem}-attention.png")
    return written_default(target, attention_content(scene, target, style=settings.style), "attention", image)


def give(image: Path, target: Path, numbers: dict[str, list[dict[str, Any]]], silent: tuple[str, ...]) -> None:
    """Print the numbers of the maps, and who of those named has none."""
    told = [f"{name}: no attention to show" for name in silent]
    found = {"image": image, "out": target, **numbers, "no_attention": list(silent)}
    out.result(found, "\n".join([str(target), in_words(numbers), *told]))


def number_or_word(text: str | None) -> int | str | None:
    """Read a number if it is one; other words are left to the settings to judge."""
    return int(text) if text and text.lstrip("-").isdigit() else text


def point(text: str) -> tuple[float, float]:
    """Read X,Y.

    Raises:
        MuseError: it is something else.
    """
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        raise MuseError(
            f"--query {text}: expected X,Y in pixels", hint="--query 120,80", exit_code=ExitCode.USAGE
        ) from None
    return x, y


def scaled(asked: tuple[float, float], original: "Picture", picture: "Picture") -> tuple[float, float]:
    """Move a point of the file's pixels to the picture that the tokenizer sees.

    Raises:
        MuseError: it lies outside the file's picture.
    """
    (height, width), (new_height, new_width) = original.shape[-2:], picture.shape[-2:]
    x, y = asked
    if not (0 <= x < width and 0 <= y < height):
        raise MuseError(
            f"the query {x:g},{y:g} lies outside the image",
            hint=f"x goes from 0 to {width - 1} and y from 0 to {height - 1}",
            exit_code=ExitCode.SETTINGS,
        )
    return x * new_width / width, y * new_height / height


def maps_of(tokenizer: Any, picture: "Picture", settings: "AttentionSettings") -> list["AttentionMap"]:
    """Ask a tokenizer for the maps of the layers and heads that the settings name."""
    from muse_core.viz.attention import heads_of

    count = tokenizer.info.attention_layers
    layers = {"last": [-1], "all": list(range(count))}.get(str(settings.layer), [settings.layer])
    maps: list[AttentionMap] = []
    for layer in layers:
        number = int(layer) % count if -count <= int(layer) < count else int(layer)
        maps += heads_of(one_map(tokenizer, picture, int(layer), f"block {number}"), settings.head)
    return maps


def one_map(tokenizer: Any, picture: "Picture", layer: int, note: str) -> "AttentionMap":
    """Ask a tokenizer for the map of one layer."""
    import torch

    from muse_core.viz.attention import AttentionMap

    attention = tokenizer.attention(torch.from_numpy(picture)[None], layer)
    weights = attention.patches()[0].cpu().numpy()
    span = span_of(tokenizer, picture, attention.grid)
    return AttentionMap(tokenizer.info.name, weights, attention.grid, note, span)


def span_of(tokenizer: Any, picture: "Picture", grid: tuple[int, int]) -> tuple[int, int] | None:
    """Return the pixels that a grid covers where padding makes it reach beyond the picture; None where unknown."""
    strides = {layer.stride for layer in tokenizer.info.feature_layers.values()}
    height, width = picture.shape[-2:]
    fitting = [s for s in strides if grid == (-(-height // s), -(-width // s))]
    return (grid[0] * fitting[0], grid[1] * fitting[0]) if len(fitting) == 1 else None


def teacher_map(tokenizer: Any, picture: "Picture") -> "AttentionMap":
    """Ask the structure teacher of a tokenizer's size for its map on the tokenizer's grid."""
    import torch

    from muse_core.api import load_teacher
    from muse_core.viz.attention import AttentionMap

    grid = tokenizer.info.tokens_at(picture.shape[-2], picture.shape[-1])
    teacher = load_teacher(tokenizer)
    weights = teacher(torch.from_numpy(picture)[None], grid)[0].cpu().numpy()
    return AttentionMap("teacher", weights, grid, span=span_of(tokenizer, picture, grid))


def in_words(numbers: dict[str, list[dict[str, Any]]]) -> str:
    """Lay out the numbers that stand under the picture."""
    lines = []
    for entry in numbers["maps"]:
        name = f"{entry['name']} ({entry['note']})" if entry["note"] else entry["name"]
        shared = entry["agreement_one_minus_tv"]
        lines.append(
            f"{name}: entropy {entry['entropy_nats']:.2f} nats ({entry['entropy_of_uniform']:.0%} of uniform), "
            f"mean reach {entry['mean_reach_patches']:.1f} patches"
            + (f", agreement with the teacher {shared:.2f}" if shared is not None else "")
        )
    return "\n".join(lines)
