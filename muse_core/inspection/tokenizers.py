"""A tokenizer that is known by its name looked through: the shipped one by its file, others by loading them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from muse_core.errors import MuseError
from muse_core.inspection.checkpoints import inspect_checkpoint
from muse_core.inspection.findings import Findings, Inspection
from muse_core.model.abilities import Described, abilities
from muse_core.model.load import load_tokenizer
from muse_core.model.locating import SHIPPED, named_plugin
from muse_core.registry import Plugin


def inspect_tokenizer(where: str) -> Inspection:
    """Look through a tokenizer's NAME or NAME:PATH.

    One that cannot be loaded is a problem. How its code fails beyond that is no verdict: the error goes on.

    Raises:
        MuseError: no tokenizer has that name, or its package is broken.
    """
    plugin = named_plugin(where)
    if plugin is None:
        raise MuseError(f"no tokenizer is called {where}", hint="muse ls tokenizers")
    if plugin.own and where == "tiny":
        return replace(inspect_checkpoint(SHIPPED), name=where)
    return _loaded(plugin, where)


def _loaded(plugin: Plugin, where: str) -> Inspection:
    package = f"{plugin.package} {plugin.version}"
    plugin.load()  # a package that is broken is no verdict on its tokenizer
    try:
        tokenizer = load_tokenizer(where)
    except MuseError as error:
        problems = Findings()
        problems.note(f"cannot be loaded: {error.what}" + (f"; {error.hint}" if error.hint else ""), where)
        return Inspection("tokenizer", where, {"package": package}, (f"tokenizer {package}",), (), problems.all())
    able = tuple(abilities(tokenizer))
    info = tokenizer.info if isinstance(tokenizer, Described) else None
    parts = dict(info.parameters) if info else {}
    facts: dict[str, Any] = {"package": package, "abilities": able, "values": parts}
    lines = [f"tokenizer {info.name if info else where}, of {package}", f"can       {', '.join(able) or 'nothing'}"]
    if info:
        facts |= {"resolution": info.resolution, "licence": info.licence, "source": info.source}
        lines += [f"made for  {info.resolution} x {info.resolution} pixels", f"licence   {info.licence or 'not said'}"]
    if parts:
        lines.append(f"weights   {', '.join(f'{part} {count:,}' for part, count in parts.items())}")
    return Inspection("tokenizer", where, facts, tuple(lines))
