"""What kind of sentence it is, before anybody looks for an object in it. All texts lower case."""

from __future__ import annotations

import re

from affordagent.agent.language.languages import says_stop
from affordagent.core.types import Intent


def _any(*patterns: str) -> str:
    return "(?:" + "|".join(patterns) + ")"


_POLITE = r"(?:(?:please|robot|hey|ok|okay|now|and|so|well|oh|no|just|,|\.|!)\s*)*"
_IT = _any("it", "that", "this", "them", "that one", "this one")
_THE = _any("the", "that", "this", "an?")

_PAUSE = _any("it", "that", "this", "moving", "now", "please", "immediately", "everything", "here", "there", "right")
_WHILE = _any("a", "one", "second", "sec", "moment", "minute", "the robot", "robot", "at once")
_STOP = re.compile(
    rf"^{_POLITE}"
    + _any(
        rf"(?:stop|halt|freeze|abort|cancel|pause|wait)(?: (?:{_PAUSE}|{_WHILE}))*",
        rf"(?:hold|hang) (?:on|it|still)(?: (?:{_WHILE}|please|now|right (?:there|here)|(?:a|one) \w+))*",
        r"(?:don't|do not) move",
        r"stay (?:still|there|put)",
        r"emergency(?: stop)?",
        r"e-?stop",
        r"whoa",
    )
    + r"\s*(?:[.,!?;]|$)"
)
_LATE_STOP = re.compile(r"[.,!;]\s*(?:stop|halt|freeze|abort)\s*(?:it|now|please)?\s*(?:[.!]|$)")

_BY_THE_PART = r"(?:by|at|on) (?:the|its) \w+"
_REFER_BACK = re.compile(
    rf"^{_POLITE}(?:(?:i want|i mean|i meant|give me|hand me|take|get|pick|use|try|not (?:that|this)(?: one)?)"
    r"\s*,?\s*)*"
    + _any(
        rf"{_THE}\s?(?:other|same|next|previous|last|first|second) (?:one|thing)",
        rf"{_THE} (?:\w+ )?one(?: (?:on|to) (?:the|your) (?:left|right))?",
        r"another(?: one)?",
        r"not (?:that|this)(?: one)?",
        rf"(?:put|place|bring|take|lay|set) {_IT} (?:back|down|away|there|here|again)",
        rf"(?:try|do|pick|grab|take|get) (?:{_IT} )?(?:again|once more)",
        r"again|once more|one more",
        rf"(?:give|hand|bring|pass) {_IT} (?:back )?to me",
        rf"(?:give|hand|bring|pass) me {_IT}",
        rf"(?:let go|release|drop)(?: of)?(?: {_IT})?",
        rf"{_BY_THE_PART}(?: instead| end)?",
        rf"(?:pick|grab|take|hold|lift|grasp|get) {_IT}(?: up)?(?: {_BY_THE_PART})?",
        r"the (?:left|right)",
        r"wrong (?:one|thing)",
    )
    + r"(?:\s+(?:instead|please|now|again|rather|too|this time))*\s*[.,!?]?\s*(?:please|instead)?\s*[.!?]?$"
)

_REQUEST = re.compile(
    r"\b"
    + _any(
        "give|hand|pass|bring|fetch|grab|get|take|pick|lift|grasp|find|lend|need|want|require",
        "let me have|reach for|i'd like|i would like|help|look for",
    )
    + " "
)
_FIRST_PERSON = re.compile(r"\b(?:i|i'm|i'd|i've|i'll|we|we're|me|us|my|our)\b")
_FACT = re.compile(
    rf"^{_POLITE}(?:but )?"
    + _any(
        r"what(?:'s| is| are| was| does| did| time| day| kind| colou?r| happened| can you)",
        r"who|whose|why|when",
        r"how (?:many|much|old|far|long|big|heavy|come|are|is|does|do you|did|was)",
        r"how(?:'s| is)",
        r"where(?:'s| is| are| did| do)",
        r"which (?:\w+ )?(?:is|are|did|do|does|was|have|has)",
        r"is (?:there|the|this|that|it|a)",
        r"are (?:there|the|these|those|you)",
        r"do (?:you|we have)(?! (?:have |got )?(?:something|anything))|does|did|was|were|has|have you",
        r"what do (?:people|they|you)|may one|can one|tell (?:what|how|why|who|when|where|about)",
        r"can you (?:see|tell|explain|speak|hear|do|understand)",
        r"tell me (?:what|how|why|who|when|where|about)",
        r"explain|describe|show me how",
    )
    + r"\b"
)

_CHAT = re.compile(
    rf"^{_POLITE}"
    + _any(
        r"hello|hi|hey|good (?:morning|evening|afternoon|night|day|job|bye)|bye|goodbye|see you",
        r"thanks?|thank you|cheers|nice|great|well done|sorry|i love you|you are|you're",
        r"how are you|what's up|yes|yeah|no|nope|ok|okay|never ?mind",
    )
    + r"\b"
)
_APPLIANCE = _any(
    "lights?|lamps?|tv|television|radio|music|heating|heater|fan|computer|volume|oven|stove|alarm|power",
    r"air ?con\w*",
)
_OTHER_WORK = re.compile(
    r"\b"
    + _any(
        "joke|riddle|poem|story|sing|song|music|dance|weather",
        rf"(?:turn|switch|shut) (?:(?:on|off|up|down) )?(?:\w+ )?(?:the |my |all )?(?:\w+ )?{_APPLIANCE}",
        r"(?:set|start) (?:a|an|the) (?:\w+ )?(?:timer|alarm|reminder|clock)",
        r"remind me|(?:call|text|email|phone|message) (?:my|the|mom|mum|dad|\w+)",
        r"(?:order|buy) (?:a|an|some|me)|google|search (?:the|for)|look up|translate|calculate|schedule|book a",
        r"leave (?:it|them|that|everything|all)(?: (?:alone|there|be|as \w+ (?:is|are)|please|now))*(?:[.!,]|$)",
        r"take (?:a|one|some) (?:\w+ )?(?:pictures?|photos?|looks?|breaks?|seats?|rest|guess)",
        r"give (?:me|us) (?:a|one|some) (?:\w+ )?(?:moment|minute|seconds?|sec|break|hint|time|smile|answer)",
        r"wake (?:me|us)|call (?:it|this|that) off|let me think|look at",
        r"(?:return|go back|move back|back) to (?:your|the) (?:start|home|rest|initial)\w*",
        r"(?:open|close|lock) the (?:\w+ )?(?:door|window|curtains?|drawer|gripper|blinds?|fridge)s?",
        r"come here|go away|move (?:forward|backward|back|left|right|up|down)|go (?:to|home|forward|back)|follow me",
        r"vacuum|mop|charge yourself|shut down|reboot|restart",
    )
    + r"\b"
)

_HAND_OVER = re.compile(
    r"\b"
    + _any(
        r"(?:hand|give|pass|bring|fetch|get|find|lend) (?:over |out )?(?:it |that )?(?:me|us|him|her|them)",
        r"(?:hand|pass|bring) (?:over )?(?:it|the|a|that|my|this)|hand over",
        r"(?:give|bring|pass|hand) [\w' -]{2,40}? (?:to|over|here)",
        r"fetch (?:the|a|an|that|my)|let (?:me|us) have|(?:can|could|may) i (?:have|get)",
    )
    + r"\b"
)
_PLACE = re.compile(
    r"\b(?:put|place|set|move|lay|drop|return|stack|stow|carry|slide|transfer) [\w' ,-]{1,80}?\b"
    + _any("in|into|on|onto|to|next to|back|away|down|beside|under|over|there|here|behind|inside|near|left|right")
    + r"\b"
)


def non_motion(text: str) -> Intent | None:
    """ "stop", "refer_back", "question" or "none" for such sentences, None for those that may ask for an object."""
    if _STOP.search(text) or _LATE_STOP.search(text) or says_stop(text):
        return "stop"
    if _REFER_BACK.search(text):
        return "refer_back"
    if _OTHER_WORK.search(text):
        return "none"
    if _REQUEST.search(text):
        return None
    if re.search(r"\b(?:what time|who are you)\b", text):
        return "question"
    if _is_chat(text):
        return "none"
    asked = text.replace("tell me ", "tell ")
    return "question" if _FACT.search(asked) and not _FIRST_PERSON.search(asked) else None


def _is_chat(text: str) -> bool:
    """A greeting, thanks or the like with at most a few words after it."""
    opening = _CHAT.search(text)
    if opening is None:
        return False
    rest = text[opening.end() :].strip(" ,.!?")
    small = len(rest.split()) <= 4 and not _FIRST_PERSON.search(rest) and "the" not in rest.split()
    return small or "how are you" in text


def motion(text: str) -> Intent:
    """Which of "pick", "hand_over" and "place" a request for an object is."""
    if _PLACE.search(text) and not re.search(r"\b(?:hand|give|pass|bring) (?:me|us)\b", text):
        return "place"
    return "hand_over" if _HAND_OVER.search(text) else "pick"
