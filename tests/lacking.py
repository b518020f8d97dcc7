"""Tests that need something which a machine may lack."""

import os
from typing import NoReturn

import pytest

EVERYTHING_HERE = "TESTS_LACK_NOTHING"
"""Set by `.ci/run`, where a test that cannot run is a failure."""


def skip(reason: str) -> NoReturn:
    """Skip a test for what this machine lacks, which `reason` names; fail it where nothing may be lacking."""
    if os.environ.get(EVERYTHING_HERE):
        pytest.fail(f"{reason}; with {EVERYTHING_HERE} set, nothing may be lacking", pytrace=False)
    pytest.skip(reason)
