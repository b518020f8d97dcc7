"""Nothing connects to another machine, and with MUSE_OFFLINE=1 nothing even tries to where it was asked to."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from muse_core.data.places import ALLOW_PIPE, open_place
from muse_core.errors import ExitCode, MuseError
from muse_core.offline import LIBRARIES, OFFLINE
from tests.cli.conftest import shell_environment
from tests.trust.conftest import Muse

AWAY = ("https://127.0.0.1:9/{000000..000003}.tar", "s3://bucket/shards", "http://127.0.0.1:9/shards", "hf://x/y")

# Loaded by every Python process before anything else, those that read data included.
WATCH = """
import os, sys

def watch(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        local = isinstance(arguments[1], (str, bytes))  # a socket of this machine has a path for an address
    else:
        local = event not in ("socket.getaddrinfo", "socket.gethostbyname", "urllib.Request")
    if not local:
        with open(os.environ["WATCHED"], "a") as log:
            log.write(f"{event} {arguments}\\n")
        raise ConnectionRefusedError(f"{event} {arguments}")

sys.addaudithook(watch)
"""

# All in one process, which costs one import of everything.
TOUR = """
import os
from muse_cli.main import main

QUICK = ["--set", "training.log_every=1", "--set", "data.workers=1", "--set", "data.val=null", "--devices", "cpu"]
TRAIN = ["train", "--size", "tiny", "--steps", "1", "--batch-size", "8", *QUICK]
COMMANDS = [
    [*TRAIN, "--stage", "1", "--out", "runs/one"],
    [*TRAIN, "--stage", "2", "--dry-run"],
    ["eval", "tiny", "--data", "demo:val:8", "--metric", "psnr"],
    ["zeroshot", "tiny", "--data", "demo:val:8"],
    ["probe", "knn", "tiny", "--data", "demo:train:24", "--val-data", "demo:val:8", "--k", "5"],
    ["segment", "tiny", "--data", "demo:train:8", "--val-data", "demo:val:8", "--epochs", "1", "--classes", "98"],
    ["compare", "tiny", "--measure", "zeroshot", "--limit", "8"],
    ["infer", "photo.png", "--checkpoint", "tiny"],
    ["attn-viz", "photo.png", "--checkpoint", "tiny", "--teacher"],
    ["inspect", "runs/one"],
    ["export", "tiny", "--out", "exported", "--to", "hub"],
    ["shard", "pictures", "--out", "shards"],
    ["report", "runs/one"],
    ["ls", "runs"],
    ["config", "show", "train"],
    ["doctor"],
    ["plugins"],
    ["--version"],
]
EMPTY = [["train", "--stage", "2", "--size", "1b", "--dry-run"], ["eval", "vqgan"], ["doctor", "--size", "1b"]]
for command in COMMANDS:
    assert main(command) in (0, None), command
for command in EMPTY:  # what is missing is told, not fetched
    assert main(command) in (4, 8), command
os.environ["MUSE_OFFLINE"] = "1"
for command in [[*TRAIN, "--stage", "1", "--out", "runs/two"], *COMMANDS[1:4], ["report", "runs/two"], ["doctor"]]:
    assert main(command) in (0, None), command
for command in EMPTY:
    assert main(command) in (4, 8), command
"""


@pytest.mark.slow
def test_no_command_tries_to_connect(tmp_path: Path, photo: Path) -> None:
    """Neither while it would be allowed to, which tells most, nor with MUSE_OFFLINE=1."""
    watched, pictures = tmp_path / "attempts", tmp_path / "pictures"
    pictures.mkdir()
    photo.rename(pictures / "photo.png")
    (tmp_path / "photo.png").write_bytes((pictures / "photo.png").read_bytes())
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(WATCH)
    home = {"HOME": str(tmp_path), "HF_HOME": str(tmp_path / "hub"), "MUSE_WEIGHTS": str(tmp_path / "weights")}
    done = subprocess.run(
        [sys.executable, "-c", TOUR],
        cwd=tmp_path,
        env=shell_environment(tmp_path / "site", **home, WATCHED=str(watched)),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert not watched.exists(), watched.read_text()


def test_the_watch_sees_what_is_attempted(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(WATCH)
    code = "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9/')"
    environment = shell_environment(tmp_path, WATCHED=str(tmp_path / "attempts"))
    subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=False)
    assert "urllib.Request" in (tmp_path / "attempts").read_text()


@pytest.mark.parametrize("where", AWAY)
def test_addresses_of_other_machines_are_refused_by_every_command(
    muse: Muse, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setenv(OFFLINE, "1")
    for command in (
        ["train", "--stage", "1", "--size", "tiny", "--data", where],
        ["eval", "tiny", "--data", where],
        ["inspect", where],
        ["shard", where],
        ["infer", where, "--latents", "made", "--checkpoint", "tiny"],
    ):
        ended = muse(*command)
        assert ended.code == ExitCode.FILE, (command, ended.err)
        assert "MUSE_OFFLINE=1 forbids to fetch it" in ended.err
        assert "name a folder of this machine" in ended.err


def test_a_command_that_could_fetch_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OFFLINE, "1")
    monkeypatch.setenv(ALLOW_PIPE, "1")
    with pytest.raises(MuseError, match="forbids to fetch"):
        open_place("pipe:cat x.tar")


def test_files_of_this_machine_are_read_by_address_all_the_same(
    muse: Muse, monkeypatch: pytest.MonkeyPatch, photo: Path
) -> None:
    monkeypatch.setenv(OFFLINE, "1")
    (photo.parent / "pictures").mkdir()
    photo.rename(photo.parent / "pictures" / photo.name)
    ended = muse("shard", f"file://{photo.parent}/pictures", "--out", "made")
    assert ended.code == 0, ended.err


def test_the_libraries_of_the_hub_are_told(muse: Muse, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LIBRARIES:
        monkeypatch.delenv(name, raising=False)
    assert muse("ls", "stages").code == 0
    assert not any(name in os.environ for name in LIBRARIES)
    monkeypatch.setenv(OFFLINE, "1")
    assert muse("ls", "stages").code == 0
    assert [os.environ[name] for name in LIBRARIES] == ["1"] * len(LIBRARIES)
    for name in LIBRARIES:
        monkeypatch.delenv(name)
