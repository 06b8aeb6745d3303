"""What is missing or broken in a set, row by row; nothing stops at the first."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import chain, islice
from typing import Any, Literal

from affordagent.core.errors import AffordAgentError
from affordagent.finetune.data.entries import Entry
from affordagent.finetune.data.pictures import look
from affordagent.finetune.data.table import load_mask, load_object_mask

What = Literal["row", "image", "mask", "empty mask", "depth"]
_PIECE = 512


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong. where: its place in the file or set; what: the kind; message: the file and the fault."""

    where: str
    what: What
    message: str


@dataclass(frozen=True)
class Report:
    """rows: how many were looked at, those that could not be read included; problems: all of them, in order."""

    rows: int
    problems: tuple[Problem, ...]

    @property
    def counts(self) -> dict[str, int]:
        return dict(Counter(p.what for p in self.problems))

    @property
    def by_place(self) -> dict[str, dict[str, int]]:
        """File or set -> kind -> how many."""
        out: dict[str, Counter[str]] = {}
        for problem in self.problems:
            out.setdefault(problem.where.partition(",")[0], Counter())[problem.what] += 1
        return {place: dict(counts) for place, counts in out.items()}

    def as_json(self) -> dict[str, Any]:
        problems = [asdict(problem) for problem in self.problems]
        return {"rows": self.rows, "counts": self.counts, "by_place": self.by_place, "problems": problems}


def check(entries: Iterable[Entry], workers: int = 4) -> Iterator[list[Problem]]:
    """The problems of each entry, in order ([] where all is well). Pictures are decoded to their last row, in `workers`
    threads: an image must open, a mask must open, fit the image and hold a pixel, a depth picture must fit."""
    source = iter(entries)
    with ThreadPoolExecutor(max_workers=workers) as pool:
        while piece := list(islice(source, _PIECE)):
            yield from pool.map(problems_of, piece)


def report(problems: Iterable[list[Problem]]) -> Report:
    by_row = list(problems)
    return Report(len(by_row), tuple(chain.from_iterable(by_row)))


def problems_of(entry: Entry) -> list[Problem]:
    """What is wrong with one row."""
    sample = entry.sample
    if sample is None:
        return [Problem(entry.where, "row", entry.problem)]
    size = picture_size(sample.image)
    if isinstance(size, str):
        return [Problem(entry.where, "image", f"image {sample.image} {size}")]
    found = []
    if sample.mask is not None and os.path.normpath(sample.mask) == os.path.normpath(sample.image):
        found.append(Problem(entry.where, "mask", f"mask {sample.mask} is the image itself"))
    elif sample.mask is not None or sample.mask_rle is not None:
        try:
            if not load_mask(sample, size).any():
                label = "" if sample.mask_label is None else f" of label {sample.mask_label}"
                source = sample.mask or "mask_rle"
                found.append(Problem(entry.where, "empty mask", f"{source} has no pixel{label} (image {sample.image})"))
        except AffordAgentError as error:
            found.append(Problem(entry.where, "mask", str(error)))
    try:
        whole = load_object_mask(sample, size)
        if whole is not None and not whole.any():
            found.append(
                Problem(entry.where, "empty mask", f"the mask of the whole thing has no pixel ({sample.image})")
            )
    except AffordAgentError as error:
        found.append(Problem(entry.where, "mask", f"of the whole thing: {error}"))
    if sample.depth is not None:
        depth = picture_size(sample.depth)
        if isinstance(depth, str):
            found.append(Problem(entry.where, "depth", f"depth {sample.depth} {depth}"))
        elif depth != size:
            message = f"depth {sample.depth} is {depth[1]}x{depth[0]}, the image {size[1]}x{size[0]}"
            found.append(Problem(entry.where, "depth", message))
    return found


def picture_size(path: str) -> tuple[int, int] | str:
    """(H, W) of a picture as load_image turns it, decoded to the end; or what is wrong with it."""
    seen = look(path)
    return seen if isinstance(seen, str) else seen.size
