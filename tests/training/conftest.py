"""Nothing of this machine's settings reaches these tests."""

from tests.model.conftest import clean as clean
