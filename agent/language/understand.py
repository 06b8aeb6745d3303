"""A command in, a FunctionalQuery out: offline, without a language model.

The order matters: safety first, then what kind of sentence it is, then the object (a name of the catalogue or the
lexicon, a noun of the person's own, or a function that some thing serves), then how it is to be held and handled.
"""

from __future__ import annotations

import re
from typing import Any

from affordagent.agent.language import details, intent
from affordagent.agent.language.languages import language_of
from affordagent.agent.language.names import LIGHT, Mention, mentions
from affordagent.agent.language.nouns import NounPhrase, moved_noun
from affordagent.agent.language.places import is_for_me, is_purpose, placing_of, points
from affordagent.agent.language.remarks import is_about, is_told_not_to
from affordagent.agent.language.retrieval import OFF_TOPIC, neighbour_scores, probabilities
from affordagent.agent.language.safety import refuse_harm, without_limit_talk
from affordagent.agent.language.words import PUNCTUATION, asked_plainly, clean, is_readable, tokens
from affordagent.core.catalogue import catalogue
from affordagent.core.lexicon import lexicon
from affordagent.core.types import Candidate, FunctionalQuery, Intent

MIN_SIMILARITY = 0.33  # of the best candidate to its sentences, below it no function is recognised
MIN_SCORE = 0.01
MAX_CANDIDATES = 12
NAMED_THING = 0.9  # that a name of the lexicon means that thing
OWN_WORD = 0.7  # that an unknown noun is meant as it was said
HEDGE = 0.8  # of what a noun leaves, for what the whole sentence suggests

SHARP = frozenset(  # handed over handle first, whether or not that is said
    ["knife", "scissors", "utility knife", "pocket knife", "putty knife", "axe", "hand saw", "hacksaw", "chisel"]
    + ["pruning shears", "pizza cutter", "peeler"]
)
_PUT_IT = re.compile(
    r"[,;.]?\s*\b(?:and |then |and then )(?:please )?(?:put|place|set|lay|drop|move|leave|carry) (?:it|them|that)\b"
)
_THEN = re.compile(
    r"[,;.]?\s*\b(?:and then|then|afterwards|after that|and after|and afterwards|, later|next,)\b\s*,?\s*"
)
_PURPOSE = re.compile(r"\b(?:to|for|so that|so i can|because) (?!me\b|us\b|him\b|her\b|the (?:left|right)|anna\b)(.+)$")
QUESTIONS = {
    "language": "I understand English only when I work offline. Could you say it in English, or set `language` to a "
    "model that speaks yours?",
    "pointing": "I cannot see where you point. What is it called, or what is it for?",
    "flat": "Which object do you mean, or what do you want to do with it?",
    "where": "Where should it go? I can put it in, on or next to a thing, or on the table.",
    "where_pointed": "I cannot see where you point. Should it go in, on or next to a thing, or on the table?",
    "refer_back": "Which one do you mean? Please name the object, its colour or where it is.",
}


def understand(text: str) -> FunctionalQuery:
    """What the person wants.

    Questions, "stop" and small talk come back with their intent and without a category; the caller answers or refuses.
    A thing that is named but not in the catalogue keeps its own name (`object_words`, `category` None).

    Raises:
        StageFailure: language.empty, language.too_long.
        Refused: language.refused, when somebody would be hurt.
    """
    cleaned = clean(text)
    lower = cleaned.lower()
    refuse_harm(lower)
    lower, ignored = without_limit_talk(asked_plainly(lower))
    words = tokens(lower)
    kind = intent.non_motion(lower)
    if kind is None and not is_readable(lower, words) and not (ignored and not words):
        return _unread(cleaned, words, ignored)
    lower = _joined(words)
    kind = kind or intent.non_motion(lower)
    if kind is None and is_told_not_to(lower):
        kind = "none"
    if kind is not None:
        return _without_motion(cleaned, kind, lower, words, ignored)
    if not words:
        return FunctionalQuery(text=cleaned, intent="none", constraints=ignored)
    placing = placing_of(lower)
    if placing is not None:  # before the sentence is split: "take the mug, then put it on the tray" is one motion
        moved = _PUT_IT.sub("", placing.rest)
        query = _request(cleaned, moved, ignored)
        return _placed(query.model_copy(update={"intent": "place", "destination": placing.destination}), moved)
    if is_about(lower) and _named(mentions(words), moved_noun(words)) is not None:
        return FunctionalQuery(text=cleaned, intent="question" if "?" in words else "none", constraints=ignored)
    first, later = _first_and_later(lower)
    return handed_over(_nowhere(_request(cleaned, first, ignored + later), lower), lower)


def _placed(query: FunctionalQuery, moved: str) -> FunctionalQuery:
    """The object of a place motion must have been named: "put it in the box" refers back."""
    phrase = moved_noun(tokens(moved))
    if phrase is not None and not phrase.generic:
        return query
    asked = {"needs_clarification": True, "question": QUESTIONS["refer_back"], "category": None, "candidates": []}
    return query.model_copy(update=asked)


def _nowhere(query: FunctionalQuery, lower: str) -> FunctionalQuery:
    """A place motion without a destination: none at all, where no thing is named; to the person; or a question."""
    if query.intent != "place":
        return query
    if query.object_words is None or is_purpose(lower):
        return query.model_copy(update={"intent": "pick"})
    if is_for_me(lower):
        return query.model_copy(update={"intent": "hand_over"})
    question = QUESTIONS["where_pointed" if points(lower) else "where"]
    return query.model_copy(update={"needs_clarification": True, "question": question})


def handed_over(query: FunctionalQuery, lower: str) -> FunctionalQuery:
    """A thing with a handle that is sharp, or asked for safely, is held by the rest: the person takes the handle."""
    name = query.category or next((c.name for c in query.candidates), None)
    own = (catalogue() | lexicon())[name].part if name in catalogue() or name in lexicon() else None
    if query.intent != "hand_over" or own != "handle":
        return query
    stated = details.part_of(lower)
    sharp = name in SHARP and (stated is None or stated in details.SHARP_PARTS)
    if not (sharp or details.wants_handle_free(lower)) or details.parts_excluded(lower):
        return query
    return query.model_copy(update={"part": own, "constraints": [*query.constraints, "handle_free"]})


def understand_many(texts: list[str]) -> list[FunctionalQuery]:
    """`understand` for each text; raises at the first that raises."""
    return [understand(text) for text in texts]


def _request(text: str, lower: str, constraints: list[str]) -> FunctionalQuery:
    words = tokens(lower)
    found = mentions(words)
    phrase = moved_noun(words)
    chosen = _named(found, phrase)
    function = _function(lower, chosen is not None)
    common: dict[str, Any] = {"text": text, "intent": intent.motion(lower), "function": function}
    constraints = details.constraints_of(lower) + constraints
    if chosen is not None:
        candidates = _named_candidates(chosen, lower)
        others = [
            m
            for m in found
            if m.role == "object" and m.start > chosen.start and not m.categories.keys() & chosen.categories.keys()
        ]
        constraints += [f"then: {' '.join(words[m.start : m.end])}" for m in others]
        best = candidates[0].name
        return FunctionalQuery(
            **common,
            category=best,
            candidates=candidates,
            object_words=" ".join(words[chosen.start : chosen.end]),
            part=details.part_of(lower) or catalogue()[best].part,
            attributes=_attributes(lower, words, chosen.start),
            constraints=constraints,
        )
    thing = _named_thing(found, phrase, words)
    if thing is not None:
        return _by_thing(common, lower, words, found, thing, constraints)
    if phrase is not None and not phrase.generic:
        return FunctionalQuery(
            **common,
            candidates=_with_hedge(phrase.noun, OWN_WORD, lower, words, found),
            object_words=phrase.noun,
            part=details.part_of(lower),
            attributes=_attributes(lower, words, phrase.end) | details.adjectives(list(phrase.modifiers)),
            constraints=constraints,
        )
    return _by_function(common, lower, words, found, phrase, constraints)


def _by_thing(
    common: dict[str, Any], lower: str, words: list[str], found: list[Mention], thing: Mention, constraints: list[str]
) -> FunctionalQuery:
    """The thing of the lexicon that is called by its name."""
    name = next(iter(thing.categories))
    return FunctionalQuery(
        **{**common, "function": _function(lower, True)},
        candidates=_with_hedge(name, NAMED_THING, lower, words, found),
        object_words=" ".join(words[thing.start : thing.end]),
        part=details.part_of(lower) or lexicon()[name].part,
        attributes=_attributes(lower, words, thing.start),
        constraints=constraints,
    )


def _with_hedge(name: str, score: float, lower: str, words: list[str], found: list[Mention]) -> list[Candidate]:
    """The noun, and what else the whole sentence suggests with a share `HEDGE` of what is left."""
    others = (c for c in _functional_candidates(lower, words, found) if c.name != name)
    scaled = [c.model_copy(update={"score": round(HEDGE * (1 - score) * c.score, 4)}) for c in others]
    return [
        Candidate(name=name, score=score, known=False),
        *[c for c in scaled if c.score >= MIN_SCORE][: MAX_CANDIDATES - 1],
    ]


def _by_function(
    common: dict[str, Any],
    lower: str,
    words: list[str],
    found: list[Mention],
    phrase: NounPhrase | None,
    constraints: list[str],
) -> FunctionalQuery:
    """The category whose uses are nearest to the sentence, or a question when none stands out."""
    attributes = _attributes(lower, words, phrase.end if phrase else len(words))
    part = details.part_of(lower, named=False)
    content = content_words(words)
    if phrase is not None and phrase.generic and not content:
        return FunctionalQuery(
            **{**common, "function": None},
            part=part,
            attributes=attributes,
            constraints=constraints,
            needs_clarification=True,
            question=QUESTIONS["pointing" if {"that", "this", "there"} & set(words) else "flat"],
        )
    candidates = _functional_candidates(lower, words, found)
    if phrase is None and common["intent"] == "place":  # "put a hole in the wall" moves no object
        common = common | {"intent": "pick"}
    if not candidates:
        bare = phrase is None and not re.search(r"\b(?:i|we|me|need|want|something|what)\b", lower)
        kind: Intent = "none" if bare and common["intent"] == "pick" else common["intent"]
        return FunctionalQuery(
            **{**common, "intent": kind},
            attributes=attributes,
            constraints=constraints,
            needs_clarification=True,
            question=QUESTIONS["flat"],
        )
    best = candidates[0]
    return FunctionalQuery(
        **common,
        category=best.name if best.known else None,
        candidates=candidates,
        part=part or (catalogue() if best.known else lexicon())[best.name].part,
        attributes=attributes,
        constraints=constraints,
    )


def _named(found: list[Mention], phrase: NounPhrase | None) -> Mention | None:
    """The mention that is the object of the request, None when only landmarks or the like are named.

    With "something" or an unknown noun as the object of the moving verb, names elsewhere are context; but a deed that
    is called after its tool ("something to whisk the eggs") names the tool.
    """
    known = [m for m in found if m.known]
    objects = [m for m in known if m.role == "object"]
    deeds = [m for m in known if m.role == "deed"]
    if deeds and (phrase is None or phrase.generic):
        return deeds[0]
    if phrase is not None:
        inside = [m for m in objects if phrase.start <= m.start < phrase.end]
        head = None if phrase.generic else _head(found, phrase)
        if inside and (head is None or head.end < inside[-1].end):
            return inside[-1]  # the head of an English compound comes last
        before = [m for m in objects if m.start < phrase.start]
        if before and phrase.generic:
            return before[0]
        after = [m for m in objects if m.start >= phrase.end]
        return after[0] if after and phrase.generic and phrase.noun in ("it", "them", "one") else None
    if objects:
        return objects[0]
    instruments = [m for m in known if m.role == "instrument"]
    return instruments[0] if instruments else None


def _head(found: list[Mention], phrase: NounPhrase) -> Mention | None:
    """The thing of the lexicon whose name ends the noun phrase ("the tea pot") or runs past it ("the bar of soap")."""
    ends = [m for m in found if not m.known and m.role == "object" and m.start < phrase.end <= m.end]
    return next((m for m in ends if m.start >= phrase.start), None)


def _named_thing(found: list[Mention], phrase: NounPhrase | None, words: list[str]) -> Mention | None:
    """The thing of the lexicon that is asked for by its name.

    Many such names are also verbs, colours, materials, or what work is done on, so that only the object of a moving
    verb counts, and a name that stands alone but for courtesies and a place ("the kettle, please", "I need a tray").
    """
    if phrase is not None:
        return None if phrase.generic else _head(found, phrase)
    for mention in found:
        before, after = words[: mention.start], words[mention.end :]
        if mention.known or mention.role != "object" or content_words(before):
            continue
        follows = not after or after[0][0] in PUNCTUATION or after[0] in _AFTER_A_NAME
        if follows and len(after) <= _SHORT and not _VERBS_OF_BEING & set(after):
            return mention
    return None


def _named_candidates(chosen: Mention, lower: str) -> list[Candidate]:
    """A plain name is sure; a generic one ("wrench") is shared out by weight and by what else the sentence says."""
    if len(chosen.categories) == 1:
        return [Candidate(name=next(iter(chosen.categories)), score=0.95, known=True)]
    raw = chosen.categories
    words = tokens(lower)
    if content_words(words[: chosen.start] + words[chosen.end :]):
        hints = {name: share for name, share in probabilities(lower).items() if name in raw}
        raw = {name: weight * (0.25 + hints[name] / sum(hints.values())) for name, weight in raw.items()}
    total = sum(raw.values())
    ranked = sorted(raw.items(), key=lambda pair: -pair[1])
    return [Candidate(name=name, score=round(0.95 * value / total, 4), known=True) for name, value in ranked]


def _functional_candidates(lower: str, words: list[str], found: list[Mention]) -> list[Candidate]:
    """What serves the function, best first; empty when the sentence is about something else.

    Landmarks are cut out of the sentence, and what is worked on or ruled out is not proposed.
    """
    kept = list(words)
    for mention in found:
        if mention.role == "negated" or (mention.role == "landmark" and mention.known):
            start = mention.start
            while start > 0 and (
                kept[start - 1] in LIGHT or kept[start - 1] in ("next", "to", "beside", "near", "not", "of", "by")
            ):
                start -= 1
            kept[start : mention.end] = [""] * (mention.end - start)
    wish = _joined([w for w in kept if w]) or lower
    shares, near = probabilities(wish), neighbour_scores(wish)
    excluded = {c for m in found if m.role in ("landmark", "negated", "patient") for c in m.categories}
    if next(iter(shares)) == OFF_TOPIC:
        return []
    ranked = [(n, p) for n, p in shares.items() if n != OFF_TOPIC and n not in excluded]
    if max(near[name] for name, _ in ranked[:MAX_CANDIDATES]) < MIN_SIMILARITY:
        return []
    return [
        Candidate(name=name, score=round(share, 4), known=name in catalogue())
        for i, (name, share) in enumerate(ranked[:MAX_CANDIDATES])
        if share >= MIN_SCORE or i == 0
    ]


def _attributes(lower: str, words: list[str], noun_at: int) -> dict[str, str]:
    """Adjectives right before the noun, or said of "one"; and the place."""
    start = noun_at
    while start > 0 and words[start - 1] in LIGHT:
        start -= 1
    found = details.adjectives(words[start:noun_at])
    for match in re.finditer(r"\b(\w+) one\b|\bthat(?:'s| is) (\w+)\b", lower):
        found = details.adjectives([match[1] or match[2]]) | found
    place = details.position_of(lower)
    return found | ({"position": place} if place else {})


def _function(lower: str, named: bool) -> str | None:
    """What it is for. With a named object only a stated purpose counts; else the sentence itself is the purpose."""
    if not named:
        return lower
    match = _PURPOSE.search(lower)
    return match[1].strip(" .!?") if match and len(match[1].split()) > 1 else None


def _first_and_later(lower: str) -> tuple[str, list[str]]:
    """ "first X, afterwards Y" -> X and ["then: Y"]: one object at a time."""
    head, *later = _THEN.split(lower)
    if not later or not head.strip() or len(head.split()) < 2:
        return lower, []
    return re.sub(r"^\s*first(?:ly)?,?\s+", "", head), [
        f"then: {part.strip(' .!')}" for part in later if part.strip(" .!")
    ]


_AFTER_A_NAME = frozenset("please thanks thank now by next on in from near beside behind under at for with".split())
_VERBS_OF_BEING = frozenset("is are was were has have had be".split())
_SHORT = 4  # words after a name that stands alone
_EMPTY_WORDS = frozenset(
    "give hand pass bring get take grab pick fetch lift me us i we you please can could would will need want to up"
    " over there here that this it something thing things anything object item stuff one the a an some any of on in at"
    " for with is are was be my your from table bench robot now just like have let find do what which and them"
    " those these".split()
)


def content_words(words: list[str]) -> list[str]:
    """Words that could tell what is meant."""
    plain = [w for w in words if w[0] not in PUNCTUATION and w not in _EMPTY_WORDS]
    return [
        w for w in plain if not details.adjectives([w]) and w not in ("left", "right", "careful", "carefully", "slowly")
    ]


def _joined(words: list[str]) -> str:
    return re.sub(r" ([.,;:!?)])", r"\1", " ".join(words))


def _without_motion(text: str, kind: Intent, lower: str, words: list[str], constraints: list[str]) -> FunctionalQuery:
    if kind != "refer_back":
        return FunctionalQuery(text=text, intent=kind, constraints=constraints)
    return FunctionalQuery(
        text=text,
        intent=kind,
        part=details.part_of(lower),
        attributes=_attributes(lower, words, len(words)),
        constraints=constraints,
        needs_clarification=True,
        question=QUESTIONS["refer_back"],
    )


def _unread(text: str, words: list[str], constraints: list[str]) -> FunctionalQuery:
    """Another language, or none at all: never a guess."""
    query = _unclear(text, "none", "language", constraints)
    language = language_of(text, words)
    looks = f"This looks like {language} to me. " if language else ""
    return query.model_copy(
        update={"question": f"{looks}{query.question}", "read_by": {"not_english": language or "?"}}
    )


def _unclear(text: str, kind: Intent, question: str, constraints: list[str]) -> FunctionalQuery:
    return FunctionalQuery(
        text=text, intent=kind, constraints=constraints, needs_clarification=True, question=QUESTIONS[question]
    )
