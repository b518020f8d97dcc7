"""The store of mlflow: a run goes on in the one where it was, and credentials in its address are kept nowhere."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest

from muse_core.errors import MuseError
from muse_core.offline import OFFLINE
from muse_core.training import tracker_kinds
from muse_core.training.tracker_kinds import Beginning, refuse


class Store:
    """Stands for the module mlflow: a store at MLFLOW_TRACKING_URI, which is one of this machine when that is unset."""

    def __init__(self) -> None:
        self.set: list[str | None] = []

    def set_tracking_uri(self, where: str | None) -> None:
        self.set.append(where)

    def get_tracking_uri(self) -> str:
        return os.environ.get("MLFLOW_TRACKING_URI") or next(filter(None, self.set), "sqlite:////here/mlflow.db")

    def end_run(self, status: str) -> None: ...


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    """mlflow and accelerate's tracker of it, which goes on in the run that it is given."""

    class Tracker:
        def __init__(self, project: str, run_id: str | None, run_name: str) -> None:
            self.tracker = SimpleNamespace(info=SimpleNamespace(run_id=run_id or "new"))

        def start(self) -> None: ...

        def store_init_configuration(self, values: Mapping[str, object]) -> None: ...

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("accelerate.tracking.MLflowTracker", Tracker)
    monkeypatch.setattr(tracker_kinds, "missing", lambda name: False)
    made = Store()
    monkeypatch.setitem(sys.modules, "mlflow", made)
    return made


def test_mlflow_goes_on_in_the_store_where_it_was(tmp_path: Path, store: Store) -> None:
    known = {"id": "old", "store": "sqlite:////elsewhere/mlflow.db"}
    mlflow = tracker_kinds.MLflow(Beginning(tmp_path, {}, known))
    assert mlflow.identity == known
    mlflow.end(ok=True)
    assert store.set == [known["store"], None]  # the next run of this process has its own


def test_mlflow_begins_anew_in_another_store(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://other.example")
    known = {"id": "old", "store": "sqlite:////elsewhere/mlflow.db"}
    mlflow = tracker_kinds.MLflow(Beginning(tmp_path, {}, known))
    assert mlflow.identity == {"id": "new", "store": "https://other.example"}
    assert store.set == []


def test_credentials_of_a_store_are_kept_nowhere(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:hidden@mlflow.example")
    first = tracker_kinds.MLflow(Beginning(tmp_path, {}, {}))
    assert "hidden" not in f"{first.identity} {first.place}"
    again = tracker_kinds.MLflow(Beginning(tmp_path, {}, {**first.identity, "id": "old"}))
    assert again.identity["id"] == "old"
    monkeypatch.setenv(OFFLINE, "1")
    with pytest.raises(MuseError) as refused:
        refuse("mlflow")
    assert "hidden" not in str(refused.value)
