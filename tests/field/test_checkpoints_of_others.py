"""Checkpoints of authors hold more than tensors: what is beside them is passed over, and nothing of it is run."""

import argparse
import collections
import enum
import functools
import io
import pathlib
import subprocess
import sys
import types
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from muse_core.errors import ExitCode, MuseError
from muse_core.evaluation.weights import read_weights
from muse_core.model.latent_stats import LatentStats
from muse_core.model.weights.inert import Placeholder
from muse_core.model.weights.reading import open_tensors, taken_out
from muse_core.model.weights.torchfiles import TensorRecord, open_torch_file
from tests.baselines import reference
from tests.field.conftest import Muse

Save = Callable[[Any, Path], None]
FORMS: dict[str, Save] = {
    "zip": torch.save,
    "legacy": functools.partial(torch.save, _use_new_zipfile_serialization=False),
    "protocol 4": functools.partial(torch.save, pickle_protocol=4),
    "legacy, protocol 4": functools.partial(torch.save, _use_new_zipfile_serialization=False, pickle_protocol=4),
}
DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.uint8, torch.int8, torch.int16, torch.int32,
    torch.int64, torch.bool, torch.complex64, torch.complex128, torch.uint16, torch.uint32, torch.uint64,
    torch.float8_e4m3fn, torch.float8_e5m2,
]  # fmt: skip


@pytest.fixture
def callback() -> Iterator[type]:
    """The class of a package that the reader's machine does not have."""
    names = [".".join(["pytorch_lightning", "callbacks", "model_checkpoint"][:k]) for k in (1, 2, 3)]
    sys.modules.update({name: types.ModuleType(name) for name in names})
    made = type("ModelCheckpoint", (), {"__module__": names[-1]})
    sys.modules[names[-1]].ModelCheckpoint = made  # type: ignore[attr-defined]
    yield made
    for name in names:
        del sys.modules[name]


def lightning(weights: dict[str, Tensor], callback: type) -> dict[str, Any]:
    return {
        "state_dict": weights, "epoch": 1, "pytorch-lightning_version": "1.0.8", "optimizer_states": [],
        "callbacks": {callback: {"best_model_path": "x"}},
    }  # fmt: skip


def test_e4_a_checkpoint_with_callbacks_scores_as_one_without(muse: Muse, tmp_path: Path, callback: type) -> None:
    weights = reference.weights("vqgan")
    torch.save({"state_dict": weights, "epoch": 1}, "plain.ckpt")
    torch.save(lightning(weights, callback), "last.ckpt")
    scores = []
    for name in ("plain.ckpt", "last.ckpt"):
        ended = muse("eval", f"vqgan:{name}", "--data", "demo:val:2", "--metric", "psnr", "--json")
        assert ended.code == ExitCode.DONE, ended.err
        scores.append(ended.json["metrics"]["psnr"])
    assert scores[0] == scores[1]
    assert scores[0] == pytest.approx(8.12, abs=0.01)


class Kind(enum.Enum):
    ONE = 1


@dataclass
class Config:
    width: int = 3


class Average:
    def __init__(self) -> None:
        self.shadow = {"w": torch.zeros(2)}


class Settings(dict[str, Any]):
    """As configuration libraries have them: a dict with attributes."""


def beside() -> dict[str, Any]:
    """What was met beside tensors."""
    model = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return {
        "namespace": argparse.Namespace(lr=0.1, path=pathlib.Path("x"), inner=argparse.Namespace(a=[1, None])),
        "numpy scalar": np.float64(0.5), "numpy array": np.arange(6).reshape(2, 3), "numpy bool": np.bool_(True),
        "numpy objects": np.array([{"a": 1}, None], dtype=object), "random state": np.random.default_rng(0),
        "enum": Kind.ONE, "by enum": {Kind.ONE: 1}, "dataclass": Config(), "path": pathlib.PurePosixPath("/a/b"),
        "partial": functools.partial(int, base=2), "function": functools.reduce, "class": Config,
        "defaultdict": collections.defaultdict(list, {"a": [1]}), "counter": collections.Counter("aab"),
        "deque": collections.deque([1]), "settings": Settings(a=1), "average": Average(), "module": model,
        "size": torch.Size([2]), "dtype": torch.bfloat16, "device": torch.device("cpu"), "layout": torch.strided,
        "optimizer": optimizer.state_dict(), "generator": torch.get_rng_state(), "bytes": b"\xff\x00", "big": 1 << 90,
        "set": {1, "a"}, "frozenset": frozenset({1}), "complex": 1j, "range": range(3), "slice": slice(1, 2),
        "quantized": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
        "sparse": torch.eye(2).to_sparse(), "meta": torch.zeros(2, device="meta"), "storage": torch.ones(2).storage(),
        "tuple key": {(0, "a"): 1}, "exception": ValueError("x"), "buffer": io.BytesIO(b"x"), "text": "é" * 100,
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", FORMS)
def test_whatever_is_beside_the_tensors_they_are_read(form: str, tmp_path: Path) -> None:
    weights = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).state_dict()
    for name, value in beside().items():
        for wrapper in ("state_dict", "model", "ema"):
            FORMS[form]({name: value, wrapper: weights, f"{name} again": value}, tmp_path / "x.ckpt")
            same({**open_tensors(tmp_path / "x.ckpt", "a test")}, weights)
    FORMS[form]({"model": weights, **beside()}, tmp_path / "x.ckpt")
    same(read_weights(tmp_path / "x.ckpt"), weights)


def same(read: Any, expected: Any, file: Any = None) -> None:
    """Tensors and plain containers are equal; a record is read first."""
    read = file.tensor(read) if isinstance(read, TensorRecord) else read
    if isinstance(expected, Tensor):
        assert (read.dtype, read.shape, read.stride()) == (expected.dtype, expected.shape, expected.stride())
        assert torch.equal(flat(read), flat(expected))
    elif isinstance(expected, dict):
        assert [*read] == [*expected]
        for name, value in expected.items():
            same(read[name], value, file)
    elif isinstance(expected, list | tuple):
        assert len(read) == len(expected)
        for one, other in zip(read, expected, strict=True):
            same(one, other, file)
    else:
        assert type(read) is type(expected)
        assert read == expected


def flat(tensor: Tensor) -> Tensor:
    """Its bytes in order: equal also where values are no numbers."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def tensors() -> dict[str, Any]:
    """Tensors of all kinds, that share storages, and what else torch's own safe reader reads."""
    base = torch.arange(24.0).reshape(4, 6)
    named: dict[str, Any] = {str(dtype): torch.tensor([0, 1, 1]).to(dtype) for dtype in DTYPES}
    return named | {
        "whole": base, "turned": base.T, "part": base[1:3, ::2], "tied": base, "last": base[3], "empty": base[4:],
        "scalar": torch.tensor(1.5), "expanded": torch.ones(1).expand(3, 2), "channels last": base.view(1, 2, 3, 4)
        .contiguous(memory_format=torch.channels_last), "parameter": nn.Parameter(base[0].clone()),
        "subclass": nn.Buffer(torch.ones(2)), "plain": [1, 2.5, "a", None, True, (1, (2,)), {"a": {1: 2}}, -5, 1 << 40],
        "ordered": collections.OrderedDict([("b", 1), ("a", torch.ones(1))]), "module": nn.Linear(2, 2).state_dict(),
        "optimizer": torch.optim.SGD(nn.Linear(2, 2).parameters(), momentum=0.9).state_dict(),
    }  # fmt: skip


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_files_of_tensors_are_read_as_torch_reads_them(form: str, tmp_path: Path) -> None:
    held = tensors()
    if form == "legacy":  # torch writes its newer dtypes into these, and cannot read them again
        held = {name: value for name, value in held.items() if "uint" not in name and "float8" not in name}
        held["torch.uint8"] = torch.tensor([0, 255], dtype=torch.uint8)
    FORMS[form](held, tmp_path / "x.pt")
    file = open_torch_file(tmp_path / "x.pt")
    same(file.document, torch.load(tmp_path / "x.pt", weights_only=True), file)


def test_conjugated_and_negated_tensors_are_read_as_torch_reads_them(tmp_path: Path) -> None:
    value = torch.tensor([1 + 2j, 3 - 1j])
    torch.save({"conj": value.conj(), "neg": value.clone().conj().imag}, tmp_path / "x.pt")
    file = open_torch_file(tmp_path / "x.pt")
    for name, expected in torch.load(tmp_path / "x.pt", weights_only=True).items():
        assert torch.equal(file.tensor(file.document[name]).resolve_conj(), expected.resolve_conj().resolve_neg())


def test_tensors_that_share_bytes_share_them_when_read(tmp_path: Path) -> None:
    base = torch.arange(4.0)
    torch.save({"a": base, "b": base[2:]}, tmp_path / "x.pt")
    read = dict(open_tensors(tmp_path / "x.pt", "a test"))
    assert read["b"].data_ptr() == read["a"].data_ptr() + 8
    read["a"][2] = 7
    assert read["b"][0] == 7
    assert dict(open_tensors(tmp_path / "x.pt", "a test"))["a"][2] == 2  # the file is as it was


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_what_was_read_can_be_saved_again(form: str, tmp_path: Path) -> None:
    """Tensors of several dtypes have storages of their own, and take with them no more bytes than they had."""
    state = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8)).state_dict()
    FORMS[form](state, tmp_path / "x.pt")
    read = dict(open_tensors(tmp_path / "x.pt", "a test"))
    torch.save(read, tmp_path / "again.pt")
    same(torch.load(tmp_path / "again.pt", weights_only=True), dict(state))
    torch.save(dict(state), tmp_path / "expected.pt")
    assert (tmp_path / "again.pt").stat().st_size < 1.1 * (tmp_path / "expected.pt").stat().st_size


def test_what_nobody_asks_for_is_not_read(tmp_path: Path) -> None:
    torch.save({"model": {"w": torch.zeros(1 << 22)}, "optimizer": {"a": torch.zeros(1 << 25)}}, tmp_path / "x.pt")
    program = (
        "import sys; from pathlib import Path; from muse_core.model.weights.reading import open_tensors\n"
        "held = lambda: int(next(l for l in open('/proc/self/status') if l.startswith('RssFile')).split()[1])\n"
        "before = held(); t = open_tensors(Path(sys.argv[1]), 'x')['w']; t.sum(); print(held() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "x.pt")], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 64 * 1024  # KiB; the file has 144 MiB


# What is not read, and what helps.


def refusal(document: Any, path: Path, save: Save = torch.save) -> MuseError:
    save(document, path)
    with pytest.raises(MuseError) as caught:
        open_tensors(path, "a test")
    assert caught.value.exit_code == ExitCode.FILE
    return caught.value


def whole_module(weights: dict[str, Tensor]) -> nn.Module:
    model = nn.Linear(2, 2)
    model.load_state_dict(weights)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [lambda m: m, lambda m: {"model": m}, lambda m: {"ema": m, "epoch": 1}, lambda m: [m]])
def test_the_hint_takes_the_tensors_out_of_what_is_not_read(wrap: Callable[[Any], Any], tmp_path: Path) -> None:
    weights = {"weight": torch.rand(2, 2), "bias": torch.rand(2)}
    error = refusal(wrap(whole_module(weights)), tmp_path / "it's one.pt")
    assert "would run code" in error.what
    command = str(error.hint).partition("out: ")[2].replace("python ", f"{sys.executable} ", 1)
    subprocess.run(command, shell=True, check=True)
    same(load_file(tmp_path / "it's one.safetensors"), {name: weights[name] for name in ("bias", "weight")})


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("tensor", "what"),
    [
        (torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8), "quantized tensors"),
        (torch.eye(2).to_sparse(), "sparse tensors"),
        (torch.zeros(2, device="meta"), "tensors without values"),
        (np.ones(2), "numpy"),
    ],
)
@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_tensors_of_other_kinds_are_refused_by_kind(tensor: Any, what: str, form: str, tmp_path: Path) -> None:
    error = refusal({"w": tensor}, tmp_path / "x.pt", FORMS[form])
    assert what in error.what
    assert "python -c" in str(error.hint)


def test_old_tars_and_compressed_archives_are_refused_with_the_way_out(tmp_path: Path) -> None:
    import tarfile

    torch.save({"w": torch.ones(2)}, tmp_path / "x.pt")
    with tarfile.open(tmp_path / "old.pt", "w") as old:
        old.add(tmp_path / "x.pt", "storages")
    with zipfile.ZipFile(tmp_path / "x.pt") as whole, zipfile.ZipFile(tmp_path / "small.pt", "w", 8) as packed:
        for name in whole.namelist():
            packed.writestr(name, whole.read(name))
    for name, why in (("old.pt", "is a tar"), ("small.pt", "compressed")):
        with pytest.raises(MuseError, match=why) as caught:
            open_tensors(tmp_path / name, "a test")
        assert str(caught.value.hint) == taken_out(tmp_path / name)


def test_a_file_that_is_cut_short_is_to_be_fetched_again(tmp_path: Path) -> None:
    for form, save in FORMS.items():
        save({"w": torch.ones(100)}, tmp_path / "x.pt")
        content = (tmp_path / "x.pt").read_bytes()
        for kept in range(0, len(content) - 1, 97):
            (tmp_path / "x.pt").write_bytes(content[:kept])
            with pytest.raises(MuseError, match="cannot be read") as caught:
                open_tensors(tmp_path / "x.pt", "a test")
            assert caught.value.hint == "fetch the file again", (form, kept)


def test_large_archives_have_wider_headers_and_are_read(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2)}, tmp_path / "x.pt")
    with zipfile.ZipFile(tmp_path / "x.pt") as whole, zipfile.ZipFile(tmp_path / "wide.pt", "w") as wide:
        for name in whole.namelist():
            with wide.open(name, "w", force_zip64=True) as member:
                member.write(whole.read(name))
    assert torch.equal(open_tensors(tmp_path / "wide.pt", "a test")["w"], torch.ones(2))


def test_statistics_of_latents_and_weights_of_metrics_are_read_alike(tmp_path: Path) -> None:
    stats = {"mean": torch.zeros(1, 2, 1, 1), "std": torch.ones(1, 2, 1, 1)}
    torch.save({"model": stats, "args": argparse.Namespace(x=1)}, tmp_path / "latents_stats.pt")
    assert LatentStats.from_file(tmp_path / "latents_stats.pt").std == (1.0, 1.0)
    same(read_weights(tmp_path / "latents_stats.pt"), stats)


def test_states_that_modules_add_are_no_tensors(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2), "layer._extra_state": io.BytesIO(b"x")}, tmp_path / "x.pt")
    assert [*open_tensors(tmp_path / "x.pt", "a test")] == ["w"]


def test_placeholders_hold_nothing(tmp_path: Path) -> None:
    torch.save({"model": {"w": torch.ones(1)}, "args": argparse.Namespace(secret="x")}, tmp_path / "x.pt")
    held = open_torch_file(tmp_path / "x.pt").document["args"]
    assert isinstance(held, Placeholder)
    assert (held.name, held.called, Placeholder.__slots__) == ("argparse.Namespace", True, ("called", "name"))
    assert repr(held) == "<argparse.Namespace(...)>"
