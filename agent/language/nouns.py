"""An object named in words the catalogue does not know: "pick up the kettle" -> "kettle"."""

from __future__ import annotations

from dataclasses import dataclass

from affordagent.agent.language.details import COLOURS, PARTS, SIZES
from affordagent.agent.language.names import DETERMINERS, PREPOSITIONS, singular
from affordagent.agent.language.words import PUNCTUATION
from affordagent.core.lexicon import lexicon

# Verbs that move a thing: their object is the thing itself, whatever it is.
_STRONG = frozenset(
    "grab hand pass give bring fetch take lift grasp pick place put move carry return lend seize reach retrieve drop"
    " have".split()
)
# Verbs that also take what is not a thing ("get rid of", "need holes"): a definite noun that ends the clause is needed.
_WEAK = frozenset("get need want find hold remove see choose select".split())
_AFTER_VERB = frozenset("up me us over out him her them for please to back away down off everyone".split())
_GENERIC = frozenset(
    "something thing things anything stuff object item tool one ones it that this them what whatever which whichever"
    " everything gadget device utensils container vessel way hole hand look rid help care piece bit some any all more"
    " kitchen room time first part kind sort type those these there here i we you he she they who someone".split()
)
_DESCRIBING = frozenset([*COLOURS, *SIZES, "old", "new", "clean", "dirty", "other", "same", "nice"])
_STOPPERS = PREPOSITIONS | frozenset(
    "and or but then that which who is are was so because please not with for while if when where up down off lying"
    " standing sitting nearby now slowly carefully gently quickly handle back away again there here next closest"
    " nearest to i you we it me us instead thanks thank as".split()
)


@dataclass(frozen=True)
class NounPhrase:
    """words[start:end]; `noun`: the thing without article and adjectives; `modifiers`: those adjectives.

    generic: nothing is named ("the thing", "something", "what I need").
    """

    start: int
    end: int
    noun: str
    modifiers: tuple[str, ...]
    generic: bool


def moved_noun(words: list[str]) -> NounPhrase | None:
    """The noun phrase that the first verb of moving governs, None when there is no such verb."""
    for at, word in enumerate(words):
        if word not in _STRONG and word not in _WEAK:
            continue
        if word == "have" and not _asks_to_have(words, at):
            continue
        start = at + 1
        while start < len(words) and words[start] in _AFTER_VERB:
            start += 1
        phrase = _read_phrase(words, start)
        if phrase is None:
            continue
        if phrase.generic or word in _STRONG or _is_definite_and_last(words, phrase):
            return phrase
    return None


def _asks_to_have(words: list[str], at: int) -> bool:
    return at > 0 and (
        words[at - 1] in ("i", "me", "we") and at > 1 and words[at - 2] in ("can", "could", "may", "let")
    )


def _read_phrase(words: list[str], start: int) -> NounPhrase | None:
    at, modifiers = start, []
    determined = False
    while at < len(words) and (words[at] in DETERMINERS or words[at] in _DESCRIBING):
        if words[at] in ("that", "this", "some", "any", "one") and (at + 1 == len(words) or words[at + 1] in _STOPPERS):
            break
        determined |= words[at] in DETERMINERS
        modifiers += [words[at]] if words[at] in _DESCRIBING else []
        at += 1
    end = at
    while end < len(words) and words[end][0] not in PUNCTUATION and words[end] not in _STOPPERS and end - at < 3:
        end += 1
    if end == at and modifiers and words[at - 1] == modifiers[-1] and singular(modifiers[-1]) in lexicon():
        at, modifiers = at - 1, modifiers[:-1]  # "the orange" is a fruit where no thing follows
    while end - at > 1 and words[end - 1] in PARTS:  # "the kettle lid": the kettle, by its lid
        end -= 1
    noun = [w.removesuffix("'s") for w in words[at:end]]
    if not noun:
        generic = at < len(words) and (words[at] in _GENERIC or words[at] in ("that", "this"))
        return NounPhrase(start, at + 1, words[at], tuple(modifiers), True) if generic else None
    if noun[0] in _GENERIC or noun[-1] in _GENERIC:
        return NounPhrase(start, end, " ".join(noun), tuple(modifiers), True)
    if not determined and len(noun) > 2:
        return None
    return NounPhrase(start, end, " ".join([*noun[:-1], singular(noun[-1])]), tuple(modifiers), False)


def _is_definite_and_last(words: list[str], phrase: NounPhrase) -> bool:
    definite = words[phrase.start] in ("the", "that", "this", "my", "your", "those", "these")
    following = words[phrase.end] if phrase.end < len(words) else "."
    return definite and (
        following[0] in PUNCTUATION or following in ("please", "from", "on", "next", "by", "not", "beside")
    )
