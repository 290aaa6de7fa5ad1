"""Reading of pickle files as data: plain containers, strings, numbers and numeric numpy arrays, nothing else.

Python's own unpickler calls whatever the file names. This reader never calls anything a file asks for: it
walks the opcodes that :mod:`pickletools` decodes, builds lists, tuples and dicts itself, and knows the four
numpy functions by which an array is written; any other name ends the reading. Sizes are checked against the
bytes that are there, so a small file cannot ask for much memory.
"""

import math
import pickletools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from niphash.data.ground_truth.text import read_bytes
from niphash.errors import InputError

_DTYPE = re.compile(r"[<>|=]?(?:[biuf][1248]|U[0-9]{1,4}|S[0-9]{1,4})")
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
#: Opcodes that push the argument pickletools has decoded.
_NUMBERS = {"INT", "LONG", "LONG1", "LONG4", "BININT", "BININT1", "BININT2", "FLOAT", "BINFLOAT"}
_TEXTS = {
    "STRING",
    "BINSTRING",
    "SHORT_BINSTRING",
    "UNICODE",
    "BINUNICODE",
    "SHORT_BINUNICODE",
    "BINUNICODE8",
}
_BYTES = {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
_ARGUMENTS = _NUMBERS | _TEXTS | _BYTES
_KEYS = (str, int, float, bool, type(None))


def read_plain_pickle(path: Path) -> Any:
    """Return what a pickle file holds.

    Raises:
        InputError: it is no pickle, damaged, or holds anything but plain data.
    """
    try:
        return _Reader(read_bytes(path)).read()
    except InputError:
        raise
    except Exception as error:  # pickletools raises many kinds for damaged opcodes
        raise InputError(f"{path}: not a pickle of plain data ({error})") from error


class _Global:
    """A name that the file mentions; looked up in ``_KNOWN``, never imported."""

    def __init__(self, name: str) -> None:
        if name not in _KNOWN:
            raise ValueError(f"it names {name[:80]}, which is not admitted")
        self.name = name


class _Dtype:
    """A numpy dtype in the making: its code, then its byte order from the state."""

    def __init__(self, code: str) -> None:
        if not isinstance(code, str) or not _DTYPE.fullmatch(code):
            raise ValueError(f"an array of type {str(code)[:20]!r} is not admitted")
        self.dtype = np.dtype(code)

    def set_state(self, state: tuple[Any, ...]) -> None:
        order, fields = state[1], state[2:5]
        if order not in ("<", ">", "|", "=") or any(field is not None for field in fields):
            raise ValueError("a structured array is not admitted")
        self.dtype = self.dtype.newbyteorder(order) if order != "|" else self.dtype


class _Array:
    """A numpy array in the making: empty, then filled from the state."""

    def __init__(self) -> None:
        self.value = np.empty(0)

    def set_state(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        self.value = _array(data, dtype, shape, "F" if fortran else "C")


def _array(data: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
    if isinstance(data, str):  # Python 2 wrote bytes as text
        data = data.encode("latin-1")
    if not isinstance(data, bytes) or not isinstance(dtype, _Dtype) or order not in ("C", "F"):
        raise ValueError("a malformed array")
    if not isinstance(shape, tuple) or not all(
        type(size) is int and 0 <= size <= len(data) for size in shape
    ):
        raise ValueError("a malformed array shape")
    if math.prod(shape) * dtype.dtype.itemsize != len(data):
        raise ValueError(f"an array of shape {shape} with {len(data)} bytes")
    return np.frombuffer(data, dtype.dtype).reshape(shape, order=order)  # type: ignore[call-overload]


def _scalar(dtype: Any, data: Any) -> Any:
    return _array(data, dtype, (), "C").item()


def _encode(text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError("a malformed byte string")
    return text.encode("latin-1")


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _dtype(code: Any, *_: Any) -> _Dtype:
    return _Dtype(code)


#: The names by which numpy arrays, scalars and byte strings are written, and what stands for them here.
_KNOWN: dict[str, Callable[..., Any] | None] = {
    "numpy.ndarray": None,
    "numpy.dtype": _dtype,
    "_codecs.encode": _encode,
    **{f"numpy.{core}.multiarray._reconstruct": _reconstruct for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _array for core in ("core", "_core")},
}


class _Reader:
    def __init__(self, content: bytes) -> None:
        self.content = content
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def read(self) -> Any:
        for opcode, argument, _ in pickletools.genops(self.content):
            if opcode.name == "STOP":
                break
            self._step(opcode.name, argument)
        return _finished(self._pop())

    def _step(self, name: str, argument: Any) -> None:
        if name in _ARGUMENTS:
            self.stack.append(bytes(argument) if isinstance(argument, bytearray) else argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in ("PROTO", "FRAME"):
            pass
        elif name == "MARK":
            self.marks.append(len(self.stack))
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self.stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = self.stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        else:
            action = getattr(self, "_" + name.lower(), None)
            if action is None:
                raise ValueError(f"the opcode {name} is not admitted")
            if name == "GLOBAL":
                action(argument)
            else:
                action()

    def _pop(self) -> Any:
        if not self.stack or (self.marks and self.marks[-1] >= len(self.stack)):
            raise ValueError("nothing left on the stack")
        return self.stack.pop()

    def _to_mark(self) -> list[Any]:
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def _empty_list(self) -> None:
        self.stack.append([])

    def _empty_tuple(self) -> None:
        self.stack.append(())

    def _empty_dict(self) -> None:
        self.stack.append({})

    def _list(self) -> None:
        self.stack.append([_finished(value) for value in self._to_mark()])

    def _tuple(self) -> None:
        self.stack.append(tuple(self._to_mark()))

    def _tuple1(self) -> None:
        self.stack[-1:] = [(self._top(1)[0],)]

    def _tuple2(self) -> None:
        self.stack[-2:] = [tuple(self._top(2))]

    def _tuple3(self) -> None:
        self.stack[-3:] = [tuple(self._top(3))]

    def _top(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise ValueError("nothing left on the stack")
        return self.stack[-count:]

    def _dict(self) -> None:
        values = self._to_mark()
        self.stack.append({})
        self._set_items(values)

    def _append(self) -> None:
        self._extend([self._pop()])

    def _appends(self) -> None:
        self._extend(self._to_mark())

    def _extend(self, values: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise ValueError("something is appended to what is no list")
        self.stack[-1].extend(_finished(value) for value in values)

    def _setitem(self) -> None:
        value, key = self._pop(), self._pop()
        self._set_items([key, value])

    def _setitems(self) -> None:
        self._set_items(self._to_mark())

    def _set_items(self, values: list[Any]) -> None:
        if type(self.stack[-1]) is not dict or len(values) % 2:
            raise ValueError("something is set in what is no dict")
        for key, value in zip(values[::2], values[1::2], strict=True):
            if type(key) not in _KEYS:
                raise ValueError("a key is no string or number")
            self.stack[-1][key] = _finished(value)

    def _pop_mark(self) -> None:
        self._to_mark()

    def _global(self, name: str) -> None:
        self.stack.append(_Global(".".join(name.split(" "))))

    def _stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        self.stack.append(_Global(f"{module}.{name}"))

    def _reduce(self) -> None:
        arguments, function = self._pop(), self._pop()
        known = _KNOWN[function.name] if isinstance(function, _Global) else None
        if known is None or type(arguments) is not tuple:
            raise ValueError("it asks for a call that is not admitted")
        self.stack.append(known(*arguments))

    def _build(self) -> None:
        state, target = self._pop(), self.stack[-1]
        if not isinstance(target, _Array | _Dtype) or type(state) is not tuple:
            raise ValueError("it sets the state of what has none")
        target.set_state(state)


def _finished(value: Any) -> Any:
    """Return the numpy array for one in the making; other helpers may not be stored in containers."""
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, _Global | _Dtype):
        raise ValueError("it stores a name where data belongs")
    return value
