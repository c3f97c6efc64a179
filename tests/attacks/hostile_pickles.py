"""Pickles that name nothing forbidden and still ask for too much: memory, time, or data that is not there.

Each entry of ``PICKLES`` is the content of ``data.pkl`` in an archive that is sound otherwise; ``LEGACY`` holds whole
files as torch before 1.6 wrote them. All were written by hand, one operation after another.
"""

from __future__ import annotations

import pickle
import struct

START, STOP = b"\x80\x02", b"."
MARK, TUPLE, PAIR, SINGLE, CALL, NEW, BUILD, REFER = b"(", b"t", b"\x86", b"\x85", b"R", b"\x81", b"b", b"Q"
LEGACY_HEAD = b"".join(
    pickle.dumps(value, protocol=2)
    for value in (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}})
)


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def word(text: str) -> bytes:
    data = text.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def pack(*items: bytes) -> bytes:
    return MARK + b"".join(items) + TUPLE


def stored(count: int, key: str = "0", kind: str = "FloatStorage", module: str = "torch", view: bytes = b"") -> bytes:
    return pack(word("storage"), name(module, kind), word(key), word("cpu"), number(count), view) + REFER


def tensor(storage: bytes, offset: int = 0, size: tuple[int, ...] = (2,), stride: tuple[int, ...] = (1,)) -> bytes:
    shape = (pack(*map(number, size)), pack(*map(number, stride)))
    hooks = name("collections", "OrderedDict") + b")" + CALL
    return name("torch._utils", "_rebuild_tensor_v2") + pack(storage, number(offset), *shape, b"\x89", hooks) + CALL


def state(*pairs: bytes) -> bytes:
    return START + b"}" + MARK + b"".join(pairs) + b"u" + STOP


def called(module: str, attribute: str, *arguments: bytes, how: bytes = CALL) -> bytes:
    """A good tensor, and beside it the result of a call."""
    call = name(module, attribute) + pack(*arguments) + how
    return state(word("w"), tensor(stored(2)), word("meta"), call)


def shaped(**claims: object) -> bytes:
    return state(word("w"), tensor(stored(2), **claims))  # type: ignore[arg-type]


def doubling(levels: int, build: bytes) -> bytes:
    """An object that holds two of the one before, ``levels`` times: small as written, endless when walked through."""
    begin = word("x") + b"q\x00"
    return begin + b"".join(b"h\x00" + build + b"q\x00" for _ in range(levels))


LISTS = b"]q\x00" + b"]q\x01(h\x00h\x00eq\x00" * 60
"""A list that holds lists of lists, sixty deep; it stands on the stack among others."""

PICKLES = {
    "c20 a negative stride": shaped(size=(2,), stride=(-1,)),
    "c20 a negative offset": shaped(offset=-1),
    "c20 an offset behind the end": shaped(offset=1),
    "c20 a negative size": shaped(size=(-2,)),
    "c20 more than is stored": shaped(size=(3,)),
    "c20 a stride that leaves the data": shaped(size=(2,), stride=(2,)),
    "c20 10^18 numbers": shaped(size=(10**9, 10**9), stride=(0, 0)),
    "c20 a size beyond 64 bits": shaped(size=(2**70,), stride=(0,)),
    "c20 1000 dimensions": shaped(size=(1,) * 1000, stride=(1,) * 1000),
    "c20 fewer strides than sizes": shaped(size=(1, 2), stride=(1,)),
    "c20 a storage larger than its entry": state(word("w"), tensor(stored(20), size=(20,))),
    "c20 a storage smaller than its entry": state(word("w"), tensor(stored(1), size=(1,))),
    "c20 a storage of 2^60": state(word("w"), tensor(stored(2**60))),
    "c20 a storage of a negative size": state(word("w"), tensor(stored(-2))),
    "c20 a storage that is not there": state(word("w"), tensor(stored(2, key="7"))),
    "c20 a storage outside the archive": state(word("w"), tensor(stored(2, key="../../data/0"))),
    "c20 a storage of another kind": state(word("w"), tensor(stored(2, kind="QInt8Storage"))),
    "c20 a tensor made again by its state": state(
        word("w"), tensor(stored(2)) + pack(stored(2), number(0), pack(number(9)), pack(number(1))) + BUILD
    ),
    "c20 a tensor of numbers": state(
        word("w"), name("torch._utils", "_rebuild_tensor_v2") + pack(*map(number, (1, 2, 3, 4, 5, 6))) + CALL
    ),
    "c19 memory by torch.Tensor": called("torch", "Tensor", number(2**31)),
    "c19 memory by a new torch.Tensor": called("torch", "Tensor", number(2**31), how=NEW),
    "c19 memory by FloatStorage": called("torch", "FloatStorage", number(2**31)),
    "c19 memory by UntypedStorage": called("torch.storage", "UntypedStorage", number(2**33)),
    "c19 memory by a new UntypedStorage": called("torch.storage", "UntypedStorage", number(2**33), how=NEW),
    "c19 memory by a parameter": called("torch.nn.parameter", "Parameter", number(2**31)),
    "c19 memory behind a builder": called(
        "torch._tensor", "_rebuild_from_type_v2", name("torch", "Tensor"), name("torch", "Tensor"),
        pack(number(2**31)), b"}"),
    "c19 memory by a bytearray": called("__builtin__", "bytearray", number(2**33)),
    "c19 memory by bytes": called("__builtin__", "bytes", number(2**33)),
    "c12 a codec that imports": called("_codecs", "encode", word("x"), word("this")),
    "c12 a codec behind a builder": called(
        "torch._tensor", "_rebuild_from_type_v2", name("_codecs", "encode"), name("torch", "Tensor"),
        pack(word("x"), word("this")), b"}"),
    "c12 a codec of square time": called("_codecs", "encode", word("\u00e4a" * 500_000), word("punycode")),
    "c12 a persistent id of another kind": state(word("w"), pack(word("module"), word("os")) + REFER),
    "c12 a persistent id of a list": state(word("w"), b"]" + REFER),
    "c12 attributes of a function": state(word("w"), name("torch", "Size") + b"}" + word("x") + b"Ns" + BUILD),
    "tuples doubled as a key": START + b"}" + doubling(60, b"h\x00" + PAIR) + b"Ns" + STOP,
    "tuples doubled in a set": START + name("__builtin__", "set") + b"]" + doubling(60, b"h\x00" + PAIR) + b"a"
        + SINGLE + CALL + STOP,
    "tuples doubled 40 times as a key": START + b"}" + doubling(40, b"h\x00" + PAIR) + b"Ns" + STOP,
    "tuples a million deep as a key": START + b"}" + word("x") + SINGLE * 1_000_000 + b"Ns" + STOP,
    "lists 20 000 deep": state(word("w"), tensor(stored(2)), word("m"), b"]" * 20_000 + b"a" * 19_999),
    "lists doubled in a path": called("pathlib", "PosixPath", LISTS),
    "lists doubled in a type": called("numpy", "dtype", LISTS),
    "lists doubled in a storage": state(word("w"), pack(LISTS, name("torch", "FloatStorage")) + REFER),
    "four million operations": START + b"]" + b"]a" * 2_000_000 + STOP,
    "four million marks": START + b"(" * 4_000_000 + STOP,
    "a number of 250 bytes": state(word("w"), tensor(stored(2)), word("n"), number(1 << 1990)),
    "a list that holds itself": state(word("w"), tensor(stored(2)), word("m"), b"]q\x05h\x05a"),
    "control characters in a name": state(word("\x1b[2Jw\n"), tensor(stored(2))),
    "half a letter in a name": state(word("w\ud800"), tensor(stored(2))),
    "a name of 100 000 letters": state(word("w" * 100_000), tensor(stored(2))),
    "a tensor as a key": state(tensor(stored(2)), b"N"),
    "nothing": b"",
    "no end": START + b"}",
    "an empty stack": START + b"R" + STOP,
    "a mark that is missing": START + b"]e" + STOP,
    "a memory that is empty": START + b"h\x09" + STOP,
}  # fmt: skip

_KEYS = pickle.dumps(["0"], protocol=2)
_DATA = struct.pack("<q2f", 2, 1.0, 1.0)
_NO_VIEW = b"N"

LEGACY = {
    "c20 more than is stored": state(word("w"), tensor(stored(2, view=_NO_VIEW), size=(9,))) + _KEYS + _DATA,
    "c20 a storage of 16 GB": state(word("w"), tensor(stored(2**32, view=_NO_VIEW), size=(2**32,))) + _KEYS + _DATA,
    "c20 a view of more than is stored": state(
        word("w"), tensor(stored(2, view=pack(word("1"), number(0), number(9))), size=(9,))) + _KEYS + _DATA,
    "tuples doubled as a key": PICKLES["tuples doubled as a key"] + _KEYS + _DATA,
    "c19 memory by torch.Tensor": called("torch", "Tensor", number(2**31)) + _KEYS + _DATA,
    "c20 more data than said": state(word("w"), tensor(stored(2, view=_NO_VIEW))) + _KEYS
        + struct.pack("<q2f", 2**40, 1.0, 1.0),
    "c21 keys without end": state(word("w"), tensor(stored(2, view=_NO_VIEW))) + START + b"]" * 4_000_000,
}  # fmt: skip
