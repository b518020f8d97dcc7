"""Each table of numbers in the documentation stands under a command that makes it."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
NUMBERS = re.compile(r"\|\s*[-+]?\d[\d.,]*\s*%?\s*(?=\|)")
COMMAND = re.compile(r"`(?:muse|python|make) [^`]+`|^(?:muse|python|make) ", re.MULTILINE)
OWN = {"guarantees.md"}
"""Tables of exit codes: numbers that were chosen, not measured."""


def unexplained(text: str) -> list[str]:
    """Headings of sections with a table of numbers, where neither they nor the page's head name a command."""
    head, *sections = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    tables = [one for one in (head, *sections) if len(NUMBERS.findall(one)) >= 2]
    return [one.splitlines()[0] for one in tables if not (COMMAND.search(one) or COMMAND.search(head))]


@pytest.mark.parametrize("page", sorted(path.name for path in DOCS.glob("*.md") if path.name not in OWN))
def test_tables_of_numbers_name_their_command(page: str) -> None:
    assert unexplained((DOCS / page).read_text(encoding="utf-8")) == []


def test_a_table_without_a_command_is_found() -> None:
    table = "| a | b |\n|---|---|\n| 1 | 2 |\n"
    assert unexplained(f"# T\n\n## S\n\n{table}") == ["## S"]
    assert unexplained(f"# T\n\n`python benchmarks/x.py`\n\n## S\n\n{table}") == []
