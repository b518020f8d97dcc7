"""The rivals, loaded once from tiny weights in their published layouts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from muse_core.model.load import load_tokenizer
from tests.baselines import published

Load = Callable[[str], Any]


@pytest.fixture(scope="session")
def rival(tmp_path_factory: pytest.TempPathFactory) -> Load:
    """Load a rival by name; each is written and loaded once."""
    loaded: dict[str, Any] = {}

    def load(name: str) -> Any:
        if name not in loaded:
            folder: Path = tmp_path_factory.mktemp("published") / name
            loaded[name] = load_tokenizer(published.write(name, folder))
        return loaded[name]

    return load
