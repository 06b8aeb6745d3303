"""What a turn of a talk asks for, given what was said and taken before. Pure: nothing is looked at or moved here."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from affordagent.agent.language import details
from affordagent.agent.language.places import placing_of
from affordagent.core.types import Destination, FunctionalQuery
from affordagent.graphs.dialogue import Act, Question, TalkState, Thing

Understand = Callable[[str], FunctionalQuery]

_YES = re.compile(
    r"^\W*(?:yes|yeah|yep|yup|sure|ok(?:ay)?|please do|go (?:on|ahead)|do (?:it|that|so)|fine|right|y)\b", re.I
)
_NO = re.compile(r"^\W*(?:no|nope|don't|do not|never ?mind|forget it|none|neither|cancel|leave it|n)\b", re.I)
_OTHER = re.compile(r"\b(?:other|another|different|next|wrong|not (?:that|this))\b", re.I)
_AGAIN = re.compile(r"\b(?:again|once more|retry)\b", re.I)
_BACK = re.compile(r"\bback\b(?! to me)", re.I)
_DOWN = re.compile(r"\b(?:down|away|let go|release|drop)\b", re.I)
_TO_ME = re.compile(r"\b(?:to me|(?:give|hand|pass|bring) me)\b", re.I)
_ONE = re.compile(r"\b(?:the|that|this|a) (?P<words>[\w ]*?)\s*\bone\b", re.I)
_NUMBER = re.compile(
    r"^\W*(?:the |number |no\.? ?|choice |#)*"
    r"(?P<n>[1-9]|one|two|three|four|first|second|third|fourth|last)(?: one)?\W*$",
    re.I,
)
_NUMBERS = {
    w: i
    for i, pair in enumerate((("one", "first"), ("two", "second"), ("three", "third"), ("four", "fourth")))
    for w in pair
}
_SIDES = {"left": "left", "right": "right", "middle": "middle", "centre": "middle", "center": "middle"}


def is_yes(text: str) -> bool:
    return _YES.search(text) is not None


def is_no(text: str) -> bool:
    """Also "no, by the handle": then what follows is worth reading."""
    return _NO.search(text) is not None


def after_no(text: str) -> str:
    """What a refusal wants instead: "no, by the handle" -> "by the handle"; empty when nothing."""
    return re.sub(r"^\W*(?:no|nope|never ?mind|cancel)\b[\s,.;:!]*", "", text, flags=re.I).strip()


def read_turn(text: str, state: TalkState, understand: Understand) -> list[Act]:
    """The acts of a turn, in order; at least one.

    Raises:
        StageFailure: what the language stage refuses, see `agent.language.understand`.
    """
    asked = state.get("asked")
    if asked is not None:
        answered = _answered(text, asked, understand)
        if answered is not None:
            return answered
    query = understand(text)
    if query.intent in ("stop", "question", "none") and not query.needs_clarification:
        return [_say(_unmoved(query, state))]
    if refers_back(query):
        return _referring(text, query, state)
    if query.needs_clarification:
        return [_ask("what", query.question or "Which object do you mean?", query)]
    return _with_free_hand(several(query), state)


def refers_back(query: FunctionalQuery) -> bool:
    """ "The other one", "put it back", and "put it in the box", whose "it" the query alone cannot tell."""
    if query.intent == "refer_back":
        return True
    return query.intent == "place" and query.destination is not None and query.needs_clarification


def several(query: FunctionalQuery) -> list[Act]:
    """One act a thing. The hand holds one thing at a time: things that are only to be picked up cannot follow each
    other, which is asked about before anything moves."""
    later = [c.removeprefix("then: ") for c in query.constraints if c.startswith("then: ")]
    kept = [c for c in query.constraints if not c.startswith("then: ")]
    first = query.model_copy(update={"constraints": kept})
    if not later:
        return [_grasp(first)]
    queries = [first, *(_same_wish(first, words) for words in later)]
    if query.intent != "pick":
        return [_grasp(q) for q in queries]
    names = [_name(q) for q in queries]
    handed = [_grasp(q.model_copy(update={"intent": "hand_over"})) for q in queries]
    things = _and([f"the {name}" for name in names])
    text = f"I can hold one thing at a time. Shall I hand you {things}, one after the other?"
    return [
        {
            "do": "say",
            "text": text,
            "ask": {"kind": "whether", "text": text, "query": None, "choices": [], "acts": handed},
        }
    ]


def _same_wish(first: FunctionalQuery, words: str) -> FunctionalQuery:
    """The same motion for another thing, named by `words`."""
    from affordagent.agent.language.understand import understand

    other = understand(f"pick up the {words}")
    return other.model_copy(update={"intent": first.intent, "destination": first.destination, "text": first.text})


# ---- answers --------------------------------------------------------------------------------------------------------


def _answered(text: str, asked: Question, understand: Understand) -> list[Act] | None:
    """What an answer to the question leads to; None when it is none, but a turn of its own."""
    if is_no(text) and not after_no(text):
        return [_say("All right, I leave it.")]
    if asked["kind"] == "whether":
        return list(asked["acts"]) if is_yes(text) else None
    base = FunctionalQuery.model_validate(asked["query"]) if asked["query"] else None
    if asked["kind"] == "which" and base is not None:
        index = chosen(text, asked["choices"])
        if index is not None:
            return [_grasp(base.model_copy(update={"at_m": tuple(asked["choices"][index]["at_m"])}))]
        words = details.adjectives(re.findall(r"[a-z]+", text.lower()))
        return [_grasp(base.model_copy(update={"attributes": {**base.attributes, **words}}))] if words else None
    if asked["kind"] == "where" and base is not None:
        placing = placing_of(f"put it {text.lower()}")
        if placing is not None:
            done = {"destination": placing.destination, "needs_clarification": False, "question": None}
            return [_grasp(base.model_copy(update=done))]
    if asked["kind"] == "what" and base is not None and base.wants_motion and len(text.split()) <= 6:
        named = understand(text if text.lower().startswith(("the ", "a ", "an ", "my ")) else f"the {text}")
        if named.category or named.object_words:
            kept = {"intent": base.intent, "destination": base.destination}
            return [_grasp(named.model_copy(update={k: v for k, v in kept.items() if v is not None}))]
    return None


def chosen(text: str, choices: list[dict[str, Any]]) -> int | None:
    """Which of the choices an answer means: by number, by side, or by the words of a label."""
    number = _NUMBER.match(text)
    if number is not None:
        word = number["n"].lower()
        index = len(choices) - 1 if word == "last" else int(word) - 1 if word.isdigit() else _NUMBERS[word]
        return index if index < len(choices) else None
    words = set(re.findall(r"[a-z]+", text.lower()))
    sides = {_SIDES[w] for w in words & _SIDES.keys()}
    fits = [i for i, c in enumerate(choices) if sides and sides <= {_SIDES.get(w, w) for w in c["label"].split()}]
    if len(fits) == 1:
        return fits[0]
    telling = [words & set(re.findall(r"[a-z]+", c["label"])) - {"the", "one", "on", "in", "from"} for c in choices]
    hits = [i for i, found in enumerate(telling) if found]
    return hits[0] if len(hits) == 1 else None


# ---- what was spoken of before --------------------------------------------------------------------------------------


def _referring(text: str, query: FunctionalQuery, state: TalkState) -> list[Act]:
    held, thing = state.get("held"), state.get("held") or state.get("thing")
    if thing is None:
        return [_ask("what", "I have taken nothing yet. Which object do you mean?", query)]
    last = FunctionalQuery.model_validate(thing["query"])
    if query.destination is not None:
        wish = last.model_copy(update={"intent": "place", "destination": query.destination, "text": text})
        return [_deliver(wish)] if held else [_grasp(_there(wish, thing))]
    if _BACK.search(text) or _DOWN.search(text):
        if held is None:
            return [_say("I hold nothing.")]
        if _BACK.search(text):
            return [_put_back(last, text)]
        on_table = Destination(relation="on", words="table")
        return [_deliver(last.model_copy(update={"intent": "place", "destination": on_table, "text": text}))]
    if _TO_ME.search(text):
        wish = last.model_copy(update={"intent": "hand_over", "destination": None, "text": text})
        return [_deliver(wish)] if held else [_grasp(_there(wish, thing))]
    free = [_put_back(last, text)] if held else []
    part = details.part_of(text.lower())
    if part is not None:
        return [*free, _grasp(_there(last.model_copy(update={"part": part, "text": text}), thing))]
    words = _attributes(text)
    if _OTHER.search(text) and not words:
        out = [*thing["ruled_out"], *([thing["at_m"]] if thing["at_m"] else [])]
        return [
            *free,
            _grasp(
                last.model_copy(
                    update={"not_at_m": [tuple(p) for p in out], "at_m": None, "attributes": {}, "text": text}
                )
            ),
        ]
    if words:
        wish = last.model_copy(update={"attributes": {**last.attributes, **words}, "at_m": None, "text": text})
        return [*free, _grasp(wish)]
    if _AGAIN.search(text):
        return [*free, _grasp(last.model_copy(update={"text": last.text}))]
    return [_ask("what", "Which one do you mean? Please name the object, its colour or where it is.", last)]


def _attributes(text: str) -> dict[str, str]:
    found = _ONE.search(text)
    words = re.findall(r"[a-z]+", (found["words"] if found else text).lower())
    side = next((_SIDES[w] for w in re.findall(r"[a-z]+", text.lower()) if w in _SIDES), None)
    return details.adjectives(words) | ({"position": side} if side else {})


def _there(query: FunctionalQuery, thing: Thing) -> FunctionalQuery:
    """The very thing that was meant before, where it stood."""
    at = thing["at_m"]
    return query if at is None else query.model_copy(update={"at_m": (at[0], at[1], at[2])})


def _with_free_hand(acts: list[Act], state: TalkState) -> list[Act]:
    """A new wish while the hand is full is asked about: what is held is not put anywhere unasked."""
    held = state.get("held")
    if held is None or acts[0]["do"] != "grasp":
        return acts
    last = FunctionalQuery.model_validate(held["query"])
    text = f"I still hold the {_name(last)}. Shall I put it back first?"
    first = _put_back(last, text)
    return [
        {
            "do": "say",
            "text": text,
            "ask": {"kind": "whether", "text": text, "query": None, "choices": [], "acts": [first, *acts]},
        }
    ]


# ---- words ----------------------------------------------------------------------------------------------------------


def _unmoved(query: FunctionalQuery, state: TalkState) -> str:
    if query.intent == "stop":
        return "Stopped. Nothing moves."
    if query.intent == "question":
        return (
            "I can pick things up, hand them over and put them somewhere, but not answer questions. What shall I take?"
        )
    held = state.get("held")
    holding = "" if held is None else f" I hold the {_name(FunctionalQuery.model_validate(held['query']))}."
    return f"All right.{holding} Tell me what you want, in your own words."


def _name(query: FunctionalQuery) -> str:
    return query.object_words or query.category or (query.candidates[0].name if query.candidates else "thing")


def _and(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _say(text: str) -> Act:
    return {"do": "say", "text": text}


def _ask(kind: Any, text: str, query: FunctionalQuery | None) -> Act:
    plain = None if query is None else query.model_dump(mode="json")
    return {"do": "say", "text": text, "ask": {"kind": kind, "text": text, "query": plain, "choices": [], "acts": []}}


def _grasp(query: FunctionalQuery) -> Act:
    clear = query.model_copy(update={"needs_clarification": False, "question": None})
    return {"do": "grasp", "query": clear.model_dump(mode="json")}


def _deliver(query: FunctionalQuery) -> Act:
    clear = query.model_copy(update={"needs_clarification": False, "question": None})
    return {"do": "deliver", "query": clear.model_dump(mode="json")}


def _put_back(query: FunctionalQuery, text: str) -> Act:
    back = Destination(relation="back", words="table")
    return _deliver(query.model_copy(update={"intent": "place", "destination": back, "text": text}))
