"""Which rows show the same, so that no split has in training what another is tested on.

Rows belong together when they share a group (an episode, a scene, a run), have the same pixels (`sha256`), or look
alike (`phash` of at most NEAR_BITS different bits), also over others in between. A split never divides what belongs
together.

NEAR_BITS is measured (docs/data_sources.md): saved again, made smaller, brighter or cut by a little, a picture keeps
within it. Other pictures of the same kind of scene are farther away but for one pair in a million; with 8 bits it would
be four, and a set of 270,000 pictures would hang together as a whole.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from affordagent.core.errors import AffordAgentError
from affordagent.finetune.data.schema import Sample

NEAR_BITS = 6
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Leak:
    """Rows that belong together and are in several splits. why: "group", "same pixels" or "look alike"; what: the group
    or the hash; splits: how many rows in each; rows: source ids or pictures, two of each split at most."""

    why: str
    what: str
    splits: dict[str, int]
    rows: tuple[str, ...]


@dataclass(frozen=True)
class Duplicates:
    """exact: rows with the pixels of another picture; near: pairs of different pictures that look alike, as indices of
    their first rows, with the bits they differ in; together: index -> the first row that it belongs together with."""

    exact: int
    near: tuple[tuple[int, int, int], ...]
    together: NDArray[np.int64]


def find(rows: Sequence[Sample]) -> Duplicates:
    """What belongs together among the rows.

    Raises:
        AffordAgentError: a row without sha256 and phash.
    """
    for row in rows:
        if row.sha256 is None or row.phash is None:
            raise AffordAgentError(f"{row.image} has no hashes; `affordagent data import` and `data split` make them")
    parents = np.arange(len(rows))
    first: dict[tuple[str, str | None], int] = {}
    exact = 0
    of_hash: dict[int, int] = {}
    same: list[tuple[int, int, int]] = []
    for i, row in enumerate(rows):
        for key in ("group", row.group), ("image", row.image), ("sha256", row.sha256):
            if key[1] is not None:
                one = first.setdefault(key, i)
                exact += key[0] == "sha256" and rows[one].image != row.image
                _join(parents, one, i)
        one = of_hash.setdefault(int(str(row.phash), 16), i)
        if rows[one].sha256 != row.sha256 and first["sha256", row.sha256] == i:
            same.append((one, i, 0))
        _join(parents, one, i)
    hashes = np.array(list(of_hash), np.uint64)
    at = np.array(list(of_hash.values()), np.int64)
    near = same + [(int(at[a]), int(at[b]), bits) for a, b, bits in near_pairs(hashes)]
    for a, b, _ in near:
        _join(parents, a, b)
    together = np.array([_root(parents, i) for i in range(len(rows))], np.int64)
    return Duplicates(exact, tuple(near), together)


def near_pairs(hashes: NDArray[np.uint64], bits: int = NEAR_BITS) -> list[tuple[int, int, int]]:
    """Pairs (a, b, different bits) of at most `bits`, a < b, in order.

    Of bits + 2 parts of two such hashes, two at least are the same: only hashes that agree in two parts are compared.
    """
    edges = np.linspace(0, 64, bits + 3).astype(int)
    parts = [
        (hashes >> np.uint64(low)) & np.uint64((1 << int(high - low)) - 1)
        for low, high in zip(edges[:-1], edges[1:], strict=True)
    ]
    found: set[tuple[int, int, int]] = set()
    for one, other in combinations(parts, 2):
        keys = one << np.uint64(32) | other
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        left, step = np.arange(len(keys)), 1
        while len(left := left[: np.searchsorted(left, len(keys) - step)]):
            left = left[keys[left] == keys[left + step]]  # what is not alike so near is not farther on
            a, b = order[left], order[left + step]
            different = np.bitwise_count(hashes[a] ^ hashes[b])
            near = different <= bits
            found |= set(zip(a[near].tolist(), b[near].tolist(), different[near].tolist(), strict=True))
            step += 1
    return sorted(found)


def split(rows: Sequence[Sample], val: float, test: float, seed: int = 0, keep: bool = False) -> list[Sample]:
    """The rows with splits drawn anew: what belongs together stays together, and where it goes depends on its smallest
    sha256 and the seed alone, not on the other rows. keep: the splits that are there stay, except that what belongs
    together and is divided goes to the one that is held out the most: test, then val.

    Raises:
        AffordAgentError: shares that are negative or above 1 together, or a row without hashes.
    """
    if not (val >= 0 and test >= 0 and val + test <= 1):
        raise AffordAgentError(f"shares val {val} and test {test}: both must be at least 0, together at most 1")
    members: dict[int, list[int]] = defaultdict(list)
    for i, one in enumerate(find(rows).together.tolist()):
        members[one].append(i)
    out = list(rows)
    for indices in members.values():
        if keep:
            there = {rows[i].split for i in indices}
            where = next(s for s in reversed(SPLITS) if s in there) if there <= set(SPLITS) else min(there)
        else:
            where = _drawn(min(str(rows[i].sha256) for i in indices), seed, val, test)
        for i in indices:
            out[i] = replace(rows[i], split=where)
    return out


def leaks(rows: Sequence[Sample]) -> list[Leak]:
    """What belongs together and is in more than one split; [] where nothing leaks."""
    found: list[Leak] = []
    for why, name in (("group", "group"), ("same pixels", "sha256")):
        by: dict[str, list[Sample]] = defaultdict(list)
        for row in rows:
            if getattr(row, name) is not None:
                by[getattr(row, name)].append(row)
        found += [_leak(why, key, some) for key, some in by.items() if len({r.split for r in some}) > 1]
    found += [
        _leak("look alike", f"{rows[a].phash}, {bits} bits", [rows[a], rows[b]])
        for a, b, bits in _near_between_splits(rows)
    ]
    return found


def _near_between_splits(rows: Sequence[Sample]) -> Iterator[tuple[int, int, int]]:
    first: dict[tuple[int, str], int] = {}
    for i, row in enumerate(rows):
        if row.phash is not None:
            first.setdefault((int(row.phash, 16), row.split), i)
    by_hash: dict[int, list[int]] = defaultdict(list)
    for (value, _), i in first.items():
        by_hash[value].append(i)
    values = list(by_hash)
    same = [(a, b, 0) for some in by_hash.values() for a, b in combinations(some, 2)]
    near = [
        (a, b, bits)
        for one, other, bits in near_pairs(np.array(values, np.uint64))
        for a in by_hash[values[one]]
        for b in by_hash[values[other]]
    ]
    for a, b, bits in (*same, *near):
        if rows[a].split != rows[b].split and rows[a].sha256 != rows[b].sha256:
            yield a, b, bits


def _leak(why: str, what: str, rows: Iterable[Sample]) -> Leak:
    by: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        by[row.split].append(row.source_id or row.image)
    counts = {name: len(by[name]) for name in sorted(by)}
    return Leak(why, what, counts, tuple(one for name in sorted(by) for one in by[name][:2]))


def _drawn(key: str, seed: int, val: float, test: float) -> str:
    number = int.from_bytes(hashlib.sha256(f"{seed}/{key}".encode()).digest()[:8], "big") / 2**64
    return "test" if number < test else "val" if number < test + val else "train"


def _join(parents: NDArray[np.int64], a: int, b: int) -> None:
    one, other = _root(parents, a), _root(parents, b)
    parents[max(one, other)] = min(one, other)


def _root(parents: NDArray[np.int64], i: int) -> int:
    while parents[i] != i:
        parents[i] = parents[parents[i]]
        i = int(parents[i])
    return i
