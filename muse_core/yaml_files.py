"""YAML of settings, in which no key may stand twice."""

import re
from typing import Any

import yaml

from muse_core.text_files import RepeatedKeyError

_SURPRISES = {
    "int": re.compile(r"[-+]?0[0-9_]+|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+"),
    "float": re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+\.[0-9_]*"),
    "bool": re.compile(r"yes|no|on|off", re.IGNORECASE),
    "timestamp": re.compile(r".*", re.DOTALL),
}
"""Text that YAML 1.1 takes for a value of some kind."""


def yaml_of(text: str) -> Any:
    """Read a YAML document of plain values, in which no key may stand twice.

    Raises:
        RepeatedKeyError: a key stands twice; each is named with its line.
        yaml.YAMLError: it is not YAML.
        ValueError: it holds a date that is none, or a number with too many digits.
        RecursionError: it is nested too deeply.
    """
    loader = _Loader(text)
    try:
        document = loader.get_single_data()
    finally:
        loader.dispose()
    if loader.repeated:
        raise RepeatedKeyError(loader.repeated)
    return document


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, less what nobody means.

    It would keep the last of several equal keys without a word, and read 010 as eight, 1:30 as ninety, a day as a date,
    and yes and no as truth values also where they are text; settings that are switches take these words as they are.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.repeated: list[str] = []

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> Any:
        """Return the tag of a value as YAML 1.2 has it, where 1.1 surprises."""
        tag: str = super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]
        surprise = _SURPRISES.get(tag.rpartition(":")[2]) if kind is yaml.ScalarNode else None
        return self.DEFAULT_SCALAR_TAG if surprise and surprise.fullmatch(value) else tag

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            line = key.start_mark.line + 1
            name = key.value if isinstance(key, yaml.ScalarNode) else None
            if name is None or key.tag == "tag:yaml.org,2002:merge":
                continue
            if name in lines:
                self.repeated.append(f"{name} is given twice, in line {lines[name]} and in line {line}")
            lines.setdefault(name, line)
        return super().construct_mapping(node, deep)
