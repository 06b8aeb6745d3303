"""Where a person wants a thing put: "put the mug in the grey box" -> in, "grey box", and the rest of the sentence."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from affordagent.agent.language import details
from affordagent.agent.language.names import mentions, singular
from affordagent.agent.language.nouns import moved_noun
from affordagent.agent.language.words import tokens
from affordagent.core.types import Destination

Relation = Literal["in", "on", "beside"]
TABLE = "table"
_TABLES = frozenset("table tabletop bench workbench desk counter worktop".split())
_SPOTS = frozenset("middle centre center front corner side edge".split())  # of the table, where nothing else is named
_HELD_BY = frozenset("handle grip rim blade neck shaft tip jaw head stem lid cap".split())  # no places: "by the handle"
_CONTAINERS = frozenset("box bin crate container basket tub bucket carton case toolbox drawer bowl pot".split())
_SURFACES = frozenset(["tray", "plate", "board", "cutting board", "mat", "shelf", "book", *_TABLES])
_PRONOUNS = frozenset("it that this them one".split())

_VERB = r"\b(?:put|putting|place|set|move|lay|drop|return|stack|stow|carry|slide|transfer|pack|leave)\b"
_RELATIONS: tuple[tuple[str, Relation | None], ...] = (
    (r"into|inside of|inside|in", "in"),
    (r"on top of|onto|on to|upon|on", "on"),
    (r"next to|beside|close to|near to|near|alongside|by", "beside"),
    (r"(?<!next )(?<!close )(?<!near )(?<!on )to", None),  # by what the thing is
)
_FIRM = frozenset(["into", "inside of", "inside", "in", "on top of", "onto", "on to"])
_STOP = (
    r"(?:please|now|and|but|then|so|for|from|with|without|carefully|gently|slowly|in|into|on|onto|next|beside|near|by"
    r"|at|to|which|while|when|again|instead|thanks?)"
)
_THING = rf"(?:the|a|an|my|your|our|that|this|its) (?P<noun>(?!{_STOP}\b)[\w'-]+(?: (?!{_STOP}\b)[\w'-]+){{0,3}})"
_SIDE = r"(?P<side>,? (?:that is |which is )?(?:on|to|at) (?:the|your|my) (?:far )?(?:left|right))?"
_PLACES = [(re.compile(rf"\b(?P<word>{words}) {_THING}{_SIDE}"), relation) for words, relation in _RELATIONS]
_ELSEWHERE = re.compile(
    r"\b(?:back down|back|away|down|aside|elsewhere|somewhere else|some place else|another place|out of the way"
    r"|to one side|to the side)\b"
)
_THINGS = r"(?:something|anything|things?|tool|what|container|vessel|one)"
_PURPOSE = re.compile(rf"\b{_THINGS}\b.{{0,20}} to (?={_VERB[2:]})")
_MY_HAND = rf"{_VERB} [\w' -]{{1,40}}? (?:in|into|on|onto|to) (?:my|our) (?:(?:right|left|open) )?(?:hands?|palms?)\b"
_TO_ME = re.compile(rf"\bto (?:me|us)\b|{_MY_HAND}")


@dataclass(frozen=True)
class Placing:
    """What a command to put something somewhere says. rest: the sentence without the destination, lower case."""

    rest: str
    destination: Destination


def is_purpose(lower: str) -> bool:
    """ "Something to put the soup in" asks for a thing; nothing is to be put anywhere."""
    return _PURPOSE.search(lower) is not None


def is_for_me(lower: str) -> bool:
    """ "Return the hammer to me" and "put it in my hand" are no wishes to put it anywhere."""
    return _TO_ME.search(lower) is not None


def points(lower: str) -> bool:
    return re.search(r"\b(?:here|there)\b", lower) is not None


def placing_of(lower: str) -> Placing | None:
    """The destination that a command names, None when it names none. lower: the text, lower case."""
    verb = re.search(_VERB, lower)
    if verb is None or is_purpose(lower) or is_for_me(lower):
        return None
    lower = f"{lower[: verb.start()]}put{lower[verb.end() :]}"  # one verb for all of them, known to move things
    after = verb.start() + len("put")
    found = [
        (match, relation)
        for pattern, relation in _PLACES
        for match in pattern.finditer(lower, after)
        if _is_place(match)
    ]
    for match, relation in sorted(found, key=lambda pair: (_rank(pair[0]), pair[0].start())):
        rest = f"{lower[: match.start()].rstrip(' ,')}{lower[match.end() :]}"
        if _moves_something(rest):
            return Placing(rest, _destination(match, relation))
    if found:
        return None
    elsewhere = _ELSEWHERE.search(lower, after)
    if elsewhere is None:
        return None
    rest = f"{lower[: elsewhere.start()].rstrip()}{lower[elsewhere.end() :]}"
    return Placing(rest, Destination(relation="on", words=TABLE)) if _moves_something(rest) else None


def _is_place(match: re.Match[str]) -> bool:
    last = match["noun"].split()[-1]
    return not (match["word"] in ("by", "on", "to", "near") and last in _HELD_BY)


def _rank(match: re.Match[str]) -> int:
    """Into the box comes before on the plate, and that before next to the mug, which may say where the object is."""
    if match["word"] in _FIRM and match["noun"].split()[-1] not in _SPOTS:
        return 0
    side = match["noun"].split()[-1] in ("left", "right")
    return 3 if side else 1 if match["word"] in ("on", "upon", "to") else 2


def _moves_something(rest: str) -> bool:
    """Is what remains a wish to move a thing that is named, or meant by "it"? "Put a hole in the wall" is none."""
    phrase = moved_noun(tokens(rest))
    return phrase is not None and (not phrase.generic or phrase.noun in _PRONOUNS)


def _destination(match: re.Match[str], relation: Relation | None) -> Destination:
    side = re.search(r"left|right", match["side"] or "")
    return destination_of(match["noun"].split(), relation, side[0] if side else None)


def destination_of(words: list[str], relation: Relation | None, side: str | None = None) -> Destination:
    """The thing that `words` name, with its adjectives, as a destination. relation: None = as such things are used."""
    noun = " ".join(w for w in words if w not in _adjectives())
    noun = " ".join([*noun.split()[:-1], singular(noun.split()[-1])]) if noun else words[-1]
    attributes = details.adjectives(words)
    if side:
        attributes["position"] = side
    last = noun.split()[-1]
    if last in ("left", "right"):
        return Destination(relation="on", words=TABLE, attributes={"position": last})
    if last in _SPOTS or (last in _TABLES and relation != "beside"):
        return Destination(
            relation="on", words=TABLE, attributes={k: v for k, v in attributes.items() if k == "position"}
        )
    if relation is None:
        relation = "in" if last in _CONTAINERS else "on" if noun in _SURFACES else "beside"
    return Destination(relation=relation, words=" ".join(words), category=_category(noun), attributes=attributes)


def _adjectives() -> frozenset[str]:
    return frozenset([*details.COLOURS, *details.SIZES, *details.MATERIALS, "open", "empty", "old", "new", "other"])


def _category(noun: str) -> str | None:
    named = [m for m in mentions(noun.split()) if m.known]
    return next(iter(named[-1].categories)) if named and len(named[-1].categories) == 1 else None
