"""The part, the attributes and the constraints a command states."""

from __future__ import annotations

import re

COLOURS = tuple(
    "red green blue yellow orange black white grey gray brown pink purple silver golden turquoise beige teal"
    " cyan".split()
)
SIZES = {
    **dict.fromkeys(("big", "bigger", "biggest", "large", "larger", "largest", "huge"), "big"),
    **dict.fromkeys(("small", "smaller", "smallest", "little", "tiny"), "small"),
    **dict.fromkeys(("long", "longer", "longest"), "long"),
    **dict.fromkeys(("short", "shorter", "shortest"), "short"),
    **dict.fromkeys(("tall", "taller", "tallest"), "tall"),
}
MATERIALS = (
    "wooden",
    "metal",
    "plastic",
    "steel",
    "glass",
    "ceramic",
    "rubber",
    "iron",
    "cardboard",
    "silicone",
    "wire",
)

PARTS = {  # word -> the part's name
    **{w: w for w in ("handle", "rim", "blade", "body", "head", "shaft", "tip", "neck", "cap", "lid", "base", "jaw")},
    **{w: w for w in ("edge", "middle", "spout", "stem", "side", "bottom", "top", "bowl", "chuck", "peel")},
    **dict.fromkeys(("grip", "handgrip", "hilt", "haft", "loop"), "handle"),
    **{"lip": "rim", "brim": "rim", "cover": "lid", "center": "middle", "centre": "middle", "waist": "middle"},
}
_PART = "(?P<part>" + "|".join(sorted(PARTS, key=len, reverse=True)) + ")s?"
_ADJECTIVES = r"(?:(?:the|its|his|her|their|a|long|finger|pistol|wooden|black|red|metal|other|both) )*"
_HOLD = r"(?:hold|grasp|grip|grab|take|seize|touch|lift|pick)"
_SPOT = r"(?:handle|grip|rim|blade|neck|shaft|tip|jaw|head|stem|lid|cap)"  # parts that no piece of furniture has
_HELD_BY = (
    re.compile(rf"(?P<not>not |never |don't \w+ it )?\bby {_ADJECTIVES}{_PART}\b"),
    re.compile(rf"(?P<not>not |never )?\b(?:at|on|around) {_ADJECTIVES}(?P<part>{_SPOT})s?\b"),
    re.compile(rf"(?P<not>not |never |don't )?\b{_HOLD} (?:it )?(?:by |at |on |around )?{_ADJECTIVES}{_PART}\b"),
)
_PART_OF_IT = (
    re.compile(rf"\bthe {_PART} (?:end )?of (?:the|that|this|my)\b"),
    re.compile(rf"(?<!open )(?<!ring )\b{_PART} end\b"),
    re.compile(rf"\b(?!your|my|his|her)\w+'s {_PART}\b"),
)

_POSITION = re.compile(
    r"\b(?:(?:on|to|at) (?:the|your|my) (?:far )?(left|right)|(leftmost|rightmost)|the (left|right)(?: one| \w+)"
    r"|(nearest|closest|farthest|furthest)|in (?:the )?(front|back|middle)|(?:on|at) (?:the )?(top|bottom))\b"
)
_NEAR = re.compile(
    r"\b((?:next to|beside|near|behind|in front of|under|left of|right of|between) (?:the|my|your|a) [a-z']+"
    r"(?: (?!and|after|by|from|please|to|in|on|with)[a-z']+)?)"
)
_POSITION_WORDS = {"leftmost": "left", "rightmost": "right", "closest": "nearest", "furthest": "farthest"}

_CONSTRAINTS = {
    "hot": r"\b(?:it's|it is|its|still|careful|is|very|quite|too) hot\b|\bhot[!.]|(?:the|that|this) hot \w+",
    "full": r"\bfull\b(?! (?:speed|force|power|size))",
    "level": r"\blevel\b|\bupright\b|don't spill|without spilling|won't spill|not spill",
    "fragile": r"\bfragile\b|\bdelicate\b|\bbreakable\b|breaks easily",
    "sharp": r"\b(?:it's|it is|is|very|careful) sharp\b|\bthe sharp \w+",
    "careful": r"\bcareful(?:ly)?\b|\bgent(?:ly|le)\b|\bcautious(?:ly)?\b|\bwith care\b|\bsoftly\b",
    "slowly": r"\bslow(?:ly)?\b|\bno rush\b|\btake your time\b",
    "handle first": r"\bhandle[ -]first\b|\bhandle towards? me\b",
    "blade first": r"\b(?:blade|tip|head)[ -]first\b",
}

SHARP_PARTS = frozenset(["blade", "tip", "edge", "head", "jaw"])  # held by these, the handle is left to the person
_HANDLE_FREE = re.compile(
    r"\bsafely\b|\bsafe way\b|\bhandle[ -]first\b|\bhandle (?:towards?|facing|to) (?:me|us)\b"
    r"|\b(?:by|at|holding) (?:the|its) (?:blade|sharp end)\b"
    r"|\bso (?:that )?(?:i|we) can (?:take|grab|hold|grip|grasp|get)"
    r"(?: hold of)? (?:it by |it at )?(?:the|its) handle\b"
    r"|\b(?:leave|keep|offer|give|show)(?: me| us)? (?:the|its) handle\b|\bhandle free\b"
)


def wants_handle_free(text: str) -> bool:
    """Does the person want to take it by the handle? text: lower case."""
    return _HANDLE_FREE.search(text) is not None


def part_of(text: str, named: bool = True) -> str | None:
    """The part the person wants held ("by its rim" -> "rim"), None when no part is stated. text: lower case.

    named: the object is named, so that "the lid of the pot" is a part of it rather than of something else.
    """
    for pattern in (*_HELD_BY, *(_PART_OF_IT if named else ())):
        for match in pattern.finditer(text):
            if not match.groupdict().get("not"):
                return PARTS[match["part"]]
    return None


def parts_excluded(text: str) -> list[str]:
    """Parts the person does not want held ("not by the blade")."""
    return sorted({PARTS[m["part"]] for pattern in _HELD_BY for m in pattern.finditer(text) if m["not"]})


def adjectives(words: list[str]) -> dict[str, str]:
    """Colour, size and material among the words that stand right before (or describe) the object."""
    found: dict[str, str] = {}
    for word in words:
        if word in COLOURS:
            found.setdefault("colour", "grey" if word == "gray" else word)
        elif word in SIZES:
            found.setdefault("size", SIZES[word])
        elif word in MATERIALS:
            found.setdefault("material", word)
    return found


def position_of(text: str) -> str | None:
    """Where the object is said to be: "left", "nearest", ..., or the landmark phrase ("next to the kettle")."""
    near = _NEAR.search(text)
    if near:
        return near[1]
    match = _POSITION.search(text)
    if match is None:
        return None
    word = next(g for g in match.groups() if g)
    return _POSITION_WORDS.get(word, word)


def constraints_of(text: str) -> list[str]:
    """How the thing is to be handled, in the order of the table. text: lower case."""
    found = [name for name, pattern in _CONSTRAINTS.items() if re.search(pattern, text)]
    return found + [f"not by the {part}" for part in parts_excluded(text)]
