"""What learns and measures takes both data from the user, or both from the built-in scenes; never one by surprise."""

import pytest

from muse_core.errors import ExitCode, MuseError
from muse_core.evaluation.named import named_templates
from tests.cli.conftest import Muse


@pytest.mark.parametrize("command", ["probe linear", "probe knn", "segment"])
@pytest.mark.parametrize(("given", "asked"), [("--data", "--val-data"), ("--val-data", "--data")])
def test_own_data_need_the_other_data_named(muse: Muse, command: str, given: str, asked: str) -> None:
    ended = muse(*command.split(), "tiny", given, "mine")
    assert ended.code == ExitCode.USAGE
    assert f"{given} mine needs data beside it" in ended.err
    assert f"{asked} DATA" in ended.err


def test_templates_that_are_neither_a_file_nor_a_name_are_likened_to_names() -> None:
    with pytest.raises(MuseError) as caught:
        named_templates("simpel")
    assert "neither a file of templates nor a name" in caught.value.what
    assert "did you mean simple?" in str(caught.value.hint)
