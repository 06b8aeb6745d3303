"""Where pairs come from: the grammar, or a language model behind an OpenAI-compatible server."""

from __future__ import annotations

import hashlib
import json
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Annotated, Any, Protocol

import numpy as np
from pydantic import BaseModel, Field

from affordagent.agent.instructions.kin import gloss, kin, names_of
from affordagent.core.errors import AffordAgentError
from affordagent.core.run_store import write_json
from affordagent.finetune.data.instructions.grammar import write
from affordagent.finetune.data.instructions.pairs import MOST_WORDS, Instruction, Style
from affordagent.finetune.data.instructions.uses import Uses, uses_of
from affordagent.prompts.loader import render, version
from affordagent.tools.chat_model import ATTEMPTS, BadReplyError, ChatModel, tokens_in

PAIRS = 5  # of one question to a model
TEMPERATURE = 1.0  # variety is wanted
MOST_REPLY_TOKENS = 1200  # of five pairs of at most 50 + 50 words
RETRIES = 5  # after a broken connection, 408, 409, 429 or 5xx
TIMEOUT_S = 120.0
MOST_FORBIDDEN = 40  # words that the prompt names; all of them are checked afterwards

# What one request asks for, so that no two are alike. Drawn by its number.
VOICES = (
    "a hurried cook",
    "a retired craftsman",
    "a child of ten",
    "a polite guest",
    "a student who types fast",
    "a nurse at work",
    "a mechanic with oily hands",
    "a grandmother",
    "somebody who learns English",
    "a teacher",
    "a parent with a baby on the arm",
    "somebody who is a little annoyed",
    "somebody who thinks aloud",
    "an office worker",
)
MANNERS = (
    "say what has to be done",
    "tell the situation and leave the wish to be guessed",
    "ask a question",
    "describe what the thing looks like and does",
    "say what went wrong, or what should not happen",
    "say a wish and how it should be done",
    "tell of somebody else who needs it",
)
LENGTHS = ("under 8 words", "8 to 15 words", "15 to 25 words")


class Source(Protocol):
    """Where pairs come from. name: for the records."""

    name: str

    @property
    def style(self) -> Style: ...

    def pair(self, category: str, number: int) -> Instruction | str:
        """The number-th pair about a category, or why there is none. The same number gives the same pair."""
        ...

    def prepare(self, wanted: Sequence[tuple[str, int]]) -> None:
        """These are asked for next: what takes long may be fetched at once."""
        ...


def known_uses(category: str) -> Uses | None:
    """What a thing is for: by the catalogue, the lexicon, or WordNet's definition."""
    return uses_of(category, gloss(category))


class Grammar:
    """Pairs by the grammar; seeded."""

    name = "offline"

    def __init__(self, style: Style, seed: int) -> None:
        self.style, self.seed = style, seed

    def pair(self, category: str, number: int) -> Instruction:
        """Raises:
        AffordAgentError: nothing is known of what the category is for.
        """
        uses = known_uses(category)
        if uses is None and self.style == "template":
            uses = Uses((category,), ())
        if uses is None:
            raise AffordAgentError(
                f"what a {category!r} is for is in no list of mine: leave it out, or write with a language model"
            )
        rng = np.random.default_rng([self.seed, zlib.crc32(category.encode()), number])
        return write(rng, category, self.style, uses)

    def prepare(self, wanted: Sequence[tuple[str, int]]) -> None:
        """Nothing takes long."""


@dataclass
class Budget:
    """Tokens that may be spent, and their price. most_tokens, most_cost: None = no limit. price: of a million tokens of
    questions and of answers, in whatever currency `most_cost` is in."""

    most_tokens: int | None = None
    most_cost: float | None = None
    price: tuple[float, float] = (0.0, 0.0)
    asked: int = 0
    told: int = 0
    _held: dict[int, tuple[int, int]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def tokens(self) -> int:
        return self.asked + self.told

    @property
    def cost(self) -> float:
        return self._price_of(self.asked, self.told)

    def spend(self, asked: int, told: int) -> None:
        with self._lock:
            self.asked, self.told = self.asked + asked, self.told + told

    @contextmanager
    def room_for(self, asked: int, told: int) -> Iterator[None]:
        """Hold that many tokens free while a request is under way.

        Raises:
            AffordAgentError: with them the limit would be passed.
        """
        with self._lock:
            held_asked, held_told = (sum(held) for held in zip((asked, told), *self._held.values(), strict=True))
            tokens = self.tokens + held_asked + held_told
            cost = self._price_of(self.asked + held_asked, self.told + held_told)
            if self.most_tokens is not None and tokens > self.most_tokens:
                raise AffordAgentError(
                    f"{self.tokens} of {self.most_tokens} tokens are spent, and the next requests may take "
                    f"{tokens - self.tokens}: stopped. Raise --most-tokens and give the same command to go on"
                )
            if self.most_cost is not None and cost > self.most_cost:
                raise AffordAgentError(
                    f"{self.cost:.4f} of {self.most_cost:g} is spent, and the next requests may cost "
                    f"{cost - self.cost:.4f}: stopped. Raise --most-cost and give the same command to go on"
                )
            key = max(self._held, default=0) + 1
            self._held[key] = asked, told
        try:
            yield
        finally:
            with self._lock:
                del self._held[key]

    def _price_of(self, asked: int, told: int) -> float:
        return (asked * self.price[0] + told * self.price[1]) / 1e6


class Pace:
    """At most so many requests a minute, evenly apart; None: no limit."""

    def __init__(self, per_minute: float | None) -> None:
        self._gap_s, self._next_s = (60.0 / per_minute if per_minute else 0.0), 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        with self._lock:
            now = time.monotonic()
            at = max(now, self._next_s)
            self._next_s = at + self._gap_s
        time.sleep(at - now)


class PairReply(BaseModel):
    question: Annotated[str, Field(max_length=600)]
    answer: Annotated[str, Field(max_length=600)]


class PairsReply(BaseModel):
    """What the model is to answer; see prompts/write_instructions_hard.md."""

    pairs: Annotated[list[PairReply], Field(max_length=2 * PAIRS)]


class Model:
    """Pairs by a language model, five a request. cache: folder of replies; what is there is not asked again.

    url, model: see `ChatModel`. workers: requests under way at once.
    """

    def __init__(
        self,
        url: str,
        model: str,
        style: Style,
        seed: int,
        cache: Path,
        budget: Budget,
        per_minute: float | None = None,
        workers: int = 1,
    ) -> None:
        if style == "template":
            raise AffordAgentError("template questions are the published ones: no model writes them; give --offline")
        self.style, self.seed, self.cache, self.budget, self.workers = style, seed, cache, budget, workers
        self.prompt = f"write_instructions_{style}"
        self.name = f"{model}, {version(self.prompt)}"
        self.model = model
        self._pace = Pace(per_minute)
        self._chat = ChatModel(
            url,
            model,
            TIMEOUT_S,
            RETRIES,
            temperature=TEMPERATURE,
            most_tokens=MOST_REPLY_TOKENS,
            spend=budget.spend,
        )

    def pair(self, category: str, number: int) -> Instruction | str:
        """Raises:
        AffordAgentError: the budget is spent, or the server is out of reach or refuses.
        """
        reply = self._reply(category, number // PAIRS)
        if isinstance(reply, str):
            return reply
        if number % PAIRS >= len(reply):
            return f"the model wrote {len(reply)} of {PAIRS} pairs"
        pair = reply[number % PAIRS]
        return Instruction(category, self.style, pair.question.strip(), pair.answer.strip())

    def prepare(self, wanted: Sequence[tuple[str, int]]) -> None:
        requests = list(dict.fromkeys((category, number // PAIRS) for category, number in wanted))
        if self.workers > 1 and len(requests) > 1:
            with ThreadPool(min(self.workers, len(requests))) as pool:
                pool.starmap(self._reply, requests, chunksize=1)

    def _reply(self, category: str, request: int) -> list[PairReply] | str:
        prompt = self._prompt(category, request)
        file = self.cache / f"{self._key(prompt, request)}.json"
        if file.is_file():
            stored = json.loads(file.read_text(encoding="utf-8"))
            return PairsReply.model_validate(stored["reply"]).pairs if stored["reply"] else str(stored["fault"])
        most = tokens_in(prompt) * ATTEMPTS + MOST_REPLY_TOKENS, MOST_REPLY_TOKENS * ATTEMPTS
        self.cache.mkdir(parents=True, exist_ok=True)
        kept: dict[str, Any] = {"model": self.model, "prompt": version(self.prompt), "category": category}
        with self.budget.room_for(*most):
            self._pace.wait()
            try:
                reply = self._chat.ask(prompt, PairsReply)
            except BadReplyError as error:
                write_json(file, kept | {"reply": None, "fault": str(error)})
                return str(error)
        write_json(file, kept | {"reply": reply.model_dump(), "fault": None})
        return reply.pairs

    def _key(self, prompt: str, request: int) -> str:
        made_of = [version(self.prompt), self._chat.url, self.model, TEMPERATURE, self.seed, request, prompt]
        return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()

    def _prompt(self, category: str, request: int) -> str:
        rng = np.random.default_rng([self.seed, zlib.crc32(category.encode()), request])
        uses = known_uses(category)
        return render(
            self.prompt,
            pairs=PAIRS,
            most_words=MOST_WORDS,
            thing=json.dumps(category),
            names=", ".join(names_of(category)),
            purpose=gloss(category) or "",
            hold=uses.hold if uses else "where it is safe",
            forbidden=", ".join(sorted(kin(category).words, key=lambda w: (len(w), w))[:MOST_FORBIDDEN]),
            voice=VOICES[int(rng.integers(len(VOICES)))],
            manners=[MANNERS[i] for i in rng.permutation(len(MANNERS))[:3]],
            length=LENGTHS[int(rng.integers(len(LENGTHS)))],
        )
