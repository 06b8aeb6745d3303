"""Do instructions give away what they must not name? A check that shares nothing with the one that makes them.

It reads WordNet's own files and a list written by hand, and looks for any word that holds one of the stems. The filter
of agent/instructions/kin.py reads neither. Format of the files: wndb(5WN).
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from affordagent.core.catalogue import catalogue

# Stems that no hard instruction of the category may hold anywhere in a word, and whole words ("=cup").
BY_HAND: dict[str, str] = {
    "strainer": "strain sieve siev colander sift drainer",
    "fixed joint pliers": "plier plyer fixed =fix joint nipper pincer cutter",
    "slip joint pliers": "plier plyer =slip slipp joint channellock channelock",
    "locking pliers": "plier plyer =lock locks locked locking vise-grip visegrip vise vice =grips",
    "hammer": "hammer mallet",
    "ladle": "ladle ladling dipper",
    "whisk": "whisk beater =beat =beats =beating eggbeat",
    "measuring cup": "measur =cup =cups teacup cupful beaker =jug =jugs =scoop",
    "power drill": "drill power =driver screwdriver",
    "adjustable wrench": "wrench spanner adjust shifter",
    "combination wrench": "wrench spanner combin",
    "mug": "=mug =mugs mugful =cup =cups teacup tankard =stein",
    "ratchet": "ratchet wrench spanner",
    "utensil": "utensil =fork =forks forkful spoon cutlery silverware flatware spork",
    "pot or pan": "=pot =pots =pan =pans saucepan frypan skillet wok casserole teapot stockpot pancake",
    "spatula": "spatula turner flipper =flip flipp scraper",
    "screwdriver": "screw driver flathead",
    "knife": "knife knive cleaver",
    "scissors": "scissor shears =snip =snips",
    "bottle": "bottle bottling =flask =flasks",
    "box": "=box boxes boxed carton packet package",
    "can": "=can =cans canned =tin =tins tinned",
    "ball": "=ball =balls baseball softball football racquetball",
    "banana": "banana plantain",
}
_ARTIFACT_OR_FOOD = ("06", "13")
_WORD = re.compile(r"[a-z]+(?:['-][a-z]+)*")


def leaks_by_hand(text: str, category: str) -> list[str]:
    """Words of a text that hold a stem of the list."""
    stems = BY_HAND[category].split()
    words = _WORD.findall(text.lower())
    return [w for w in words for s in stems if (w == s[1:] if s.startswith("=") else s in w)]


def leaks_by_wordnet(text: str, category: str, folder: Path) -> list[str]:
    """Names of the category by WordNet: lemmas that share a synset with one of its names, and what is derived from the
    name itself, as whole words, plurals, or phrases. folder: with data.noun and data.verb."""
    lower = f" {' '.join(_WORD.findall(text.lower()))} "
    return [name for name in _names(category, folder) if re.search(rf" {re.escape(name)}(?:s|es|ed|ing)? ", lower)]


@cache
def _names(category: str, folder: Path) -> frozenset[str]:
    known = catalogue()[category]
    own = {category, *known.names, *known.generic}
    lemmas = {lemma for words in _synsets(folder) if own & set(words) for lemma in words}
    heads = {category.split()[-1], known.names[0].split()[-1]}
    return frozenset(own | lemmas | {verb for head in heads for verb in _verbs(folder).get(head, ())})


@cache
def _synsets(folder: Path) -> tuple[tuple[str, ...], ...]:
    """The words of every synset of an artifact or a food."""
    rows = (line.split() for line in _lines(folder / "data.noun"))
    return tuple(tuple(_words(row)) for row in rows if row[1] in _ARTIFACT_OR_FOOD)


@cache
def _verbs(folder: Path) -> dict[str, set[str]]:
    """Noun -> the verbs that WordNet derives it from."""
    verbs = {row[0]: _words(row) for row in (line.split() for line in _lines(folder / "data.verb"))}
    found: dict[str, set[str]] = {}
    for line in _lines(folder / "data.noun"):
        for match in re.finditer(r" \+ (\d{8}) v ([0-9a-f]{2})([0-9a-f]{2})", line.split(" | ")[0]):
            noun = _words(line.split())[int(match[2], 16) - 1]
            found.setdefault(noun, set()).add(verbs[match[1]][int(match[3], 16) - 1])
    return found


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="latin1").splitlines() if not line.startswith("  ")]


def _words(row: list[str]) -> list[str]:
    return [word.replace("_", " ").lower() for word in row[4 : 4 + 2 * int(row[3], 16) : 2]]
