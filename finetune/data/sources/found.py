"""What all sources share: paths that stay inside their folder, files read with limits, and rows made of what is known.

A source is a module with one function, `rows(folder, take) -> Iterator[Found]`: rows and what could not be one, in a
fixed order, one by one. Nothing stops it but a folder that is no such source at all (AffordAgentError).
"""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, ParamSpec

import numpy as np

from affordagent.core.camera import CameraIntrinsics
from affordagent.core.catalogue import catalogue
from affordagent.core.errors import AffordAgentError
from affordagent.core.lexicon import lexicon
from affordagent.finetune.data.questions import AFFORDANCE, ask
from affordagent.finetune.data.schema import Rejected, Sample

Found = Sample | Rejected
P = ParamSpec("P")
MAX_JSON_BYTES = 1 << 30
MAX_TEXT = 2_000
# How a record that is not of the published form makes its reader fail. AffordAgentError has the reason in words.
MALFORMED = (
    AffordAgentError,
    OSError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    RecursionError,
    MemoryError,
)


@dataclass(frozen=True)
class Take:
    """made: folder for pictures that are no files of their own (frames of videos and records). seed: of the questions
    drawn from templates. frames_n: how many frames of each episode or scene, spread evenly. licence: of what says
    nothing of its licence itself."""

    made: Path
    seed: int = 0
    frames_n: int = 3
    licence: str | None = None


def attempt(source_id: str, make: Callable[P, Sample], *args: P.args, **kwargs: P.kwargs) -> Found:
    """The row that `make` gives of these arguments, or why it cannot."""
    try:
        return make(*args, **kwargs)
    except MALFORMED as error:
        return Rejected(source_id, reason_of(error))


def reason_of(error: BaseException) -> str:
    """In words, in one line and of bounded length."""
    text = f"no '{error.args[0]}'" if isinstance(error, KeyError) and error.args else str(error)
    if not isinstance(error, AffordAgentError):
        text = f"is malformed: {text or type(error).__name__}"
    return " ".join(text.split())[:500]


def inside(root: Path, name: object) -> Path:
    """The plain file `name` below `root`, links followed.

    Raises:
        AffordAgentError: not a relative path, leads out of `root`, or is no plain file there.
    """
    if not isinstance(name, str | os.PathLike) or not str(name) or "\0" in str(name):
        raise AffordAgentError(f"{str(name)[:80]!r} is not the path of a file")
    if Path(name).is_absolute():
        raise AffordAgentError(f"path {str(name)[:200]!r} is absolute; it must be relative to {root}")
    path = Path(os.path.realpath(root / name))
    if not path.is_relative_to(_resolved(os.path.abspath(root))):
        raise AffordAgentError(f"path {str(name)[:200]!r} leads out of {root}; copy what it means into the folder")
    if not path.is_file():
        raise AffordAgentError(f"file {str(name)[:200]!r} is not there")
    return root / name


def folders_with(root: Path, marker: str) -> Iterator[Path]:
    """Folders at or below `root` that hold `marker`, in order; links to folders are not followed.

    Raises:
        AffordAgentError: `root` is no folder.
    """
    if not root.is_dir():
        raise AffordAgentError(f"{root} is not a folder")
    for folder, below, files in os.walk(root):
        below.sort()
        if marker in files or marker in below:
            below.clear()
            yield Path(folder)


def read_json(path: Path, limit: int = MAX_JSON_BYTES) -> Any:
    """The content of a JSON file of at most `limit` bytes.

    Raises:
        AffordAgentError: it cannot be read, is too large or nested too deeply, or is no JSON.
    """
    try:
        size = path.stat().st_size
        if size > limit:
            raise AffordAgentError(f"{path.name} has {size} bytes, the limit is {limit}; cut it into several")
        return json.loads(path.read_bytes())
    except OSError as error:
        raise AffordAgentError(f"cannot read {path.name}: {error.strerror or error}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise AffordAgentError(f"{path.name} is no JSON that can be read: {str(error)[:200]}") from error


def object_of(value: Any, what: str) -> dict[str, Any]:
    """`value`, when it is a JSON object."""
    if not isinstance(value, dict):
        raise AffordAgentError(f"{what} is a {type(value).__name__}, not an object")
    return value


def text_of(value: object) -> str:
    """A text of bounded length, without control characters; bytes are UTF-8."""
    if isinstance(value, bytes):
        value = value[: 4 * MAX_TEXT].decode("utf-8", "replace")
    if not isinstance(value, str):
        raise AffordAgentError(f"{str(value)[:80]!r} is a {type(value).__name__}, not a text")
    return " ".join("".join(c if c.isprintable() else " " for c in value[:MAX_TEXT]).split())


def box_json(x0: Any, y0: Any, x1: Any, y1: Any, size: tuple[int, int] | None = None) -> str:
    """`Sample.box`, cut at the picture's border where its (H, W) `size` is given.

    Raises:
        AffordAgentError: not numbers, not finite, or nothing of it is in the picture.
    """
    given = (x0, y0, x1, y1)
    if not all(isinstance(n, int | float) and not isinstance(n, bool) and math.isfinite(n) for n in given):
        raise AffordAgentError(f"box {str(list(given))[:120]} is not four finite numbers")
    height, width = size or (math.inf, math.inf)
    x0, y0, x1, y1 = max(0.0, x0), max(0.0, y0), min(float(width), x1), min(float(height), y1)
    if x0 >= x1 or y0 >= y1:
        raise AffordAgentError(f"box {str(list(given))[:120]} is empty or outside the picture")
    return json.dumps([round(float(n), 2) for n in (x0, y0, x1, y1)])


def camera_json(fx: Any, fy: Any, cx: Any, cy: Any, size: tuple[int, int]) -> str:
    """`Sample.camera` of a picture of (H, W) `size`.

    Raises:
        ValueError: no such camera.
    """
    height, width = size
    return json.dumps(asdict(CameraIntrinsics(width, height, float(fx), float(fy), float(cx), float(cy))))


def provenance(**facts: str | int | float | list[float] | None) -> str:
    """`Sample.provenance` of the facts that are known."""
    return json.dumps({name: fact for name, fact in facts.items() if fact is not None}, ensure_ascii=False)


def question(category: str | None, source_id: str, seed: int) -> str:
    """One of the published templates, the same each time for the same row and seed; "" without a category."""
    rng = np.random.default_rng([seed, zlib.crc32(source_id.encode("utf-8", "replace"))])
    return ask(rng, AFFORDANCE, category.lower()) if category else ""


def spread(count: int, wanted: int) -> list[int]:
    """At most `wanted` of range(count), evenly spread, the first among them."""
    return sorted({i * count // wanted for i in range(wanted)}) if wanted < count else list(range(count))


@cache
def _parts() -> dict[str, str | None]:
    known: dict[str, str | None] = {}
    for ours in catalogue().values():
        known |= dict.fromkeys((ours.name, *ours.names), ours.part)
    for thing in lexicon().values():
        known |= dict.fromkeys((thing.name, *thing.names), thing.part)
    return known


def held_anywhere(category: str | None) -> bool:
    """Is it known of this class that it has no part of its own to hold it by, so that its whole mask is the one?"""
    name = (category or "").lower()
    return _parts().get(name, "unknown") is None


def part_of(category: str | None) -> str | None:
    """The part to hold, where it is known that there is one."""
    return _parts().get((category or "").lower())


@cache
def _resolved(root: str) -> Path:
    return Path(os.path.realpath(root))


def split_named(name: str) -> str:
    """train, val or test, by the words in a name; train where it has none."""
    words = name.lower()
    for split, marks in (("val", ("val", "eval", "dev")), ("test", ("test",))):
        if any(mark in words for mark in marks):
            return split
    return "train"


def first_frames(names: Sequence[str], wanted: int) -> list[str]:
    """`wanted` of the file names, evenly spread, in the order of the numbers in them."""
    ordered = sorted(names, key=lambda n: (int(digits) if (digits := "".join(filter(str.isdigit, n))[:18]) else 0, n))
    return [ordered[i] for i in spread(len(ordered), wanted)]


def safe_name(text: str) -> str:
    """`text` as the name of one file or folder: letters, digits, dot, dash and underscore."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "_" for c in text)[:120].lstrip(".") or "_"


def write_picture(file: Path, content: bytes) -> None:
    """Replaced whole; what is there already stays."""
    if file.is_file() and file.stat().st_size == len(content) and file.read_bytes() == content:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f"{file.name}.part")
    draft.write_bytes(content)
    os.replace(draft, file)
