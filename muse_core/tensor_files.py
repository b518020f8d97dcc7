"""Files of tensors: safetensors, whole or refused, with the checksums that a checkpoint keeps of them."""

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from muse_core.command_lines import quote
from muse_core.errors import MuseError


class DamagedCheckpointError(MuseError):
    """A file of a checkpoint that is missing, cut short, or not as it was written."""


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor as a file holds it: on the CPU, and whole where processes hold parts (all have to come here)."""
    tensor = tensor.detach()
    parts = getattr(tensor, "full_tensor", None)  # a DTensor, as FSDP2 makes them
    return (parts() if parts else tensor).cpu().contiguous()


def is_in_parts(tensors: Iterable[Tensor]) -> bool:
    """Return whether each process holds only a part of some of them."""
    return any(hasattr(tensor, "full_tensor") for tensor in tensors)


def write_tensors(tensors: Mapping[str, Tensor], file: Path) -> None:
    """Write a safetensors file.

    Raises:
        OSError: the disk refuses.
    """
    try:
        save_file(dict(tensors), file)
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))  # which is all that it says
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(file)) from None


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        MuseError: it is missing or cut short.
    """
    try:
        return load_file(file)
    except FileNotFoundError:
        raise DamagedCheckpointError(f"{file} is missing", hint="muse ls runs") from None
    except (SafetensorError, OSError) as error:
        raise DamagedCheckpointError(
            f"{file} cannot be read: {error}", hint=f"muse inspect {quote(file.parent)}"
        ) from None


def read_unchanged(file: Path, digests: Mapping[str, str]) -> dict[str, Tensor]:
    """Read a file of a checkpoint, if it is the one that was written.

    Raises:
        MuseError: it is missing, or any bit of it is another.
    """
    tensors = read_tensors(file)
    if is_changed(file, digests):
        what = f"{file} is not as it was written: its checksum differs"
        raise DamagedCheckpointError(what, hint=f"muse inspect {quote(file.parent)}")
    return tensors


def refuse_changed(folder: Path, digests: Mapping[str, str]) -> None:
    """Refuse a checkpoint of which a file is gone, or is another than was written.

    Raises:
        DamagedCheckpointError: naming the file.
    """
    for name in digests:
        file = folder / name
        if not file.is_file():
            raise DamagedCheckpointError(f"{file} is missing", hint="muse ls runs")
        if is_changed(file, digests):
            what = f"{file} is not as it was written: its checksum differs"
            raise DamagedCheckpointError(what, hint=f"muse inspect {folder}")


def is_changed(file: Path, digests: Mapping[str, str]) -> bool:
    """Return whether a file is another than was written, by the checksum of its name; without one nobody knows."""
    return file.name in digests and digests[file.name] != digest_of_file(file)


def digests_in(folder: Path) -> dict[str, str]:
    """Return the sha256 of each file of tensors in a folder, by name."""
    return {file.name: digest_of_file(file) for file in sorted(folder.glob("*.safetensors"))}


def digest_of_file(file: Path) -> str:
    """Return the sha256 of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
