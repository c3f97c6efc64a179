"""A pickle run on shadows: what would be built, called and stored, without building, calling or storing anything.

torch's safe loader checks the names in a pickle, not what the allowed ones are called with: it makes a storage of any
size that a file asks for, resizes storages under a tensor that claims more than is there (which shows old memory),
hashes tuples that hold each other sixty levels deep (which never ends, or breaks the C stack), and looks up any codec.
Here the same operations run first on stand-ins for the objects, and each such call is refused.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable, Mapping
from mmap import mmap
from types import MappingProxyType
from typing import Any

from .pickle_calls import OTHER, Name, Pack, PickleFaultError, Stored, TensorShadow, call, reference, refuse_call

MAX_PICKLE_BYTES = 64 << 20
#: About fifty stand for a tensor in a state dict, so this is more than 50 000 tensors need; it bounds the time.
MAX_OPERATIONS = 3_000_000

MAX_TUPLE = 100_000
MAX_TUPLE_DEPTH = 50
MAX_MARKS = 1000
MAX_INTEGER_BITS = 1024
_UNSIGNED = struct.Struct("<I")
_PLAIN_KEYS = {str, int}
#: Larger whole numbers can be chosen so that they all fall on one place of a dict, which takes squared time.
_MAX_KEY = 1 << 60

_NEWABLE = ("torch.Size", "torch.device")


class PickleMachine:
    """Runs one pickle that begins at ``at``; afterwards ``at`` is behind it.

    ``names`` are the globals in order, ``stored`` what is said of each storage by its key and view, ``references``
    how often stored data is referred to. What it leaves on the stack is the tree: lists, dicts and numbers as they
    are, and shadows of tensors, tuples and globals. It is ``exact`` as long as torch's loader, given the same
    operations, surely makes that tree and nothing else; whatever is unusual ends that.
    """

    def __init__(self, data: bytes | mmap, at: int, modern_name: Callable[[str, str], str]) -> None:
        self.data, self.at, self.end = data, at, min(len(data), at + MAX_PICKLE_BYTES)
        self.names: dict[str, None] = {}
        self.stored: dict[tuple[str, str], Stored] = {}
        self.references, self.protocol = 0, 0
        self.stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.exact = True
        self._modern_name = modern_name

    def run(self, max_references: int) -> None:
        """Run to the end of the pickle, or until there are more references to stored data than allowed.

        Raises:
            PickleFaultError: something in it is refused.
            IndexError, KeyError, struct.error, UnicodeError: the bytes are no pickle.
        """
        data, operations = self.data, dict(OPERATIONS)
        for _ in range(MAX_OPERATIONS):
            code = data[self.at]
            self.at += 1
            if code == 0x2E or self.references > max_references:  # STOP
                return
            operation = operations.get(code)
            if operation is None:
                raise PickleFaultError(f"its pickle uses the operation {bytes([code])!r}, which torch does not write")
            operation(self)
        raise PickleFaultError(f"its pickle holds more than {MAX_OPERATIONS} operations")

    def take(self, count: int) -> bytes:
        """The next bytes."""
        begin, self.at = self.at, self.at + count
        if self.at > self.end:
            raise IndexError("the pickle ends early")
        return self.data[begin : self.at]

    def byte(self) -> int:
        """The next byte as a number."""
        self.at += 1
        return self.data[self.at - 1]

    def unsigned(self, count: int) -> int:
        """The next bytes as a number."""
        return int.from_bytes(self.take(count), "little")

    def line(self) -> str:
        """The text up to the next line end."""
        end = self.data.find(b"\n", self.at, self.end)
        if end < 0:
            raise IndexError("the pickle ends early")
        return self.take(end + 1 - self.at)[:-1].decode("ascii")

    def push_name(self) -> None:
        """GLOBAL: two lines, module and name."""
        text = self._modern_name(self.line(), self.line())
        self.names[text] = None
        self.stack.append(Name(text))

    def mark(self) -> None:
        """MARK: what follows belongs together."""
        if len(self._marks) > MAX_MARKS:
            raise PickleFaultError("its pickle is nested without end")
        self._marks.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        """What stands on the stack since the last mark."""
        items, self.stack = self.stack, self._marks.pop()
        return items

    def pack(self, items: list[Any]) -> None:
        """Push a tuple."""
        weight, depth = 1 + len(items), 1
        for item in items if Pack in map(type, items) else ():
            if type(item) is Pack:
                weight, depth = weight + item.weight, max(depth, item.depth + 1)
        if weight > MAX_TUPLE or depth > MAX_TUPLE_DEPTH:
            raise PickleFaultError("its pickle holds tuples that are nested without end")
        self.stack.append(Pack(items, weight, depth))

    def pop_pack(self) -> list[Any]:
        """The items of the tuple on top of the stack."""
        top = self.stack.pop()
        if not isinstance(top, Pack):
            raise PickleFaultError("its pickle calls something without a list of arguments")
        return top.items

    def refer(self) -> None:
        """BINPERSID: a reference to stored data; a storage is as it is referred to first."""
        self.references += 1
        identity = self.stack.pop()
        found: Any = OTHER
        for key, claim in reference(identity).items():
            found = self.stored.setdefault(key, claim)
            self.exact = self.exact and found == claim
        self.exact = self.exact and len(identity.items) == 5 and type(identity.items[3]) is str
        self.stack.append(found)

    def call(self) -> None:
        """REDUCE: a function and its arguments."""
        arguments = self.pop_pack()
        result = call(self.stack.pop(), arguments)
        self.exact = self.exact and getattr(result, "exact", result is not OTHER)
        self.stack.append(result)

    def create(self) -> None:
        """NEWOBJ: a class and its arguments, made without its constructor; torch constructs parameters."""
        arguments = self.pop_pack()
        kind = self.stack.pop()
        name = kind.text if isinstance(kind, Name) else ""
        self.exact = False
        if name == "torch.nn.parameter.Parameter" and arguments and isinstance(arguments[0], TensorShadow):
            self.stack.append(arguments[0])
            return
        self.stack.append(OTHER if name in _NEWABLE or not name.startswith("torch.") else refuse_call(name))

    def build(self) -> None:
        """BUILD: give an object its state; a state dict has one, the versions of its modules."""
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, TensorShadow):
            raise PickleFaultError("its pickle changes a tensor after it is built, as torch < 0.4 did")
        is_state_dict = type(target) is OrderedDict and type(state) is dict and list(state) == ["_metadata"]
        self.exact = self.exact and is_state_dict

    def extend(self, items: list[Any]) -> None:
        """APPEND, APPENDS: to the list on top of the stack."""
        if self.stack and type(self.stack[-1]) is list:
            self.stack[-1].extend(items)
        else:
            self.exact = False

    def fill(self, items: list[Any]) -> None:
        """SETITEM, SETITEMS: keys and values, in turn, for the dict on top of the stack."""
        target = self.stack[-1] if self.stack else None
        keys = items[::2]
        is_usual = type(target) in (dict, OrderedDict) and len(items) % 2 == 0 and set(map(type, keys)) <= _PLAIN_KEYS
        if target is not None and is_usual and all(type(key) is str or abs(key) < _MAX_KEY for key in keys):
            target.update(zip(keys, items[1::2], strict=True))
        else:
            self.exact = False


def _integer(machine: PickleMachine) -> None:
    """LONG1; a number of thousands of digits cannot be shown, and no checkpoint needs it."""
    data = machine.take(machine.byte())
    if len(data) * 8 > MAX_INTEGER_BITS:
        raise PickleFaultError(f"its pickle holds a number of {len(data)} bytes")
    machine.stack.append(int.from_bytes(data, "little", signed=True))


def _protocol(machine: PickleMachine) -> None:
    machine.protocol = max(machine.protocol, machine.byte())


def _push(value: Any) -> Callable[[PickleMachine], None]:
    return lambda machine: machine.stack.append(value)


def _push_unknown(machine: PickleMachine) -> None:
    machine.exact = False
    machine.stack.append(OTHER)


def _top(machine: PickleMachine, count: int) -> list[Any]:
    """Take that many off the stack; if there are fewer, torch's loader will say so."""
    stack = machine.stack
    items = stack[-count:]
    del stack[-count:]
    machine.exact = machine.exact and len(items) == count
    return items


def _drop(machine: PickleMachine) -> None:
    """POP, which torch does not write."""
    _top(machine, 1)
    machine.exact = False


def _pack_top(count: int) -> Callable[[PickleMachine], None]:
    def pack(machine: PickleMachine) -> None:
        items = machine.stack[len(machine.stack) - count :]
        if len(items) < count:
            raise IndexError("the pickle's stack is empty")
        del machine.stack[len(machine.stack) - count :]
        machine.pack(items)

    return pack


def _put(machine: PickleMachine) -> None:
    machine.memo[machine.byte()] = machine.stack[-1]


def _put_far(machine: PickleMachine) -> None:
    at = machine.at
    machine.at = at + 4
    machine.memo[_UNSIGNED.unpack_from(machine.data, at)[0]] = machine.stack[-1]


def _text(machine: PickleMachine) -> None:
    begin = machine.at + 4
    machine.at = end = begin + _UNSIGNED.unpack_from(machine.data, machine.at)[0]
    if end > machine.end:
        raise IndexError("the pickle ends early")
    machine.stack.append(machine.data[begin:end].decode("utf-8", "surrogatepass"))


def _python_2_text(machine: PickleMachine) -> None:
    machine.exact = False
    machine.stack.append(machine.take(machine.byte()).decode("latin1"))


def _short(machine: PickleMachine) -> None:
    machine.at = at = machine.at + 2
    machine.stack.append(machine.data[at - 2] | machine.data[at - 1] << 8)


#: What torch's safe loader knows, by code, and POP (which it does not know, and refuses).
OPERATIONS: Mapping[int, Callable[[PickleMachine], object]] = MappingProxyType(
    {
        0x80: _protocol,
        ord("c"): PickleMachine.push_name,
        0x81: PickleMachine.create,
        ord("R"): PickleMachine.call,
        ord("b"): PickleMachine.build,
        ord("a"): lambda machine: machine.extend(_top(machine, 1)),
        ord("e"): lambda machine: machine.extend(machine.since_mark()),
        ord("s"): lambda machine: machine.fill(_top(machine, 2)),
        ord("u"): lambda machine: machine.fill(machine.since_mark()),
        ord("("): PickleMachine.mark,
        ord("t"): lambda machine: machine.pack(machine.since_mark()),
        0x85: _pack_top(1),
        0x86: _pack_top(2),
        0x87: _pack_top(3),
        ord("N"): _push(None),
        0x88: _push(True),
        0x89: _push(False),
        ord(")"): lambda machine: machine.pack([]),
        ord("]"): lambda machine: machine.stack.append([]),
        ord("}"): lambda machine: machine.stack.append({}),
        0x8F: _push_unknown,
        ord("J"): lambda machine: machine.stack.append(struct.unpack("<i", machine.take(4))[0]),
        ord("K"): lambda machine: machine.stack.append(machine.byte()),
        ord("M"): _short,
        ord("G"): lambda machine: machine.stack.append(struct.unpack(">d", machine.take(8))[0]),
        ord("X"): _text,
        ord("U"): _python_2_text,
        ord("Q"): PickleMachine.refer,
        ord("h"): lambda machine: machine.stack.append(machine.memo[machine.byte()]),
        ord("j"): lambda machine: machine.stack.append(machine.memo[machine.unsigned(4)]),
        ord("q"): _put,
        ord("r"): _put_far,
        0x8A: _integer,
        ord("0"): _drop,
    }
)
