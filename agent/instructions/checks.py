"""Why a pair is not taken: every reason is kept with the text."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence

from rapidfuzz import fuzz, process

from affordagent.agent.instructions.judge import judged
from affordagent.agent.instructions.kin import leaks, names_of
from affordagent.agent.language.words import is_readable, tokens
from affordagent.core.catalogue import catalogue
from affordagent.core.lexicon import lexicon
from affordagent.finetune.data.instructions.pairs import MOST_WORDS, Instruction

NEAR = 90.0  # percent of equal letters (rapidfuzz ratio) from which a question copies another about the same thing
FEWEST_WORDS = 2
_ACTION = re.compile(
    r"\b(?:pick|grasp|grip|grab|hold|held|take|taken|lift|use|used|reach|carry|seize|clasp|pinch|squeeze|turn|press"
    r"|place|put|pull|push|pour|scoop|hand)(?:s|ed|ped|bed|ing|ping|bing)?\b"
)


class Checker:
    """Takes pairs one after another. among: categories that the offline language tells hard questions apart from; () =
    it is not asked."""

    def __init__(self, among: Sequence[str] = (), taken: Iterable[Instruction] = ()) -> None:
        self.among = tuple(among)
        self._questions: dict[str, list[str]] = defaultdict(list)
        self._seen: set[str] = set()
        for pair in taken:
            self._take(pair)

    def rejected(self, pair: Instruction) -> str | None:
        """Why the pair is not taken; None: it is, and later ones are compared with it."""
        reason = _unfit(pair) or self._copied(pair) or self._misread(pair)
        if reason is None:
            self._take(pair)
        return reason

    def _take(self, pair: Instruction) -> None:
        self._seen.add(plain(pair.question))
        self._questions[pair.category].append(plain(pair.question))

    def _copied(self, pair: Instruction) -> str | None:
        if pair.style == "template":  # there are three of them: each is said of many pictures
            return None
        question = plain(pair.question)
        if question in self._seen:
            return "duplicate"
        found = process.extractOne(
            question, self._questions[pair.category], scorer=fuzz.ratio, processor=None, score_cutoff=NEAR
        )
        return f"near-duplicate of {found[0]!r}" if found else None

    def _misread(self, pair: Instruction) -> str | None:
        if pair.style != "hard" or not self.among or pair.category not in catalogue() | lexicon():
            return None
        verdict = judged(pair.question, self.among)
        if not verdict.request:
            return "not a request, as the offline language reads it"
        if verdict.meant != pair.category:
            return f"means {verdict.meant or 'something else'}, as the offline language reads it"
        return None


def plain(text: str) -> str:
    """Lower-case words alone."""
    return " ".join(re.findall(r"[a-z0-9']+", text.lower()))


def _unfit(pair: Instruction) -> str | None:
    """What is wrong with a pair by itself."""
    for kind, text in (("question", pair.question), ("answer", pair.answer)):
        words = len(text.split())
        if words < FEWEST_WORDS:
            return f"{kind} too short"
        if words > MOST_WORDS:
            return f"{kind} too long: {words} words, {MOST_WORDS} at most"
        if any(unicodedata.category(c)[0] == "C" for c in text):
            return f"{kind} holds control characters or more than one line"
        if not is_readable(text.lower(), tokens(text)):
            return f"{kind} is no English"
    if pair.style == "hard":
        found = leaks(pair.question, pair.category)
        if found:
            return f"gives the name away: {', '.join(found)}"
    elif not _names(pair.question, pair.category):
        return "question does not name the thing"
    if not _names(pair.answer, pair.category):
        return "answer does not name the thing"
    return None if _ACTION.search(pair.answer.lower()) else "answer says no action"


def _names(text: str, category: str) -> bool:
    words = f" {' '.join(re.findall(r'[a-z0-9]+', text.lower()))} "
    names = (" ".join(re.findall(r"[a-z0-9]+", name.lower())) for name in names_of(category))
    return any(re.search(rf" {re.escape(name)}(?:s|es)? ", words) for name in names)
