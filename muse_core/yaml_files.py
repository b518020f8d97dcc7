"""YAML of settings, in which no key may stand twice."""

from typing import Any

import yaml

from muse_core.text_files import RepeatedKeyError


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
    """PyYAML's safe loader, which would keep the last of several equal keys without a word."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.repeated: list[str] = []

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
