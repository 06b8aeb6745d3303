"""Which rows are drawn for training, and in what order: number k of a run depends on its seed and on k alone.

As published: a group of sets by its rate, then a set within it by its rate. Of an affordance set a class is drawn,
then one of its rows, so that rare classes are seen as often as common ones; of a general set a picture is drawn, then
up to three of the questions about it; of the conversations (vqa) one row.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from affordagent.core.errors import AffordAgentError
from affordagent.finetune.data.ragnet import flip_codes
from affordagent.finetune.data.schema import AFFORDANCE, Sample

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Draw:
    """One picture with its questions. flip: OpenCV's code, None = as it is. rng: for what is still to be chosen."""

    group: str
    source: str
    rows: tuple[Sample, ...]
    flip: int | None
    rng: np.random.Generator


@dataclass(frozen=True)
class _Set:
    """bins: places of the rows in the mixture, by class or by picture."""

    name: str
    bins: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class _Group:
    name: str
    sets: tuple[_Set, ...]
    rates: tuple[float, ...]  # of the sets, summing to 1


class Mixture:
    """Training rows with the rates at which they are drawn."""

    def __init__(
        self,
        samples: Sequence[Sample],
        group_rates: Mapping[str, float],
        set_rates: Mapping[str, Mapping[str, float]],
        *,
        seed: int,
        questions: int = 3,
    ) -> None:
        """Groups and sets without a row, and those with the rate 0, are not drawn: the others share their place, and a
        warning says so. A set that `set_rates` does not name has the rate 1.

        Raises:
            AffordAgentError: nothing can be drawn.
        """
        self.samples, self.seed, self.questions = samples, seed, questions
        found = _bins(samples)
        self._groups = tuple(
            _group(name, found[name], set_rates.get(name, {}))
            for name, rate in group_rates.items()
            if rate > 0 and name in found
        )
        self._groups = tuple(group for group in self._groups if group.sets)
        if not self._groups:
            raise AffordAgentError(
                f"nothing to train on: the rows are of {', '.join(found) or 'no group'}, "
                f"rates above 0 have {', '.join(name for name, rate in group_rates.items() if rate > 0) or 'none'}"
            )
        rates = np.array([group_rates[group.name] for group in self._groups])
        self._rates = rates / rates.sum()
        absent = _absent(self._groups, group_rates, set_rates)
        if absent:
            log.warning("no rows of %s: what is there is drawn more often instead", ", ".join(absent))

    @property
    def rates(self) -> dict[tuple[str, str], float]:
        """(group, set) -> how often it is drawn; they sum to 1."""
        return {
            (group.name, one.name): float(rate) * share
            for group, rate in zip(self._groups, self._rates, strict=True)
            for one, share in zip(group.sets, group.rates, strict=True)
        }

    def draw(self, k: int) -> Draw:
        """Number k of the run, from 0."""
        rng = np.random.default_rng([self.seed, k])
        group = self._groups[int(rng.choice(len(self._groups), p=self._rates))]
        one = group.sets[int(rng.choice(len(group.sets), p=group.rates))]
        rows = one.bins[int(rng.integers(len(one.bins)))]
        if group.name in ("affordance", "reasoning-affordance", "vqa"):
            chosen = [rows[int(rng.integers(len(rows)))]]
        else:
            count = min(self.questions, len(rows))
            chosen = [rows[i] for i in rng.choice(len(rows), count, replace=False)]
        samples = tuple(self.samples[i] for i in chosen)
        codes = flip_codes(samples[0])
        flip = int(rng.choice(codes)) if codes and rng.random() < 0.5 else None
        return Draw(group.name, one.name, samples, flip, rng)


def group_of(sample: Sample) -> tuple[str, str]:
    """(group, set) of a row. ReasonSeg's questions that ask for no mask stay with its others."""
    if sample.kind == "template":
        return "affordance", sample.source
    if sample.kind in AFFORDANCE:
        return "reasoning-affordance", f"{sample.source} {sample.kind}"
    if sample.kind == "vqa" and sample.source == "reason_seg":
        return "reasoning", sample.source
    return sample.kind, sample.source


def _bins(samples: Iterable[Sample]) -> dict[str, dict[str, dict[str, list[int]]]]:
    """group -> set -> class, picture, or row -> places."""
    found: dict[str, dict[str, dict[str, list[int]]]] = {}
    for place, sample in enumerate(samples):
        group, name = group_of(sample)
        if group == "vqa":
            key = str(place)
        else:
            key = (sample.category or "") if sample.kind in AFFORDANCE else sample.image
        found.setdefault(group, {}).setdefault(name, {}).setdefault(key, []).append(place)
    return found


def _group(name: str, sets: dict[str, dict[str, list[int]]], rates: Mapping[str, float]) -> _Group:
    drawn = {one: bins for one, bins in sets.items() if rates.get(one, 1) > 0}
    total = sum(rates.get(one, 1) for one in drawn)
    return _Group(
        name,
        tuple(_Set(one, tuple(tuple(places) for places in bins.values())) for one, bins in drawn.items()),
        tuple(rates.get(one, 1) / total for one in drawn),
    )


def _absent(
    groups: tuple[_Group, ...], group_rates: Mapping[str, float], set_rates: Mapping[str, Mapping[str, float]]
) -> list[str]:
    there = {group.name: {one.name for one in group.sets} for group in groups}
    names = [name for name, rate in group_rates.items() if rate > 0 and name not in there]
    for group, sets in there.items():
        names += [f"{group}/{name}" for name, rate in set_rates.get(group, {}).items() if rate > 0 and name not in sets]
    return names
