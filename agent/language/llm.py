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
POSITIONS = ("left", "right", "nearest", "farthest", "front", "back", "middle", "top", "bottom")
CONSTRAINTS = ("hot", "full", "level", "fragile", "sharp", "careful", "slowly", "handle first", "blade first")

Picture = NDArray[np.uint8]  # (H, W, 3) RGB
Words = Annotated[str, Field(max_length=80)]
Text = Annotated[str, Field(max_length=400)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class ThingReply(BaseModel):
    name: Words
    confidence: Share


class PlaceReply(BaseModel):
    relation: Literal["in", "on", "beside"]
    thing: Words


class CommandReply(BaseModel):
    """What the model is to answer; see prompts/understand_command.md. Anything besides is dropped unread."""

    english: Annotated[str, Field(max_length=2000)]
    intent: Literal["pick", "hand_over", "place", "stop", "question", "refer_back", "none"]
    harmful: bool
    things: Annotated[list[ThingReply], Field(max_length=MOST_THINGS)]
    object_words: Words | None = None
    function: Text | None = None
    part: Words | None = None
    colour: Words | None = None
    size: Words | None = None
    material: Words | None = None
    position: Words | None = None
    constraints: Annotated[list[Words], Field(max_length=10)] = []
    destination: PlaceReply | None = None
    question: Text | None = None


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
        Refused: language.refused, when the model calls it harmful, or its translation is by the rules.
        StageFailure: there is no word in its translation.
    """
    for words in (reply.english, reply.object_words, reply.function, *(t.name for t in reply.things)):
        refuse_harm((words or "").lower())
    if reply.harmful:
        raise Refused("understand", "language.refused", "somebody could be hurt, as the language model reads it")
    translated = "not_english" in offline.read_by
    rules = understand(reply.english) if translated else offline
    said = " ".join(tokens(without_limit_talk(clean(reply.english if translated else offline.text).lower())[0]))
    query = _asked_back(_query(reply, rules, said), rules, reply)
    read_by = {"english": clean(reply.english)} if translated else {}
    return query.model_copy(update={"text": offline.text, "read_by": read_by})


def _query(reply: CommandReply, rules: FunctionalQuery, said: str) -> FunctionalQuery:
    """said: the text in English, lower case. What it states outright comes before what the model says."""
    if rules.intent == "stop" or reply.intent not in ("pick", "hand_over", "place"):
        intent = "stop" if rules.intent == "stop" else reply.intent
        return FunctionalQuery(text=said, intent=intent, constraints=rules.constraints)
    candidates = _candidates(reply.things)
    best = candidates[0] if candidates else None
    own = _words(reply.object_words)
    stated = details.part_of(said) or _part(reply.part)
    usual = (catalogue() | lexicon())[best.name].part if best and best.name in catalogue() | lexicon() else None
    constraints = [c for c in map(str.lower, reply.constraints) if c in CONSTRAINTS]
    query = FunctionalQuery(
        text=said,
        intent=reply.intent,
        category=best.name if best and best.known else None,
        candidates=candidates,
        object_words=own or (best.name if best and not best.known and reply.function is None else None),
        function=_function(reply) or (said if own is None else None),
        part=stated or usual,
        attributes=_attributes(reply) | rules.attributes,
        constraints=list(dict.fromkeys([*rules.constraints, *constraints])),
        destination=_destination(reply, rules),
    )
    return handed_over(query.model_copy(update={"constraints": _without_free(query.constraints)}), said)


def _without_free(constraints: list[str]) -> list[str]:
    return [c for c in constraints if c != "handle_free"]  # `handed_over` decides it anew


def _asked_back(query: FunctionalQuery, rules: FunctionalQuery, reply: CommandReply) -> FunctionalQuery:
    """With a question instead of a guess: the model's own, or one about what it and the rules read differently."""

    def ask(question: str) -> FunctionalQuery:
        return query.model_copy(update={"needs_clarification": True, "question": question})

    own = _line(reply.question)
    if query.intent == "refer_back":
        return ask(own or QUESTIONS["refer_back"])
    if not query.wants_motion:
        return ask(own) if query.intent == "none" and own else query
    names = [c.name for c in query.candidates]
    if own:
        return ask(own)
    if not names:
        return ask(QUESTIONS["flat"])
    if query.intent == "place" and query.destination is None:
        return ask(QUESTIONS["where"])
    if "not_english" in rules.read_by:
        return ask(QUESTIONS["flat"])  # its translation is no English
    if not rules.wants_motion and not rules.needs_clarification:
        return ask(f"I am not sure that anything shall move. Shall I take the {names[0]}? Then tell me to.")
    if rules.intent == "refer_back":
        return ask(QUESTIONS["refer_back"])
    named = rules.candidates[0] if rules.candidates and rules.object_words else None
    if named is not None and named.score >= NAMED_THING and named.name not in names:
        return ask(f"Which do you mean, the {named.name} or the {names[0]}?")
    return query


def _candidates(things: list[ThingReply]) -> list[Candidate]:
    """Known names first of all as the system calls them; scores that add up to at most 1, best first."""
    found: dict[str, float] = {}
    for thing in things:
        for name, weight in _names(thing.name).items():
            found[name] = found.get(name, 0.0) + weight * thing.confidence
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


MOST_WORDS = 5  # of a name


def _line(given: str | None) -> str | None:
    """One line of printable characters, None when nothing is left."""
    kept = "".join(c if c.isprintable() else " " for c in given or "")
    return " ".join(kept.split()) or None


def _function(reply: CommandReply) -> str | None:
    return without_limit_talk(_line(reply.function) or "")[0].lower() or None


def _part(given: str | None) -> str | None:
    return details.PARTS.get(_words(given) or "")


def _attributes(reply: CommandReply) -> dict[str, str]:
    """Those that the tools know; the others are dropped."""
    told = " ".join(w for w in map(_words, (reply.colour, reply.size, reply.material)) if w)
    position = _words(reply.position)
    if position is not None and position not in POSITIONS:
        position = details.position_of(position)
    return details.adjectives(told.split()) | ({"position": position} if position else {})


def _destination(reply: CommandReply, rules: FunctionalQuery) -> Destination | None:
    if reply.intent != "place":
        return None
    words = _words(reply.destination.thing) if reply.destination else None
    if rules.destination is not None or reply.destination is None or words is None:
        return rules.destination
    return destination_of(words.split(), reply.destination.relation)


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
