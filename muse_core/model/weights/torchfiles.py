"""Files of `torch.save` of every age: where their pickle and the bytes of their storages lie, and tensors out of them.

Two formats are read, without torch's own reader: zip archives (torch 1.6 and later) and a row of pickles with the bytes
behind them ("legacy"). The file is mapped, so that what nobody asks for is not read. Whatever a file says of sizes is
held against the bytes that it has before anything is made of it.
"""

import io
import math
import mmap
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from muse_core.model.weights.inert import UnreadableError, shown
from muse_core.model.weights.unpickling import unpickle

LARGEST_PICKLE = 1 << 30
_LONGEST_LINE = 1 << 16
_MOST_SIZES = 64
_LARGEST_SIZE = 1 << 62
_NEWEST_ZIP = 10
_LOCAL_HEADER = 30
_ENCRYPTED = 0x1
_MAGIC, _LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001

_STORAGES = {
    "Float": torch.float32, "Double": torch.float64, "Half": torch.float16, "BFloat16": torch.bfloat16,
    "Byte": torch.uint8, "Char": torch.int8, "Short": torch.int16, "Int": torch.int32, "Long": torch.int64,
    "Bool": torch.bool, "ComplexFloat": torch.complex64, "ComplexDouble": torch.complex128,
    "QInt8": torch.qint8, "QUInt8": torch.quint8, "QInt32": torch.qint32, "Untyped": torch.uint8,
}  # fmt: skip
_STORAGE_TYPES = {
    f"{module}.{kind}Storage": dtype
    for kind, dtype in _STORAGES.items()
    for module in ("torch", "torch.storage", "torch.cuda")
}
_QUANTIZED = {torch.qint8, torch.quint8, torch.qint32}
_DTYPES = {
    str(dtype): dtype
    for dtype in vars(torch).values()
    if isinstance(dtype, torch.dtype) and not str(dtype).startswith(("torch.q", "torch.bits"))
}
"""By dotted name."""


@dataclass(frozen=True, slots=True, eq=False)
class StorageRecord:
    """Values somewhere in the file. key: of the bytes. first, count: in values of the dtype, from where these begin."""

    key: str
    dtype: torch.dtype
    first: int
    count: int


@dataclass(frozen=True, slots=True, eq=False)
class TensorRecord:
    """A tensor that has not been read. offset, size, stride: in values of its dtype, inside the storage."""

    storage: StorageRecord
    dtype: torch.dtype
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    conjugate: bool = False
    negative: bool = False

    @property
    def span(self) -> int:
        """How many values of the storage lie between its first and its last."""
        if 0 in self.size:
            return 0
        return 1 + sum((size - 1) * stride for size, stride in zip(self.size, self.stride, strict=True))


Place = tuple[int, int]
"""Where a storage's bytes begin in the file, and how many they are."""


@dataclass(frozen=True)
class TorchFile:
    """What a file holds, with a record for each tensor, and how to read these.

    content: the mapped bytes. document: plain containers, records and placeholders. places: of each key's bytes.
    """

    content: mmap.mmap
    document: Any
    places: Mapping[str, Place]
    _storages: dict[str, Tensor] = field(default_factory=dict)

    def tensor(self, record: TensorRecord) -> Tensor:
        """Return a tensor on the mapped bytes, or a copy of its part where these are not aligned for its values."""
        if not record.span:
            return torch.empty(record.size, dtype=record.dtype)
        width, storage = record.dtype.itemsize, record.storage
        first = storage.first * storage.dtype.itemsize + record.offset * width
        span = self._bytes(storage.key)[first : first + record.span * width]
        aligned = (self.places[storage.key][0] + first) % width == 0 == first % width
        values = (span if aligned else span.clone()).view(record.dtype)
        made = values.as_strided(record.size, record.stride, values.storage_offset())
        made = made.conj() if record.conjugate else made
        return -made if record.negative else made

    def _bytes(self, key: str) -> Tensor:
        """Return the bytes of a storage; one of its own for each key, as whatever saves the tensors again expects."""
        if key not in self._storages:
            start, size = self.places[key]
            self._storages[key] = torch.frombuffer(self.content, dtype=torch.uint8, count=size, offset=start)
        return self._storages[key]


def open_torch_file(path: Path) -> TorchFile:
    """Read the pickle of a file of `torch.save`, and nothing of its tensors yet.

    Raises:
        UnreadableError: it is cut short or damaged, of a kind that is not read, or no such file.
        OSError: the system does not let it be read.
    """
    with path.open("rb") as file:
        if not file.read(1):
            raise UnreadableError("it is empty")
        # A private map: nothing that is done to tensors reaches the file. It lives as long as they do.
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    if content[:4] == b"PK\x03\x04":
        document, places = _open_zip(content)
    elif content[:1] == b"\x80":
        document, places = _open_legacy(content)
    elif content[257:262] == b"ustar":
        raise UnreadableError("it is a tar, as torch wrote them before version 0.2", whole=True)
    else:
        raise UnreadableError("it is cut short, or no file of tensors at all")
    return TorchFile(content, document, places)


# Zip archives.


@dataclass(frozen=True)
class _Archive:
    """The members of a zip archive by name, below the one folder that it has."""

    content: mmap.mmap
    members: Mapping[str, zipfile.ZipInfo]
    folder: str

    def place(self, name: str) -> tuple[int, int]:
        """Return where a member's bytes begin and how many they are."""
        member, name = self.members.get(f"{self.folder}/{name}"), shown(name)
        if member is None:
            raise UnreadableError(f"its part {name} is missing")
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & _ENCRYPTED:
            raise UnreadableError(f"its part {name} is compressed or encrypted, which torch never does", whole=True)
        header = self.content[member.header_offset : member.header_offset + _LOCAL_HEADER]
        if len(header) < _LOCAL_HEADER or header[:4] != b"PK\x03\x04":
            raise UnreadableError(f"its part {name} is damaged")
        lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        start = member.header_offset + _LOCAL_HEADER + lengths
        if start + member.file_size > len(self.content):
            raise UnreadableError(f"its part {name} is cut short")
        return start, member.file_size

    def read(self, name: str, most: int = _LONGEST_LINE) -> bytes:
        start, size = self.place(name)
        if size > most:
            raise UnreadableError(f"its part {name} has {size:,} bytes, which is too much")
        read = self.content[start : start + size]
        checksum = self.members[f"{self.folder}/{name}"].CRC
        if checksum and checksum != zlib.crc32(read):  # torch writes 0 where it is told not to compute them
            raise UnreadableError(f"its part {name} is damaged")
        return read

    def has(self, name: str) -> bool:
        return f"{self.folder}/{name}" in self.members


def _open_zip(content: mmap.mmap) -> tuple[Any, dict[str, Place]]:
    archive = _archive(content)
    if archive.has("constants.pkl"):
        raise UnreadableError("it is a program (TorchScript)", whole=True)
    version = archive.read("version").strip()
    if not version.isdigit() or len(version) > 9 or not 1 <= int(version) <= _NEWEST_ZIP:
        raise UnreadableError(f"it is of version {version[:20]!r}, which is not known", whole=True)
    order = archive.read("byteorder") if archive.has("byteorder") else b"little"
    if order != b"little":
        raise UnreadableError(f"its bytes are in the order {order[:20]!r}, only little is read", whole=True)
    places: dict[str, Place] = {}
    stream = io.BytesIO(archive.read("data.pkl", LARGEST_PICKLE))
    return unpickle(stream, _BUILDERS, partial(_zip_storage, archive, places)), places


def _archive(content: mmap.mmap) -> _Archive:
    try:
        members = zipfile.ZipFile(content).infolist()  # type: ignore[call-overload]  # a map can be read and sought as a file
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, OverflowError) as error:
        raise UnreadableError(f"it is cut short or damaged ({shown(str(error))})") from None
    named = {member.filename: member for member in members}
    folders = [name.removesuffix("/data.pkl") for name in named if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(named) != len(members):
        raise UnreadableError("it has two parts of one name")
    if len(folders) != 1:
        raise UnreadableError("it is a zip archive, but torch did not write it")
    return _Archive(content, named, folders[0])


def _zip_storage(archive: _Archive, places: dict[str, Place], told: Any) -> StorageRecord:
    kind, key, count = _storage_id(told, 5)[:3]
    record = StorageRecord(key, kind, 0, count)
    start, size = archive.place(f"data/{key}")
    if count * kind.itemsize > size:
        raise UnreadableError(f"its part data/{shown(key)} has fewer bytes than its values need")
    places[key] = (start, size)
    return record


def _storage_id(told: Any, length: int) -> tuple[torch.dtype, str, int, Any]:
    """Take a storage's id apart: its dtype, key, number of values, and what else there is."""
    if type(told) is not tuple or len(told) != length or told[0] != "storage":
        raise UnreadableError("its pickle is damaged: it refers to something that is no storage")
    kind, key, count = told[1], told[2], told[4]
    dtype = _STORAGE_TYPES.get(getattr(kind, "name", ""))
    if dtype is None:
        raise UnreadableError("it has a storage of an unknown kind", whole=True)
    if type(key) is not str or not _is_size(count):
        raise UnreadableError("its pickle is damaged: a storage has no key or size")
    return dtype, key, count, told[5:]


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < _LARGEST_SIZE


# Legacy files.


@dataclass(frozen=True)
class _Lines:
    """The mapped bytes as a stream, of which no line is longer than names are."""

    content: mmap.mmap

    def read(self, count: int, /) -> bytes:
        if count > LARGEST_PICKLE:
            raise UnreadableError("it is cut short or damaged (a text of gigabytes)")
        return self.content.read(count)

    def readline(self) -> bytes:
        start = self.content.tell()
        end = self.content.find(b"\n", start, start + _LONGEST_LINE)
        return self.content.read(end + 1 - start if end >= 0 else _LONGEST_LINE)


def _open_legacy(content: mmap.mmap) -> tuple[Any, dict[str, Place]]:
    stream = _Lines(content)
    if unpickle(stream) != _MAGIC:
        raise UnreadableError("it is cut short, or no file of tensors at all")
    if unpickle(stream) != _LEGACY_PROTOCOL:
        raise UnreadableError("it is of a version that is not known", whole=True)
    system = unpickle(stream)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise UnreadableError("its bytes are not in the order little, which is the only one that is read", whole=True)
    storages: dict[str, StorageRecord] = {}
    document = unpickle(stream, _BUILDERS, partial(_legacy_storage, storages))
    return document, _legacy_places(content, unpickle(stream), storages)


def _legacy_storage(storages: dict[str, StorageRecord], told: Any) -> Any:
    if type(told) is tuple and len(told) > 1 and told[0] == "module":
        return told[1]  # a class of which the source was kept; a placeholder
    dtype, key, count, (view,) = _storage_id(told, 6)
    whole = storages.setdefault(key, StorageRecord(key, dtype, 0, count))
    if (whole.dtype, whole.count) != (dtype, count):
        raise UnreadableError("its pickle is damaged: one storage has two sizes")
    if view is None:
        return whole
    if type(view) is not tuple or len(view) != 3 or not _is_size(view[1]) or not _is_size(view[2]):
        raise UnreadableError("its pickle is damaged: a part of a storage has no size")
    if view[1] + view[2] > count:
        raise UnreadableError("a part of a storage lies outside of it")
    return StorageRecord(key, dtype, view[1], view[2])


def _legacy_places(content: mmap.mmap, keys: Any, storages: Mapping[str, StorageRecord]) -> dict[str, Place]:
    """Find each storage's bytes: in the order of the keys, each behind the number of its values."""
    known = type(keys) is list and len(keys) == len(storages) and all(type(key) is str for key in keys)
    if not known or {*keys} != {*storages}:
        raise UnreadableError("its pickle is damaged: its list of storages is not that of its tensors")
    places: dict[str, Place] = {}
    start = content.tell()
    for key in keys:
        size = storages[key].count * storages[key].dtype.itemsize
        told = int.from_bytes(content[start : start + 8], "little")
        places[key] = (start + 8, size)
        start += 8 + size
        if start > len(content):
            raise UnreadableError("it is cut short")
        if told != storages[key].count:
            raise UnreadableError("it is damaged: a storage has another size than its tensors say")
    return places


# Tensors. Each takes the arguments that torch gives its function of that name; None where they make no tensor of ours.


def _tensor(arguments: tuple[Any, ...], dtype: torch.dtype | None = None, told: Any = None) -> TensorRecord | None:
    if len(arguments) < 4:
        raise UnreadableError("its pickle is damaged: a tensor has no size")
    storage, offset, size, stride = arguments[:4]
    if not isinstance(storage, StorageRecord) or storage.dtype in _QUANTIZED:
        return None
    if type(size) is not tuple or type(stride) is not tuple or not len(size) == len(stride) <= _MOST_SIZES:
        raise UnreadableError("its pickle is damaged: the size of a tensor is none")
    if not all(map(_is_size, (offset, *size, *stride))) or math.prod(filter(None, size)) >= _LARGEST_SIZE:
        raise UnreadableError("its pickle is damaged: the size of a tensor is none")
    flags = {name for name, is_set in told.items() if is_set} if isinstance(told, dict) else set()
    if flags - {"conj", "neg"}:
        return None
    record = TensorRecord(storage, dtype or storage.dtype, offset, size, stride, "conj" in flags, "neg" in flags)
    if (offset + record.span) * record.dtype.itemsize > storage.count * storage.dtype.itemsize:
        raise UnreadableError("a tensor lies outside of its storage")
    return record


def _tensor_v2(arguments: tuple[Any, ...]) -> TensorRecord | None:
    return _tensor(arguments, told=arguments[6] if len(arguments) > 6 else None)


def _tensor_v3(arguments: tuple[Any, ...]) -> TensorRecord | None:
    dtype = _DTYPES.get(getattr(arguments[6], "name", "")) if len(arguments) > 6 else None
    if dtype is None:
        return None
    return _tensor(arguments, dtype, arguments[7] if len(arguments) > 7 else None)


def _parameter(arguments: tuple[Any, ...]) -> TensorRecord | None:
    """Parameters and what else wraps a tensor: the tensor itself."""
    return arguments[0] if arguments and isinstance(arguments[0], TensorRecord) else None


def _typed(arguments: tuple[Any, ...]) -> TensorRecord | None:
    """A subclass of tensors, or one with attributes: the tensor that it is made of."""
    function, inner = (arguments[0], arguments[2]) if len(arguments) == 4 else (None, None)
    builder = None if getattr(function, "called", True) else _BUILDERS.get(getattr(function, "name", ""))
    return builder(inner) if builder not in (None, _typed) and type(inner) is tuple else None


_BUILDERS: dict[str, Callable[[tuple[Any, ...]], TensorRecord | None]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor_v2,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._tensor._rebuild_from_type_v2": _typed,
}
