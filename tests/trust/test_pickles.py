"""Nothing that lies in a file is executed: not by a checkpoint, not by weights, statistics, shards or settings."""

import io
import pickle
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import muse_core
from muse_core.errors import ExitCode, MuseError
from muse_core.latents.members import read_latents
from muse_core.registry import discover
from muse_core.runs import RunFolder
from tests.training.mini import train_lean
from tests.trust.conftest import Bomb, Muse

REFUSED = (ExitCode.FILE, ExitCode.PROBLEMS)
Write = Callable[[Any, Path], None]


def plain(document: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(document))


def zipped(document: Any, path: Path) -> None:
    torch.save(document, path)


def legacy(document: Any, path: Path) -> None:
    torch.save(document, path, _use_new_zipfile_serialization=False)


FORMS: dict[str, Write] = {"pickle": plain, "torch": zipped, "old torch": legacy}
COMMANDS = {
    "train": "train --stage 2 --size tiny --data demo --devices cpu --steps 1 --out run --overwrite --init {}",
    "eval": "eval {} --data demo:val:8",
    "probe": "probe linear {} --data demo:train:8 --val-data demo:val:8",
    "zeroshot": "zeroshot {} --data demo:val:8",
    "segment": "segment {} --data demo:train:8 --val-data demo:val:8",
    "compare": "compare {} tiny --measure eval --limit 8",
    "infer": "infer photo.png --checkpoint {}",
    "latents": "infer demo:val:8 --latents made --checkpoint {}",
    "attn-viz": "attn-viz photo.png --checkpoint {}",
    "attn-viz --against": "attn-viz photo.png --checkpoint tiny --against {}",
    "export": "export {} --out made",
    "inspect": "inspect {}",
}


def checkpoint_in(run: Path) -> Path:
    (folder,) = (run / "checkpoints").glob("step-*")
    return folder


@pytest.fixture
def stolen(trained: Path, tmp_path: Path) -> Path:
    """A run of ours to put something into."""
    return Path(shutil.copytree(trained, tmp_path / "stolen"))


def test_the_trap_works_where_a_file_is_trusted(bomb: Bomb, marker: Path, tmp_path: Path) -> None:
    for name, write in FORMS.items():
        write({"model": bomb}, tmp_path / "weights.bin")
        torch.load(tmp_path / "weights.bin", weights_only=False) if name != "pickle" else pickle.loads(
            (tmp_path / "weights.bin").read_bytes()
        )
        assert marker.is_dir()
        marker.rmdir()


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_executes_a_checkpoint(
    muse: Muse, bomb: Bomb, marker: Path, photo: Path, tmp_path: Path, command: str
) -> None:
    for number, (form, write) in enumerate(FORMS.items()):
        folder = tmp_path / f"folder{number}"
        folder.mkdir()
        write({"model": {"to_latent.weight": bomb}}, folder / "pytorch_model.bin")
        for place in (folder, folder / "pytorch_model.bin"):
            ended = muse(*COMMANDS[command].format(place).split(), "--json")
            assert ended.code in REFUSED
            assert not marker.exists(), (form, place)
            assert str(place) in ended.out, (form, ended.out)
    assert not Path("made").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_executes_what_calls_itself_safetensors(
    muse: Muse, bomb: Bomb, marker: Path, photo: Path, stolen: Path, command: str
) -> None:
    for name in ("model.safetensors", "average.safetensors"):
        for write in FORMS.values():
            write({"model": bomb}, checkpoint_in(stolen) / name)
            ended = muse(*COMMANDS[command].format(stolen).split(), "--json")
            assert ended.code in REFUSED
            assert not marker.exists()
    assert not Path("made").exists()


@pytest.mark.parametrize("write", FORMS.values(), ids=FORMS)
def test_python_executes_no_checkpoint_either(bomb: Bomb, marker: Path, tmp_path: Path, write: Write) -> None:
    write({"model": {"to_latent.weight": bomb}}, tmp_path / "pytorch_model.bin")
    with pytest.raises(MuseError, match="pytorch_model.bin"):
        muse_core.load_tokenizer(tmp_path / "pytorch_model.bin")
    assert not marker.exists()


def test_shards_of_weights_are_not_executed(bomb: Bomb, marker: Path, tmp_path: Path) -> None:
    zipped({"to_latent.weight": bomb}, tmp_path / "pytorch_model-00001.bin")
    index = '{"weight_map": {"to_latent.weight": "pytorch_model-00001.bin"}}'
    (tmp_path / "pytorch_model.bin.index.json").write_text(index)
    with pytest.raises(MuseError, match="would run code"):
        muse_core.load_tokenizer(tmp_path)
    assert not marker.exists()


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_compiled_code_is_not_executed(tmp_path: Path) -> None:
    """TorchScript is a program; `torch.load` would hand it to another loader."""
    torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(str(tmp_path / "model.pt"))
    with pytest.raises(MuseError, match=r"model\.pt"):
        muse_core.load_tokenizer(tmp_path / "model.pt")


@pytest.mark.parametrize("file", ["model", "average", "training"])
def test_going_on_with_a_run_executes_none_of_its_files(
    muse: Muse, bomb: Bomb, marker: Path, tmp_path: Path, file: str
) -> None:
    run = tmp_path / "run"
    train_lean(1, run, {"training.steps": 1})
    zipped({"model": bomb}, checkpoint_in(run) / f"{file}.safetensors")
    RunFolder(run).fail(MuseError("stopped"))
    assert muse("train", "--resume", str(run)).code == ExitCode.FILE
    assert not marker.exists()


def test_no_tokenizer_that_reads_files_executes_them(bomb: Bomb, marker: Path, tmp_path: Path) -> None:
    tried = []
    for number, (name, plugin) in enumerate(discover("muse.tokenizers").items()):
        for form, write in FORMS.items():
            folder = tmp_path / f"{number}-{form}"
            folder.mkdir()
            for file in ("model.ckpt", "model.pt", "pytorch_model.bin", "model.safetensors"):
                write({"state_dict": {"encoder.conv_in.weight": bomb}, "model": bomb}, folder / file)
            for place in (folder, *sorted(folder.iterdir())):
                with pytest.raises(MuseError):
                    plugin.code()(str(place), "cpu")
                assert not marker.exists(), (name, place)
        tried.append(name)
    assert len(tried) > 10


@pytest.mark.parametrize("write", FORMS.values(), ids=FORMS)
def test_weights_of_metrics_are_not_executed(
    muse: Muse, bomb: Bomb, marker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Write
) -> None:
    monkeypatch.setenv("MUSE_WEIGHTS", str(tmp_path))
    for part, file in (
        ("toshas/torch-fidelity", "pt_inception-2015-12-05-6726825d.pth"),
        ("muse/vgg16", "vgg16-397923af.pth"),
        ("muse/lpips-vgg", "vgg.pth"),
    ):
        (tmp_path / part).mkdir(parents=True)
        write({"weight": bomb}, tmp_path / part / file)
    for metric in ("rfid", "lpips"):
        assert muse("eval", "tiny", "--data", "demo:val:8", "--metric", metric).code == ExitCode.FILE
        assert not marker.exists()


def test_statistics_to_compare_with_are_not_executed(muse: Muse, bomb: Bomb, marker: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "reference.npz", mu=np.array([bomb], dtype=object), sigma=np.array([bomb], dtype=object))
    metrics = ("--metric", "tiny-fid") if "tiny-fid" in discover("muse.metrics") else ()
    ended = muse("eval", "tiny", "--data", "demo:val:8", "--reference", "reference.npz", *metrics)
    assert ended.code == ExitCode.FILE, ended.err
    assert not marker.exists()


def test_latents_are_not_executed(bomb: Bomb, marker: Path, tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.save(stream, np.array([bomb], dtype=object), allow_pickle=True)
    record = b'{"key": "a", "height": 8, "width": 8}'
    write_tar(tmp_path / "000000.tar", {"a.json": record, "a.latents.npy": stream.getvalue()})
    with pytest.raises(MuseError, match="does not hold latents"):
        list(read_latents(tmp_path))
    assert not marker.exists()


def test_members_of_shards_are_not_executed(muse: Muse, bomb: Bomb, marker: Path, tmp_path: Path) -> None:
    """Other readers of such tars decode .pyd, .pickle and .pth by unpickling them."""
    picture, archive = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (600, 600)).save(picture, "PNG")
    torch.save(bomb, archive)
    code = pickle.dumps(bomb)
    strange = {"txt": b"a square", "pyd": code, "pickle": code, "pkl": code, "pth": archive.getvalue()}
    for folder, extra in (("strange", strange), ("broken", {**strange, "cls": code, "json": code, "txt": code})):
        Path(folder).mkdir()
        members = {"png": picture.getvalue(), **extra}
        write_tar(tmp_path / folder / "000000.tar", {f"{key}.{x}": members[x] for key in range(8) for x in members})
    assert muse("inspect", "strange", "--deep", "--sample", "4").code == ExitCode.DONE
    assert muse("inspect", "broken", "--deep").code == ExitCode.PROBLEMS
    assert muse("eval", "tiny", "--data", "strange").code == ExitCode.DONE
    assert muse("infer", "strange", "--latents", "made", "--checkpoint", "tiny").code == ExitCode.DONE
    assert muse("shard", "strange", "--recipe", "cc12m", "--out", "again").code == ExitCode.DONE
    assert muse("eval", "tiny", "--data", "broken").code not in (ExitCode.DONE, ExitCode.BUG)
    train_lean(1, tmp_path / "run", {"data.train": "strange", "data.lanes": 1, "training.steps": 1})
    assert not marker.exists()


def test_settings_are_not_executed(muse: Muse, marker: Path, tmp_path: Path, stolen: Path) -> None:
    order = f"!!python/object/apply:os.mkdir ['{marker}']"
    (tmp_path / "settings.yaml").write_text(f"run: {order}\n")
    (stolen / "config.yaml").write_text(f"run: {order}\n")
    RunFolder(stolen).fail(MuseError("stopped"))
    for command in (
        ["config", "check", "settings.yaml"],
        ["train", "--config", "settings.yaml"],
        ["train", "--stage", "1", "--size", "tiny", "--set", f"optim.lr={order}"],
        ["train", "--resume", str(stolen)],
        ["report", str(stolen), "--out", "page.html"],
        ["inspect", str(stolen)],
    ):
        ended = muse(*command)
        assert ended.code != ExitCode.BUG, (command, ended.err)
        assert ended.code != ExitCode.DONE or command[0] == "report", (command, ended.err)
        assert not marker.exists(), command


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


def test_an_archive_with_more_inside_is_not_executed(bomb: Bomb, marker: Path, tmp_path: Path) -> None:
    """A torch file whose pickle was exchanged by hand."""
    torch.save({"to_latent.weight": torch.zeros(2)}, tmp_path / "whole.bin")
    with zipfile.ZipFile(tmp_path / "whole.bin") as whole, zipfile.ZipFile(tmp_path / "model.bin", "w") as made:
        for name in whole.namelist():
            made.writestr(name, pickle.dumps(bomb, 2) if name.endswith("data.pkl") else whole.read(name))
    with pytest.raises(MuseError, match="would run code"):
        muse_core.load_tokenizer(tmp_path / "model.bin")
    assert not marker.exists()
