"""Where something is written is said by whoever types the command: never by names inside tars, indexes and pictures."""

import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from PIL import Image

from muse_core.data.places import ALLOW_PIPE
from muse_core.data.shards import find_shards
from muse_core.data.tars import list_tar
from muse_core.errors import ExitCode, MuseError
from muse_core.latents.members import read_latents
from muse_core.runs import RunFolder
from tests.training.mini import train_lean
from tests.trust.conftest import Muse

KEYS = 8


def png(value: int = 90, mode: str = "RGB") -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (320, 320), value).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder that names in the tar lead to."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "mine.txt").write_text("untouched")
    return folder


@pytest.fixture
def shards(tmp_path: Path, outside: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tar made to break out; the commands run in a folder beside the one it aims at."""
    folder = tmp_path / "user" / "shards"
    folder.mkdir(parents=True)
    keys = [
        "../../outside/up",
        f"{outside}/absolute",
        "/etc/muse-test",
        "a/../../../outside/within",
        "through/link",
        "./../../outside/dot",
        "C:\\muse-test",
        "plain",
    ]
    with tarfile.open(folder / "000000.tar", "w") as tar:
        for name, target in (("through", str(outside)), ("link.png", str(outside / "mine.txt"))):
            add(tar, name, kind=tarfile.SYMTYPE, target=target)
        add(tar, "hard.png", kind=tarfile.LNKTYPE, target="../../outside/mine.txt")
        add(tar, "device.png", kind=tarfile.CHRTYPE)
        add(tar, "fifo.png", kind=tarfile.FIFOTYPE)
        for number, key in enumerate(keys):
            for suffix, content in {"png": png(20 * number), "txt": b"../../x", "seg.png": png(number, "L")}.items():
                add(tar, f"{key}.{suffix}", content)
    monkeypatch.chdir(tmp_path / "user")
    return folder


def add(tar: tarfile.TarFile, name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, target: str = "") -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.type, entry.linkname = len(content), kind, target
    tar.addfile(entry, io.BytesIO(content))


@pytest.fixture
def nothing_leaves(tmp_path: Path, shards: Path, outside: Path) -> Iterator[list[str]]:
    """Afterwards, nothing new lies anywhere but in what the test names."""
    before, allowed = set(everything(tmp_path)), list[str]()
    yield allowed
    new = [path for path in everything(tmp_path) if path not in before]
    strayed = [path for path in new if not any(path.startswith(f"user/{name}") for name in allowed)]
    assert not [path for path in strayed if not path.startswith("cache")], strayed
    assert (outside / "mine.txt").read_text() == "untouched"
    assert not [path for path in Path("/etc").iterdir() if path.name.startswith("muse-test")]


def everything(folder: Path) -> list[str]:
    return [str(Path(where, name).relative_to(folder)) for where, _, names in os.walk(folder) for name in names]


def test_latents_stay_in_their_folder_and_their_tars_lead_nowhere(muse: Muse, nothing_leaves: list[str]) -> None:
    nothing_leaves.append("latents/")
    assert muse("infer", "shards", "--latents", "latents", "--checkpoint", "tiny").code == 0
    with tarfile.open("latents/000000.tar") as tar:
        names = tar.getnames()
    assert len(names) == 3 * KEYS
    for name in names:
        assert not name.startswith("/")
        assert "\\" not in name
        assert ".." not in name.split("/")
    found = [sample.key for sample in read_latents("latents")]
    assert "000000/../../outside/up" in found  # what it was is not lost
    assert len(set(found)) == KEYS


def test_masks_stay_in_their_folder(muse: Muse, nothing_leaves: list[str]) -> None:
    nothing_leaves += ["masks/", "scores.json", "strip.png"]
    ended = muse(
        *("segment", "tiny", "--data", "shards", "--val-data", "shards", "--epochs", "1", "--classes", "9"),
        *("--save-masks", "masks", "--out", "scores.json", "--picture", "strip.png"),
    )
    assert ended.code == 0, ended.err
    assert len(list(Path("masks").iterdir())) == KEYS


def test_contact_sheets_and_scores_go_where_they_are_told(muse: Muse, nothing_leaves: list[str]) -> None:
    nothing_leaves += ["sheet.png", "scores.json", "pairs/"]
    assert muse("inspect", "shards", "--deep", "--sample", "9", "--out", "sheet.png").code in (0, ExitCode.PROBLEMS)
    told = ("--metric", "psnr", "--out", "scores.json", "--save-images", "pairs")
    assert muse("eval", "tiny", "--data", "shards", *told).code == 0
    assert Path("sheet.png").is_file()
    assert len(list(Path("pairs", "original").iterdir())) == KEYS


def test_reconstructions_are_named_by_files_and_not_by_what_is_in_them(muse: Muse, nothing_leaves: list[str]) -> None:
    nothing_leaves += ["made/", "pictures/"]
    folder = Path("pictures")
    folder.mkdir()
    for name in ("...png", "a..b.png", "-rf.png", "new\nline.png"):
        (folder / name).write_bytes(png())
    ended = muse("infer", "pictures", "--checkpoint", "tiny", "--out", "made", "--json")
    assert ended.code == 0
    for entry in ended.json["images"]:
        assert Path(entry["out"]).parent == Path("made")


def test_writing_shards_again_names_members_anew(muse: Muse, nothing_leaves: list[str]) -> None:
    nothing_leaves.append("again/")
    ended = muse("shard", "shards", "--recipe", "cc12m", "--out", "again")
    assert ended.code == 0, ended.err
    for path in Path("again").rglob("*.tar"):
        with tarfile.open(path) as tar:
            assert all(name.partition(".")[0].isdigit() for name in tar.getnames())


def test_training_and_its_report_stay_in_the_run(muse: Muse, nothing_leaves: list[str]) -> None:
    nothing_leaves.append("run/")
    changes = {"data.train": "shards", "data.val": "shards", "data.lanes": 1, "data.flip": True}
    train_lean(1, Path("run"), {**changes, "training.steps": 1, "training.sample_every": 1})
    assert RunFolder(Path("run")).sample_path(1).is_file()
    assert muse("report", "run").code == 0


def test_links_and_devices_in_a_tar_are_no_samples(shards: Path) -> None:
    with (shards / "000000.tar").open("rb") as stream:
        listing = list_tar(stream)
    assert listing.others == 5
    assert {"link", "hard", "device", "fifo"}.isdisjoint(entry.key for entry in listing.entries)


@pytest.mark.parametrize(
    "name",
    ["../secret.tar", "/etc/passwd.tar", "x/../../secret.tar", "a::file:///etc/passwd", "pipe:true", "..\\x.tar"],
)
def test_an_index_on_a_server_names_only_what_lies_beside_it(name: str) -> None:
    store = fsspec.filesystem("memory")
    store.pipe("/served/index.json", json.dumps({"shards": [{"name": name, "count": 1, "bytes": 1}]}).encode())
    with pytest.raises(MuseError, match="names a shard outside it"):
        find_shards("memory://served", "train")


PIPED = ("pipe:touch executed", "{pipe:touch executed,x}.tar", "a::pipe:touch executed")


@pytest.mark.parametrize("where", PIPED)
def test_commands_in_place_of_data_are_refused_by_every_command(
    muse: Muse, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, where: str
) -> None:
    monkeypatch.delenv(ALLOW_PIPE, raising=False)
    for command in (
        ["train", "--stage", "1", "--size", "tiny", "--steps", "1", "--out", "run", "--data", where],
        ["train", "--stage", "1", "--size", "tiny", "--out", "run", "--val-data", where, "--dry-run"],
        ["train", "--stage", "1", "--size", "tiny", "--data", f"0.5 {where} + 0.5 demo", "--dry-run"],
        ["eval", "tiny", "--data", where],
        ["probe", "linear", "tiny", "--data", where, "--val-data", where],
        ["zeroshot", "tiny", "--data", where],
        ["segment", "tiny", "--data", where, "--val-data", where],
        ["infer", where, "--latents", "made", "--checkpoint", "tiny"],
        ["infer", where, "--checkpoint", "tiny"],
        ["attn-viz", where, "--checkpoint", "tiny"],
        ["inspect", where],
        ["shard", where],
    ):
        ended = muse(*command)
        assert ended.code in (ExitCode.FILE, ExitCode.PROBLEMS), (command, ended.err)
        assert not (tmp_path / "executed").exists(), command


def test_a_comparison_runs_no_command(muse: Muse, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It tells of each score why it is not there, and goes on."""
    monkeypatch.delenv(ALLOW_PIPE, raising=False)
    muse("compare", "tiny", "--data", PIPED[0], "--train-data", PIPED[0])
    assert not (tmp_path / "executed").exists()


def test_a_setting_does_not_allow_commands_either(muse: Muse, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only a variable of the user's own shell does, not a file that came with the data."""
    monkeypatch.delenv(ALLOW_PIPE, raising=False)
    (tmp_path / "settings.yaml").write_text("data: {train: 'pipe:touch executed'}\nrun: {stage: 1, size: tiny}\n")
    assert muse("train", "--config", "settings.yaml", "--out", "run").code == ExitCode.FILE
    monkeypatch.setenv("MUSE_DATA", "pipe:touch executed")
    assert muse("eval", "tiny").code == ExitCode.FILE
    assert not (tmp_path / "executed").exists()
