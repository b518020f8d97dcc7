"""Running muse as a user does: in this process, or as a command with made plugins installed beside it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from muse_cli.main import main
from muse_core import registry
from muse_core.runs import RunFolder


@dataclass(frozen=True)
class Ended:
    """How a command line ended, and what it said where."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.out)
        return document


@dataclass(frozen=True)
class Package:
    """What is told of an installed distribution."""

    name: str
    version: str


Muse = Callable[..., Ended]


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """An empty folder, no MUSE_* variables, nothing remembered."""
    for name in [name for name in os.environ if name.startswith("MUSE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("MUSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    registry.forget()
    yield
    registry.forget()


@pytest.fixture
def muse(capsys: pytest.CaptureFixture[str]) -> Muse:
    """Run a command line in this process."""

    def run(*arguments: str) -> Ended:
        capsys.readouterr()
        code = main(arguments)
        said = capsys.readouterr()
        return Ended(code, said.out, said.err)

    return run


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Install an entry point in this process: install("muse.commands", "name", "module:ATTR", module={...})."""
    extra: list[EntryPoint] = []

    def fake(*, group: str) -> list[EntryPoint]:
        return [*entry_points(group=group), *(entry for entry in extra if entry.group == group)]

    def add(group: str, name: str, value: str, package: str = "stranger", **content: object) -> None:
        module = ModuleType(value.partition(":")[0])
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        entry = EntryPoint(name, value, group)
        vars(entry)["dist"] = Package(package, "2.5")
        extra.append(entry)
        registry.forget()

    monkeypatch.setattr(registry, "entry_points", fake)
    return add


@pytest.fixture
def shell(tmp_path: Path) -> Muse:
    """Run the command in a process of its own; `plugins` holds distributions made by `distribution`."""

    def run(*arguments: str, plugins: Path | None = None, **environment: str) -> Ended:
        done = subprocess.run(
            [sys.executable, "-m", "muse_cli", *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=shell_environment(plugins, **environment),
            timeout=600,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    return run


def shell_environment(plugins: Path | None = None, **more: str) -> dict[str, str]:
    """The variables of a fresh shell that finds muse, and the plugins in a folder."""
    root = str(Path(__file__).parents[2])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [root, str(plugins or "")])), **more}


def stopped_after(
    first: str, number: signal.Signals, *arguments: str, folder: Path, plugins: Path | None = None
) -> Ended:
    """Run the command in a process of its own, and send it a signal once its first line on stderr is `first`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "muse_cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=shell_environment(plugins),
        # A test run in the background ignores Ctrl-C, and would hand that down.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    assert process.stderr.readline() == f"{first}\n"
    time.sleep(0.1)
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    return Ended(process.returncode, out, err)


@pytest.fixture
def distribution(tmp_path: Path) -> Callable[..., Path]:
    """Lay out an installed package: its code, and the metadata that a package installer would write."""
    site = tmp_path / "site"

    def make(name: str, code: str, entries: str) -> Path:
        site.mkdir(exist_ok=True)
        (site / f"{name}.py").write_text(code)
        info = site / f"{name}-2.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.5\n")
        (info / "entry_points.txt").write_text(entries)
        return site

    return make


@pytest.fixture
def put_on_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """Let this process find the packages of a folder, as a process does that has it in PYTHONPATH."""
    folders: list[Path] = []

    def imported() -> list[str]:
        files = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
        return [name for name, file in files.items() if file and any(at in Path(file).parents for at in folders)]

    def put(folder: Path) -> None:
        for name in {path.stem for path in folder.iterdir()}:
            for module in [one for one in sys.modules if one.partition(".")[0] == name]:
                monkeypatch.delitem(sys.modules, module)
        folders.append(folder)
        monkeypatch.syspath_prepend(folder)
        registry.forget()

    yield put
    for name in imported():
        del sys.modules[name]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished stage-3 run, as far as files go."""
    import torch

    from muse_core.model.build import ConnectorSpec, build_network
    from muse_core.model.checkpoint import CheckpointState, save_network

    spec = ConnectorSpec("muse", width=128, heads=4, blocks=2, latent_channels=16, inject=True, resolution=64)
    run = RunFolder.create(tmp_path_factory.mktemp("r") / "run", {}, {}, stage=3, size="tiny", steps=1)
    torch.manual_seed(0)
    with run.checkpoint(1) as folder:
        state = CheckpointState("tiny", stage=3, step=1, spec=spec, encoder_trained=False, frozen={})
        save_network(folder, build_network("tiny", spec), None, state)
    run.finish(1)
    return run.path
