"""What is secret in the environment or on the command line is in no file of a run, and not in what is printed."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from muse_core.data.writer import write_scene_shards
from muse_core.errors import ExitCode, MuseError
from muse_core.runs import RunFolder
from tests.trust.conftest import Muse

SECRETS = {
    "HF_TOKEN": "hf_PlantedSecret0123456789",
    "HUGGING_FACE_HUB_TOKEN": "hf_OtherPlanted987654321",
    "AWS_SECRET_ACCESS_KEY": "PlantedAws/abc+def0123456789",
    "AWS_ACCESS_KEY_ID": "AKIAPLANTED0123456789",
    "WANDB_API_KEY": "plantedwandb0123456789abcdef",
    "DATABASE_PASSWORD": "planted-password-0123",
    "SOME_SECRET": "planted-secret-4567",
    "GITHUB_TOKEN": "ghp_Planted0123456789",
    "SSH_PRIVATE_KEY": "-----BEGIN planted 8901",
    "HTTPS_PROXY": "http://user:planted-proxy@127.0.0.1:9",
}
TYPED = "planted-on-the-command-line"
QUICK = ["--steps", "1", "--batch-size", "8", "--devices", "cpu", "--set", "data.workers=1", "--set", "data.val=null"]
TRAIN = ["train", "--stage", "1", "--size", "tiny", "--out", "run", *QUICK]


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets as a cluster has them."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


def hidden(texts: Iterable[bytes]) -> list[str]:
    """The secrets found in some texts."""
    whole = b"\n".join(texts)
    parts = [*SECRETS.values(), TYPED, "planted-proxy"]
    return [secret for secret in parts if secret.encode() in whole]


def files(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in folder.rglob("*") if path.is_file()]


def test_the_search_finds_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_bytes(b"\x00" + SECRETS["HF_TOKEN"].encode())
    assert hidden(files(tmp_path)) == [SECRETS["HF_TOKEN"]]


@pytest.mark.slow
def test_a_run_and_all_that_is_made_of_it_hold_no_secret(muse: Muse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSE_DEBUG", "1")
    said = []
    for command in (
        [*TRAIN, "--json", "--verbose"],
        ["eval", "run", "--data", "demo:val:8", "--metric", "psnr", "--json"],
        ["report", "run", "--json"],
        ["inspect", "run", "--json"],
        ["export", "run", "--out", "exported", "--json"],
        ["doctor", "--json"],
        ["config", "show", "train", "--json"],
        ["ls", "runs", "--json"],
    ):
        ended = muse(*command)
        assert ended.code == 0, (command, ended.err)
        said += [ended.out.encode(), ended.err.encode()]
    written = files(Path("run"))
    assert len(written) > 10  # with TensorBoard's
    assert hidden(written) == []
    assert hidden(files(Path("exported"))) == []
    assert hidden(said) == []


def test_a_run_that_failed_with_a_secret_in_its_error_does_not_keep_it(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", {}, {}, stage=1, size="tiny", steps=1)
    address = f"https://user:{TYPED}@host/shards/000000.tar"
    signed = f"https://host/000000.tar?X-Amz-Credential=AKIA&X-Amz-Signature={TYPED}"
    run.log(f"reads {address} and {signed}")
    run.fail(MuseError(f"{address} and {signed} cannot be read", hint=f"check {address}"))
    assert hidden(files(run.path)) == []


def test_an_address_that_cannot_be_read_is_refused_before_anything_is_written(muse: Muse) -> None:
    where = f"file:///nowhere/{{000000..000001}}.tar?token={TYPED}"
    failed = muse("train", "--stage", "1", "--size", "tiny", "--out", "failed", "--data", where)
    assert failed.code == ExitCode.FILE
    assert "000000.tar" in failed.err
    assert not Path("failed").exists()


@pytest.mark.slow
def test_credentials_of_an_address_are_in_no_record_but_the_settings(muse: Muse, tmp_path: Path) -> None:
    """They have to be in config.yaml, which `--resume` reads; nothing that is handed on shows them."""
    shards = write_scene_shards("train", 16, tmp_path / "shards", per_shard=8, size=64).folder
    for shard in shards.glob("*.tar"):  # a store that takes the token; of a file it is part of the name
        shard.rename(shard.with_name(f"{shard.name}?token={TYPED}"))
    where = f"file://{shards}/{{000000..000001}}.tar?token={TYPED}"
    ended = muse(*TRAIN, "--data", where, "--json")
    assert ended.code == 0, ended.err
    holding = {path.name for path in Path("run").rglob("*") if path.is_file() and TYPED.encode() in path.read_bytes()}
    assert holding == {"config.yaml"}
