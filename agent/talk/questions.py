"""Turns that want to know something, and courtesies: they move nothing. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

About = Literal["seen", "there", "held", "why", "failed", "plan", "able", "again"]

_POLITE = r"^\W*(?:(?:please|robot|hey|ok|okay|so|and|well|oh|but|now|then|wait|tell me|can you tell me)\b[\s,]*)*"
_FAILED = r"(?:fail|n't\b|not\b|stop|drop|refus|miss|wrong|unable|give up|leave)"
_THING = r"(?:the|a|an|any|my|your|that|another)\s(?P<thing>[\w' -]+?)"
_WHY = r"why\b(?! (?:don't|do not|not) )"
_PATTERNS: tuple[tuple[About, str], ...] = (
    ("held", r"what (?:are|do) (?:you|u) (?:still )?(?:hold|carry|grip)"),
    ("held", r"what(?:'s| is| do you have| have you got) in (?:your|the) (?:hand|gripper|fingers)"),
    ("held", r"(?:are|do) you (?:still )?(?:hold(?:ing)?|carry(?:ing)?) (?:it|anything|something|a|the)\b"),
    ("held", r"is (?:your|the) (?:hand|gripper) (?:full|empty|free)|do you (?:still )?have (?:it|anything)\b"),
    ("failed", rf"{_WHY}.*{_FAILED}|why\W*$|(?:what|where) (?:went|is|was|has gone) wrong"),
    ("failed", r"what happened|what did you (?:just )?do|what(?:'s| is| was) the (?:problem|matter|trouble|issue)"),
    ("failed", r"did (?:it|that) (?:work|fail)"),
    ("why", rf"{_WHY}|how (?:did|do) you know|how (?:sure|certain|confident) are you"),
    ("why", r"are you (?:sure|certain|confident)|which (?:\w+ )?(?:did|do|have|will|are) you (?:tak|took|pick|cho)"),
    ("plan", r"what (?:will|would) you do|what are you (?:going to|about to|planning)"),
    ("plan", r"(?:where|how) (?:will|would|are|do) you (?:going to )?(?:put|place|hold|gri?p|grasp|take|move)"),
    ("plan", r"what(?:'s| is) (?:the|your) plan"),
    ("seen", r"what (?:do|can|did|could) you see|(?:what|which) (?:\w+ )?(?:things|objects|items)\b"),
    ("seen", r"what(?:'s| is| are| else is| stands?| lies)? (?:there\b|on|in front|in view|around)|how many \w+\b"),
    ("seen", r"(?:describe|look at|scan|inspect) (?:the |your )?(?:scene|table|view|bench)"),
    ("seen", r"(?:look around|what else|list (?:the |all )?(?:things|objects|everything))\b"),
    ("there", rf"(?:is|are) there {_THING}(?: (?:on|in|here|there|left)\b.*)?\W*$"),
    ("there", rf"(?:do|can) you (?:also |still )?see {_THING}(?: (?:on|in|here|there)\b.*)?\W*$"),
    ("there", rf"where(?:'s| is| are| did you (?:see|put|find)) {_THING}(?: now)?\W*$"),
    ("able", r"what (?:else )?(?:can|could) (?:you|i|we) (?:do|say|ask|tell)|help(?: me)?\W*$"),
    ("able", r"(?:who|what) are you\W*$|what (?:should|do|shall) i (?:say|do)|how does (?:this|it) work"),
    ("able", r"(?:instructions|commands|usage|menu)\W*$"),
    ("again", r"(?:what|huh|pardon|sorry|excuse me)\s*\?+\s*$|what\W*$|(?:what did you say|repeat|say that again)\b"),
)  # fmt: skip
_QUESTIONS = [(about, re.compile(_POLITE + f"(?:{pattern})", re.I)) for about, pattern in _PATTERNS]

_TAIL = (
    r"(?:[ ,]+(?:so much|a lot|very much|robot|you|there|again|everybody|everyone|then|for (?:that|this|your help|now)"
    r"|indeed|done|work|job|much|my (?:friend|dear)|now|today|later|dear|all))*"
)
_NO_THINGS = frozenset("reason way chance problem point time need".split())
_COURTESIES = (
    (r"(?:thanks?|thank you|cheers|much appreciated|thx|ty)", "You are welcome."),
    (r"(?:hello|hi|hey|good (?:morning|afternoon|evening)|greetings)", "Hello."),
    (r"(?:good ?bye|bye(?: bye)?|see you|good night)", "Goodbye."),
    (r"(?:well|good|great|nice|perfect|super|excellent|cool|wow|lovely|amazing)", "I am glad to hear it."),
    (r"(?:i am |i'm )?(?:so |very )?sorry|my (?:fault|bad|mistake)", "No harm done."),
    (r"how(?: are|'re) you(?: doing)?|how do you do|how is it going|what's up", "All is well here."),
    (r"(?:hm+|um+|uh+|er+m?|ah+|oh+|let me (?:think|see)|just a (?:moment|second))", "Take your time."),
    (r"(?:you are|you're) (?:so |very |a )?\w+", "I do what I can."),
)
_SMALL = [(re.compile(rf"^\W*(?:{pattern}){_TAIL}\W*$", re.I), answer) for pattern, answer in _COURTESIES]

ABLE = (
    "I pick things up, hand them to you, and put them in, on or next to something. Name the thing, or say what it is "
    'for: "hand me the spoon", "something to stir the soup with", "put the mug in the box, then give me the ladle". '
    'After that: "the other one", "no, by the handle", "put it back", "undo", "stop". You can also ask "what do you '
    'see?", "what are you holding?", "why that one?" and "why did that fail?".'
)
UNKNOWN = (
    "That I cannot answer. I can tell what I see, what I hold, why I took a thing and why something failed; and I pick "
    "things up, hand them over and put them somewhere."
)


@dataclass(frozen=True)
class Asked:
    """about: what is to be told. thing: the words for the thing that "where is it" is about."""

    about: About
    thing: str = ""


def asked_about(text: str) -> Asked | None:
    """What a turn wants to know, None for a turn that wants something else."""
    for about, pattern in _QUESTIONS:
        found = pattern.search(text)
        if found is None:
            continue
        if about != "there":
            return Asked(about)
        thing = found["thing"].strip()
        if not _NO_THINGS & set(thing.lower().split()):
            return Asked("seen") if thing in ("thing", "things", "object", "objects") else Asked("there", thing)
    return None


def courtesy(text: str) -> str | None:
    """The answer to a greeting, thanks and the like; None for anything more."""
    return next((answer for pattern, answer in _SMALL if pattern.search(text)), None)
