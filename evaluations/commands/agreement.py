"""Do people agree on what a command means, and in how many ways do they say the same?

A label is what one person takes a command to mean, without having seen the gold: categories, "none" or "ambiguous".
Labels are kept as JSONL: {"command": id, "labeller": anonymous id, "means": "mug"}.
"""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from affordagent.core.agreement import cohen_kappa, krippendorff_alpha
from affordagent.core.catalogue import catalogue
from affordagent.core.embedded import text_encoder
from affordagent.core.errors import AffordAgentError
from affordagent.core.jsonl import read_lines
from affordagent.core.lexicon import lexicon
from affordagent.evaluations.commands.command import Command, CommandGold
from affordagent.evaluations.commands.quality import plain

RESAMPLES = 1000


@dataclass(frozen=True)
class Label:
    """means: categories with "|" between them, "none" or "ambiguous"."""

    command: str
    labeller: str
    means: str


@dataclass(frozen=True)
class Agreement:
    """alpha: Krippendorff's, nominal, with a 95 % interval by bootstrap over commands; NaN where nothing can vary.
    raw: share of pairs of labellers who agree. kappa: Cohen's, of each pair of labellers. with_gold: share of the
    labels that are right by the commands' gold. commands: how many have two labels or more."""

    alpha: float
    interval: tuple[float, float]
    raw: float
    kappa: dict[str, float]
    with_gold: float
    commands: int
    labels: int


@dataclass(frozen=True)
class Diversity:
    """Of the texts of one meaning. distinct_1, distinct_2: different words (pairs of words) over all of them (Li et al.
    2016). similarity: mean cosine of two texts; 1 = everybody says the same."""

    texts: int
    distinct_1: float
    distinct_2: float
    similarity: float


def read_labels(path: Path) -> list[Label]:
    """The labels of a file; the last counts where a labeller has labelled a command twice.

    Raises:
        AffordAgentError: not such a file.
    """
    labels = (_label(value, f"{path} line {number}") for number, value in enumerate(read_lines(path), 1))
    found = {(label.command, label.labeller): label for label in labels}
    return list(found.values())


def _label(value: Any, where: str) -> Label:
    if not isinstance(value, dict) or set(value) != {f.name for f in fields(Label)}:
        raise AffordAgentError(f"{where}: {value!r} is no label; must be an object of command, labeller and means")
    return Label(**{name: str(said) for name, said in value.items()})


def agreement(labels: Iterable[Label], commands: Iterable[Command] = (), seed: int = 0) -> Agreement:
    """How far the labellers agree with each other, and with the gold of the commands that are given."""
    labels = list(labels)
    units: dict[str, dict[str, str]] = defaultdict(dict)
    for label in labels:
        units[label.command][label.labeller] = label.means
    values = [list(unit.values()) for unit in units.values() if len(unit) > 1]
    rng = np.random.default_rng(seed)
    drawn = [
        krippendorff_alpha([values[i] for i in rng.integers(len(values), size=len(values))])
        for _ in range(RESAMPLES if values else 0)
    ]
    known = [alpha for alpha in drawn if np.isfinite(alpha)]
    low, high = (float(x) for x in np.percentile(known, [2.5, 97.5])) if known else (float("nan"),) * 2
    pairs = [a == b for unit in values for a, b in combinations(unit, 2)]
    gold = {command.id: command for command in commands}
    right = [agrees(label.means, gold[label.command]) for label in labels if label.command in gold]
    return Agreement(
        krippendorff_alpha(values),
        (low, high),
        _mean(pairs),
        _kappas(units.values()),
        _mean(right),
        len(values),
        len(labels),
    )


def agrees(means: str, command: Command) -> bool:
    """Whether a label is what the gold says; of several categories one that will do is enough."""
    if isinstance(command.gold, CommandGold):
        return bool(set(means.split("|")) & set(command.gold.categories))
    return means == ("none" if command.gold is None else "ambiguous")


def _kappas(units: Iterable[Mapping[str, str]]) -> dict[str, float]:
    shared: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for unit in units:
        for a, b in combinations(sorted(unit), 2):
            shared[f"{a} {b}"].append((unit[a], unit[b]))
    return {names: cohen_kappa(pairs) for names, pairs in shared.items()}


def diversity(texts: Sequence[str]) -> Diversity:
    """How many ways of saying it there are among the texts."""
    words = [plain(text).split() for text in texts]
    similarity = float("nan")
    if len(texts) > 1:
        cosines = (vectors := text_encoder().sentences(list(texts))) @ vectors.T
        similarity = float(cosines[np.triu_indices(len(texts), 1)].mean())
    return Diversity(len(texts), _distinct(words, 1), _distinct(words, 2), similarity)


def diversity_by_group(commands: Iterable[Command], language: str = "en") -> dict[str, Diversity]:
    """Of each group with two texts or more in the language."""
    groups: dict[str, list[str]] = defaultdict(list)
    for command in commands:
        if command.language.split("-")[0] == language:
            groups[command.group].append(command.text)
    return {group: diversity(texts) for group, texts in groups.items() if len(texts) > 1}


def _distinct(words: Sequence[Sequence[str]], n: int) -> float:
    grams = [tuple(text[i : i + n]) for text in words for i in range(len(text) - n + 1)]
    return len(set(grams)) / len(grams) if grams else float("nan")


def _mean(values: Sequence[bool]) -> float:
    return sum(values) / len(values) if values else float("nan")


def meaning_of(said: str) -> str:
    """What a labeller typed, as `Label.means`: every name as the catalogue or the lexicon has it.

    Raises:
        AffordAgentError: a name that neither has.
    """
    if said in ("none", "ambiguous", "?"):
        return "ambiguous" if said == "?" else said
    meant = [_category(name.strip()) for name in said.split("|") if name.strip()]
    if not meant:
        raise AffordAgentError("type a name, none, or ?")
    return "|".join(sorted({category for categories in meant for category in categories}))


def _category(name: str) -> list[str]:
    kinds = catalogue() | lexicon()
    own = [kind for kind, known in kinds.items() if name == kind or name in known.names]
    generic = [kind.name for kind in catalogue().values() if name in kind.generic]
    if not own and not generic:
        close = difflib.get_close_matches(name, [*kinds, *(n for kind in kinds.values() for n in kind.names)], n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else "names: " + ", ".join(catalogue())
        raise AffordAgentError(f"{name!r} is no thing that is known; {hint}")
    return own or generic
