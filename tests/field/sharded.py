"""What shards hold, and what they are made of, for the tests of tables and what lies beside images."""

import csv
import json
from pathlib import Path
from typing import Any, Literal

from muse_core.data.sample import Sample
from muse_core.data.source import open_source
from tests.field.inputs import RED, coded, flat, put

JPEG = coded(flat(RED))
Form = Literal["NFC", "NFD"]


def samples(where: str = "d-shards") -> list[Sample]:
    found = list(open_source(where).once())
    assert all(isinstance(one, Sample) for one in found), found
    return [one for one in found if isinstance(one, Sample)]


def captions(where: str = "d-shards") -> list[str]:
    return [one.caption for one in samples(where)]


def index(where: str = "d-shards") -> dict[str, Any]:
    document: dict[str, Any] = json.loads(Path(where, "index.json").read_text())
    return document


def skipped(where: str = "d-shards") -> dict[str, str]:
    with Path(where, "skipped.csv").open(newline="") as file:
        return {row["file"]: row["reason"] for row in csv.DictReader(file)}


def pictures(*names: str) -> None:
    for name in names:
        put(Path(name), JPEG)


def table(name: str, rows: list[str], end: str = "\n") -> None:
    part = "\t" if name.lower().endswith("tsv") else ","
    put(Path(name), end.join([f"file_name{part}caption", *rows]) + end)
