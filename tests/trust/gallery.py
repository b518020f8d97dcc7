"""Pickles that would do something to whoever trusts them, written by hand, opcode by opcode."""

import io
import pickle
import struct
import zipfile
from pathlib import Path

MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
SYSTEM = pickle.dumps({"little_endian": True, "protocol_version": 1001, "type_sizes": {}}, 2)


def text(value: str) -> bytes:
    """A str."""
    content = value.encode()
    return b"X" + struct.pack("<I", len(content)) + content


def call(name: str, *arguments: bytes) -> bytes:
    """`module name` called by REDUCE with arguments that are pickled already."""
    module, _, attribute = name.rpartition(" ")
    return f"c{module}\n{attribute}\n".encode() + b"(" + b"".join(arguments) + b"tR"


SYSTEM_CALL = "touch executed"
STORAGE = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\x04tQ"


ZERO, FOUR, ONE = b"K\x00", b"K\x04\x85", b"K\x01\x85"


def tensor(storage: bytes = STORAGE, offset: bytes = ZERO, size: bytes = FOUR, stride: bytes = ONE) -> bytes:
    """A tensor by `_rebuild_tensor_v2`, of parts that are pickled already."""
    return call("torch._utils _rebuild_tensor_v2", storage, offset, size, stride, b"\x89", b"}")


def getattr_chain() -> bytes:
    """os reached by attributes of what is harmless, then called."""
    module = call("builtins getattr", b"ccollections\nOrderedDict\n", text("__reduce__"))
    loader = call("builtins getattr", module, text("__globals__"))
    return b"(" + loader + text(SYSTEM_CALL) + b"o"


SIX = text("x" * 6)
ATTACKS: dict[str, bytes] = {
    "os.system": call("os system", text(SYSTEM_CALL)),
    "posix.system by INST": b"(" + text(SYSTEM_CALL) + b"iposix\nsystem\n",
    "os.system by OBJ": b"(cos\nsystem\n" + text(SYSTEM_CALL) + b"o",
    "subprocess.Popen by NEWOBJ": b"csubprocess\nPopen\n(" + text(SYSTEM_CALL) + b"t\x81",
    "subprocess.Popen by NEWOBJ_EX": b"csubprocess\nPopen\n()" + b"}" + text("args") + text(SYSTEM_CALL) + b"s\x92",
    "os.system by STACK_GLOBAL": text("os") + text("system") + b"\x93(" + text(SYSTEM_CALL) + b"tR",
    "eval": call("builtins eval", text("__import__('os').mkdir('executed')")),
    "exec": call("builtins exec", text("import os; os.mkdir('executed')")),
    "import": call("importlib import_module", text("antigravity")),
    "getattr chain": getattr_chain(),
    "dotted name": text("os") + text("path.os.system") + b"\x93(" + text(SYSTEM_CALL) + b"tR",
    "numpy object array": call("numpy.core.multiarray _reconstruct", b"cnumpy\nndarray\n", b"K\x00\x85", b"C\x01b")
    + b"(K\x01K\x01\x85" + call("numpy dtype", text("O8")) + b"\x89]" + call("os system", text(SYSTEM_CALL)) + b"atb",
    "functools.partial": b"(" + call("functools partial", b"cos\nsystem\n", text(SYSTEM_CALL)) + b"o",
    "partial called": call("functools partial", b"cos\nsystem\n") + b"(" + text(SYSTEM_CALL) + b"tR",
    "copyreg code": b"\x82\x01(" + text(SYSTEM_CALL) + b"tR",
    "copyreg code, wide": b"\x84\x01\x00\x00\x00(" + text(SYSTEM_CALL) + b"tR",
    "copyreg._reconstructor": call("copyreg _reconstructor", b"cos\nsystem\n", b"c__builtin__\nobject\n", b"N"),
    "state of an object": call("types SimpleNamespace") + b"}" + text("__class__") + b"cos\nsystem\nsb",
    "state with a function": call("webbrowser BackgroundBrowser", SIX) + b"(N}" + text("x") + b"K\x01stb",
    "torch._utils with a call as storage": tensor(call("os system", text(SYSTEM_CALL))),
    "rebuild from a type": call(
        "torch._tensor _rebuild_from_type_v2", b"cos\nsystem\n", b"cos\nsystem\n", text(SYSTEM_CALL) + b"\x85", b"N"
    ),
    "rebuild of a rebuild": call(
        "torch._tensor _rebuild_from_type_v2", *[b"ctorch._tensor\n_rebuild_from_type_v2\n"] * 2, b")", b"N"
    ),
    "parameter of a call": call("torch._utils _rebuild_parameter", call("os system", text(SYSTEM_CALL)), b"\x88", b"N"),
    "load from bytes": call("torch.storage _load_from_bytes", b"C\x10" + b"cos\nsystem\n(tR."),
    "defaultdict": call("collections defaultdict", b"cos\nsystem\n") + text("x") + b"N" + b"s",
    "hook": call("torch._utils _rebuild_tensor_v2", STORAGE, b"K\x00", b"K\x04\x85", b"K\x01\x85", b"\x89")
    + b"}" + text("__setstate__") + b"cos\nsystem\nsb",
}  # fmt: skip
"""Each leaves one value on the stack, or is damaged."""

MALFORMED: dict[str, bytes] = {
    "size behind the end": tensor(size=b"K\x05\x85"),
    "offset behind the end": tensor(offset=b"K\x01"),
    "stride behind the end": tensor(stride=b"K\x02\x85"),
    "negative stride": tensor(stride=b"J\xff\xff\xff\xff\x85"),
    "negative offset": tensor(offset=b"J\xff\xff\xff\xff"),
    "negative size": tensor(size=b"J\xff\xff\xff\xff\x85"),
    "sizes without strides": tensor(size=b"K\x02K\x02\x86"),
    "size as a text": tensor(size=text("4")),
    "size as a list": tensor(size=b"]"),
    "size of bools": tensor(size=b"\x88\x85"),
    "size past 64 bits": tensor(size=b"\x8a\x09" + b"\xff" * 8 + b"\x00\x85", stride=b"K\x00\x85"),
    "product past 64 bits": tensor(size=(b"J\x00\x00\x00\x40" * 3) + b"\x87", stride=b"K\x00K\x00K\x00\x87"),
    "empty, yet too large": tensor(size=b"(K\x00" + b"J\x00\x00\x00\x40" * 3 + b"t", stride=b"(K\x00K\x00K\x00K\x00t"),
    "a thousand dimensions": tensor(size=b"(" + b"K\x01" * 1000 + b"t", stride=b"(" + b"K\x00" * 1000 + b"t"),
    "gigabytes of one value": tensor(size=b"J\x00\x00\x00\x40\x85", stride=b"K\x00\x85"),
    "no arguments": call("torch._utils _rebuild_tensor_v2"),
    "storage of more than there is": tensor(STORAGE.replace(b"K\x04tQ", b"J\x00\x00\x00\x40tQ")),
    "storage that is not there": tensor(STORAGE.replace(text("0"), text("../0"))),
    "storage of no size": tensor(STORAGE.replace(b"K\x04tQ", b"NtQ")),
    "storage of no kind": tensor(STORAGE.replace(b"FloatStorage", b"NoSuchStorage")),
    "id that is no storage": b"K\x01Q",
    "id in text": b"P1\n",
    "call of a number": b"K\x01)R",
    "call without arguments": b"cos\nsystem\nNR",
    "item of a text": text("x") + text("y") + b"Ns",
    "list as a key": b"}]Ns",
    "key without a value": b"}(K\x01u",
    "append to a tuple": b")K\x01a",
    "state of a number": b"K\x01}b",
    "memo that is empty": b"h\x07",
    "memo of billions": b"K\x01r\xff\xff\xff\xff" + b"j\xfe\xff\xff\xff",
    "mark that is missing": b"K\x01t",
    "stack that is empty": b"0",
    "below a mark": b"K\x01(\x85",
    "text of gigabytes": b"X\xff\xff\xff\x7fabc",
    "bytes of exabytes": b"\x8e" + b"\xff" * 7 + b"\x7fabc",
    "a number of megabytes": b"\x8b\x00\x00\x10\x00" + b"\x01" * (1 << 20),
    "digits": b"I" + b"9" * 5000 + b"\n",
    "buffers outside": b"\x97",
    "unknown opcode": b"\xf3",
    "protocol 200": b"\x80\xc8N",
    "set again and again": b"](" + b"K\x01" * 300 + b"eq\x000" + b"(" + (b"c__builtin__\nset\nh\x00\x85R" * 300) + b"t",
    "line without an end": b"c" + b"x" * 70000,
}  # fmt: skip


def nested(opcode: bytes, times: int) -> bytes:
    """A value in a value in a value."""
    return b"N" + opcode * times


STRANGE: dict[str, bytes] = {
    "deep tuples": nested(b"\x85", 300_000),
    "deep lists": b"]" * 100_000 + b"a" * 99_999,
    "deep dicts": (b"}" + text("model")) * 50_000 + b"N" + b"s" * 50_000,
    "deep tuple as a key": b"}" + nested(b"\x85", 300_000) + b"Ns",
    "billion laughs": b"(K\x01K\x01tq\x00" + b"".join(
        b"0(" + b"h" + bytes([k]) + b"h" + bytes([k]) + b"h" + bytes([k]) + b"tq" + bytes([k + 1]) for k in range(120)
    ),
    "billion laughs as a key": b"}(K\x01K\x01tq\x00" + b"".join(
        b"0(" + b"h" + bytes([k]) + b"h" + bytes([k]) + b"tq" + bytes([k + 1]) for k in range(100)
    ) + b"Ns",
    "list that holds itself": b"]q\x00h\x00a",
    "model that holds itself": b"}q\x00" + text("model") + b"h\x00s",
    "state dict of itself": b"}q\x00" + text("weight") + b"h\x00s",
    "itself as its attributes": call("x y") + b"q\x00h\x00b",
    "keys of one hash": b"}(" + b"".join(
        b"\x8a\x0a" + (k * ((1 << 61) - 1)).to_bytes(10, "little") + b"N" for k in range(1, 20_000)
    ) + b"u",
}  # fmt: skip
"""Allowed pickles that cost a careless reader its stack, its memory or its time."""


def archive(pickled: bytes, values: bytes = b"\0" * 16, **other: bytes) -> bytes:
    """A file as torch writes it, with a pickle of ours."""
    stream = io.BytesIO()
    members = {"data.pkl": pickled, "byteorder": b"little", "data/0": values, "version": b"3\n", **other}
    with zipfile.ZipFile(stream, "w") as written:
        for name, content in members.items():
            written.writestr(f"archive/{name}", content)
    return stream.getvalue()


def legacy(pickled: bytes, values: bytes = b"\0" * 16, keys: list[str] | None = None) -> bytes:
    """A file as torch wrote it before 1.6, with a pickle of ours."""
    count = struct.pack("<q", len(values) // 4)
    numbers = MAGIC + pickle.dumps(1001, 2) + SYSTEM
    pickled = pickled.replace(b"K\x04tQ", b"K\x04NtQ")  # ids of storages had one more part
    return numbers + pickled + pickle.dumps(["0"] if keys is None else keys, 2) + count + values


def write(content: bytes, path: Path) -> Path:
    """Put content into a file."""
    path.write_bytes(content)
    return path
