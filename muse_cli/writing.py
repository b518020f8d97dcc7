"""Files under names that muse chose, beside what the user has."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from muse_cli.output import out

if TYPE_CHECKING:
    from muse_core.ownership import OutputNames


def written_default(
    path: Path, content: bytes | str, purpose: str, *made_from: str | Path, names: "OutputNames | None" = None
) -> Path:
    """Write a file under a name that muse chose: where something else has it, under a free one, which is said.

    Args:
        path: the name. content: of the file. purpose: for its mark.
        made_from: what it was made of: paths, or words. names: those that this command gave before.

    Returns:
        Where it is.
    """
    from muse_core.marks import Mark, made_of
    from muse_core.ownership import write_file

    home = path.parent.absolute()
    # Relative, so that a folder that is moved keeps its pairs of input and output.
    inputs = [os.path.relpath(part, home) if os.path.exists(part) else part for part in made_from]
    chosen = write_file(path, content, Mark(purpose, made_of(*inputs)), step_aside=True, names=names)
    if chosen != path:
        out.say(f"{path} is taken; written to {chosen}")
    return chosen
