"""What a turn of a talk asks for, given what was said and taken before. Pure: nothing is looked at or moved here."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from affordagent.agent.language import details
from affordagent.agent.language.names import singular
from affordagent.agent.language.places import placing_of
from affordagent.agent.talk.questions import UNKNOWN, Asked, asked_about, courtesy
from affordagent.agent.talk.replies import SIDES, after_no, attributes_of, chosen, is_all, is_no, is_yes, readable
from affordagent.agent.talk.steps import BACK, TABLE, Steps, in_order, is_step, name_of, read_steps
from affordagent.core.types import FunctionalQuery
from affordagent.graphs.dialogue import Act, Question, TalkState, Thing

Understand = Callable[[str], FunctionalQuery]

_OTHER = re.compile(r"\b(?:other|another|different|next(?! to)|wrong|second|not (?:that|this))\b", re.I)
_AGAIN = re.compile(r"\b(?:again|once more|retry)\b", re.I)
_BACK = re.compile(r"\bback\b(?! to me)", re.I)
_DOWN = re.compile(r"\b(?:down|away|let go|release|drop)\b", re.I)
_TO_ME = re.compile(r"\b(?:to me|(?:give|hand|pass|bring) me)\b", re.I)
_ONE = re.compile(r"\b(?:the|that|this|a) (?P<words>[\w ]*?)\s*\bone\b", re.I)
_UNDO = re.compile(
    r"^\W*(?:please |no,? )*(?:undo|revert|take (?:it|that) back|reverse)"
    r"(?: (?:it|that|this|the (?:last|plan)[\w ]*))?\W*$",
    re.I,
)
_CORRECTS = re.compile(r"\b(?:i (?:meant|mean|said|wanted)|instead|rather|wrong|sorry)\b|^\W*no(?:pe)?\b", re.I)
_SAME_WISH = re.compile(
    r"^\W*(?:(?:and|now|then|also|next|ok|okay|no|nope|i meant?|i mean|rather|actually|sorry|please|well)\b[\s,]*)+"
    r"(?:the|a|an|my|your)\s[\w' -]+$|^\W*(?:the|a|an|my)\s[\w' -]+\b(?:too|as well|also|next|instead)\W*$",
    re.I,
)
_ALL_THINGS = re.compile(
    r"\b(?:everything|every (?:\w+ )?(?:thing|object|item|one)|all (?:of )?(?:the |those |these |your |my )?\w+s"
    r"|clear the (?:table|bench)|tidy (?:up|the)|clean up)\b",
    re.I,
)


def read_turn(text: str, state: TalkState, understand: Understand) -> list[Act]:
    """The acts of a turn, in order; at least one.

    Raises:
        StageFailure: what the language stage refuses, see `agent.language.understand`.
    """
    asked, plain = state.get("asked"), readable(text)
    if plain and not is_yes(plain):
        about = aside(plain, state, understand)
        if about is not None:
            return [about]
    if asked is not None and plain:
        answered = _answered(plain, asked, understand)
        if answered is not None:
            return answered
    if _UNDO.search(plain):
        return _undone(plain, state)
    return _wished(text, plain, state, understand)


def _wished(text: str, plain: str, state: TalkState, understand: Understand) -> list[Act]:
    """A turn of its own: neither a question nor an answer."""
    it = _it(state)
    steps = read_steps(plain, understand, it) if plain else None
    if steps is None:
        query = understand(text)
        english = query.read_by.get("english")
        steps = read_steps(str(english), _offline, it) if english else None
        if steps is None:
            return _single(str(english or plain), query, state)
    if steps.queries and steps.queries[0].intent == "stop":
        return [_say(_unmoved(steps.queries[0], state))]
    if len(steps.queries) == 1 and not steps.question:
        return _single(plain, steps.queries[0], state)
    return _planned(steps, plain, state)


def _it(state: TalkState) -> FunctionalQuery | None:
    """What was spoken of, where it stands."""
    held, thing = state.get("held"), state.get("thing")
    if held is not None:
        return FunctionalQuery.model_validate(held["query"])
    return None if thing is None else _there(FunctionalQuery.model_validate(thing["query"]), thing)


def _offline(text: str) -> FunctionalQuery:
    from affordagent.agent.language.understand import understand

    return understand(text)


def _single(text: str, query: FunctionalQuery, state: TalkState) -> list[Act]:
    """One thing, or none."""
    if query.intent in ("stop", "question", "none") and not query.needs_clarification:
        return [_say(_unmoved(query, state))]
    if refers_back(query):
        return _referring(text, query, state)
    if _ALL_THINGS.search(text):
        return [_ask("what", "I take one thing at a time, by its name. Which one shall I take first?", query)]
    if query.needs_clarification:
        return [_ask("what", query.question or "Which object do you mean?", query)]
    query = _like_the_last(text, query, state)
    return _with_free_hand(text, [_grasp(query)], state)


def _like_the_last(text: str, query: FunctionalQuery, state: TalkState) -> FunctionalQuery:
    """ "And now the pot", "no, I meant the cup": what was wanted before, of this thing."""
    thing = state.get("thing")
    if thing is None or not _SAME_WISH.search(text):
        return query
    last = FunctionalQuery.model_validate(thing["query"])
    back = last.destination is not None and last.destination.relation == "back"
    return query if back else query.model_copy(update={"intent": last.intent, "destination": last.destination})


def refers_back(query: FunctionalQuery) -> bool:
    """ "The other one", "put it back", and "put it in the box", whose "it" the query alone cannot tell."""
    if query.intent == "refer_back":
        return True
    return query.intent == "place" and query.destination is not None and query.needs_clarification


def aside(text: str, state: TalkState, understand: Understand) -> Act | None:
    """A question or a courtesy: it moves nothing, and what was asked before stays open."""
    asked = asked_about(text)
    if asked is not None:
        return {"do": "tell", "about": asked.about, "query": _looked_for(asked, understand), "aside": True}
    answer = courtesy(text)
    if answer is None:
        return None
    return {"do": "say", "text": f"{answer}{_holding(state)}{_invited(answer, state)}", "aside": True}


def _looked_for(asked: Asked, understand: Understand) -> dict[str, Any] | None:
    """Of "where is the mug?"."""
    if asked.about != "there":
        return None
    return understand(f"pick up the {asked.thing}").model_dump(mode="json")


def _planned(steps: Steps, text: str, state: TalkState) -> list[Act]:
    """Several steps, of which nothing is done before all has been looked for."""
    if steps.question and steps.instead is None:
        return [_ask("what", steps.question, None)]
    if steps.instead is not None:
        acts = _with_free_hand(text, [plan_of(steps.instead)], state)
        return [_whether(steps.question, acts if acts[0]["do"] != "say" else acts[0]["ask"]["acts"])]
    return _with_free_hand(text, [plan_of(steps.queries)], state)


def plan_of(queries: list[FunctionalQuery]) -> Act:
    return {"do": "plan", "steps": [_grasp(query) for query in queries], "at": 0}


# ---- answers --------------------------------------------------------------------------------------------------------


def _answered(text: str, asked: Question, understand: Understand) -> list[Act] | None:
    """What an answer to the question leads to; None when it is none, but a turn of its own."""
    if is_no(text) and not after_no(text):
        return [_say("All right, I leave it.")]
    if _offline(text).intent == "stop":
        return None
    if asked["kind"] == "whether":
        return list(asked["acts"]) if is_yes(text) else None
    base = FunctionalQuery.model_validate(asked["query"]) if asked["query"] else None
    if base is None:
        return None
    if asked["kind"] == "which":
        return _chosen(text, asked, base)
    if not base.wants_motion:
        return None
    placing = placing_of(f"put it {text.lower()}") or placing_of(text.lower())
    if placing is not None and base.intent == "place" and base.destination is None:
        return [_step(base.model_copy(update={"destination": placing.destination}), asked)]
    named = _named_in(text, understand)
    if named is None:
        return None
    kept = {"intent": base.intent, "destination": base.destination}
    return [_step(named.model_copy(update={k: v for k, v in kept.items() if v is not None}), asked)]


def _named_in(text: str, understand: Understand) -> FunctionalQuery | None:
    """The thing that an answer of a few words names, None where it is a wish of its own or names none."""
    if len(text.split()) > 6 or _ALL_THINGS.search(text) or is_step(text):
        return None
    named = understand(text if text.lower().startswith(("the ", "a ", "an ", "my ", "something ")) else f"the {text}")
    told = named.object_words is not None or text.lower().startswith("something ")
    return named if told and named.intent == "pick" and not named.needs_clarification else None


def _chosen(text: str, asked: Question, base: FunctionalQuery) -> list[Act] | None:
    """One of the choices, all of them, or another description of the one."""
    choices = asked["choices"]
    if is_all(text):
        return _all_of(base, asked)
    index = chosen(text, choices)
    if index is not None:
        return [_step(base.model_copy(update={"at_m": tuple(choices[index]["at_m"])}), asked)]
    if is_no(text) or len(text.split()) > 8:
        return None
    words = attributes_of(text)
    return [_step(base.model_copy(update={"attributes": {**base.attributes, **words}}), asked)] if words else None


def _all_of(base: FunctionalQuery, asked: Question) -> list[Act]:
    """Each of the choices, in the place of the step that was asked about."""
    steps, at = asked.get("steps") or [], asked.get("at", 0)
    before = [FunctionalQuery.model_validate(step["query"]) for step in steps[:at]]
    after = [FunctionalQuery.model_validate(step["query"]) for step in steps[at + 1 :]]
    each = [_at(base, choice) for choice in asked["choices"]]
    found = in_order([*before, *each, *after])
    if not found.question:
        return [plan_of(found.queries)]
    if found.instead is None:
        return [_ask("what", found.question, None)]
    return [_whether(found.question, [plan_of(found.instead)])]


def _at(base: FunctionalQuery, choice: dict[str, Any]) -> FunctionalQuery:
    """The very thing, told apart by its label too."""
    told_apart = {**base.attributes, **attributes_of(choice["label"])}
    return base.model_copy(update={"at_m": tuple(choice["at_m"]), "attributes": told_apart})


def _step(query: FunctionalQuery, asked: Question) -> Act:
    """The answered query, in its place among the steps of the plan that was interrupted."""
    steps = asked.get("steps")
    if not steps:
        return _grasp(query)
    at = asked.get("at", 0)
    return {"do": "plan", "steps": [*steps[:at], _grasp(query), *steps[at + 1 :]], "at": at}


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
        return [_deliver(last.model_copy(update={"intent": "place", "destination": TABLE, "text": text}))]
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
    return attributes_of(found["words"] if found else text) | {
        k: v for k, v in attributes_of(text).items() if k == "position"
    }


def _there(query: FunctionalQuery, thing: Thing) -> FunctionalQuery:
    """The very thing that was meant before, where it stood."""
    at = thing["at_m"]
    return query if at is None else query.model_copy(update={"at_m": (at[0], at[1], at[2])})


def _undone(text: str, state: TalkState) -> list[Act]:
    """The last motion taken back, as far as that can be."""
    held, thing = state.get("held"), state.get("thing")
    if held is not None:
        return [_put_back(FunctionalQuery.model_validate(held["query"]), text)]
    if thing is None or state.get("last") is None:
        return [_say("There is nothing to undo: I have moved nothing.")]
    query = FunctionalQuery.model_validate(thing["query"])
    if query.intent == "place" and thing["at_m"] is not None:
        asking = f"The {name_of(query)} is out of my hand. Where shall I put it instead?"
        return [_ask("where", asking, _there(query.model_copy(update={"destination": None}), thing))]
    return [_say("I hold nothing, so there is nothing that I could put back.")]


def _with_free_hand(text: str, acts: list[Act], state: TalkState) -> list[Act]:
    """A new wish while the hand is full. What is held is not put anywhere unasked, but where the wish corrects the one
    before, or is about what is held."""
    held = state.get("held")
    if held is None:
        return acts
    last = FunctionalQuery.model_validate(held["query"])
    first, rest = _first_of(acts[0])
    if _is_same_thing(first, last) and not _OTHER.search(text):
        if first.intent == "pick" and not rest:
            return [_say(f"I hold the {name_of(last)} already.")]
        if first.intent != "pick":
            wish = last.model_copy(update={"intent": first.intent, "destination": first.destination, "text": text})
            return [_deliver(wish), Act(do="plan", steps=rest, at=0)] if rest else [_deliver(wish)]
    back = _put_back(last, text)
    if _CORRECTS.search(text):
        return [back, *acts]
    return [_whether(f"I still hold the {name_of(last)}. Shall I put it back first?", [back, *acts])]


def _first_of(act: Act) -> tuple[FunctionalQuery, list[Act]]:
    """The query of an act, or of the first step of a plan; and the steps after it."""
    steps = act["steps"] if act["do"] == "plan" else [act]
    return FunctionalQuery.model_validate(steps[0]["query"]), steps[1:]


def _is_same_thing(query: FunctionalQuery, held: FunctionalQuery) -> bool:
    """Is what is asked for what the hand holds? Words that it was not called by before may mean another one."""
    same = singular(name_of(query).split()[-1]) == singular(name_of(held).split()[-1])
    told_apart = {k: v for k, v in query.attributes.items() if k != "position" or v in SIDES}  # no "next to the pot"
    return same and told_apart.items() <= held.attributes.items()


# ---- words ----------------------------------------------------------------------------------------------------------


def _unmoved(query: FunctionalQuery, state: TalkState) -> str:
    if query.intent == "stop":
        return "Stopped. Nothing moves."
    if query.intent == "question":
        return UNKNOWN
    return f"All right.{_holding(state)} Tell me what you want, in your own words."


def _holding(state: TalkState) -> str:
    held = state.get("held")
    return "" if held is None else f" I hold the {name_of(FunctionalQuery.model_validate(held['query']))}."


def _invited(answer: str, state: TalkState) -> str:
    """After a greeting: what may be said."""
    new = answer == "Hello." and state.get("asked") is None
    return ' Tell me what you want, in your own words; "help" says what I can do.' if new else ""


def _say(text: str) -> Act:
    return {"do": "say", "text": text}


def _ask(kind: Any, text: str, query: FunctionalQuery | None) -> Act:
    plain = None if query is None else query.model_dump(mode="json")
    return {"do": "say", "text": text, "ask": {"kind": kind, "text": text, "query": plain, "choices": [], "acts": []}}


def _whether(text: str, acts: list[Act]) -> Act:
    """Asked before `acts` are done."""
    asked: Question = {"kind": "whether", "text": text, "query": None, "choices": [], "acts": acts}
    return {"do": "say", "text": text, "ask": asked}


def _grasp(query: FunctionalQuery) -> Act:
    clear = query.model_copy(update={"needs_clarification": False, "question": None})
    return {"do": "grasp", "query": clear.model_dump(mode="json")}


def _deliver(query: FunctionalQuery) -> Act:
    clear = query.model_copy(update={"needs_clarification": False, "question": None})
    return {"do": "deliver", "query": clear.model_dump(mode="json")}


def _put_back(query: FunctionalQuery, text: str) -> Act:
    return _deliver(query.model_copy(update={"intent": "place", "destination": BACK, "text": text}))
