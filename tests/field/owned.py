"""What is the user's and what is muse's, for the tests of both."""

from pathlib import Path

from muse_core.evaluation.protocol import Protocol, Scores
from muse_core.files import HOLD
from muse_core.marks import Mark, made_of
from tests.field.inputs import RED, coded, flat

MINE = "my own work"
PNG = coded(flat(RED), "PNG")
RECON = Mark("recon", made_of("photo.jpg"))
PAGE = "<!doctype html>\n<html lang='en'><head>\n<title>t</title></head><body><svg><g/></svg></body></html>"


def files(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, less what runs keep for themselves."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != HOLD
    }


def scores(value: float = 1.0) -> Scores:
    protocol = Protocol({"data": "d", "value": value})
    return Scores("segment", "t", {"miou": value}, protocol, {"seen": 1, "skipped": {}}, pictures={"segment": PNG})
