"""What a sentence can never do: change the limits, or make the robot hurt somebody."""

from __future__ import annotations

import re

from affordagent.core.errors import Refused

_NUMBER = r"\d+(?:[.,]\d+)?"
_UNIT = r"(?:newtons?|n|m/s2?|mm/s)"
_LIMITS = re.compile(
    r"\b(?:and |but )?(?:please )?(?:"
    r"(?:ignore|disable|override|bypass|exceed|forget|skip|switch off|turn off|remove|lift|raise|suspend)"
    r" (?:\w+ ){0,3}?"
    r"(?:limits?|safety|rules?|checks?|protection|confirmation|collisions?|restrictions?|e-?stop)\b"
    r"(?: limits?| checks?)?"
    r"|(?:at |with |use |go )?(?:full|max(?:imum)?|top|double|highest) (?:speed|force|power|acceleration)"
    r"|as (?:fast|quick|quickly|hard) as (?:possible|you can)"
    rf"|(?:with |at |use )?(?:a )?(?:force|speed|velocity|acceleration) (?:of |to |= ?)?"
    rf"{_NUMBER} ?(?:{_UNIT}|percent|%)?"
    rf"|(?:with |at |use )?{_NUMBER} ?{_UNIT}\b(?: of)?(?: force| speed)?"
    r"|without (?:asking|confirm\w*|any (?:checks?|limits?)|checking)"
    r"|don't (?:ask|confirm|check)(?: (?:me|for|again|anything|collisions))*)",
    re.IGNORECASE,
)

_SOMEBODY = (
    r"(?:man|woman|boy|girl|child|kids?|children|baby|person|people|guy|dog|cat|puppy|pet|animal|bird|brother|sister"
    r"|mother|father|mom|mum|dad|wife|husband|friend|neighbou?r|boss|colleague|guest|visitor|operator|worker|student"
    r"|intruder|thief|burglar|robber|stranger|enemy|bro|buddy|mate|roommate|flatmate|co-?worker|teacher|son|daughter"
    r"|uncle|aunt|cousin|grand(?:ma|pa|mother|father|son|daughter)|toddler|human|patient|ex)"
)
_PERSON = (
    r"(?:him|them|yourself|myself|someone|somebody|anyone|anybody|everyone|people"
    rf"|(?:the|my|your|his|her|that|this|a|our) (?:\w+ )?{_SOMEBODY}"
    r"|her(?=\s*(?:$|[.,!?;]|with|in|on|at|and|by|now|until)))"
)
_HURTING = (
    "stab hurt kill attack punch slap murder shoot strangle choke injure harm kick burn cut hit poke beat strike smash"
    " crush whack knock bash pinch slash scald threaten jab smack wound club clobber bludgeon impale spear maim assault"
    " torture gore behead mutilate batter pierce skewer whip choke suffocate drown poison"
)
_THROWING = "throw hurl toss fling swing drop aim launch shoot pour point chuck lob sling"
_BODY = (
    r"(?:head|face|arm|leg|hands?|fingers?|eyes?|nose|throat|foot|feet|neck|back|skull|bones?|knees?|ribs?|chest|stomach"
    r"|belly|teeth|tooth|ears?|shins?|toes?|wrists?|elbows?|jaw|heart|guts)"
)


def _forms(verbs: str) -> str:
    """The verbs as they are, and as "stabbing", "choking", "throwing"."""
    found = [form for v in verbs.split() for form in (v, f"{v}ing", f"{v}{v[-1]}ing", f"{v.removesuffix('e')}ing")]
    return f"(?:{'|'.join(sorted(set(found), key=len, reverse=True))})"


_HURT, _THROW = _forms(_HURTING), _forms(_THROWING)
_HARM = re.compile(
    rf"\b(?:{_HURT} {_PERSON}"
    rf"|{_THROW} (?:[\w']+ ){{0,6}}?(?:at|on|onto|over) {_PERSON}"
    rf"|{_THROW} (?:[\w']+ ){{0,6}}?at (?:my|his|her|their|your) {_BODY}"
    rf"|make {_PERSON} (?:bleed|scream|cry|suffer|hurt)"
    rf"|use (?:[\w']+ ){{1,4}}?(?:on|against) (?:his|her|their|your) {_BODY}"
    rf"|(?:{_HURT}|break|breaking|chop off|cut off) (?:my|his|her|their|your|{_PERSON}'s) {_BODY}"
    r"|(?:stab|kill|shoot|murder|strangle|hurt|injure|harm|attack|punch|slap|choke|threaten|kick|slash) (?:me|us))\b",
    re.IGNORECASE,
)


def refuse_harm(text: str) -> None:
    """Raises:
    Refused: language.refused, when the text asks to hurt a person or an animal.
    """
    match = _HARM.search(text)
    if match:
        message = f"'{match[0]}' would hurt somebody; the robot picks up, hands over and places things only"
        raise Refused("understand", "language.refused", message, words=match[0])


def without_limit_talk(text: str) -> tuple[str, list[str]]:
    """The text without attempts to change limits, and those attempts as constraints ("ignored: full speed").

    Speeds, forces and confirmation are settings of the cell; no sentence reaches them.
    """
    ignored = [f"ignored: {m[0].strip()}" for m in _LIMITS.finditer(text)]
    return " ".join(_LIMITS.sub(" ", text).split()), ignored
