"""Pickles read without running anything: an interpreter of their opcodes that makes plain data and nothing else.

A pickle is a program: it names things to import and to call. Here a name stays a name (`Placeholder`), calling one
gives another placeholder, and whatever is put into a placeholder is dropped. Nothing is imported, no attribute is
looked up and nothing that a file names is called; only names in a table that its reader hands over become data.

What is made is in proportion to the bytes it is made of: every opcode makes one thing at most, what is copied is
counted, and there is no recursion, so that depth costs nothing. Contents may be deep and may hold themselves.
"""

import pickletools
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from muse_core.model.weights.inert import Placeholder, UnreadableError, extend, key, misplaced, shown, store

MOST_OPCODES = 10_000_000
"""A checkpoint of 10,000 tensors with its optimizer has a million."""
_WIDEST_NUMBER = 8192
"""Bits; generators of random numbers keep some that are wider than 64."""
_NEWEST_PROTOCOL = 5

Builder = Callable[[tuple[Any, ...]], Any]


class Stream(Protocol):
    """Bytes to read from; what is asked for and not there is cut short."""

    def read(self, count: int, /) -> bytes:
        """Return the next bytes."""

    def readline(self) -> bytes:
        """Return what is left of the line."""


def unpickle(
    stream: Stream, builders: Mapping[str, Builder] | None = None, persistent: Callable[[Any], Any] | None = None
) -> Any:
    """Return what one pickle holds; the stream stands behind it then.

    Args:
        stream: where it begins. builders: by dotted name, what makes data of the arguments of a call; None from one
            means that these make no data, and a placeholder is left. persistent: what makes data of the ids by which
            a pickle refers to things outside of it; without it they are refused.

    Raises:
        UnreadableError: it is damaged or too large.
    """
    machine = _Machine(builders or {}, persistent)
    try:
        for opcode, argument, _ in pickletools.genops(stream):  # type: ignore[arg-type]  # it needs no more than a Stream
            machine.step(opcode.name, argument)
    except UnreadableError:
        raise
    except (ValueError, IndexError) as error:  # of the library's own reading of arguments
        raise UnreadableError(f"it is cut short or damaged ({shown(str(error))})") from None
    return machine.pop()


class _Machine:
    """The stack, the marks on it, and the memo."""

    def __init__(self, builders: Mapping[str, Builder], persistent: Callable[[Any], Any] | None) -> None:
        self.builders = {**builders, **{name: getattr(self, method) for name, method in _CONTAINERS.items()}}
        self.persistent = persistent
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.names: dict[str, Placeholder] = {}
        self.steps = self.copied = 0

    def step(self, opcode: str, argument: Any) -> None:
        """Do one opcode."""
        self.steps += 1
        if self.steps > MOST_OPCODES:
            raise UnreadableError(f"its pickle has more than {MOST_OPCODES:,} parts", whole=True)
        if opcode in _LITERALS:
            self.stack.append(argument)
        elif opcode in _FIXED:
            self.stack.append(_FIXED[opcode])
        elif opcode in _HANDLERS:
            _HANDLERS[opcode](self, argument)
        else:
            raise UnreadableError(f"its pickle has a part {opcode}, which is not read", whole=True)

    # The stack.

    def pop(self) -> Any:
        """Take the topmost value, which has to lie above the last mark."""
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise UnreadableError("its pickle is damaged: a value is missing")
        return self.stack.pop()

    def top(self) -> Any:
        """Return the topmost value."""
        self.stack.append(value := self.pop())
        return value

    def since_mark(self) -> list[Any]:
        """Take all values above the last mark, and the mark."""
        if not self.marks:
            raise UnreadableError("its pickle is damaged: a mark is missing")
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def mark(self, _: Any) -> None:
        self.marks.append(len(self.stack))

    def drop(self, _: Any) -> None:
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self.pop()

    def drop_to_mark(self, _: Any) -> None:
        self.since_mark()

    def duplicate(self, _: Any) -> None:
        self.stack.append(self.top())

    def nothing(self, _: Any) -> None:
        """Frames say how the bytes were cut, which does not matter here; the end is seen by what reads the opcodes."""

    def protocol(self, number: int) -> None:
        if number > _NEWEST_PROTOCOL:
            raise UnreadableError(f"its pickle is of protocol {number}, which is not known")

    # The memo.

    def get(self, index: int) -> None:
        if index not in self.memo:
            raise UnreadableError("its pickle is damaged: it refers to what is not there")
        self.stack.append(self.memo[index])

    def put(self, index: int) -> None:
        self.memo[index] = self.top()

    def memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.top()

    # Values.

    def text(self, argument: str) -> None:
        """A str of Python 2: text where it is, else bytes. The library has read it as Latin-1."""
        content = argument.encode("latin-1")
        try:
            self.stack.append(content.decode())
        except UnicodeDecodeError:
            self.stack.append(content)

    def number(self, argument: int) -> None:
        if argument.bit_length() > _WIDEST_NUMBER:
            raise UnreadableError("its pickle has a number of thousands of digits")
        self.stack.append(argument)

    def fresh_list(self, _: Any) -> None:
        self.stack.append([])

    def fresh_dict(self, _: Any) -> None:
        self.stack.append({})

    def fresh_set(self, _: Any) -> None:
        self.stack.append(set())

    def make_list(self, _: Any) -> None:
        self.stack.append(self.since_mark())

    def make_tuple(self, _: Any) -> None:
        self.stack.append(tuple(self.since_mark()))

    def make_tuple1(self, _: Any) -> None:
        self.stack.append((self.pop(),))

    def make_tuple2(self, _: Any) -> None:
        last = self.pop()
        self.stack.append((self.pop(), last))

    def make_tuple3(self, _: Any) -> None:
        last, middle = self.pop(), self.pop()
        self.stack.append((self.pop(), middle, last))

    def make_dict(self, _: Any) -> None:
        made: dict[Any, Any] = {}
        store(made, self.since_mark())
        self.stack.append(made)

    def make_frozenset(self, _: Any) -> None:
        self.stack.append(frozenset(map(key, self.since_mark())))

    def append(self, _: Any) -> None:
        value = self.pop()
        extend(self.top(), [value])

    def appends(self, _: Any) -> None:
        values = self.since_mark()
        extend(self.top(), values)

    def set_item(self, _: Any) -> None:
        value, key = self.pop(), self.pop()
        store(self.top(), [key, value])

    def set_items(self, _: Any) -> None:
        pairs = self.since_mark()
        store(self.top(), pairs)

    def add_items(self, _: Any) -> None:
        values, target = self.since_mark(), self.top()
        if type(target) is set:
            target.update(map(key, values))
        elif type(target) is not Placeholder:
            raise misplaced(target, "is added to")

    # Names, and what would be called.

    def name(self, dotted: str) -> Placeholder:
        """Return the placeholder of a name; of the same name, the same one."""
        return self.names.setdefault(dotted, Placeholder(dotted))

    def push_global(self, argument: str) -> None:
        self.stack.append(self.name(argument.replace(" ", ".", 1)))

    def push_global_of_stack(self, _: Any) -> None:
        name, module = self.pop(), self.pop()
        if type(name) is not str or type(module) is not str:
            raise UnreadableError("its pickle is damaged: a name is no text")
        self.stack.append(self.name(f"{module}.{name}"))

    def push_extension(self, code: int) -> None:
        self.stack.append(self.name(f"copyreg.extension.{code}"))

    def reduce(self, _: Any) -> None:
        arguments, function = self.pop(), self.pop()
        self.stack.append(self.call(function, arguments))

    def new_object_with_keywords(self, _: Any) -> None:
        keywords, arguments, kind = self.pop(), self.pop(), self.pop()
        if keywords and type(kind) is Placeholder:
            self.stack.append(Placeholder(kind.name, called=True))
        else:
            self.stack.append(self.call(kind, arguments))

    def instance(self, argument: str) -> None:
        arguments = tuple(self.since_mark())
        self.stack.append(self.call(self.name(argument.replace(" ", ".", 1)), arguments))

    def object(self, _: Any) -> None:
        values = self.since_mark()
        if not values:
            raise UnreadableError("its pickle is damaged: an object has no class")
        self.stack.append(self.call(values[0], tuple(values[1:])))

    def call(self, function: Any, arguments: Any) -> Any:
        """Return what a call stands for: data where the table knows it, else a placeholder."""
        if type(function) is not Placeholder or type(arguments) is not tuple:
            raise misplaced(function, "is called")
        builder = None if function.called else self.builders.get(function.name)
        made = None if builder is None else builder(arguments)
        return Placeholder(function.name, called=True) if made is None else made

    def build(self, _: Any) -> None:
        """Attributes: of a placeholder nobody wants them, of containers neither (torch gives `OrderedDict`s some)."""
        self.pop()
        if not isinstance(target := self.top(), Placeholder | dict | list | set):
            raise misplaced(target, "is given attributes")

    def persistent_id(self, argument: Any) -> None:
        if self.persistent is None:
            raise UnreadableError("its pickle is damaged: it refers to what lies outside of it")
        self.stack.append(self.persistent(argument))

    def persistent_id_of_stack(self, _: Any) -> None:
        self.persistent_id(self.pop())

    # Calls that make containers.

    def ordered_dict(self, arguments: tuple[Any, ...]) -> OrderedDict[Any, Any]:
        made: OrderedDict[Any, Any] = OrderedDict()
        for pair in self.copies(arguments):
            if type(pair) not in (list, tuple) or len(pair) != 2:
                raise misplaced(pair, "is no pair")
            store(made, pair)
        return made

    def default_dict(self, arguments: tuple[Any, ...]) -> dict[Any, Any] | None:
        """What it would make for a name that is missing is not data."""
        return {} if len(arguments) < 2 else None

    def set_of(self, arguments: tuple[Any, ...]) -> set[Any]:
        return set(map(key, self.copies(arguments)))

    def frozenset_of(self, arguments: tuple[Any, ...]) -> frozenset[Any]:
        return frozenset(map(key, self.copies(arguments)))

    def copies(self, arguments: tuple[Any, ...]) -> Iterable[Any]:
        """Return the values that a container is made of; over all there are no more than opcodes that made them."""
        if not arguments:
            return ()
        if len(arguments) > 1 or type(arguments[0]) not in (list, tuple):
            raise misplaced(arguments, "is made a container")
        self.copied += len(arguments[0])
        if self.copied > self.steps:
            raise UnreadableError("its pickle copies the same values again and again")
        return tuple(arguments[0])


_LITERALS = {
    "INT", "BININT", "BININT1", "BININT2", "LONG1", "FLOAT", "BINFLOAT", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE",
    "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
"""Opcodes whose argument is the value."""

_FIXED: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}

_HANDLERS: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(("LONG", "LONG4"), _Machine.number),
    **dict.fromkeys(("STRING", "BINSTRING", "SHORT_BINSTRING"), _Machine.text),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.get),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Machine.put),
    **dict.fromkeys(("EXT1", "EXT2", "EXT4"), _Machine.push_extension),
    **dict.fromkeys(("REDUCE", "NEWOBJ"), _Machine.reduce),
    **dict.fromkeys(("FRAME", "STOP"), _Machine.nothing),
    "MARK": _Machine.mark,
    "POP": _Machine.drop,
    "POP_MARK": _Machine.drop_to_mark,
    "DUP": _Machine.duplicate,
    "PROTO": _Machine.protocol,
    "MEMOIZE": _Machine.memoize,
    "EMPTY_LIST": _Machine.fresh_list,
    "EMPTY_DICT": _Machine.fresh_dict,
    "EMPTY_SET": _Machine.fresh_set,
    "LIST": _Machine.make_list,
    "TUPLE": _Machine.make_tuple,
    "TUPLE1": _Machine.make_tuple1,
    "TUPLE2": _Machine.make_tuple2,
    "TUPLE3": _Machine.make_tuple3,
    "DICT": _Machine.make_dict,
    "FROZENSET": _Machine.make_frozenset,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "ADDITEMS": _Machine.add_items,
    "GLOBAL": _Machine.push_global,
    "STACK_GLOBAL": _Machine.push_global_of_stack,
    "NEWOBJ_EX": _Machine.new_object_with_keywords,
    "INST": _Machine.instance,
    "OBJ": _Machine.object,
    "BUILD": _Machine.build,
    "PERSID": _Machine.persistent_id,
    "BINPERSID": _Machine.persistent_id_of_stack,
}
"""Every other opcode that is read. NEXT_BUFFER and READONLY_BUFFER are not: they need what lies outside of the file."""

_CONTAINERS = {
    "collections.OrderedDict": "ordered_dict",
    "collections.defaultdict": "default_dict",
    **dict.fromkeys(("builtins.set", "__builtin__.set"), "set_of"),
    **dict.fromkeys(("builtins.frozenset", "__builtin__.frozenset"), "frozenset_of"),
}
"""Our own method for the few names of plain containers."""
