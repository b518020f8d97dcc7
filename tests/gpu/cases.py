"""What is done on a simulated GPU, each in a process of its own; what is found goes back as JSON."""

import io
import json
import os
import tempfile
from collections.abc import Callable
from contextlib import nullcontext, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from muse_cli.main import main
from tests.gpu import driver
from tests.gpu.fake import fake_cuda
from tests.gpu.points import NAMES, missing
from tests.gpu.slow import slow_cuda
from tests.gpu.steps import planted, state_of, take_steps
from tests.gpu.waits import Record

Case = Callable[..., dict[str, Any]]


def lacking(device: str, without: str = "", slot: int = driver.HAS_PRIMARY_CONTEXT) -> dict[str, Any]:
    """What torch lacks for a simulated device, once a name is taken away, or with another place in the table."""
    if without:
        owner, _, name = without.rpartition(".")
        delattr(NAMES[owner][0], name)
    with mock.patch.object(driver, "HAS_PRIMARY_CONTEXT", slot):
        return {"missing": missing(DEVICES[device])}


def snippet(device: str, name: str) -> dict[str, Any]:
    """What is waited for in a line of torch, given three numbers on the device and three on the host."""
    with DEVICES[device]() as record:
        there, here = torch.ones(3, device="cuda"), torch.ones(3)
        SNIPPETS[name](there, here)
        return {"waits": [wait.what for wait in record.waits]}


def steps(size: Any, stage: int, images: int, count: int, bug: str = "clean") -> dict[str, Any]:
    """Take some steps on the fake device, with a bug planted."""
    with tempfile.TemporaryDirectory() as folder, fake_cuda() as record, planted(bug):
        taken = take_steps(size, stage, Path(folder) / "run", record, images=images, steps=count)
        waits = [written(record, *marks) for marks in zip(taken.marks, taken.marks[1:], strict=False)]
        return {"seen": taken.seen, "waits": waits, **state_of(taken.trainer)}


def written(record: Record, first: int, last: int) -> dict[str, int]:
    """Count the waits of a step, by place and kind."""
    found: dict[str, int] = {}
    for wait in record.waits[first:last]:
        found[str(wait)] = found.get(str(wait), 0) + 1
    return found


def command(device: str, line: list[str], folder: str) -> dict[str, Any]:
    """Run one command line in a folder, on the slow device or the CPU; returns its exit code and what it said."""
    os.chdir(folder)
    printed, said = Caught(), Caught()
    with DEVICES[device]() as record, redirect_stdout(printed), redirect_stderr(said):
        code = main([*line, "--json"])
    return {
        "code": code,
        "document": json.loads(printed.text() or "null"),
        "said": said.text(),
        "waits": written(record, 0, len(record.waits)) if record else {},
    }


class Caught(io.TextIOWrapper):
    """A stream that keeps what is written to it."""

    def __init__(self) -> None:
        self.bytes = io.BytesIO()
        super().__init__(self.bytes, encoding="utf-8", write_through=True)

    def text(self) -> str:
        """All of it."""
        return self.bytes.getvalue().decode()


SNIPPETS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "there.sum()": lambda there, here: there.sum(),
    "there.sum().item()": lambda there, here: there.sum().item(),
    "bool(there.any())": lambda there, here: bool(there.any()),
    "there.cpu()": lambda there, here: there.cpu(),
    "here.to('cuda')": lambda there, here: here.to("cuda"),
    "here.to('cuda', non_blocking=True)": lambda there, here: here.to("cuda", non_blocking=True),
    "here.copy_(there)": lambda there, here: here.copy_(there),
    "torch.tensor([1.0], device='cuda')": lambda there, here: torch.tensor([1.0], device="cuda"),
    "there.masked_fill_(there > 0, 1)": lambda there, here: there.masked_fill_(there > 0, 1),
    "there[there > 0] = 1": lambda there, here: there.index_put_((there > 0,), there[:1]),
    "there + here.sum()": lambda there, here: there + here.sum(),
    "there + here": lambda there, here: there + here,
    "there.numpy()": lambda there, here: there.numpy(),
}
"""Lines of torch, by what they say."""

DEVICES: dict[str, Any] = {"fake": fake_cuda, "slow": slow_cuda, "cpu": nullcontext}
CASES: dict[str, Case] = {"lacking": lacking, "snippet": snippet, "steps": steps, "command": command}
