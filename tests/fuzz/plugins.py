"""Damaged packages: whatever their metadata say, muse's own commands work, and what is broken is named."""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from muse_core import registry
from muse_core.errors import ExitCode
from tests.fuzz.judge import muse
from tests.fuzz.kinds import Bug, Cases
from tests.fuzz.mutate import damaged

CODE = """
from muse_core.evaluation.spec import ProbeSpec
PROBE = ProbeSpec(help="How odd.", target="odd{0}:measure", settings="odd{0}:Settings")
"""
ENTRIES = "[muse.probes]\nodd{0} = odd{0}:PROBE\n\n[muse.commands]\nodd{0} = odd{0}:PROBE\n"
METADATA = "Metadata-Version: 2.1\nName: odd{0}\nVersion: 1.0\n"
DECLARATIONS = (
    "PROBE = None", "PROBE = 3", "raise SystemExit(3)", "import nowhere", "PROBE = object",
    "class P:\n    help = target = None\n    api = 1\nPROBE = P()", "1 +", "def PROBE(): ...", "PROBE = {}",
    "class P:\n    @property\n    def help(self): raise ValueError\n    target = ''\n    api = 1\nPROBE = P()",
    "class P:\n    help = 'x'\n    target = 'odd'\n    api = 'one'\n    settings = 7\nPROBE = P()",
    "raise RecursionError",
    "import sys; sys.stdout.write('hello')", "class P:\n    def __getattr__(self, name): return self\nPROBE = P()",
)  # fmt: skip


def plugins(folder: Path, cases: list[int], of: Cases) -> Iterator[Bug]:
    """A package whose entry points, metadata or declaration are damaged."""
    for case in cases:
        site = folder / f"site{case}"
        _install(site, case, of.rng(case))
        with _installed(site):
            for command in (["plugins", "list", "--json"], ["ls", "probes"], ["--help"], ["ls", "stages", "--json"]):
                ended = muse(*command)
                if ended.bug:
                    yield of.bug(case, ended)
                elif ended.code != ExitCode.DONE:
                    yield of.bug(case, ended, f"exit code {ended.code}: {ended.err[:200]}")
        shutil.rmtree(site)


def _install(site: Path, case: int, rng: np.random.Generator) -> None:
    info = site / f"odd{case}-1.0.dist-info"
    info.mkdir(parents=True)
    files = {
        info / "entry_points.txt": ENTRIES.format(case),
        info / "METADATA": METADATA.format(case),
        site / f"odd{case}.py": CODE.format(case),
    }
    for path, text in files.items():
        path.write_text(text)
    victim = list(files)[case % len(files)]
    if victim.suffix == ".py" and case % 2:
        victim.write_text(DECLARATIONS[int(rng.integers(len(DECLARATIONS)))])
    else:
        victim.write_bytes(damaged(victim.read_bytes(), rng))


@contextmanager
def _installed(site: Path) -> Iterator[None]:
    modules, writes = set(sys.modules), sys.dont_write_bytecode
    sys.path.insert(0, str(site))
    sys.dont_write_bytecode = True
    registry.forget()
    try:
        yield
    finally:
        sys.path.remove(str(site))
        sys.dont_write_bytecode = writes
        registry.forget()
        for name in set(sys.modules) - modules:
            if name.startswith("odd"):
                del sys.modules[name]
