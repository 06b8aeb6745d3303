"""Commands read by a language model behind an OpenAI-compatible server, into the same FunctionalQuery as offline.

The model's answer is data: names, a part, attributes, all checked here against what the system knows. It holds no field
for poses, limits, settings or calls, so it cannot carry any. Safety and stops are decided before the model is asked,
and its answer is checked once more. What the offline rules read with certainty is not overruled but asked back about.
Whenever there is no good answer in time, the offline reading stands, and says so.
"""

from __future__ import annotations

import json
import multiprocessing
import re
import time
from collections.abc import Callable
from functools import cached_property
from multiprocessing.pool import ThreadPool
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from affordagent.agent.language import details
from affordagent.agent.language.names import mentions
from affordagent.agent.language.places import destination_of
from affordagent.agent.language.safety import refuse_harm, without_limit_talk
from affordagent.agent.language.understand import MIN_SCORE, NAMED_THING, QUESTIONS, handed_over, understand
from affordagent.agent.language.words import clean, tokens
from affordagent.core.catalogue import catalogue
from affordagent.core.errors import AffordAgentError, Refused
from affordagent.core.lexicon import lexicon
from affordagent.core.types import Candidate, Destination, FunctionalQuery
from affordagent.prompts.loader import render, version
from affordagent.tools.chat_model import ChatModel

PROMPT = "understand_command"
WITHIN_S = 20.0
RETRIES = 1
MOST_THINGS = 6
MOST_WORDS = 5  # of a name
POSITIONS = ("left", "right", "nearest", "farthest", "front", "back", "middle", "top", "bottom")
CONSTRAINTS = ("hot", "full", "level", "fragile", "sharp", "careful", "slowly", "handle first", "blade first")
HANDLE_FREE = "handle_free"  # decided by the rules alone

Picture = NDArray[np.uint8]  # (H, W, 3) RGB
Words = Annotated[str, Field(max_length=80)]
Text = Annotated[str, Field(max_length=400)]
SHARES = {"sure": 0.9, "likely": 0.5, "possible": 0.2}  # words: models are no judges of their own numbers


class ThingReply(BaseModel):
    name: Words
    fits: Literal["sure", "likely", "possible"]


class PlaceReply(BaseModel):
    relation: Literal["in", "on", "beside"]
    thing: Words


class CommandReply(BaseModel):
    """What the model is to answer; see prompts/understand_command.md. Anything besides is dropped unread."""

    english: Annotated[str, Field(max_length=2000)] | None = None
    intent: Literal["pick", "hand_over", "place", "stop", "question", "refer_back", "none"]
    harmful: bool
    things: Annotated[list[ThingReply], Field(max_length=MOST_THINGS)]
    object_words: Words | None = None
    part: Words | None = None
    colour: Words | None = None
    size: Words | None = None
    material: Words | None = None
    position: Words | None = None
    constraints: Annotated[list[Words], Field(max_length=10)] = []
    destination: PlaceReply | None = None
    question: Text | None = None


EXAMPLES = {
    "Gib mir bitte die rote Zange am Griff": CommandReply(
        english="Please give me the red pliers by the handle",
        intent="hand_over",
        harmful=False,
        things=[ThingReply(name="pliers", fits="sure")],
        object_words="pliers",
        part="handle",
        colour="red",
    ),
    "the lid is stuck, I can't twist it off with my hands": CommandReply(
        intent="pick",
        harmful=False,
        things=[ThingReply(name="slip joint pliers", fits="likely"), ThingReply(name="glove", fits="possible")],
    ),
    "how old is this table?": CommandReply(intent="question", harmful=False, things=[]),
}


class LlmReader:
    """url, model: see `ChatModel`. within_s: for one command, questions asked again included."""

    def __init__(self, url: str, model: str, within_s: float = WITHIN_S) -> None:
        self.url, self.model, self.within_s = url, model, within_s

    @cached_property
    def chat(self) -> ChatModel:
        return ChatModel(self.url, self.model, self.within_s, RETRIES)

    def __call__(self, text: str, see: Callable[[], Picture] | None = None) -> FunctionalQuery:
        """What the person wants. see: the camera's picture of now, for a model with eyes; asked for once it is needed.

        `read_by` of the query holds the model, the prompt's version and the time; or, as `unavailable`, why it was read
        offline instead.

        Raises:
            StageFailure: language.empty, language.too_long; whatever `see` raises.
            Refused: language.refused, when somebody would be hurt, by the rules or by what the model says.
        """
        offline = understand(text)  # harm is refused, and a stop found, without waiting for a server
        if offline.intent == "stop":
            return offline
        picture = see() if see is not None else None
        made: dict[str, Any] = {"model": self.model, "url": self.url, "prompt": version(PROMPT)}
        made |= {"saw_the_picture": picture is not None}
        started = time.perf_counter()
        try:
            reply = self._ask(clean(text), picture)
            query = query_of(reply, offline)
        except Refused:
            raise
        except AffordAgentError as error:
            query, made = _instead(offline, str(error)), made | {"unavailable": str(error)}
        made["took_s"] = round(time.perf_counter() - started, 2)
        return query.model_copy(update={"read_by": query.read_by | made})

    def _ask(self, text: str, picture: Picture | None) -> CommandReply:
        prompt = render(
            PROMPT,
            command=json.dumps(text, ensure_ascii=False),
            examples=[(json.dumps(said), reply.model_dump_json()) for said, reply in EXAMPLES.items()],
            sees=picture is not None,
            most_things=MOST_THINGS,
            categories=", ".join(catalogue()),
            parts=", ".join(sorted(set(details.PARTS.values()))),
            positions=", ".join(POSITIONS),
            constraints=", ".join(CONSTRAINTS),
        )
        pool = ThreadPool(1)  # its thread ends with the process, or when the server has answered after all
        try:
            return pool.apply_async(self.chat.ask, (prompt, CommandReply, picture)).get(self.within_s)
        except multiprocessing.TimeoutError:
            raise AffordAgentError(
                f"{self.model} at {self.url} had no answer within {self.within_s:g} s: take a quicker model, or raise "
                "`language_within_s` in the settings"
            ) from None
        finally:
            pool.close()


def _instead(offline: FunctionalQuery, why: str) -> FunctionalQuery:
    if "not_english" not in offline.read_by:
        return offline
    question = "I understand English only without the language model, which has no answer. Could you say it in English?"
    return offline.model_copy(update={"question": question})


def query_of(reply: CommandReply, offline: FunctionalQuery) -> FunctionalQuery:
    """The query that a reply stands for, checked. offline: how the rules read the same text.

    Raises:
        Refused: language.refused, when the model calls it harmful, or its words are by the rules.
        AffordAgentError: it translates nothing where the text is not English.
    """
    for words in (reply.english, reply.object_words, *(thing.name for thing in reply.things)):
        refuse_harm((words or "").lower())
    if reply.harmful:
        raise Refused("understand", "language.refused", "somebody could be hurt, as the language model reads it")
    if "not_english" not in offline.read_by:
        return _asked_back(_query(reply, offline), offline, reply)
    if not _line(reply.english):
        raise AffordAgentError("the language model did not say what that is in English")
    rules = understand(reply.english or "")
    named = [m for m in mentions(tokens(offline.text)) if m.known]  # "Hammer" is one in German too
    query = _asked_back(_query(reply, rules), rules, reply)
    if named and query.wants_motion and not any(c.name in m.categories for c in query.candidates for m in named):
        query = _with_question(query, _which(next(iter(named[0].categories)), query))
    return query.model_copy(update={"text": offline.text, "read_by": {"english": clean(reply.english or "")}})


def _query(reply: CommandReply, rules: FunctionalQuery) -> FunctionalQuery:
    """rules: how they read the text, or its translation. What that states outright comes before what the model says."""
    said = " ".join(tokens(without_limit_talk(rules.text)[0]))
    if rules.intent == "stop" or reply.intent not in ("pick", "hand_over", "place"):
        intent = "stop" if rules.intent == "stop" else reply.intent
        return FunctionalQuery(text=rules.text, intent=intent, constraints=rules.constraints)
    candidates = _candidates(reply.things)
    if not candidates:  # a motion, but of what?
        return rules
    told = rules.intent in ("hand_over", "place") and not rules.needs_clarification
    best = candidates[0]
    own = _words(reply.object_words)
    own = own if own and own in said else rules.object_words
    known = catalogue() | lexicon()
    usual = known[best.name].part if best.name in known else None
    constraints = [c for c in map(str.lower, reply.constraints) if c in CONSTRAINTS]
    query = FunctionalQuery(
        text=rules.text,
        intent=rules.intent if told else reply.intent,
        category=best.name if best.known else None,
        candidates=candidates,
        object_words=own,
        function=rules.function or (said if own is None else None),
        part=details.part_of(said) or (details.PARTS.get(_words(reply.part) or "") if own else None) or usual,
        attributes=_attributes(reply, said) | rules.attributes,
        constraints=[c for c in dict.fromkeys([*rules.constraints, *constraints]) if c != HANDLE_FREE],
    )
    if query.intent == "place":
        query = query.model_copy(update={"destination": rules.destination or _destination(reply)})
    return handed_over(query, said)


def _asked_back(query: FunctionalQuery, rules: FunctionalQuery, reply: CommandReply) -> FunctionalQuery:
    """With a question instead of a guess: the model's own, or one about what it and the rules read differently."""
    own, names = _line(reply.question), [c.name for c in query.candidates]
    if query is rules:
        return _with_question(query, own) if own and query.wants_motion else query
    by_rules = [c.name for c in rules.candidates]
    question = None
    if query.intent == "refer_back" or (query.wants_motion and rules.intent == "refer_back"):
        question = own or QUESTIONS["refer_back"]
    elif not query.wants_motion:
        question = own if query.intent == "none" else None
    elif own:
        question = own
    elif "not_english" in rules.read_by:  # a translation that is no English
        question = QUESTIONS["flat"]
    elif query.intent == "place" and query.destination is None:
        question = QUESTIONS["where"]
    elif not rules.wants_motion and not rules.needs_clarification:
        question = f"I am not sure that anything shall move. Shall I take the {names[0]}? Then tell me to."
    elif by_rules and (not set(names) & set(by_rules) or (_is_named(rules) and by_rules[0] not in names)):
        question = _which(by_rules[0], query)
    return _with_question(query, question) if question else query


def _is_named(rules: FunctionalQuery) -> bool:
    """Does the text say outright what it means?"""
    return rules.object_words is not None and rules.candidates[0].score >= NAMED_THING


def _which(name: str, query: FunctionalQuery) -> str:
    other = f" or the {query.candidates[0].name}" if query.candidates else ""
    return f"Which do you mean, the {name}{other}?"


def _with_question(query: FunctionalQuery, question: str) -> FunctionalQuery:
    return query.model_copy(update={"needs_clarification": True, "question": question})


def _candidates(things: list[ThingReply]) -> list[Candidate]:
    """Known names first of all as the system calls them; scores that add up to at most 1, best first."""
    found: dict[str, float] = {}
    for thing in things:
        for name, weight in _names(thing.name).items():
            found[name] = found.get(name, 0.0) + weight * SHARES[thing.fits]
    total = max(1.0, sum(found.values()))
    ranked = sorted(found.items(), key=lambda pair: -pair[1])
    return [
        Candidate(name=name, score=round(score / total, 4), known=name in catalogue())
        for name, score in ranked
        if score / total >= MIN_SCORE
    ]


def _names(given: str) -> dict[str, float]:
    """What a name means, with weights that add up to 1: categories, a thing of the lexicon, or the words themselves."""
    words = _words(given)
    if words is None:
        return {}
    whole = [m for m in mentions(["the", *words.split()]) if m.end == 1 + len(words.split())]
    if not whole:
        return {words: 1.0}
    total = sum(whole[-1].categories.values())
    return {name: weight / total for name, weight in whole[-1].categories.items()}


def _words(given: str | None) -> str | None:
    """A name in plain lower-case words, without articles; None when it is no name."""
    words = [w for w in tokens(given or "") if re.fullmatch(r"[a-z0-9][a-z0-9'-]*", w)]
    while words and words[0] in ("the", "a", "an", "some", "my", "your"):
        words = words[1:]
    return " ".join(words) if 0 < len(words) <= MOST_WORDS else None


def _line(given: str | None) -> str | None:
    """One line of printable characters, None when nothing is left."""
    kept = "".join(c if c.isprintable() else " " for c in given or "")
    return " ".join(kept.split()) or None


def _attributes(reply: CommandReply, said: str) -> dict[str, str]:
    """Those that the tools know and the text says; the others are dropped."""
    given = " ".join(w for w in map(_words, (reply.colour, reply.size, reply.material)) if w).split()
    found = {kind: value for word in given if word in said for kind, value in details.adjectives([word]).items()}
    position = _words(reply.position) or ""
    if position not in POSITIONS:
        position = details.position_of(position) or ""
    return found | ({"position": position} if position and position in said else {})


def _destination(reply: CommandReply) -> Destination | None:
    words = _words(reply.destination.thing) if reply.destination else None
    return destination_of(words.split(), reply.destination.relation) if reply.destination and words else None


Reader = Callable[[str, Callable[[], Picture] | None], FunctionalQuery]


def open_reader(language: str, within_s: float = WITHIN_S) -> Reader:
    """Who reads commands. language: "offline" or "URL,MODEL".

    Raises:
        AffordAgentError: it is neither.
    """
    if language == "offline":
        return lambda text, see: understand(text)
    url, _, model = (word.strip() for word in language.partition(","))
    if not url.startswith(("http://", "https://")) or not model:
        raise AffordAgentError(
            f"language is '{language}'; use offline, or URL,MODEL of an OpenAI-compatible server, such as "
            "http://127.0.0.1:11434/v1,qwen3 (docs/language.md)"
        )
    return LlmReader(url, model, within_s)
