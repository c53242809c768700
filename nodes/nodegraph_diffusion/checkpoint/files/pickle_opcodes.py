"""A reader of pickles that runs nothing: it follows the opcodes of pickle's protocol 2 and builds descriptions.

A pickle is a program for a small stack machine. It is dangerous because the machine looks up functions by name and calls them.
This one does neither: a name becomes a `Global`, which is only text, and for a call the `Rules` receive the name and return a
description. Unknown opcodes are refused, and so are names that the rules do not allow. The opcodes are those of `pickletools`
in Python's library.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

MAX_BYTES = 32_000_000
"""The largest program that is read; that of Stable Diffusion XL, with 2,600 tensors, has 500 kB."""

_LONGEST_NUMBER = 16  # bytes; torch's own mark has 10
_PLAIN_KEYS = (str, int, float, bool, type(None))
_MARK = object()


class PickleContentError(Exception):
    """A pickle that contains more than descriptions of tensors. The message says what."""


class Global(NamedTuple):
    """The name of something in a Python module, as text only."""

    name: str


class SkippedObject:
    """An object that the pickle would have made and that no tensor needs: its name, and the state that it would have had."""

    __slots__ = ("name", "state")

    def __init__(self, name: str) -> None:
        self.name = name
        self.state: Any = None


class Rules(NamedTuple):
    """How names in a pickle are treated.

    `allows` decides whether a name may occur, `call` returns the result of calling a name, and `persistent` returns what an
    identifier of something outside the pickle stands for.
    """

    allows: Callable[[str], bool]
    call: Callable[[str, tuple[Any, ...]], Any]
    persistent: Callable[[Any], Any]


def read_program(data: bytes, position: int, rules: Rules) -> tuple[Any, int]:
    """The value that the pickle at `position` of `data` describes, and the position where it ends.

    Raises PickleContentError for content that is not allowed, and ValueError, TypeError or LookupError if it is damaged.
    """
    machine = _Machine(data, position, rules)
    return machine.run(), machine.position


class _Machine:
    def __init__(self, data: bytes, position: int, rules: Rules) -> None:
        self.data, self.position, self.rules = data, position, rules
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        while True:
            code = self.data[self.position]
            self.position += 1
            if code == _STOP:
                return self.stack.pop()
            action = _ACTIONS.get(code)
            if action is None:
                raise PickleContentError(f"the opcode {bytes([code])!r}, which PyTorch does not write")
            action(self)

    def take(self, count: int) -> bytes:
        start, self.position = self.position, self.position + count
        if self.position > len(self.data):
            raise ValueError("it ends too early")
        return self.data[start : self.position]

    def unpack(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self) -> str:
        end = self.data.index(b"\n", self.position)
        start, self.position = self.position, end + 1
        return self.data[start:end].decode()

    def marked(self) -> list[Any]:
        """Remove the last mark and everything above it from the stack, and return what was above it."""
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise ValueError("a mark is missing")
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items

    # --- opcodes

    def put(self, key: int) -> None:
        self.memo[key] = self.stack[-1]

    def number(self, length: int) -> None:
        if length > _LONGEST_NUMBER:
            raise ValueError(f"a number of {length} bytes")
        self.stack.append(int.from_bytes(self.take(length), "little", signed=True))

    def text(self, length: int) -> None:
        self.stack.append(self.take(length).decode())

    def name(self) -> None:
        name = f"{self.line()}.{self.line()}"
        if not self.rules.allows(name):
            raise PickleContentError(f"the name {name!r}, which stands for code")
        self.stack.append(Global(name))

    def pack(self, items: list[Any]) -> None:
        self.stack.append(tuple(items))

    def last(self, count: int) -> None:
        if len(self.stack) < count:
            raise ValueError("its stack is empty")
        items = self.stack[-count:]
        del self.stack[-count:]
        self.pack(items)

    def call(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if type(function) is not Global or type(arguments) is not tuple:
            raise PickleContentError("a call of something that has no name")
        self.stack.append(self.rules.call(function.name, arguments))

    def state(self) -> None:
        state = self.stack.pop()
        if type(self.stack[-1]) is SkippedObject:
            self.stack[-1].state = state

    def items(self, pairs: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is dict:  # a skipped object holds no tensors
            for key, value in zip(pairs[::2], pairs[1::2], strict=True):
                if type(key) in _PLAIN_KEYS:  # others name no tensor
                    target[key] = value

    def extend(self, values: list[Any]) -> None:
        if type(self.stack[-1]) is list:
            self.stack[-1].extend(values)

    def persistent(self) -> None:
        self.stack.append(self.rules.persistent(self.stack.pop()))

    def protocol(self) -> None:
        if (version := self.take(1)[0]) != 2:
            raise PickleContentError(f"version {version} of the pickle protocol, where PyTorch writes 2")


_STOP = ord(".")
_ACTIONS: Mapping[int, Callable[[_Machine], None]] = {
    ord(code): action
    for code, action in {
        "\x80": _Machine.protocol,
        "(": lambda machine: machine.stack.append(_MARK),
        "0": lambda machine: machine.stack.pop() and None,
        "1": lambda machine: machine.marked() and None,
        "q": lambda machine: machine.put(machine.take(1)[0]),
        "r": lambda machine: machine.put(machine.unpack("<I")),
        "h": lambda machine: machine.stack.append(machine.memo[machine.take(1)[0]]),
        "j": lambda machine: machine.stack.append(machine.memo[machine.unpack("<I")]),
        "N": lambda machine: machine.stack.append(None),
        "\x88": lambda machine: machine.stack.append(True),
        "\x89": lambda machine: machine.stack.append(False),
        "K": lambda machine: machine.stack.append(machine.take(1)[0]),
        "M": lambda machine: machine.stack.append(machine.unpack("<H")),
        "J": lambda machine: machine.stack.append(machine.unpack("<i")),
        "\x8a": lambda machine: machine.number(machine.take(1)[0]),
        "G": lambda machine: machine.stack.append(machine.unpack(">d")),
        "X": lambda machine: machine.text(machine.unpack("<I")),
        "U": lambda machine: machine.text(machine.take(1)[0]),
        "T": lambda machine: machine.text(machine.unpack("<I")),
        "c": _Machine.name,
        ")": lambda machine: machine.pack([]),
        "t": lambda machine: machine.pack(machine.marked()),
        "\x85": lambda machine: machine.last(1),
        "\x86": lambda machine: machine.last(2),
        "\x87": lambda machine: machine.last(3),
        "]": lambda machine: machine.stack.append([]),
        "a": lambda machine: machine.extend([machine.stack.pop()]),
        "e": lambda machine: machine.extend(machine.marked()),
        "}": lambda machine: machine.stack.append({}),
        "s": lambda machine: machine.items([machine.stack.pop(), machine.stack.pop()][::-1]),
        "u": lambda machine: machine.items(machine.marked()),
        "Q": _Machine.persistent,
        "R": _Machine.call,
        "\x81": _Machine.call,
        "b": _Machine.state,
    }.items()
}
