"""What a sentence can never do: change the limits, or make the robot hurt somebody."""

from __future__ import annotations

import re

from affordagent.core.errors import Refused

_NUMBER = r"\d+(?:[.,]\d+)?"
_LIMITS = re.compile(
    rf"\b(?:and |but )?(?:(?:please )?(?:ignore|disable|override|bypass|exceed|forget|skip|switch off|turn off|remove|lift|raise|suspend)"
    r" (?:\w+ ){0,3}?(?:limits?|safety|rules?|checks?|protection|confirmation|collisions?|restrictions?|e-?stop)\b(?: limits?| checks?| rules?)?"
    r"|(?:at |with |use |go )?(?:full|max(?:imum)?|top|double|highest) (?:speed|force|power|acceleration)"
    r"|as (?:fast|quick|hard|quickly) as (?:possible|you can)"
    rf"|(?:with |at |use )?(?:a )?(?:force|speed|velocity|acceleration) (?:of |to |= ?)?{_NUMBER} ?(?:newtons?|n|m/s|mm/s|percent|%)?"
    rf"|(?:with |at |use )?{_NUMBER} ?(?:newtons?|n|m/s|mm/s|m/s2)\b(?: of)?(?: force| speed)?"
    r"|without (?:asking|confirm\w*|any (?:checks?|limits?)|checking)"
    r"|don't (?:ask|confirm|check)(?: (?:me|for|again|anything|collisions))*)",
    re.IGNORECASE,
)

_PERSON = (
    r"(?:him|them|yourself|myself|someone|somebody|anyone|anybody|everyone|people|(?:the |my |your |his |her |that |this |a |our )"
    r"(?:\w+ )?(?:man|woman|boy|girl|child|kid|kids|children|baby|person|people|guy|dog|cat|puppy|pet|animal|bird|brother"
    r"|sister|mother|father|mom|mum|dad|wife|husband|friend|neighbou?r|boss|colleague|guest|visitor|operator|worker|student)"
    r"|her(?=\s*(?:$|[.,!?;]|with|in|on|at|and|by|now|until)))"
)
_HURTS = r"(?:stab|hurt|kill|attack|punch|slap|murder|shoot|strangle|choke|injure|harm|kick|burn|cut|hit|poke|beat|strike|smash|crush|whack|knock|bash|pinch|slash|scald|threaten)"
_BODY = r"(?:head|face|arm|leg|hand|hands|finger|fingers|eye|eyes|nose|throat|foot|neck|back|skull|bones?|knee)"
_HARM = re.compile(
    rf"\b{_HURTS} {_PERSON}|\b(?:throw|hurl|toss|fling|swing|drop|aim|launch|shoot|pour|point) (?:[\w']+ ){{0,6}}?(?:at|on|onto|over) {_PERSON}"
    rf"|\b{_HURTS} (?:\w+ )?(?:my|his|her|their|your|{_PERSON}(?:'s)?)\s?(?:'s )?{_BODY}\b|\b(?:stab|kill|shoot|murder|strangle) (?:me|us)\b",
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
