"""Names of the catalogue and the lexicon in a text, and the part each plays: the object itself, what is done with it
("to hammer in a nail"), a landmark, or what is not meant."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

from affordagent.agent.language.details import PARTS
from affordagent.agent.language.words import PUNCTUATION
from affordagent.core.catalogue import catalogue
from affordagent.core.lexicon import lexicon

Role = Literal["object", "deed", "instrument", "patient", "landmark", "negated"]

PREPOSITIONS = frozenset(
    "to beside near from in into inside on onto at behind under below above over between off out about than without"
    " towards toward against around beneath across through by of after before like".split()
)
BEFORE_A_PLACE = frozenset("next close closer closest near nearest over back attached opposite".split())  # ... "to"
NEGATIONS = frozenset("not never except don't isn't instead rather no".split())
# Verbs whose object is worked on, not handed over: "slice the banana" asks for a knife.
PATIENT_VERBS = frozenset(
    "cut slice chop peel open eat stir turn fry boil cook drain rinse bake unpeel drink beat fold flip fill carve dice"
    " dunk hit kick throw play crush smash close repair fix wrap pour label mash skin drill measure".split()
)
DETERMINERS = frozenset("the a an this that these those my your our his her their its some any another one two".split())
LIGHT = DETERMINERS | frozenset(
    "very really big large small little tiny biggest largest smallest long short tall heavy light old new clean dirty"
    " red green blue yellow orange black white grey gray brown pink purple silver dark bright other same sharp hot full"
    " empty cold wooden metal plastic steel glass ceramic rubber iron nice good left right nearest closest spare extra"
    " everyone's nearby first second leftmost rightmost".split()
)


@dataclass(frozen=True)
class Mention:
    """words[start:end] names these categories (more than one when the word is generic), with weights in (0, 1], or one
    thing of the lexicon."""

    start: int
    end: int
    categories: dict[str, float]
    role: Role

    @property
    def known(self) -> bool:
        """Is it of the catalogue?"""
        return not self.categories.keys() - catalogue().keys()


@cache
def _names() -> dict[tuple[str, ...], dict[str, float]]:
    """Words of a name -> what it may mean; the catalogue's names come before the lexicon's."""
    table: dict[tuple[str, ...], dict[str, float]] = {}
    for category in catalogue().values():
        for name in category.names:
            table.setdefault(tuple(name.split()), {})[category.name] = 1.0
        table.setdefault(tuple(category.name.split()), {})[category.name] = 1.0
    for category in catalogue().values():
        for name, weight in category.generic.items():
            key = tuple(name.split())
            if not any(w == 1.0 and key in _exact(c) for c, w in table.get(key, {}).items()):
                table.setdefault(key, {})[category.name] = weight
    for thing in lexicon().values():
        for name in thing.names:
            table.setdefault(tuple(name.split()), {thing.name: 1.0})
    return table


@cache
def _exact(category: str) -> frozenset[tuple[str, ...]]:
    return frozenset(tuple(n.split()) for n in catalogue()[category].names)


def singular(word: str) -> str:
    """A plural's singular by the common rules; other words unchanged."""
    if word in ("pliers", "scissors", "shears", "snips", "nippers", "cutters", "grips", "locks", "glasses"):
        return word
    if word.endswith("ves") and len(word) > 4:
        return word[:-3] + "fe"
    if word.endswith(("shes", "ches", "xes", "sses")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us")) and len(word) > 3 else word


def mentions(words: list[str]) -> list[Mention]:
    """All names in the order of the text, longest match first, each with its role."""
    found: list[Mention] = []
    taken = 0
    for start in range(len(words)):
        if start < taken:
            continue
        for length in range(min(4, len(words) - start), 0, -1):
            categories = _lookup(words, start, length)
            if categories:
                previous = found[-1] if found else None
                found.append(Mention(start, start + length, categories, _role(words, start, previous)))
                taken = start + length
                break
    return found


def _lookup(words: list[str], start: int, length: int) -> dict[str, float]:
    span = words[start : start + length]
    if span == ["can"] and not _is_tin(words, start):
        return {}
    word = span[-1]
    stems = (word.removesuffix("'s"), word.removesuffix("es"), word.removesuffix("ies") + "y")
    for last in (word, singular(word), *stems):
        categories = _names().get((*span[:-1], last)) or _names().get(("-".join((*span[:-1], last)),))
        if categories:
            return categories
    return {}


def _is_tin(words: list[str], at: int) -> bool:
    """Is this "can" the container rather than the verb?"""
    before, after = words[at - 1] if at else "", words[at + 1] if at + 1 < len(words) else "."
    starts_clause = after[0] in PUNCTUATION or after in PREPOSITIONS or after == "please"
    return (before in LIGHT and before not in ("that", "this", "one", "some", "any")) or (
        bool(before) and starts_clause
    )


def _role(words: list[str], start: int, previous: Mention | None) -> Role:
    """Walk left over articles and adjectives to the word that governs the name."""
    if start and words[start - 1] == "to" and (start < 2 or words[start - 2] not in BEFORE_A_PLACE):
        return "deed"
    at = start - 1
    while at >= 0 and (words[at] in LIGHT or words[at].isdigit() or words[at] == "mm"):
        at -= 1
    governor = words[at] if at >= 0 else ""
    before = words[at - 1] if at >= 1 else ""
    if (
        governor in NEGATIONS
        or (governor == "of" and before in ("instead", "out"))
        or (governor == "than" and before == "rather")
    ):
        return "negated"
    if governor in ("want", "need", "mean", "take", "give", "touch", "use") and before in ("don't", "not", "never"):
        return "negated"
    if governor in ("and", "or", "nor") and previous is not None and at >= previous.end and at - previous.end <= 1:
        return previous.role
    if governor == "with":
        return "instrument"
    if governor == "of" and (singular(before) in PARTS or before in ("set", "pair", "one", "both", "kind", "sort")):
        return "object"
    if governor == "over" and before in ("hand", "bring", "pass", "give", "put"):
        return "object"
    if governor in PREPOSITIONS:
        return "landmark"
    return "patient" if governor in PATIENT_VERBS else "object"
