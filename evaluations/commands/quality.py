"""Which texts of strangers are fit to be evaluated on, and why the others are not.

What the language stage cannot read is no ground to leave a command out: it is just what is to be measured. So
"off-task" asks for two signs, that nothing is wished for and that the text has nothing to do with the thing.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from rapidfuzz import fuzz, process

from affordagent.agent.language.names import mentions
from affordagent.agent.language.understand import understand
from affordagent.agent.language.words import is_readable, tokens
from affordagent.core.catalogue import catalogue
from affordagent.core.embedded import text_encoder
from affordagent.core.errors import Refused
from affordagent.core.lexicon import lexicon
from affordagent.evaluations.commands.command import MAX_TEXT, Command, CommandGold
from affordagent.evaluations.commands.distance import FUNCTION_WORDS

NEAR = 92.0  # percent of equal letters (rapidfuzz ratio) from which a text is a copy
NEAR_WORDS = 4  # shorter texts are copies only when they are equal: people do say the same few words
ON_TASK = 0.3  # cosine to what the thing is and is for; "nice survey" has 0.15, commands without a name 0.16 to 0.6
FEWEST_LETTERS = 3
LANGUAGE_WORDS = 3  # fewer words do not tell their language
ENGLISH_SHARE = 0.4  # of function words, from which a text is English beyond doubt

_PERSONAL = {
    "e-mail address": re.compile(r"[\w.+-]+\s?(?:@|\(at\)|\[at\])\s?[\w-]+(?:\.|\s?\(dot\)\s?)[\w.-]+", re.IGNORECASE),
    "link": re.compile(r"\b(?:https?://|www\.)\S+", re.IGNORECASE),
    "phone number": re.compile(r"(?<![\w.])\+?\(?\d(?:[\s()./-]{0,2}\d){6,14}(?!\w)"),
}
_MARKUP = re.compile(r"</?[a-zA-Z!][^>]*>|&(?:[a-z]{2,8}|#\d{1,6});")
_DESCRIBES = re.compile(
    r"^(?:there (?:is|are)|i (?:can )?see|(?:this|it) is (?:a|an|the) (?:picture|photo|image|scene|table)|"
    r"an? (?:picture|photo|image) of|(?:the|this) (?:picture|photo|image) (?:shows|has|is))\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Rejected:
    """A row that was not taken. row: its number, from 1. text: personal data masked. reasons: at least one."""

    row: int
    text: str
    writer: str | None
    reasons: tuple[str, ...]


@dataclass
class Screen:
    """Looks at commands one after another, and remembers those it has passed.

    examples: texts that writers were shown; copies of them are not taken.
    """

    examples: Sequence[str] = ()
    _same_meaning: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict), repr=False)
    _by_writer: dict[str | None, dict[str, str]] = field(default_factory=lambda: defaultdict(dict), repr=False)
    _texts: dict[str, str] = field(default_factory=dict, repr=False)

    def reasons(self, command: Command) -> tuple[str, ...]:
        """Why the command is not taken; empty = it is."""
        found = [*text_faults(command.text, command.language), *self._copies(command)]
        if not found:  # the rest costs a sentence embedding
            found = [*_off_task(command)]
        if not found:
            self._remember(command)
        return tuple(found)

    def _copies(self, command: Command) -> Iterable[str]:
        said = plain(command.text)
        if copy_of(said, [plain(example) for example in self.examples]) is not None:
            yield "copy of the example"
        if said in self._texts:
            yield f"same text as {self._texts[said]}"
            return
        pasted = copy_of(said, self._by_writer[command.writer]) if command.writer else None
        if pasted is not None:
            yield f"pasted: the same writer's {self._by_writer[command.writer][pasted]}"
            return
        near = copy_of(said, self._same_meaning[command.group])
        if near is not None:
            yield f"nearly the text of {self._same_meaning[command.group][near]}"

    def _remember(self, command: Command) -> None:
        said = plain(command.text)
        for known in (self._texts, self._same_meaning[command.group], self._by_writer[command.writer]):
            known.setdefault(said, command.id)


def screened(commands: Iterable[Command], examples: Sequence[str] = ()) -> tuple[list[Command], list[Rejected]]:
    """The commands that pass, and the others with their reasons; the first of several copies passes."""
    screen, taken, rejected = Screen(examples), [], []
    for row, command in enumerate(commands, 1):
        reasons = screen.reasons(command)
        if reasons:
            rejected.append(Rejected(row, masked(command.text), command.writer, reasons))
        else:
            taken.append(command)
    return taken, rejected


def text_faults(text: str, language: str = "en") -> tuple[str, ...]:
    """What is wrong with a text whatever it means: cheap, for every answer as it comes in."""
    faults = [f"personal data ({what}): leave it out" for what, pattern in _PERSONAL.items() if pattern.search(text)]
    if _MARKUP.search(text):
        faults.append("markup: write plain text")
    if any(unicodedata.category(c) in ("Cc", "Co", "Cs") for c in text):
        faults.append("control characters")
    letters = sum(c.isalpha() for c in text)
    if letters < FEWEST_LETTERS:
        faults.append(f"too short: {letters} letters, at least {FEWEST_LETTERS}")
    elif letters < 0.5 * len(text.replace(" ", "")):
        faults.append("no words: fewer letters than other signs")
    if len(text) > MAX_TEXT:
        faults.append(f"too long: {len(text)} characters, at most {MAX_TEXT}")
    if not faults and not _may_be(text, language):
        faults.append(f"wrong language: {language} was expected")
    return tuple(faults)


def _may_be(text: str, language: str) -> bool:
    """Whether the text may be in this language: English by its known words, another as long as it is not English."""
    words = [word for word in tokens(text.lower()) if word[0].isalnum()]
    if text.isascii() and len(words) < LANGUAGE_WORDS:
        return True
    if language.split("-")[0] == "en":
        return is_readable(text.lower(), words)
    return sum(word in FUNCTION_WORDS for word in words) < ENGLISH_SHARE * len(words) or not words


def plain(text: str) -> str:
    """Letters and digits only, one blank between words, no case: two texts that look alike are then equal."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join("".join(c if c.isalnum() else " " for c in folded).split())


def copy_of(said: str, known: Iterable[str]) -> str | None:
    """The known text (both `plain`) that this one copies, None when there is none."""
    known = list(known)
    if said in known:
        return said
    if len(said.split()) < NEAR_WORDS:
        return None
    best = process.extractOne(said, known, scorer=fuzz.ratio, score_cutoff=NEAR)
    return best[0] if best else None


def masked(text: str) -> str:
    """The text without what may tell who wrote it."""
    for what, pattern in _PERSONAL.items():
        text = pattern.sub(f"[{what}]", text)
    return text


def _off_task(command: Command) -> Iterable[str]:
    if not isinstance(command.gold, CommandGold) or not command.language.startswith("en"):
        return
    if _DESCRIBES.match(command.text) and "?" not in command.text:
        yield "off-task: describes the picture"
    elif not _is_wish(command.text) and likeness(command.text, command.gold) < ON_TASK:
        yield "off-task: no wish, and nothing to do with the thing"


def _is_wish(text: str) -> bool:
    if mentions(tokens(text.lower())):  # some known thing is named
        return True
    try:
        query = understand(text)
    except Refused:
        return True
    return query.wants_motion and not query.needs_clarification


def likeness(text: str, gold: CommandGold) -> float:
    """Largest cosine of the text to the names and descriptions of the gold's categories, in [-1, 1]."""
    said = [line for name in gold.categories for line in _sentences_about(name)]
    if not said:
        return 1.0  # told by an object's name alone: no ground to judge
    return float(np.max(text_encoder().sentences(said) @ text_encoder().sentences([text])[0]))


def _sentences_about(name: str) -> tuple[str, ...]:
    if name in catalogue():
        return (f"the {name}", *catalogue()[name].description)
    return (f"the {name}", *lexicon()[name].uses) if name in lexicon() else (f"the {name}",)
