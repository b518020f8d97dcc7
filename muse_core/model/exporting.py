"""From any checkpoint to a folder for others."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from muse_core.errors import ExitCode, MuseError
from muse_core.files import read_json, write_atomically, written_aside
from muse_core.model.card import Facts, read_scores, write_card
from muse_core.model.checkpoint import CheckpointState
from muse_core.model.export import write_network, write_text
from muse_core.model.load import load_checkpoint
from muse_core.model.locating import is_export
from muse_core.model.opening import locate, open_network
from muse_core.model.tokenizer import AlignedMuseTokenizer, MuseTokenizer
from muse_core.ownership import FolderKind, unchanged
from muse_core.run_search import run_of

Target = Literal["folder", "hub"]
TextChoice = Literal["carry", "name"]
# Large files go through the hub's large-file store; git would refuse them.
ATTRIBUTES = "*.safetensors filter=lfs diff=lfs merge=lfs -text\n"


@dataclass(frozen=True)
class Exported:
    """The folder, what the text tower is in words, and how many scores the card holds."""

    folder: Path
    text: str
    scores: int
    bytes: int

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able document."""
        return {"command": "export", **vars(self), "folder": str(self.folder)}


def export(
    where: str | Path,
    out: Path,
    *,
    to: Target = "folder",
    average: bool = True,
    text: TextChoice | None = None,
    overwrite: bool = False,
) -> Exported:
    """Write a checkpoint as a folder that `load_tokenizer` reads with nothing else.

    Args:
        where: a run, a checkpoint, `latest`, or a released file. out: the folder to make.
        to: "hub" adds what the hub reads: metadata in the card, and which files are large.
        average: the averaged weights, where there are some.
        text: carry the text tower, or only name it; carried by default for the tiny size, named for the others.
        overwrite: replace `out` if it is an earlier export.

    Raises:
        MuseError: nothing to export, `out` is in the way, or the text tower is to be carried and not here.
    """
    EXPORTS.refuse(out, overwrite)
    path = locate(where)
    network, state = open_network(path, average=average)
    tokenizer = load_checkpoint(path)
    carried = _carries(tokenizer, state, text)
    said, config = _text_of(tokenizer, state, carried)
    run = run_of(path)
    scores = read_scores(run.path / "results" if run else None)
    facts = Facts(tokenizer.info.name, state, tokenizer.info.parameters, said, average, tokenizer.info.notes)
    with written_aside(out, EXPORTS.in_the_way(overwrite)) as folder:
        if carried and isinstance(tokenizer, AlignedMuseTokenizer):
            write_text(folder, tokenizer.text)
        write_atomically(folder / "README.md", write_card(facts, scores, hub=to == "hub"))
        if to == "hub":
            write_atomically(folder / ".gitattributes", ATTRIBUTES)
        write_network(folder, network, state, config)  # whose config lists the rest
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    return Exported(out, said, len(scores), size)


def _own_files(folder: Path) -> list[str] | None:
    if not is_export(folder):
        return None
    listed = read_json(folder / "config.json").get("files")
    return ["config.json", "model.safetensors", *unchanged(folder, listed)]


EXPORTS = FolderKind("an exported tokenizer", _own_files)
"""Of what 0.1.0 exported, which lists no files, the card counts as the user's: many are edited."""


def _carries(tokenizer: MuseTokenizer, state: CheckpointState, text: TextChoice | None) -> bool:
    aligned = isinstance(tokenizer, AlignedMuseTokenizer)
    if text == "carry" and not aligned:
        why = tokenizer.info.notes[0] if tokenizer.info.notes else "a stage-1 checkpoint reads no captions"
        raise MuseError(f"there is no text tower to carry: {why}", hint="--text name", exit_code=ExitCode.FILE)
    return aligned and (text == "carry" or (text is None and state.size == "tiny"))


def _text_of(tokenizer: MuseTokenizer, state: CheckpointState, carried: bool) -> tuple[str, dict[str, Any]]:
    """Say of the text tower whether it is carried or named, in words and for the config."""
    if state.stage == 1:
        return "none, because stage 1 reads no captions", {"carried": False, "name": None, "sha256": None}
    if not isinstance(tokenizer, AlignedMuseTokenizer):
        known = state.frozen.get("text")
        return "not on the machine that exported this, so it is not named", {
            "carried": False,
            "name": None,
            "sha256": known,
        }
    tower = tokenizer.text
    config = {"carried": carried, "name": tower.name, "sha256": tower.digest()}
    if carried:
        return f"{tower.name}, carried in text/", config
    return f"{tower.name}, named and not carried: it is read from $MUSE_WEIGHTS", config
