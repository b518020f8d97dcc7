"""Files of named tensors, read without running what they contain and without reading what is not wanted.

Safetensors, whole or in shards, and torch files: what these hold beside tensors in plain containers is passed over.
Every refusal is one line that names the file and the part it was to be, with a remedy as its hint.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from muse_core.command_lines import quote
from muse_core.errors import MuseError
from muse_core.model.weights.inert import Placeholder, UnreadableError, shown
from muse_core.model.weights.torchfiles import TensorRecord, open_torch_file

Reader = Callable[[], Tensor]
Rename = Callable[[str], Sequence[str]]

INDEX = ".index.json"
REMEDY = "fetch the file again"


class LazyTensors(Mapping[str, Tensor]):
    """Names and shapes at once; a tensor is read when it is asked for and kept by nobody here.

    source: the file, and what it was to be, for messages. remedy: what to do when it is not that.
    """

    def __init__(
        self,
        readers: Mapping[str, Reader],
        shapes: Mapping[str, tuple[int, ...]],
        source: str,
        remedy: str = REMEDY,
        containers: tuple[str, ...] = (),
    ) -> None:
        self._readers = dict(readers)
        self.shapes = dict(shapes)
        self.source = source
        self.remedy = remedy
        self.containers = containers

    def __getitem__(self, name: str) -> Tensor:
        return self._readers[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)

    def renamed(self, name_of: Callable[[str], str]) -> "LazyTensors":
        """Return the same tensors under other names; those renamed to nothing are left out."""
        names = {old: new for old in self._readers if (new := name_of(old))}
        readers = {new: self._readers[old] for old, new in names.items()}
        shapes = {new: self.shapes[old] for old, new in names.items()}
        return LazyTensors(readers, shapes, self.source, self.remedy, self.containers)

    def under(self, prefix: str) -> "LazyTensors":
        """Return the tensors below a prefix, without it."""
        return self.renamed(lambda name: name.removeprefix(prefix) if name.startswith(prefix) else "")

    def refuse(self, why: str) -> MuseError:
        """Make the error for a file that is not what it was to be."""
        return MuseError(f"{self.source} {why}", hint=self.remedy)


def open_tensors(path: Path, part: str, remedy: str = REMEDY) -> LazyTensors:
    """Open a file of tensors: safetensors, an index of shards, or a torch file.

    Args:
        path: the file. part: what it is to be, in words. remedy: what to do when it is not.

    Raises:
        MuseError: it is missing, cut short, or would have to run code to be read.
    """
    source = f"{path} ({part})"
    if not path.is_file():
        raise MuseError(f"{source} does not exist", hint=remedy)
    if path.name.endswith(INDEX):
        return _open_shards(path, part, source, remedy)
    if path.suffix == ".safetensors":
        return _open_safetensors([path], source, remedy)
    return _open_torch(path, source, remedy)


def _open_shards(index: Path, part: str, source: str, remedy: str) -> LazyTensors:
    try:
        named = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        shards = sorted({index.parent / str(shard) for shard in named.values()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MuseError(f"{source} is not an index of shards: {error}", hint=remedy) from None
    absent = [shard.name for shard in shards if not shard.is_file()]
    if absent:
        raise MuseError(f"{source} names {', '.join(absent)}, which is not there", hint=remedy)
    if all(shard.suffix == ".safetensors" for shard in shards):
        return _open_safetensors(shards, source, remedy)
    opened = [_open_torch(shard, f"{shard} ({part})", remedy) for shard in shards]
    readers = {name: partial(one.__getitem__, name) for one in opened for name in one}
    return LazyTensors(readers, {k: v for one in opened for k, v in one.shapes.items()}, source, remedy)


def _open_safetensors(files: Iterable[Path], source: str, remedy: str) -> LazyTensors:
    readers: dict[str, Reader] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for file in files:
        try:
            handle: Any = safe_open(file, framework="pt")
        except (SafetensorError, OSError) as error:
            raise MuseError(f"{source}: {file.name} is no complete safetensors file: {error}", hint=remedy) from None
        for name in handle.keys():  # noqa: SIM118 - a handle is no mapping
            shapes[name] = tuple(handle.get_slice(name).get_shape())
            readers[name] = partial(_read_one, handle, name)
    return LazyTensors(readers, shapes, source, remedy)


def _read_one(handle: Any, name: str) -> Tensor:
    tensor: Tensor = handle.get_tensor(name)
    return tensor


def _open_torch(path: Path, source: str, remedy: str) -> LazyTensors:
    try:
        file = open_torch_file(path)
        records, containers = _unwrapped(file.document, source, remedy)
        _refuse_what_is_larger_than_its_file(records, path.stat().st_size)
    except UnreadableError as error:
        hint = taken_out(path) if error.whole else remedy
        raise MuseError(f"{source} cannot be read as tensors: {error}", hint=hint) from None
    except _MoreThanTensorsError as error:
        raise MuseError(f"{source} {error}", hint=taken_out(path, error.place)) from None
    readers = {name: partial(file.tensor, record) for name, record in records.items()}
    return LazyTensors(readers, {name: record.size for name, record in records.items()}, source, remedy, containers)


WRAPPERS = ("ema_model", "ema", "model", "state_dict")
"""Under which names a training script may keep its flat dict, the averaged weights first."""
_EXTRA = "_extra_state"
"""What a module keeps beside its tensors, under its own name and this."""
_MOST_WRAPPERS = 8
_LARGER = (64, 1 << 29)
"""Tensors that share storages may be larger than the file that has each once: so many times, and so many bytes more."""


class _MoreThanTensorsError(Exception):
    """A whole file that holds something else where tensors should be. place: Python for where, from `d`, the file's."""

    def __init__(self, why: str, place: str = "d") -> None:
        super().__init__(why)
        self.place = place


def _unwrapped(document: Any, source: str, remedy: str) -> tuple[dict[str, TensorRecord], tuple[str, ...]]:
    """Find the flat dict of tensors in what a torch file holds; also return in which containers it was."""
    if isinstance(document, dict) and isinstance(document.get("shadow_params"), list | tuple):
        raise MuseError(
            f"{source} is the list of an average (shadow_params): its tensors have no names, so nothing can be loaded",
            hint="use the model that was saved beside it, such as ema_model/pytorch_model.bin",
        )
    containers: list[str] = []
    while isinstance(document, dict) and len(containers) < _MOST_WRAPPERS:
        inner = next((name for name in WRAPPERS if isinstance(document.get(name), dict)), None)
        if inner is None:
            break
        containers.append(inner)
        document = document[inner]
    return _named(document, "d" + "".join(f"['{name}']" for name in containers), source, remedy), tuple(containers)


def _named(values: Any, place: str, source: str, remedy: str) -> dict[str, TensorRecord]:
    """Return the tensors of a flat dict; refuse whatever else it is or holds. place: as of the error."""
    if isinstance(values, Placeholder):
        raise _MoreThanTensorsError(_would_run([values]), f"{place}.state_dict()")
    inside = values if isinstance(values, list | tuple) else values.values() if isinstance(values, dict) else ()
    made = [value for value in inside if isinstance(value, Placeholder) and value.called]
    if isinstance(values, dict) and values:
        strange = [name for name, value in values.items() if not isinstance(value, TensorRecord)]
        strange = [name for name in strange if not str(name).endswith(_EXTRA)]
        if not strange:
            return {str(name): value for name, value in values.items() if isinstance(value, TensorRecord)}
        model = next((name for name in WRAPPERS if isinstance(values.get(name), Placeholder)), None)
        if made:
            raise _MoreThanTensorsError(_would_run(made), f"{place}['{model}'].state_dict()" if model else place)
        names = ", ".join(shown(str(name)) for name in strange[:3])
        raise MuseError(f"{source} holds {names} beside tensors, so it is no model", hint=remedy)
    if made:
        raise _MoreThanTensorsError(_would_run(made), f"{place}[0].state_dict()")
    raise MuseError(f"{source} holds {_kind(values)}, not named tensors", hint=remedy)


_UNREAD = {
    "torch._utils._rebuild_qtensor": "quantized tensors",
    "torch._utils._rebuild_sparse_tensor": "sparse tensors",
    "torch._utils._rebuild_nested_tensor": "nested tensors",
    "torch._utils._rebuild_meta_tensor_no_storage": "tensors without values",
}


def _would_run(made: Sequence[Placeholder]) -> str:
    name = made[0].name
    if name in _UNREAD:
        return f"holds {_UNREAD[name]}, which are not read"
    return f"holds more than tensors ({shown(name)}): reading it would run code, so it was not read"


def _refuse_what_is_larger_than_its_file(records: Mapping[str, TensorRecord], size: int) -> None:
    factor, more = _LARGER
    claimed = sum(math.prod(record.size) * max(record.dtype.itemsize, 4) for record in records.values())
    if claimed > factor * size + more:
        raise UnreadableError(f"its tensors would take {claimed:,} bytes, the file has {size:,}")


def taken_out(path: Path, place: str = "d.get('state_dict', d)") -> str:
    """Return how to take the tensors out of a torch file where it is trusted. place: Python for where in it, `d`."""
    program = (
        "import sys, torch; from safetensors.torch import save_file; d = torch.load(sys.argv[1], 'cpu',"
        f" weights_only=False); save_file({{k: v.detach().clone(memory_format=torch.contiguous_format)"
        f" for k, v in {place}.items() if torch.is_tensor(v)}}, sys.argv[2])"
    )
    files = f"{quote(path)} {quote(path.with_suffix('.safetensors'))}"
    return f'where it is trusted and can be loaded, take its tensors out: python -c "{program}" {files}'


def _kind(document: Any) -> str:
    return "nothing" if isinstance(document, dict) else type(document).__name__


def take(source: LazyTensors, rename: Rename, wanted: Iterable[str] | None = None) -> dict[str, Tensor]:
    """Read tensors as float32 copies under our names, one at a time.

    Args:
        source: the file. rename: our names of a file's name; of several, each gets an equal part of the rows; none
            means that the tensor is not wanted and it is not read.
        wanted: names to keep; all unless given.
    """
    kept = None if wanted is None else set(wanted)
    taken: dict[str, Tensor] = {}
    for name in source:
        ours = rename(name)
        if not ours or (kept is not None and kept.isdisjoint(ours)):
            continue
        whole = source[name]
        if whole.is_complex():
            raise source.refuse(f"holds {name} as complex numbers, which no weight of ours is")
        parts = whole.chunk(len(ours)) if len(ours) > 1 else (whole,)
        # A copy: a view would change with the file, and would keep a whole fused tensor for one third of it.
        taken |= {our: _copy(part) for our, part in zip(ours, parts, strict=True)}
    return taken


def _copy(tensor: Tensor) -> Tensor:
    if tensor.dtype != torch.float32:
        return tensor.to(torch.float32).contiguous()
    # By numpy, in one thread: memory sets the pace of a copy, and threads that wait for each other cost more than it.
    # Into torch's own memory, whose alignment is always the same: last digits of what is computed depend on that.
    copied = torch.empty(tensor.shape)
    np.copyto(copied.numpy(), tensor.detach().numpy())
    return copied
