"""Sentences that name a thing and yet do not ask for it: "do not", questions, remarks. All texts lower case.

Only what such sentences have in common is looked for: a negated request, a question that is none of the speaker's own
("how do I ..." wants a thing), a finite verb where a request has none.
"""

from __future__ import annotations

import re

_POLITE = r"(?:(?:please|robot|hey|ok|okay|now|and|so|well|oh|no|but|just|then)\b[\s,]*)*"
_CLAUSE = rf"(?:^|[.,;!?]|\bbut\b)\s*{_POLITE}"
_NOT = r"(?:don't|do not|never|didn't|does not|doesn't|did not)"
_TO_THE_END = r"[^.,;!?]*?(?=\bbut\b|[.,;!?]|$)"
_NEGATED = (
    # "don't touch it"; what is not to be forgotten or feared is asked for all the same
    re.compile(rf"{_CLAUSE}{_NOT} (?!(?:forget|worry|mind|hesitate|you|we|i|they)\b){_TO_THE_END}"),
    re.compile(
        rf"\b(?:i|we|you|he|she|they|nobody|no one) (?:really )?{_NOT} (?:\w+ )?(?:need|want|require){_TO_THE_END}"
    ),
    re.compile(rf"\b(?:i|we|you|he|she|they) no longer (?:need|want|require|use)s?\b{_TO_THE_END}"),
    re.compile(rf"\b(?:nobody|no one) (?:needs|wants|has|asked){_TO_THE_END}"),
    re.compile(
        rf"\b(?:must|should|may|can|shall|ought)(?: not|n't) (?:be|have|take|touch|pick|move|use|lift){_TO_THE_END}"
    ),
    re.compile(rf"{_CLAUSE}no more {_TO_THE_END}"),
    re.compile(rf"{_CLAUSE}not (?:the|that|this|those|these|a|an|any|my|your){_TO_THE_END}"),
)
_EMPTY = frozenset(
    "i we you please robot hey ok okay now and so well oh no yes but just then thanks thank any more anymore today it"
    " that this all at for me us sorry stop a the".split()
)

_OWN_NEED = re.compile(r"\b(?:can|could|do|should|would|shall|am|may|might|to) (?:i|we)\b|\bto\b|\bwith\b")
_QUESTION = re.compile(
    rf"^{_POLITE}(?:"
    r"how (?:many|much|long|old|far|heavy|big|often|come)\b"
    r"|(?:what|which|who|whose|where|when|why|how)\b"
    r"|(?:is|are|was|were|does|did|has|have|do|may one|can one|should one)\b"
    r"|(?:tell|explain|describe|show|say|name|list|count)\b"
    r")"
)
_ASKED_AND_WANTED = re.compile(r"\b(?:please|mind|possible|bring|give|hand|pass|fetch|need|pick|grab|take|get)\b")

_SUBJECT = r"(?:i|you|we|they|he|she|it|who)"
_FINITE = re.compile(
    r"\b(?:is|are|was|were|isn't|aren't|wasn't|weren't|am|has|had|hasn't|did|didn't|does|doesn't|seems?|costs?"
    r"|belongs?|fell|broke|went|lost|bought|sold|gave|took|came|ate|drank|threw|stood|brought|said|told|thought"
    r"|forgot|knew|always|usually|often|sometimes|yesterday|already)\b"
    rf"|\b{_SUBJECT} (?:\w+ly )?(?:left|saw|felt|lay|held|put|cut|hit|made|lent|got|found|kept|\w{{2,}}ed)\b"
    r"|\b(?:i|you|we|they)(?:'ve|'re| have| like| love| hate| prefer| know| think| own| play| eat| use)\b"
    r"|\b(?:my|our|his|her|their|your|the|he|she|nobody|everybody)(?: \w+)?"
    r" (?:plays?|sells?|uses?|eats?|collects?|likes?|owns?|has|works?|hurts?|keeps?|makes?|tastes?|smells?|sleeps?)\b"
    r"|\bthere(?:'s| is| are| was| were)\b"
)
_WISH = re.compile(
    r"\b(?:please|pls|mind|possible|borrow|may (?:i|we)|need|needs|want|wants|i'd|we'd|would|could|can you|will you"
    r"|let|lend|give|hand|pass|bring|fetch"
    r"|grab|get|pick|take|lift|grasp|hold|find|move|place|set|slide|reach|looking for|asked for|like to|have to|has to"
    r"|had better|ought|should|must|something|anything|whatever|what i|used to|for me|meant|mean|help|use|try)\b"
)


def without_negated(text: str) -> str:
    """The text without what the person does not want: "don't touch the knife, hand me the mug" -> "hand me the mug"."""
    for pattern in _NEGATED:
        text = pattern.sub(" ", text)
    return text


def is_told_not_to(text: str) -> bool:
    """Is nothing asked for but that something be left alone?"""
    rest = without_negated(text)
    return rest != text and not set(re.findall(r"[a-z']+", rest)) - _EMPTY


def is_about(text: str) -> bool:
    """Does a sentence that names a thing only ask or tell something about it?"""
    rest = without_negated(text)
    if _QUESTION.search(rest):
        return not _OWN_NEED.search(rest) and not _ASKED_AND_WANTED.search(rest) or _is_how(rest)
    return bool(_FINITE.search(rest)) and not _WISH.search(rest)


def _is_how(text: str) -> bool:
    """ "How can I sharpen the knife?" works on what it names; "what can I cut this with" names nothing."""
    return (
        re.search(rf"^{_POLITE}how (?:many|much|long|old|far|heavy|big|often|come|do|can|does|should)\b", text)
        is not None
    )
