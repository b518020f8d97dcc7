"""Read back what trackers keep on this machine; runs in the environment that has them, and prints one JSON document.

    python read_trackers.py FOLDER: with wandb/, mlflow.db, and trackio's folder in TRACKIO_DIR, and the ids in a run.

Numbers are [name, step, value], in the order they were told.
"""

import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Number = tuple[str, int, float]


def records(path: Path) -> Iterator[bytes]:
    """Yield the records of a .wandb file: blocks of 32 KiB, in which a record has one or more chunks.

    A chunk is checksum (4 bytes), length (2), kind (1: whole, 2: first, 3: middle, 4: last) and content.
    """
    content, at, record = path.read_bytes(), 7, b""
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        length, kind = struct.unpack("<HB", content[at + 4 : at + 7])
        record += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield record
            record = b""


def wandb(folder: Path, _: dict[str, str]) -> dict[str, Any]:
    """Read what was written offline, a folder a start."""
    from wandb.proto import wandb_internal_pb2

    numbers: list[Number] = []
    ids, ends, figures = set(), [], []
    config: dict[str, Any] = {}
    for start in sorted((folder / "wandb").glob("offline-run-*")):
        figures += [path.name for path in start.rglob("*.png")]
        for content in records(next(start.glob("*.wandb"))):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(content)
            if record.HasField("history"):
                numbers += _history(record.history)
            if record.HasField("exit"):
                ends.append(record.exit.exit_code)
            if record.HasField("run"):
                ids.add(record.run.run_id)
            changes = [*record.run.config.update, *record.config.update]
            config |= {name_of(item): json.loads(item.value_json) for item in changes}
    return {"ids": sorted(ids), "numbers": numbers, "ends": ends, "figures": sorted(figures), "config": config}


def _history(history: Any) -> list[Number]:
    # Of a figure each field is an item of its own, under a nested key.
    values = {name_of(item): json.loads(item.value_json) for item in history.item}
    step = values.get("_step", history.step.num)
    return [
        (name, step, value)
        for name, value in values.items()
        if not name.startswith(("_", "samples ")) and isinstance(value, int | float)
    ]


def name_of(item: Any) -> str:
    """Return the key of an item of wandb, or its nested keys with spaces between them."""
    return item.key or " ".join(item.nested_key)


def mlflow(_: Path, known: dict[str, str]) -> dict[str, Any]:
    """Read the store of the run."""
    from mlflow import MlflowClient

    client = MlflowClient(known["store"])
    experiment = client.get_experiment_by_name("muse")
    run = client.get_run(known["id"])
    numbers = [
        (name, value.step, value.value)
        for name in run.data.metrics
        for value in client.get_metric_history(known["id"], name)
    ]
    files = [file.path for top in client.list_artifacts(known["id"]) for file in _files(client, known["id"], top)]
    return {
        "ids": [found.info.run_id for found in client.search_runs([experiment.experiment_id])],
        "numbers": numbers,
        "ends": [run.info.status],
        "figures": sorted(Path(name).name for name in files if name.startswith("samples/")),
        "config": {**run.data.params, "files": sorted(files)},
    }


def _files(client: Any, run: str, entry: Any) -> list[Any]:
    return client.list_artifacts(run, entry.path) if entry.is_dir else [entry]


def trackio(_: Path, known: dict[str, str]) -> dict[str, Any]:
    """Read the project of the run."""
    from trackio import Api
    from trackio.sqlite_storage import SQLiteStorage

    logs = SQLiteStorage.get_logs(known["project"], known["id"])
    numbers = [(name, log["step"], value) for log in logs for name, value in log.items() if isinstance(value, float)]
    runs = list(Api().runs(known["project"]))
    figures = [Path(log["samples"]["file_path"]).name for log in logs if "samples" in log]
    return {
        "ids": [run.name for run in runs],
        "numbers": numbers,
        "ends": [],
        "figures": figures,
        "config": {**(runs[0].config or {}), "plan": next(log["plan"] for log in logs if "plan" in log)},
    }


if __name__ == "__main__":
    place = Path(sys.argv[1])
    kept = json.loads((place / "run" / "trackers.json").read_text())
    print(json.dumps({read.__name__: read(place, kept[read.__name__]) for read in (wandb, mlflow, trackio)}))
