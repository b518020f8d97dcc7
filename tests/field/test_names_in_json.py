"""Names that are not UTF-8 under --json: one whole document, from which Python gets the very bytes back."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.field.conftest import Muse
from tests.field.inputs import RED, coded, flat, put, tar

NAME = os.fsdecode(b"caf\xe9")
"""As a disk of another encoding has it; in JSON its byte is \\udce9, as in every name that Python reads."""
LINES = [
    f"shard {NAME}",
    f"inspect {NAME}",
    f"inspect s{NAME}/0.tar",
    f"infer {NAME}/{NAME}.jpg --checkpoint tiny --out o",
    f"attn-viz {NAME}/{NAME}.jpg --checkpoint tiny",
    f"attn-viz {NAME}/{NAME}.jpg --checkpoint tiny --out {NAME}.html",
    f"attn-viz {NAME}/{NAME}.jpg --checkpoint tiny --out {NAME}.svg",
    f"infer {NAME}/{NAME}.jpg --checkpoint tiny --compare",
    f"inspect {NAME} --sample 2 --out {NAME}.png",
    f"eval tiny --data {NAME} --metric psnr --out {NAME}.json",
    f"infer s{NAME}/0.tar --checkpoint tiny --latents l{NAME}",
    f"export tiny --out e{NAME}",
    f"train --stage 1 --size tiny --dry-run --data {NAME} --batch-size 2 --out r{NAME}",
    f"inspect nothing{NAME}",
    f"train --resume nothing{NAME}",
]


def texts(document: Any) -> list[str]:
    if isinstance(document, dict):
        return [text for pair in document.items() for part in pair for text in texts(part)]
    if isinstance(document, list):
        return [text for part in document for text in texts(part)]
    return [document] if isinstance(document, str) else []


@pytest.mark.parametrize("line", LINES)
def test_a_name_comes_back_byte_for_byte(line: str, tmp_path: Path, muse: Muse) -> None:
    for number in range(2):
        put(tmp_path / NAME / f"{NAME if number else number}.jpg", coded(flat(RED, 64, 64)))
    tar(tmp_path / f"s{NAME}/0.tar", [(f"{number}.jpg", coded(flat(RED, 64, 64))) for number in range(2)])
    ended = muse(*line.split(), "--json")
    ended.out.encode("utf-8")  # any parser can read it
    document = json.loads(ended.out)
    assert document.get("exit_code", 0) == ended.code in (0, 2, 4), ended.err
    assert any(b"caf\xe9" in os.fsencode(text) for text in texts(document)), document
