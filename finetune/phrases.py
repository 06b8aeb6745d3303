"""Texts for training and evaluation: names in templates, and functional phrases that never name the category.

The splits are apart (no sentence in two). "dev" may be looked at and fitted to. "test" is for final reports only: it
was written by a hand that had not seen the others, in the style of many different people, and has sentence frames and
templates of its own. Nothing may be tuned on it, no threshold chosen, no word list extended.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from functools import cache
from importlib.resources import files
from typing import Literal, TypedDict

import numpy as np

from affordagent.core.catalogue import catalogue

Split = Literal["train", "dev", "test"]
Style = Literal["template", "easy", "hard"]

EASY = {  # a functional phrase together with the name
    "train": (
        "{phrase}, give me the {name}",
        "I need the {name}: {phrase}",
        "{phrase}, use the {name}",
        "the {name}, {phrase}",
    ),
    "test": ("{phrase} The {name} will do.", "Let me have the {name}. {phrase}", "{phrase} So reach for the {name}."),
}
COLOURED = {  # a functional phrase when only the colour tells two alike things apart
    "train": ("{phrase}, the {colour} one", "the {colour} one: {phrase}"),
    "test": ("{phrase} Take the {colour} one.", "I mean the {colour} one. {phrase}"),
}


class Phrases(TypedDict):
    train: dict[str, list[str]]
    dev: dict[str, list[str]]
    test: dict[str, list[str]]
    templates_train: list[str]
    templates_test: list[str]


@cache
def phrases() -> Phrases:
    """All texts. The splits: category -> functional phrases. The templates: strings with {name} and some with {part}.

    `train` also holds categories that only training pictures show; `dev` and `test` also hold categories that are never
    trained (`test` all ten, `dev` five of them).
    """
    return json.loads(files("affordagent.finetune").joinpath("phrases.json").read_text(encoding="utf-8"))


def sample_text(
    rng: np.random.Generator,
    category: str,
    colour: str,
    part: str | None,
    ambiguous: bool,
    split: Split,
    style: Style,
    but_not: Collection[str] = (),
) -> str:
    """One text that means an object of `category`.

    Args:
        colour: the object's colour word; named always when `ambiguous`, else now and then (never in "hard").
        part: part to hold, named by some templates; None or "body" for things held anywhere.
        ambiguous: another object of the same category is in the picture.
        style: "template" has the name only, "easy" a functional sentence with the name, "hard" one without the name.
        but_not: categories that a functional sentence without the name must not serve as well.

    Raises:
        KeyError: no phrases for this category in this split.
        ValueError: no phrase serves this category alone.
    """
    texts = phrases()
    frames: Literal["train", "test"] = "test" if split == "test" else "train"
    if style == "hard":
        phrase = _pick(rng, functional_phrases(category, split, but_not))
        return _pick(rng, COLOURED[frames]).format(phrase=phrase, colour=colour) if ambiguous else phrase
    name = _name(rng, category)
    if ambiguous or rng.random() < 0.3:
        name = f"{colour} {name}"
    if style == "easy":
        return _pick(rng, EASY[frames]).format(phrase=_pick(rng, texts[split][category]), name=name)
    templates = texts["templates_test" if frames == "test" else "templates_train"]
    if part in (None, "body"):
        templates = [t for t in templates if "{part}" not in t]
    return _pick(rng, templates).format(name=name, part=part)


@cache
def _meanings(split: Split) -> dict[str, frozenset[str]]:
    """Functional phrase -> every category it is listed under."""
    found: dict[str, set[str]] = {}
    for category, texts in phrases()[split].items():
        for text in texts:
            found.setdefault(text, set()).add(category)
    return {text: frozenset(categories) for text, categories in found.items()}


def functional_phrases(category: str, split: Split, but_not: Collection[str] = ()) -> list[str]:
    """The functional phrases of a category that serve none of the categories `but_not` as well.

    Raises:
        KeyError: no phrases for this category in this split.
        ValueError: every phrase serves one of the others too.
    """
    others = frozenset(but_not) - {category}
    texts = phrases()[split][category]
    kept = [text for text in texts if not _meanings(split)[text] & others]
    if not kept:
        raise ValueError(f"all {len(texts)} {split} phrases of {category} also serve one of {sorted(others)}")
    return kept


def _name(rng: np.random.Generator, category: str) -> str:
    """The plain name half of the time, else any synonym; a category outside the catalogue has its own name only."""
    known = catalogue().get(category)
    if known is None:
        return category
    return known.names[0] if rng.random() < 0.5 else known.names[int(rng.integers(len(known.names)))]


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]
