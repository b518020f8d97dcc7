"""The shape of the house: imports point down, functions stay short, files stay readable."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted([*(ROOT / "muse_core").rglob("*.py"), *(ROOT / "muse_cli").rglob("*.py")])
LONGEST_FUNCTION = 70
LONGEST_FILE = 400
THE_LOOP = ("muse_core/training/loop.py", "train")

# What each part may import of muse_core besides itself; parts of one file are named by that file.
BASE = {
    *("errors", "progress", "interrupts", "files", "identity", "image_files", "file_names", "marks", "ownership"),
    *("registry", "machine", "runs", "run_checkpoints", "run_search", "text_files", "yaml_files", "home"),
    *("json_text", "muse_core", "rules", "suggestions", "tensor_files", "distributed", "command_lines"),
}
ARROWS = {
    "errors": set(),
    "command_lines": set(),
    "progress": set(),
    "records": {"errors"},
    "switches": {"errors"},
    "home": {"errors"},
    "json_text": set(),
    "offline": {"errors", "switches"},
    "interrupts": {"errors"},
    "file_names": {"image_files"},
    "text_files": {"errors"},
    "yaml_files": {"text_files"},
    "files": {"command_lines", "errors", "json_text", "text_files"},
    "identity": {"errors"},
    "tensor_files": {"command_lines", "errors"},
    "distributed": {"errors"},
    "marks": {"json_text"},
    "ownership": {"errors", "files", "marks"},
    "run_files": {"files", "marks", "ownership"},
    "run_checkpoints": {"command_lines", "errors", "files", "run_files", "run_status"},
    "rules": set(),
    "plugin_errors": {"registry"},
    "suggestions": set(),
    "registry": {"errors", "suggestions"},
    "machine": {"command_lines", "errors", "muse_core", "suggestions"},
    "run_status": {"command_lines", "errors", "machine"},
    "remembered": {"files", "home", "run_files"},
    "run_search": {"command_lines", "errors", "remembered", "run_checkpoints", "run_files", "run_status", "runs"},
    "devices": {"errors", "machine"},
    "runs": {
        "command_lines",
        "distributed",
        "errors",
        "files",
        "home",
        "json_text",
        "interrupts",
        "machine",
        "records",
        "run_checkpoints",
        "run_files",
        "run_status",
        "text_files",
        "yaml_files",
    },
    "image_files": {"errors"},
    "pictures": {"errors", "file_names", "image_files", "text_files"},
    "settings": BASE,
    "data": BASE | {"offline", "switches"},
    "model": BASE,
    "losses": BASE | {"model"},
    "viz": BASE,
    "evaluation": BASE | {"losses", "model", "data"},
    "training": BASE | {"data", "offline", "settings"},
    "foundation": BASE | {"data", "evaluation", "losses", "model", "settings", "stages", "training", "viz"},
    "stages": BASE | {"devices", "evaluation", "losses", "model", "data", "settings", "training", "viz"},
    "latents": BASE | {"data", "model"},
    "inspection": BASE | {"data", "model", "settings", "viz"},
    "api": BASE | {"inspection", "stages", "training", "evaluation", "losses", "model", "data", "settings", "pictures"},
    "compare": BASE | {"api", "evaluation", "model", "data"},
    "demo_record": {"command_lines", "errors", "files", "progress", "run_search", "runs"},
    "demo": BASE
    | {
        "api",
        "demo_record",
        "run_files",
        "stages",
        "training",
        "evaluation",
        "losses",
        "model",
        "data",
        "settings",
        "viz",
    },
    "muse_core": {"api", "data"},
}
FORBIDDEN_IN_CORE = {"muse_cli", "typer", "rich", "click"}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def part_of(module: str) -> str:
    """muse_core.training.loop -> training; muse_core itself -> muse_core."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def imports(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}:{node.lineno}: imports are absolute"
            base = node.module or ""
            # `from muse_core import runs` names the module runs, `from muse_core import train` a function.
            for alias in node.names:
                is_module = (ROOT / base.replace(".", "/") / f"{alias.name}.py").exists()
                yield (f"{base}.{alias.name}" if is_module else base), node.lineno


def test_core_never_looks_up_to_the_command_line() -> None:
    upward = [
        f"{name_of(path)}:{line}: {module}"
        for path in FILES
        if path.is_relative_to(ROOT / "muse_core")
        for module, line in imports(path)
        if module.split(".")[0] in FORBIDDEN_IN_CORE
    ]
    assert upward == []


def test_arrows_inside_core_point_down() -> None:
    against = []
    for path in FILES:
        if not path.is_relative_to(ROOT / "muse_core"):
            continue
        inside = path.relative_to(ROOT).with_suffix("").parts
        own = "muse_core" if inside[1] == "__init__" else inside[1]
        own = (
            "foundation" if inside[1:3] == ("training", "foundation") else own
        )  # no part of the engine it lies beneath
        allowed = ARROWS[own] | {own}
        against += [
            f"{name_of(path)}:{line}: {own} -> {part_of(module)}"
            for module, line in imports(path)
            if module.split(".")[0] == "muse_core" and part_of(module) not in allowed
        ]
    assert against == []


def test_every_part_of_core_has_its_arrows_written_down() -> None:
    parts = {
        part_of(".".join(path.relative_to(ROOT).with_suffix("").parts)) for path in FILES if "muse_core" in path.parts
    }
    assert parts - {"__init__"} <= set(ARROWS)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_functions_and_files_stay_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST_FILE
    long = [
        f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (name_of(path), node.name) != THE_LOOP
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > LONGEST_FUNCTION
    ]
    assert long == []


def test_one_place_asks_which_of_several_processes_this_is() -> None:
    """Whoever starts or joins processes sets what it says."""
    asks = re.compile(
        r"get_rank\(|get_world_size\(|process_index|is_main_process|environ\S*\[?\(?\"(RANK|WORLD_SIZE)\""
    )
    asking = {
        name_of(path)
        for path in FILES
        if asks.search(path.read_text(encoding="utf-8")) and "foundation" not in path.parts
    }
    assert asking == {"muse_core/distributed.py"}
