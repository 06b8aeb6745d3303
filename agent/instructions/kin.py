"""What would give a thing's name away: the name, its synonyms, and what is made of the same word.

Synonyms are the names of the catalogue or the lexicon, and WordNet's lemmas for them. Not to be said are every word of
the name itself, the last word of each synonym ("cutters" of "side cutters"), the parts of a compound name ("screw" of
"screwdriver"), what is derived from any of these ("strain" of "strainer") in all its forms, and names of the kinds
right below and, where it holds little else, above. The words before the last one of a synonym ("coffee" of "coffee
mug") give nothing away, nor does a narrower kind that is a thing of its own here ("kettle" of "utensil").

The table is derived from WordNet 3.0, Copyright 2006 by Princeton University; see
agent/language/WORDNET_LICENCE.txt.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from rapidfuzz.distance import OSA

from affordagent.agent.instructions.wordnet import TABLE
from affordagent.agent.language.names import mentions, singular
from affordagent.agent.language.words import english, tokens
from affordagent.core.catalogue import catalogue
from affordagent.core.lexicon import lexicon

WIDE = 50  # the kinds below one with more of them ("utensil") do not tell which it is
NARROW = 12  # a kind with more kinds below it ("hand tool") gives nothing away
SHORTEST = 4  # letters of a word that is looked for inside longer ones ("hammer" in "sledgehammer")
# Words that end many names, and say nothing of the thing.
VAGUE = frozenset(
    "tool machine device instrument implement appliance thing item object article unit kit set pair and or of the a"
    " with for end type roll stick holder container vessel case pack part utensil food fruit vegetable equipment"
    " toy".split()
)
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")
_ENDINGS = (
    "ing",
    "ings",
    "ed",
    "er",
    "or",
    "ers",
    "ors",
    "ful",
    "fuls",
    "like",
    "less",
    "able",
    "ation",
    "y",
    "s",
    "es",
    "'s",
)


@dataclass(frozen=True)
class Kin:
    """words: none of their forms may be said, nor a word made with them. kinds: not to be said, nor in the plural.
    phrases: names of several words."""

    words: frozenset[str]
    kinds: frozenset[str]
    phrases: frozenset[str]


@dataclass(frozen=True)
class _Table:
    things: list[dict[str, object]]
    senses: dict[str, list[int]]  # name -> rows of things
    below: dict[int, list[int]]
    relatives: dict[str, list[str]]


@cache
def _table() -> _Table:
    with files("affordagent.agent.instructions").joinpath(TABLE).open("rb") as file, np.load(file) as stored:
        raw = json.loads(bytes(stored["table"]))
    senses: dict[str, list[int]] = defaultdict(list)
    below: dict[int, list[int]] = defaultdict(list)
    for row, thing in enumerate(raw["things"]):
        for word in thing["words"]:
            senses[word.lower()].append(row)
        for kind in thing["above"]:
            below[kind].append(row)
    return _Table(raw["things"], dict(senses), dict(below), raw["relatives"])


def names_of(category: str) -> tuple[str, ...]:
    """What a thing is called: by the catalogue, by the lexicon, or only by its own name."""
    if category in catalogue():
        known = catalogue()[category]
        return tuple(dict.fromkeys((category, *known.names, *known.generic)))
    return lexicon()[category].names if category in lexicon() else (category,)


def gloss(name: str) -> str | None:
    """WordNet's definition of a thing, of the first of its senses that can be held; None where it knows none."""
    for form in (name, singular(name), name.split()[-1]):
        if rows := _table().senses.get(form):
            return str(_table().things[rows[0]]["gloss"])
    return None


@cache
def kin(category: str) -> Kin:
    """Everything that must not be said of a thing whose name is not to be said."""
    table, own = _table(), names_of(category)
    rows = {row for name in own for form in (name, singular(name)) for row in table.senses.get(form, [])}
    lemmas = {word.lower() for row in rows for word in _words(row)}
    near = {below for row in rows if len(_all_below(row)) <= WIDE for below in _all_below(row)}
    near |= {kind for row in rows for kind in _above(row) if len(_all_below(kind)) <= NARROW}
    around = {word.lower() for row in near for word in _words(row)} - _other_names(category)
    words = {part for name in (category, own[0]) for part in _WORD.findall(name.lower()) if len(part) > 2}
    words |= {part for word in words for part in _compound(word)}
    words |= {re.split(r"[ -]", name)[-1] for name in own} | {name for name in lemmas if _WORD.fullmatch(name)}
    words = {singular(word) for word in words} - VAGUE
    words |= {w for word in words for w in table.relatives.get(word, []) if _WORD.fullmatch(w)}
    return Kin(
        frozenset(words - VAGUE),
        frozenset(name for name in around if _WORD.fullmatch(name)) - VAGUE,
        frozenset(name for name in {*own, *lemmas, *around} if not _WORD.fullmatch(name)),
    )


@cache
def _other_names(category: str) -> frozenset[str]:
    """The plain names of the other things that are known."""
    kinds = catalogue() | lexicon()
    return frozenset(n for name, known in kinds.items() if name != category for n in (name, *known.names))


def _words(row: int) -> list[str]:
    return _table().things[row]["words"]  # type: ignore[return-value]


def _above(row: int) -> list[int]:
    return _table().things[row]["above"]  # type: ignore[return-value]


def _all_below(row: int) -> list[int]:
    found, queue = [], list(_table().below.get(row, []))
    while queue:
        kind = queue.pop()
        if kind not in found:
            found.append(kind)
            queue += _table().below.get(kind, [])
    return found


def _compound(word: str) -> list[str]:
    """ "screwdriver" -> ["screw", "driver"]; [] for a word that is not made of two."""
    cuts = ((word[:i], word[i:]) for i in range(SHORTEST, len(word) - SHORTEST + 1))
    return [part for pair in cuts if all(p in english() and p not in _ENDINGS for p in pair) for part in pair]


def leaks(text: str, category: str) -> list[str]:
    """The words and phrases of a text that give the category away, [] when none does.

    Looks at every form of a word, at words made with another ("teacup"), at slips of the fingers ("hamer"), and at what
    the language stage takes for a name of the thing.
    """
    own, lower = kin(category), text.lower().replace("\u2019", "'")
    said = _WORD.findall(lower)
    plain = f" {' '.join(said)} "
    found = [word for word in said if _made_with(word, own.words) or {word, singular(word)} & own.kinds]
    found += [name for name in own.phrases if f" {' '.join(_WORD.findall(name))}" in plain]
    heard = tokens(lower)
    found += [" ".join(heard[m.start : m.end]) for m in mentions(heard) if category in m.categories]
    return list(dict.fromkeys(found))


@cache
def _made_with(word: str, forbidden: frozenset[str]) -> bool:
    forms = _forms(word)
    return any(forms & _forms(f) or _holds(word, f) or _is_slip(word, f) for f in forbidden)


@cache
def _forms(word: str) -> frozenset[str]:
    """A word without its endings, in each way it may have been spelled: "whipping" -> whipping, whipp, whip, whippe."""
    found = {word, singular(word)}
    for ending in _ENDINGS:
        stem = word.removesuffix(ending)
        if stem != word and len(stem) > 2:
            found |= {stem, stem + "e"}
            found |= {stem[:-1]} if stem[-1] == stem[-2] else set()
            found |= {stem[:-1] + "y"} if stem[-1] == "i" else set()
    return frozenset(form for form in found if len(form) > 2)


def _holds(word: str, forbidden: str) -> bool:
    """Is a word made with another ("sledgehammer"), with a short one ("cupboard") where the rest is a word too?"""
    if word == forbidden or len(word) <= len(forbidden):
        return False
    stem = forbidden.removesuffix("e") if len(forbidden) > SHORTEST else forbidden
    if word.startswith(stem):
        return len(stem) >= SHORTEST or _is_word(word.removeprefix(stem))
    return word.endswith(forbidden) and (len(forbidden) > SHORTEST or _is_word(word.removesuffix(forbidden)))


def _is_word(text: str) -> bool:
    return len(text) > 2 and (text in english() or singular(text) in english())


def _is_slip(word: str, forbidden: str) -> bool:
    """Is it no word, but nearly one that must not be said?"""
    known = (form in english() or form in _table().senses for form in (word, singular(word)))
    if min(len(word), len(forbidden)) < SHORTEST or any(known):
        return False
    return OSA.distance(word, forbidden) <= (1 if len(forbidden) < 10 else 2)
