"""Several steps in one turn: "put the mug in the box, then hand me the spoon". Read, and checked for order. Pure.

What each step is about is looked for before the first motion: see `conversation`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from affordagent.agent.language import details
from affordagent.agent.language.names import singular
from affordagent.core.types import Destination, FunctionalQuery

MOST_STEPS = 6
Understand = Callable[[str], FunctionalQuery]

_POLITE = r"(?:(?:please|also|now|just|finally|lastly|i want you to|(?:can|could|would|will) you)\s+)*"
_MOVING = (
    r"(?:pick|take|grab|get|fetch|lift|give|hand|pass|bring|put|place|set|move|lay|drop|return|stack|stow|carry|hold"
    r"|release|let go)\b"
)
_THEN = (
    r"(?:and then|then|and after (?:that|this)|after (?:that|this)|and afterwards|afterwards|and finally|finally"
    r"|next(?! to)|lastly)\b"
)
_ARTICLE = r"(?:the|an?|my|your|another|some)"
_INTO = r"(?:in|into|on|onto|next to|beside)"
_PLACED = re.compile(rf"\b{_INTO} {_ARTICLE} ", re.I)
_BREAK = re.compile(
    rf"(?P<then>\s*[.,;!]?\s*\b{_THEN}[\s,:]*)"
    rf"|(?P<also>\s*,?\s*\band\s+(?={_ARTICLE} [\w '-]+? {_INTO} {_ARTICLE} ))"
    rf"|\s*[.;!]\s+(?={_POLITE}{_MOVING})"
    rf"|\s*,?\s*\b(?:and|but)\s+(?:also\s+)?(?={_POLITE}{_MOVING})|\s*,\s*(?={_POLITE}{_MOVING})",
    re.I,
)
_FIRST = re.compile(r"\b(?:first(?:ly)?(?: of all)?|to begin with|start by)\b[\s,:]*", re.I)
_STEP = re.compile(rf"^\W*{_POLITE}{_MOVING}", re.I)
_VERB = re.compile(rf"^\W*{_POLITE}{_MOVING}(?: (?:up|over|me|us)\b)*", re.I)
_NOUN = re.compile(r"^\W*(?:the|an?|my|your|that|this|some|another)\s", re.I)
_ORDER = re.compile(
    r"\b(?:before|after|once|when|until|while) (?:you(?:'ve| have)? )?"
    r"(?:giv|hand|tak|put|plac|pick|bring|pass|grab|fetch|lift|mov|gett|got|drop)\w*\b",
    re.I,
)
_THEM = re.compile(r"\b(?:both of them|all of them|them both|them all|them|both)\b", re.I)
_COMMA = re.compile(r"\s*,\s*(?:and\s+)?|\s+and\s+", re.I)
_LIST = re.compile(
    rf"^(?P<head>.*?\b{_MOVING[:-2]}\b(?: (?:up|over|me|us))*) (?P<things>{_ARTICLE} .+?)"
    r"(?P<tail> (?:to me|to us|(?:in|into|on|onto|next to|beside|near|back|away|down|by)\b.*))?[\s.!?]*$",
    re.I,
)
_AND = re.compile(rf"\s*,\s*(?:and\s+)?(?={_ARTICLE} )|\s+and\s+(?={_ARTICLE} )", re.I)
_BACK = re.compile(r"\bback\b(?! to me)", re.I)
_DOWN = re.compile(r"\b(?:down|away|let go|release|drop)\b", re.I)
_TO_ME = re.compile(r"\b(?:to me|(?:give|hand|pass|bring) (?:it |that |this |them )?(?:to )?me)\b", re.I)
TABLE = Destination(relation="on", words="table")
BACK = Destination(relation="back", words="table")


@dataclass(frozen=True)
class Steps:
    """queries: in order. question: what must be asked before there is a plan; then `instead` is what a yes to it wants
    (none: the answer is a turn of its own)."""

    queries: list[FunctionalQuery]
    question: str = ""
    instead: list[FunctionalQuery] | None = None


def read_steps(text: str, understand: Understand, it: FunctionalQuery | None = None) -> Steps | None:
    """The steps of a turn, None where it is a single one or none at all. understand: reads each of them. it: what "it"
    is in the first one.

    Raises:
        StageFailure: what `understand` refuses in any of the steps.
    """
    text = " ".join(text.split())
    if _ORDER.search(text) and _STEP.search(text):
        return Steps([], 'In which order? Please say it as "first ..., then ...".')
    pieces = [listed for piece in _pieces(text) for listed in _listed(piece)]
    if len(pieces) < 2:
        return None
    if len(pieces) > MOST_STEPS:
        return Steps([], f"These are {len(pieces)} steps, and I plan at most {MOST_STEPS} at once. Which come first?")
    queries: list[FunctionalQuery] = []
    for piece in pieces:
        query = understand(_THEM.sub("it", piece) if queries else piece)
        if query.intent == "stop":
            return Steps([query])
        before = queries if queries or it is None else [it.model_copy(update={"intent": "pick"})]
        known = _about_the_last(piece, query, before)
        if known is None and (query.needs_clarification or not query.wants_motion):
            wanted = query.question if query.needs_clarification else "Which object do you mean there?"
            return Steps(queries, f"About “{piece.strip(' .,!')}”: {wanted}") if queries else None
        queries = known if known is not None else [*queries, _clear(query)]
    return in_order(queries)


def in_order(queries: list[FunctionalQuery]) -> Steps:
    """Can the steps be done one after the other? The hand holds one thing, and what has been handed over is gone."""
    gone: list[FunctionalQuery] = []
    for query in queries:
        needed = [name_of(query), *([query.destination.words] if query.destination else [])]
        for earlier in gone:
            if any(_same_name(name_of(earlier), words) for words in needed) and not _differ(earlier, query):
                name = name_of(earlier)
                return Steps(queries, f"You would have the {name} by then. What shall I do with the {name} first?")
        if query.intent == "hand_over":
            gone.append(query)
    full = [q for q in queries[:-1] if q.intent == "pick"]
    if not full:
        return Steps(queries)
    every = all(q.intent == "pick" for q in queries)
    handed = [_handed(q) if q.intent == "pick" and (every or q is not queries[-1]) else q for q in queries]
    things = _and([thing_of(q) for q in (queries if every else full)])
    after = ", one after the other" if len(queries if every else full) > 1 else " before I go on"
    return Steps(queries, f"I can hold one thing at a time. Shall I hand you {things}{after}?", handed)


def is_step(text: str) -> bool:
    """Does it begin with what a hand can do: "pick", "please hand"?"""
    return _STEP.search(text) is not None


def name_of(query: FunctionalQuery) -> str:
    """The thing, for a person."""
    return query.object_words or query.category or (query.candidates[0].name if query.candidates else "thing")


def thing_of(query: FunctionalQuery) -> str:
    """ "The red mug on the left"."""
    words = " ".join([*(query.attributes.get(k, "") for k in ("size", "colour", "material")), name_of(query)]).split()
    side = query.attributes.get("position")
    return f"the {' '.join(words)}" + (f" on the {side}" if side in ("left", "right") else "")


def said_of(query: FunctionalQuery) -> str:
    """A step in words: "put the red mug in the box"."""
    thing = thing_of(query)
    if query.intent == "hand_over":
        return f"hand you {thing}"
    if query.destination is not None:
        return f"put {thing} {query.destination.place}"
    return f"pick up {thing}" + (f" by its {query.part}" if query.part else "")


def numbered(queries: list[FunctionalQuery]) -> str:
    return ", ".join(f"{number}. {said_of(query)}" for number, query in enumerate(queries, 1))


# ---- the pieces of the sentence -------------------------------------------------------------------------------------


def _pieces(text: str) -> list[str]:
    """The sentence cut where a new step begins; "then the spoon" repeats the verb of the step before. What is no step
    stays with its neighbour."""
    breaks = list(_BREAK.finditer(text))
    text_of_first = _FIRST.sub("", text[: breaks[0].start()], count=1) if breaks else text
    found = [text_of_first]
    for number, match in enumerate(breaks):
        end = breaks[number + 1].start() if number + 1 < len(breaks) else len(text)
        piece = _FIRST.sub("", text[match.end() : end], count=1)
        verb = _VERB.match(found[-1])
        if _STEP.search(piece) and _STEP.search(found[-1]):
            found.append(piece)
        elif (match["then"] or (match["also"] and _PLACED.search(found[-1]))) and verb and _NOUN.search(piece):
            found.append(f"{verb[0]} {piece}")
        else:
            found[-1] += f"{match[0]}{piece}"
    return [piece for piece in found if piece.strip()]


def _listed(piece: str) -> list[str]:
    """ "Hand me the red mug and the spoon" -> two sentences; the sentence itself where its things are not all named."""
    from affordagent.agent.language.understand import NAMED_THING, understand

    found = _LIST.match(piece.strip())
    if found is None:
        return [piece]
    for between, sure in ((_AND, 0.0), (_COMMA, NAMED_THING)):
        things = [thing for thing in between.split(found["things"]) if thing.strip()]
        named = [thing if _NOUN.search(f"{thing} ") else f"the {thing}" for thing in things]
        sentences = [f"{found['head']} {thing}{found['tail'] or ''}" for thing in named]
        if 1 < len(sentences) <= MOST_STEPS + 1 and all(
            _is_named(understand(sentence), sure) for sentence in sentences
        ):
            return sentences
    return [piece]


def _is_named(query: FunctionalQuery, sure: float) -> bool:
    named = query.wants_motion and query.object_words is not None and not query.needs_clarification
    return named and bool(query.candidates) and query.candidates[0].score >= sure


def _about_the_last(text: str, query: FunctionalQuery, before: list[FunctionalQuery]) -> list[FunctionalQuery] | None:
    """The steps with one that says what becomes of the thing of the step before: "and put it in the box"."""
    refers = query.intent == "refer_back" or (query.intent == "place" and query.needs_clarification)
    if not before or not refers:
        return None
    last, part = before[-1], details.part_of(text.lower())
    if query.destination is not None:
        update: dict[str, object] = {"intent": "place", "destination": query.destination}
    elif _TO_ME.search(text):
        update = {"intent": "hand_over", "destination": None}
    elif last.intent == "pick" and (_BACK.search(text) or _DOWN.search(text)):
        update = {"intent": "place", "destination": BACK if _BACK.search(text) else TABLE}
    elif part is not None and last.intent == "pick":
        update = {"part": part}
    else:
        return None
    if last.intent != "pick":
        return [*before, last.model_copy(update=update)]
    several = _THEM.search(text) is not None
    kept = next((i + 1 for i in range(len(before) - 1, -1, -1) if before[i].intent != "pick"), 0)
    first = kept if several else len(before) - 1
    return [*before[:first], *(q.model_copy(update=update) for q in before[first:])]


def _clear(query: FunctionalQuery) -> FunctionalQuery:
    """One thing a step: what else the sentence names has a step of its own."""
    kept = [c for c in query.constraints if not c.startswith("then: ")]
    return query.model_copy(update={"constraints": kept})


def _handed(query: FunctionalQuery) -> FunctionalQuery:
    return query.model_copy(update={"intent": "hand_over", "destination": None})


def _same_name(name: str, words: str) -> bool:
    return singular(name.split()[-1]) == singular(words.split()[-1])


def _differ(one: FunctionalQuery, other: FunctionalQuery) -> bool:
    """Are they told apart by their words: the red mug, and the blue one?"""
    return one.attributes != other.attributes or one.at_m != other.at_m


def _and(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
