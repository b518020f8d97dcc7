"""What was asked for and fits nothing is an error; what fits in part is counted, with the first that does not."""

from __future__ import annotations

from dataclasses import dataclass

from muse_core.errors import MuseError
from muse_core.file_names import stem_of
from muse_core.text_files import readable


@dataclass
class Coverage:
    """How many samples have what was asked of them.

    what: what was asked for, as a sentence begins with it, such as "--masks m". needs: what the first sample that
    lacks it would need, such as "0.jpg needs m/0.png". pattern: makes that sentence of the name of a sample, which
    stands in it as {image}, and without suffix as {stem}.
    """

    what: str
    pattern: str = ""
    fits: int = 0
    lacks: int = 0
    needs: str = ""

    def note_of(self, name: str, *, fits: bool) -> None:
        """Count the sample of a name."""
        needs = "" if fits or self.needs else self.pattern.replace("{stem}", stem_of(name)).replace("{image}", name)
        self.note(fits, needs)

    def note(self, fits: bool, needs: str = "") -> None:
        """Count one sample."""
        self.fits += fits
        self.lacks += not fits
        if not fits and not self.needs:
            self.needs = readable(needs)

    def refuse_none(self, hint: str | None = None) -> None:
        """Refuse to go on where nothing fits; without samples there is nothing to refuse.

        Raises:
            MuseError: not one of the samples has it.
        """
        if self.lacks and not self.fits:
            example = f": {self.needs}" if self.needs else ""
            raise MuseError(f"{self.what} fits none of {self.lacks:,} samples{example}", hint=hint)

    def in_words(self) -> str:
        """Say how many samples go without, "" when all have it."""
        if not self.lacks:
            return ""
        example = f" (first: {self.needs})" if self.needs else ""
        return f"{self.what} fits {self.fits:,} of {self.fits + self.lacks:,} samples{example}"
