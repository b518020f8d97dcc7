"""Every guarantee names tests that hold it, and the tests it names exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", PAGE)))


def statements() -> list[str]:
    return re.findall(r"^- .*?(?=^- |^\S|\Z)", PAGE, flags=re.MULTILINE | re.DOTALL)


def test_every_statement_names_a_test() -> None:
    assert len(statements()) > 20
    for statement in statements():
        assert re.search(r"`tests/[\w/]+\.py::test_\w+`", statement), statement


@pytest.mark.parametrize(("file", "name"), NAMED, ids=[name for _, name in NAMED])
def test_the_test_that_is_named_exists(file: str, name: str) -> None:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_the_readme_leads_to_the_page() -> None:
    assert "(docs/guarantees.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
