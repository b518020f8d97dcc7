"""`muse infer`: pictures to reconstructions."""

from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from muse_cli.commands.latents import (
    Flips,
    LatentFormat,
    Latents,
    LatentsFolder,
    LatentType,
    OverwriteLatents,
    ResumeLatents,
    write_latents,
)
from muse_cli.options import BatchSize, CheckpointOption, ConfigFile, Devices, Sets
from muse_cli.output import out, size_text
from muse_core.command_lines import quote
from muse_core.errors import ExitCode, MuseError

if TYPE_CHECKING:
    from muse_core.model.effort import Effort
    from muse_core.ownership import OutputNames
    from muse_core.pictures import Picture
    from muse_core.progress import Progress

LARGE = 4
"""Sides of images, in training sizes, up to which nobody is warned; twice the training size is the default."""

LONG_S = 10.0
"""Seconds from which an image takes long."""


def infer(
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE...", help="Pictures, folders or patterns; with --latents, data.")
    ],
    checkpoint: CheckpointOption = None,
    out_dir: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Where to write.", show_default="beside each picture")
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Write original | reconstruction | difference, with PSNR.")
    ] = False,
    features: Annotated[
        Path | None, typer.Option("--features", metavar="FILE.npz", help="Also write the pooled features.")
    ] = None,
    size_px: Annotated[
        str | None,
        typer.Option(
            "--size-px", metavar="N|native", help="Short side.", show_default="at most twice the training size"
        ),
    ] = None,
    devices: Devices = None,
    latents: LatentsFolder = None,
    dtype: LatentType = "float32",
    latent_format: LatentFormat = "safetensors",
    flips: Flips = False,
    batch_size: BatchSize = None,
    resume: ResumeLatents = False,
    overwrite: OverwriteLatents = False,
    config: ConfigFile = None,
    sets: Sets = None,
) -> None:
    """Reconstruct images, or write the latents of shards."""
    from muse_cli.settings import resolve_as
    from muse_cli.stopping import ending_soon
    from muse_cli.tokenizer import chosen_or_newest, load
    from muse_core.machine import pick_device
    from muse_core.model.locating import look_up
    from muse_core.ownership import refuse_taken
    from muse_core.settings.measuring import InferSettings

    flags = {"size_px": size_in_pixels(size_px), "devices": devices}
    settings, _ = resolve_as(InferSettings, "infer", flags, sets, config)
    if latents is not None:
        wanted = Latents(latents, dtype, latent_format, flips, batch_size or 64, resume, overwrite)
        newest = chosen_or_newest(checkpoint)
        # The job records `latest` as it was typed, beside the checkpoint that it was.
        write_latents(images, checkpoint or newest, settings.size_px, settings.devices, wanted)
        return
    files = inputs(images)
    refuse_taken(features, overwrite, [*files, *images], "npz")
    refuse_file(out_dir)
    needs = ["encodes", "decodes", *(["featurizes"] if features else [])]
    where = chosen_or_newest(checkpoint)
    out.say(f"infer: {look_up(where).text} on {counted(files)}; {side_in_words(settings.size_px)}")
    device = pick_device(settings.devices)
    with ending_soon():
        tokenizer = load(where, device, *needs)
        asked = Reconstruction(tokenizer, settings.size_px, out_dir, compare, wants_features=features is not None)
        asked.run(files)
    if features and asked.pooled:
        write_features(features, asked.pooled, overwrite)
    tell_notes(asked.notes)
    report(asked.done, asked.unread, tokenizer.info.name, features if asked.pooled else None)


class Reconstruction:
    """Reconstructs images one by one, and keeps what there is to say of each.

    tokenizer: encodes and decodes. size_px: as typed. folder: where to write; None for beside each image.
    compare: write original, reconstruction and difference side by side. wants_features: keep pooled features as well.
    """

    def __init__(
        self, tokenizer: Any, size_px: int | str | None, folder: Path | None, compare: bool, *, wants_features: bool
    ) -> None:
        from muse_core.ownership import OutputNames

        self.tokenizer, self.folder, self.compare, self.wants_features = tokenizer, folder, compare, wants_features
        self.short_side = short_side_of(size_px, tokenizer.info.resolution)
        self.done: list[dict[str, Any]] = []
        self.unread: dict[str, str] = {}
        self.pooled: dict[str, Any] = {}
        self.notes = Counter[str]()
        self._names, self._caution = OutputNames(), Caution(tokenizer)

    def run(self, files: list[Path]) -> None:
        """Reconstruct files; one that cannot be read is told and passed over."""
        from muse_core.pictures import read_picture

        progress = out.progress()
        with progress.track("infer", len(files)) as tracker:
            for file in files:
                try:
                    picture = read_picture(file, self.short_side, notes=self.notes)
                except MuseError as error:
                    self.unread[str(file)] = error.what
                    progress.warn(error.what)
                else:
                    self._caution.warn(file, picture, progress)
                    self._one(file, picture)
                tracker.advance()

    def _one(self, file: Path, picture: "Picture") -> None:
        folder = self.folder or file.parent
        self.done.append(reconstruct_one(self.tokenizer, picture, file, folder, self.compare, self._names))
        if self.wants_features:
            self.pooled[str(file)] = pooled_features(self.tokenizer, picture)


class Caution:
    """Warns of images that take long, before they do: each that takes longer than any before it.

    tokenizer: encodes and decodes; what it takes is measured when the first large image comes.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._side: int = tokenizer.info.resolution
        self._most = (LARGE * self._side) ** 2

    def warn(self, file: Path, picture: "Picture", progress: "Progress") -> None:
        """Say what an image will take, if it is the largest so far and takes long."""
        from muse_cli.progress import time_text

        height, width = picture.shape[-2:]
        if height * width <= self._most:
            return
        self._most = height * width
        effort = self._effort
        seconds, size = effort.seconds(height, width), size_text(effort.bytes_at_least(height, width))
        if seconds >= LONG_S:
            progress.warn(
                f"{file} at {width} x {height} takes roughly {time_text(seconds)} here, and at least {size} of memory: "
                f"attention grows with the square of the pixels; --size-px {2 * self._side} is the default"
            )

    @cached_property
    def _effort(self) -> "Effort":
        from muse_core.model.effort import effort_of

        return effort_of(self._tokenizer, self._side)


def refuse_file(folder: Path | None) -> None:
    """Refuse a file where a folder is wanted, and a folder in which nothing can be written.

    Raises:
        MuseError: it is one.
    """
    from muse_core.files import refuse_unwritable

    if folder is not None and folder.exists() and not folder.is_dir():
        raise MuseError(f"--out {folder}: this is a file, not a folder", hint="--out FOLDER", exit_code=ExitCode.USAGE)
    if folder is not None:
        refuse_unwritable(folder, into=True)


def counted(files: list[Path]) -> str:
    """Name one image, or count several."""
    return str(files[0]) if len(files) == 1 else f"{len(files):,} images"


def side_in_words(size_px: int | str | None) -> str:
    """Write how large images are made."""
    if size_px == "native":
        return "each at its own size"
    return f"short side at most {size_px or 'twice the training size'}{' px' if size_px else ''}"


def tell_notes(notes: "Counter[str]") -> None:
    """Say once what reading left out of how many images."""
    from muse_core.image_files import noted

    for note in noted(notes):
        out.warn(note)


def refuse_data(named: list[str]) -> None:
    """Refuse scenes and shards where images are wanted, and name the option that takes them.

    Raises:
        MuseError: one of them is that.
    """
    data = next(filter(is_data, named), None)
    if data is not None:
        raise MuseError(
            f"no image at {data}: it names data, which only --latents takes here",
            hint=f"muse infer {quote(data)} --latents DIR writes latents; "
            f"muse eval --data {quote(data)} --save-images DIR images",
        )


def is_data(text: str) -> bool:
    """Return whether words mean scenes or shards."""
    path = Path(text)
    scenes_or_shards = text == "demo" or text.startswith("demo:") or text.endswith(".tar") or "://" in text
    return (scenes_or_shards and not path.is_dir()) or any(path.glob("*.tar"))


def size_in_pixels(text: str | None) -> str | int | None:
    """Read --size-px; what is no number is left to the settings to judge."""
    return int(text) if text and text.isdigit() else text


def short_side_of(size_px: int | str | None, resolution: int) -> int | None:
    """Return the short side to scale to: None keeps the picture as it is."""
    return None if size_px == "native" else int(size_px or 2 * resolution)


def inputs(named: list[str]) -> list[Path]:
    """Find the images; what muse made of others is left out of folders, and a file that was named is taken.

    Raises:
        MuseError: nothing else is there, or data are named.
    """
    from muse_core.ownership import is_result
    from muse_core.pictures import find_pictures

    refuse_data(named)
    files = find_pictures(named)
    folders = {Path(text) for text in named if Path(text).is_dir()}
    files_named = {Path(text) for text in named} - folders
    made = {file for file in files if file.parent in folders and file not in files_named and is_result(file)}
    left = [file for file in files if file not in made]
    if not left:
        first = min(made)
        raise MuseError(f"muse made all images in {first.parent}", hint=f"name the files: muse infer {quote(first)}")
    if made:
        out.say(f"{len(made)} left out, which muse made: {', '.join(sorted(map(str, made))[:3])}")
    return left


def reconstruct_one(
    tokenizer: Any, picture: "Picture", file: Path, folder: Path, compare: bool, names: "OutputNames"
) -> dict[str, Any]:
    """Write the reconstruction of one picture, and return what `--json` says of it."""
    import torch

    from muse_cli.writing import written_default
    from muse_core.pictures import image_png, picture_png
    from muse_core.viz.grids import compare_strip
    from muse_core.viz.pixels import psnr

    images = torch.from_numpy(picture)[None]
    latents = tokenizer.encode(images).z
    size = (int(images.shape[-2]), int(images.shape[-1]))
    result = tokenizer.decode(latents, size)[0].cpu().numpy()
    purpose = "compare" if compare else "recon"
    content = image_png(compare_strip(picture, result.clip(0.0, 1.0))) if compare else picture_png(result)
    target = written_default(folder / f"{file.stem}-{purpose}.png", content, purpose, file, names=names)
    return {
        "image": str(file),
        "out": str(target),
        "height": size[0],
        "width": size[1],
        "latents": list(latents.shape[1:]),
        "psnr": psnr(picture, result),
    }


def pooled_features(tokenizer: Any, picture: "Picture") -> Any:
    """Return the pooled features (D,) of one picture."""
    import torch

    return tokenizer.features(torch.from_numpy(picture)[None]).pooled[0].cpu().numpy()


def write_features(path: Path, pooled: dict[str, Any], overwrite: bool) -> None:
    """Write names (N,) and pooled features (N, D)."""
    import io

    import numpy as np

    from muse_core.marks import Mark
    from muse_core.ownership import write_file

    stream = io.BytesIO()
    np.savez(stream, names=np.array(list(pooled)), pooled=np.stack(list(pooled.values())))
    write_file(path, stream.getvalue(), Mark("features"), overwrite=overwrite)


def report(done: list[dict[str, Any]], unread: dict[str, str], name: str, features: Path | None) -> None:
    """Say what was written; an error only when no picture could be read."""
    lines = [f"{entry['out']}  PSNR {entry['psnr']:.2f} dB" for entry in done]
    if features:
        lines.append(str(features))
    document = {"tokenizer": name, "images": done, "unread": unread, "features": features}
    out.result(document, "\n".join(lines))
    if unread:
        out.say(f"{len(unread)} of {len(done) + len(unread)} could not be read")
    if not done:
        raise MuseError("none of the pictures could be read", hint=next(iter(unread.values())))
