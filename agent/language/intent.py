"""What kind of sentence it is, before anybody looks for an object in it. All texts lower case."""

from __future__ import annotations

import re

from affordagent.core.types import Intent

_POLITE = r"(?:(?:please|robot|hey|ok|okay|now|and|so|well|oh|no|just|,|\.|!)\s*)*"

_STOP = re.compile(
    rf"^{_POLITE}(?:(?:stop|halt|freeze|abort|cancel|pause|wait)"
    r"(?: (?:it|that|this|moving|now|please|robot|immediately|everything|here|there|right|the robot|at once|a|one|second|sec|moment|minute))*"
    r"|hold (?:on|it|still)(?: (?:a|one|please|now|second|sec|moment|minute))*|don't move|do not move|stay (?:still|there|put)"
    r"|emergency(?: stop)?|e-?stop|whoa)\s*(?:[.,!?;]|$)"
)
_LATE_STOP = re.compile(r"[.,!;]\s*(?:stop|halt|freeze|abort)\s*(?:it|now|please)?\s*(?:[.!]|$)")

_REFER_BACK = re.compile(
    rf"^{_POLITE}(?:(?:(?:i want|i mean|i meant|give me|hand me|take|get|pick|use|try|not that one|not this one)\s*,?\s*)*"
    r"(?:the|that|this|an?)\s?(?:other|same|next|previous|last|first|second) (?:one|thing)|another(?: one)?|not (?:that|this)(?: one)?"
    r"|(?:put|place|bring|take|lay|set) (?:it|that|them) (?:back|down|away|there|here|again)|(?:try|do|pick|grab|take|get) (?:it|that)?\s?(?:again|once more)"
    r"|try again|again|once more|one more|(?:give|hand|bring|pass) (?:it|that|them) (?:back )?to me|(?:let go|release|drop) ?(?:of )?(?:it)?"
    r"|(?:by|at|on) (?:the|its) \w+(?: instead| end)?|(?:pick|grab|take|hold|lift|grasp|get) (?:it|that one|this one|them)(?: up)?(?: (?:by|at) (?:the|its) \w+)?"
    r"|(?:the|that|this) (?:\w+ )?one(?: (?:on|to) (?:the|your) (?:left|right))?|the (?:left|right)|wrong (?:one|thing)|(?:give|hand|pass|bring) me (?:it|that one|this one))"
    r"(?:\s+(?:instead|please|now|again|rather|too|this time))*\s*[.,!?]?\s*(?:please|instead)?\s*[.!?]?$"
)

_REQUEST = re.compile(
    r"\b(?:give|hand|pass|bring|fetch|grab|get|take|pick|lift|grasp|find|lend|need|want|require|let me have|reach for|i'd like|i would like|help|look for) "
)
_FIRST_PERSON = re.compile(r"\b(?:i|i'm|i'd|i've|i'll|we|we're|me|us|my|our)\b")
_FACT = re.compile(
    rf"^{_POLITE}(?:(?:and |but )?(?:what(?:'s| is| are| was| does| did| time| day| kind| colou?r| happened)|who|whose|why|when|how (?:many|much|old|far|long|big|heavy|are|is|does|do you|did|was)"
    r"|how(?:'s| is)|where(?:'s| is| are| did| do)|which (?:\w+ )?(?:is|are|did|do|does|was|have|has)|is (?:there|the|this|that|it|a)|are (?:there|the|these|those|you)|do you|does|did|was|were"
    r"|have you|has|can you (?:see|tell|explain|speak|hear|do|understand)|tell me (?:what|how|why|who|when|where|about)|explain|describe|show me how|do we have|what can you))\b"
)

_CHAT = re.compile(
    rf"^{_POLITE}(?:hello|hi|hey|good (?:morning|evening|afternoon|night|day|job|bye)|thanks?|thank you|cheers|bye|goodbye|nice|great|well done|see you|how are you|i love you|you are|you're|yes|yeah|no|nope|ok|okay|sorry|never mind|nevermind)\b"
)
_OTHER_WORK = re.compile(
    r"\b(?:joke|riddle|poem|story|sing|song|music|dance|weather)\b"
    r"|\b(?:turn|switch|shut) (?:(?:on|off|up|down) )?(?:\w+ )?(?:the |my |all )?(?:\w+ )?(?:lights?|lamps?|tv|television|radio|music|heating|fan|computer|volume|oven|stove|alarm|air ?con\w*|heater|power)\b"
    r"|\b(?:set|start) (?:a|an|the) (?:\w+ )?(?:timer|alarm|reminder|clock)\b|\bremind me\b|\b(?:call|text|email|phone|message) (?:my|the|mom|mum|dad|\w+)\b"
    r"|\b(?:order|buy) (?:a|an|some|me)\b|\b(?:google|search (?:the|for)|look up|translate|calculate|schedule|book a)\b"
    r"|\b(?:come here|go away|move (?:forward|backward|back|left|right|up|down)|go (?:to|home|forward|back)|follow me|vacuum|mop|charge yourself|shut down|reboot|restart)\b"
)
_HAND_OVER = re.compile(
    r"\b(?:hand|give|pass|bring|fetch|get|find|lend) (?:over |out )?(?:it |that )?(?:me|us|him|her|them)\b|\bhand (?:over|it|that|the|a|my)\b|\bpass (?:over )?(?:the|a|that|my|this)\b"
    r"|\b(?:give|bring|pass|hand) [\w' -]{2,40}? (?:to|over|here)\b|\bgive it to\b|\bbring (?:over|the|a|that|it|my)\b|\bfetch (?:the|a|an|that|my)\b|\blet (?:me|us) have\b"
    r"|\b(?:can|could|may) i (?:have|get)\b"
)
_PLACE = re.compile(
    r"\b(?:put|place|set|move|lay|drop|return|stack|stow|carry|slide|transfer) [\w' ,-]{1,80}?\b(?:in|into|on|onto|to|next to|back|away|down|beside|under|over|there|here|behind|inside|near|left|right)\b"
)


def non_motion(text: str) -> Intent | None:
    """ "stop", "refer_back", "question" or "none" when the sentence is one of these, None when it may ask for an object."""
    if _STOP.search(text) or _LATE_STOP.search(text):
        return "stop"
    if _REFER_BACK.search(text):
        return "refer_back"
    if _OTHER_WORK.search(text):
        return "none"
    chat = _CHAT.search(text)
    if chat and not _REQUEST.search(text):
        rest = text[chat.end() :].strip(" ,.!?")
        return (
            "none" if len(rest.split()) <= 4 and not _FIRST_PERSON.search(rest) and " the " not in f" {rest} " else None
        )
    if _FACT.search(text) and not _REQUEST.search(text) and not _FIRST_PERSON.search(text):
        return "question"
    if re.search(r"\b(?:how are you|what's up|what time|who are you)\b", text):
        return "question" if "what time" in text or "who are" in text else "none"
    return None


def motion(text: str) -> Intent:
    """Which of "pick", "hand_over" and "place" a request for an object is."""
    if _PLACE.search(text) and not re.search(r"\b(?:hand|give|pass|bring) (?:me|us)\b", text):
        return "place"
    return "hand_over" if _HAND_OVER.search(text) else "pick"
