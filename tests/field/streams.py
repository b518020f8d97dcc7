"""Commands with streams that refuse, and what they read."""

import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from muse_cli.main import main
from tests.field.inputs import flat, noise, tar

Patch = pytest.MonkeyPatch
Capture = pytest.CaptureFixture[str]
NOT_UTF8 = os.fsdecode(b"d\xff")


def image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:  # by name Pillow would have to encode it
        Image.fromarray(flat((200, 30, 30), 24, 24)).save(file, "PNG")
    return path


def shards(folder: Path, count: int = 4) -> None:
    rng = np.random.default_rng(count)
    members = []
    for number in range(count):
        stream = io.BytesIO()
        Image.fromarray(noise(rng, 24)).save(stream, "PNG")
        mask = io.BytesIO()
        Image.fromarray(np.repeat(np.array([1, 2], np.uint8), 288).reshape(24, 24)).save(mask, "PNG")
        key = f"{number:04d}"
        members += [(f"{key}.png", stream.getvalue()), (f"{key}.cls", b"%d" % (number % 2))]
        members += [(f"{key}.seg.png", mask.getvalue())]
    tar(folder / "0.tar", members)


def written(stream: io.TextIOWrapper) -> bytes:
    stream.seek(0)
    return bytes(stream.buffer.read())


def ended_with(stdout: object, patch: Patch, *arguments: str) -> int:
    """Run a command in this process with another stdout."""
    patch.setattr(sys, "stdout", stdout)
    try:
        return main(arguments)
    finally:
        patch.undo()
