"""Two trials of every fault; `make faults` makes twenty."""

import pytest

from tests.faults.rows import FAULTS
from tests.faults.scene import Scene
from tests.faults.table import tried
from tests.faults.trial import Fault


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return Scene(tmp_path_factory.mktemp("faults"))


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_costs_no_more_than_the_steps_since_the_last_save(fault: Fault, scene: Scene) -> None:
    row = tried(fault, scene, trials=2, seed=1)
    assert row.problems == []
    assert len(row.shown) == 2
