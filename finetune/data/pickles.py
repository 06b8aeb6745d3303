"""Pickles from outside, read without running them.

A pickle is a program. Published data sets come as pickles of lists, dicts, texts and numbers, which need none of its
power: here anything that names a function or a class is refused before it is called.

Source: https://docs.python.org/3/library/pickle.html#restricting-globals
"""

from __future__ import annotations

import pickle
import pickletools
from functools import partial
from pathlib import Path
from typing import IO, Any

from affordagent.core.errors import AffordAgentError

_MEMO = ("PUT", "BINPUT", "LONG_BINPUT")
# All other builtin types that data is made of (dict, list, tuple, str, bytes, int, float, bool, None) need no name.
_ALLOWED = {
    (module, kind.__name__): kind
    for module in ("builtins", "__builtin__")
    for kind in (set, frozenset, bytes, bytearray, complex)
}
# Python 2, and protocol 2 of Python 3, write bytes as a text with an encoding.
_ENCODE = ("_codecs", "encode")
# The ways in which a broken stream makes the unpickler fail; its documentation says that there are many.
_BROKEN = (
    pickle.UnpicklingError,
    EOFError,
    AttributeError,
    LookupError,
    ValueError,
    TypeError,
    ArithmeticError,
    MemoryError,
)


class _Refused(pickle.UnpicklingError):
    pass


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == _ENCODE:
            return _latin1
        if (module, name) not in _ALLOWED:
            raise _Refused(f"{module}.{name}")
        kind = _ALLOWED[module, name]
        return partial(_filled, kind) if kind in (bytes, bytearray) else kind

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused(f"persistent id {pid!r}")


def _filled(kind: type, *arguments: Any) -> Any:
    """bytes or bytearray of what is given, never of a size alone, which may be any."""
    if arguments and isinstance(arguments[0], int):
        raise _Refused(f"{arguments[0]} empty bytes")
    return kind(*arguments)


def _latin1(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise _Refused(f"_codecs.encode to '{encoding}'")
    return text.encode("latin1")


def load_plain(file: Path) -> Any:
    """The content of a pickle of lists, tuples, dicts, sets, texts, bytes, numbers, True, False and None.

    Also those of Python 2 (refCOCO's `refs(unc).p`).

    Raises:
        AffordAgentError: the file is missing, broken, or names a class or function; none is ever imported or called.
    """
    try:
        with file.open("rb") as stream:
            _check_memo(stream)
            stream.seek(0)
            return _PlainUnpickler(stream, encoding="utf-8").load()
    except _Refused as error:
        raise AffordAgentError(
            f"{file} is not read: it asks for {error}; only plain lists, dicts, texts and numbers are safe to load. "
            "If you trust its maker, load it yourself, turn numpy values into lists (.tolist(), .item()) and save again"
        ) from error
    except OSError as error:
        raise AffordAgentError(f"cannot read {file}: {error.strerror or error}") from error
    except _BROKEN as error:
        raise AffordAgentError(f"{file} is broken or not a pickle: {error}; fetch it again") from error


def _check_memo(stream: IO[bytes]) -> None:
    """Refuse a value kept under a number beyond all values there are: the unpickler would make room for so many."""
    for count, (opcode, argument, _) in enumerate(pickletools.genops(stream), start=1):
        if opcode.name in _MEMO and not 0 <= int(argument or 0) <= count:
            raise _Refused(f"room for {argument} values, and has {count} before it")
