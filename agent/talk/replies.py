"""A yes, a no, or which of the choices: what an answer to a question says. Pure."""

from __future__ import annotations

import re
from typing import Any

from affordagent.agent.language import details
from affordagent.agent.language.words import clean
from affordagent.core.errors import StageFailure

_YES = re.compile(
    r"^\W*(?:yes|yeah|yep|yup|sure|ok(?:ay)?|please do|go (?:on|ahead)|do (?:it|that|so)|fine|right|y)\b", re.I
)
_NO = re.compile(
    r"^\W*(?:no|nope|don't|do not|never ?mind|forget it|none|neither|cancel|leave it|not that|undo|n)\b", re.I
)
_BUT = re.compile(
    r"\b(?:but|except|wait|stop|not|don't|instead|no|rather|first|after|only|if|unless|until|when|other|another)\b|\?",
    re.I,
)
_AGAINST = re.compile(r"\b(?:stop|wait|no|not|don't|other|another|instead|rather)\b", re.I)
_NUMBER = re.compile(
    r"^\W*(?:the |number |no\.? ?|choice |#)*"
    r"(?P<n>[1-9]|one|two|three|four|first|second|third|fourth|last)(?: one)?(?:,? please)?\W*$",
    re.I,
)
_NUMBERS = {
    w: i
    for i, pair in enumerate((("one", "first"), ("two", "second"), ("three", "third"), ("four", "fourth")))
    for w in pair
}
_ANY = re.compile(
    r"^\W*(?:any(?: (?:one|of (?:them|these|those|the two)))?|either(?: (?:one|of them))?|whichever|you choose"
    r"|i don't (?:care|mind)|(?:it )?doesn't matter|no matter)\b",
    re.I,
)
_ALL = re.compile(r"^\W*(?:both|all|each|every one)(?: (?:of (?:them|these|those)|one))?(?:,? please)?\W*$", re.I)
SIDES = {"left": "left", "right": "right", "middle": "middle", "centre": "middle", "center": "middle"}


def is_yes(text: str) -> bool:
    """A plain yes: "yes, but the other one" and "right?" are none."""
    found = _YES.search(text)
    if found is None:
        return False
    return _BUT.search(text[found.end() :]) is None


def is_yes_but(text: str) -> bool:
    """A yes with something to it that is no refusal: "yes, but slowly"."""
    return _YES.search(text) is not None and not is_yes(text) and _AGAINST.search(text) is None


def is_no(text: str) -> bool:
    """Also "no, by the handle": then what follows is worth reading."""
    return _NO.search(text) is not None


def after_no(text: str) -> str:
    """What a refusal wants instead: "no, by the handle" -> "by the handle"; empty when nothing."""
    rest = re.sub(
        r"^\W*(?:no|nope|never ?mind|cancel(?: (?:it|that))?|undo(?: (?:it|that))?)\b[\s,.;:!]*", "", text, flags=re.I
    )
    return re.sub(r"^(?:i (?:meant|mean|said|want(?:ed)?)|rather|actually)\b[\s,:]*", "", rest.strip(), flags=re.I)


def is_all(text: str) -> bool:
    """ "Both", "all of them"."""
    return _ALL.search(text) is not None


def chosen(text: str, choices: list[dict[str, Any]]) -> int | None:
    """Which of the choices an answer means: by number, by side, by the words of a label, or any of them."""
    if _ANY.search(text):
        return 0
    number = _NUMBER.match(text)
    if number is not None:
        word = number["n"].lower()
        index = len(choices) - 1 if word == "last" else int(word) - 1 if word.isdigit() else _NUMBERS[word]
        return index if index < len(choices) else None
    said = re.sub(r"\bnot (?:the|that|this)? ?[a-z]+(?: one)?", "", text.lower())
    words = set(re.findall(r"[a-z]+", said))
    sides = {SIDES[w] for w in words & SIDES.keys()}
    fits = [i for i, c in enumerate(choices) if sides and sides <= {SIDES.get(w, w) for w in c["label"].split()}]
    if len(fits) == 1:
        return fits[0]
    telling = [words & set(re.findall(r"[a-z]+", c["label"])) - {"the", "one", "on", "in", "from"} for c in choices]
    hits = [i for i, found in enumerate(telling) if found]
    if len(hits) == 1:
        return hits[0]
    return _but_not(text, choices)


def _but_not(text: str, choices: list[dict[str, Any]]) -> int | None:
    """ "Not the red one", of two."""
    ruled_out = re.search(r"\bnot (?:the|that|this)? ?([a-z]+)", text.lower())
    if ruled_out is None or len(choices) != 2:
        return None
    index = chosen(ruled_out[1], choices)
    return None if index is None else 1 - index


def attributes_of(text: str) -> dict[str, str]:
    """Colour, size and material that an answer names, and the side."""
    words = re.findall(r"[a-z]+", text.lower())
    side = next((SIDES[w] for w in words if w in SIDES), None)
    return details.adjectives(words) | ({"position": side} if side else {})


def readable(text: str) -> str:
    """The text in one line, without control characters; empty where nothing is left of it, or where it is too long to
    be an answer."""
    try:
        return clean(text)
    except StageFailure:
        return ""
