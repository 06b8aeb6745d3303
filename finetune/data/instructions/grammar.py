"""Instructions without a language model: frames and pieces of meaning, put together at random.

`grammar.json` holds the frames: a symbol {x} stands for one of its lines, [a|b] for a choice. The symbols do, doing,
passive, state, trait, plan, care, name, is, it, kind and hold come from the thing (`uses.py`). What comes out is made
to read as typed: with or without capitals, contractions, a courtesy, a full stop.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files

import numpy as np

from affordagent.finetune.data.instructions.pairs import Instruction, Style
from affordagent.finetune.data.instructions.uses import Uses
from affordagent.finetune.data.questions import AFFORDANCE, ask

_CHOICE, _SYMBOL, _PATIENT = re.compile(r"\[([^\[\]]*)\]"), re.compile(r"\{(\w+)\}"), re.compile(r"<([^<>]*)>")
_MOST_TRIES = 50
# Verbs that are odd in "the nail needs ...": with these the frame is not used.
_ACTIVE = frozenset(
    "get give have take make put see find keep let bring catch play bring add eat drink enjoy feed".split()
)
_SHORT_FORMS = {
    "I am": "I'm",
    "I would": "I'd",
    "I have to": "I've got to",
    "do not": "don't",
    "is not": "isn't",
    "cannot": "can't",
    "it is": "it's",
    "we are": "we're",
    "what is": "what's",
    "going to": "gonna",
    "want to": "wanna",
}
_CASUAL = frozenset(["going to", "want to"])
_YOURS = {"my": "your", "me": "you", "I": "you", "our": "your", "us": "you", "we": "you"}
_VOWELS = "aeiou"


class _Missing(Exception):
    """The thing has no piece of that kind: another frame is drawn."""


@cache
def _frames() -> dict[str, list[str]]:
    path = files("affordagent.finetune.data.instructions").joinpath("grammar.json")
    return json.loads(path.read_text(encoding="utf-8"))


def write(rng: np.random.Generator, category: str, style: Style, uses: Uses) -> Instruction:
    """One pair about a thing. Nothing is checked: a hard question may still name it."""
    name = _name(rng, uses)
    if style == "template":
        pieces = _naming(name, uses)
        return Instruction(category, style, ask(rng, AFFORDANCE, name), _answer(rng, "answer_template", pieces))
    for _ in range(_MOST_TRIES):
        pieces = _pieces(rng, uses) | _naming(name, uses)
        said: set[str] = set()
        try:
            question = _expanded(rng, "{" + style + "}", pieces, said)
        except _Missing:
            continue
        frame = "answer" if said & {"do", "doing", "passive"} else "answer_to_state"
        return Instruction(category, style, typed(rng, question), _answer(rng, frame, pieces))
    raise ValueError(f"{category}: no frame of {style} fits what is known of it")


def _answer(rng: np.random.Generator, frame: str, pieces: Mapping[str, str]) -> str:
    text = _sentences(_expanded(rng, "{" + frame + "}", pieces, set()))
    return re.sub(r"\b(?:my|me|I|our|us|we)\b", lambda mine: _YOURS[mine[0]], text)


def _naming(name: str, uses: Uses) -> dict[str, str]:
    """The name and the words that go with it: "the scissors are held by their handle"."""
    if name.endswith("s") and not name.endswith("ss"):
        return {"name": name, "is": "are", "it": "them", "kind": "ones", "hold": uses.hold.replace("its", "their")}
    return {"name": name, "is": "is", "it": "it", "kind": "one", "hold": uses.hold}


def _name(rng: np.random.Generator, uses: Uses) -> str:
    """The plainest name half of the time, else any."""
    return uses.names[0] if rng.random() < 0.5 else _pick(rng, uses.names)


def _pieces(rng: np.random.Generator, uses: Uses) -> dict[str, str]:
    """One of each kind that is there, choices made; the deed in all its forms."""
    deed = _chosen(rng, _pick(rng, uses.deeds))
    plain = _PATIENT.sub(r"\1", deed)
    found = {"do": plain.replace("+", ""), "doing": gerund(plain), "room": uses.room}
    if needy := passive(deed):
        found["passive"] = needy
    kinds = {"state": uses.states, "trait": uses.traits, "plan": uses.plans, "care": uses.care}
    return found | {kind: _chosen(rng, _pick(rng, texts)) for kind, texts in kinds.items() if texts}


def _expanded(rng: np.random.Generator, text: str, pieces: Mapping[str, str], said: set[str]) -> str:
    """The text with choices made and symbols filled in; `said` collects the thing's own symbols that were used."""
    text = _chosen(rng, text)
    while symbol := _SYMBOL.search(text):
        name = symbol[1]
        if name in pieces:
            said.add(name)
            new = pieces[name]
        elif name in ("source", "hurry"):
            new = _chosen(rng, _pick(rng, _frames()[f"{name}_{pieces['room']}"]))
        elif name in _frames():
            new = _chosen(rng, _pick(rng, _frames()[name]))
        else:
            raise _Missing(name)
        text = text[: symbol.start()] + new + text[symbol.end() :]
    return text


def _chosen(rng: np.random.Generator, text: str) -> str:
    while choice := _CHOICE.search(text):
        text = text[: choice.start()] + _pick(rng, choice[1].split("|")) + text[choice.end() :]
    return " ".join(text.split()) if text.strip() == text else text


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def typed(rng: np.random.Generator, text: str) -> str:
    """A sentence as one of many people would type it."""
    text = _sentences(text)
    if rng.random() < 0.5:
        casual = rng.random() < 0.2
        for long, short in _SHORT_FORMS.items():
            if casual or long not in _CASUAL:
                text = re.sub(rf"\b{long}\b", short, text)
    hurried = rng.random()
    if hurried < 0.2:
        text = text[0].lower() + text[1:] if not re.match(r"I\b", text) else text
        text = text.rstrip(".")
    if hurried < 0.08:
        text = text.lower().replace("please", "pls").replace("'", "")
    elif hurried > 0.95:
        text = text[:-1] + "!" if text.endswith(".") else text
    return text


def _sentences(text: str) -> str:
    """Single blanks, a capital after each full stop, a mark at the end."""
    text = re.sub(r"\s+([,.:;?!])", r"\1", " ".join(text.split())).replace("?,", ",").replace("?.", "?")
    text = re.sub(r"([.?!]) ([a-z])", lambda m: f"{m[1]} {m[2].upper()}", text)
    text = re.sub(r"\b([Aa]) (?=[aeio](?!ne\b))", r"\1n ", text[0].upper() + text[1:])
    return text if text[-1] in ".?!" else f"{text}{'?' if _asks(text) else '.'}"


def _asks(text: str) -> bool:
    last = re.split(r"[.?!:] ", text)[-1].lower()
    return (
        re.match(
            r"(?:[\w ]+, )?(?:could|would|will|may|do you|what(?! I )|which|any|is there|have you|how|where)\b", last
        )
        is not None
    )


def gerund(deed: str) -> str:
    """ "wash the rice and +leave the water behind" -> "washing the rice and leaving the water behind"."""
    return re.sub(r"^[a-z]+|\+[a-z]+", lambda verb: _ing(verb[0].removeprefix("+")), deed)


def _ing(verb: str) -> str:
    if verb.endswith("ie"):
        return f"{verb[:-2]}ying"
    if verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")):
        return f"{verb[:-1]}ing"
    doubles = (
        len(verb) > 2
        and verb[-1] not in f"{_VOWELS}wxy"
        and verb[-2] in _VOWELS
        and verb[-3] not in _VOWELS
        and sum(letter in _VOWELS for letter in verb) == 1
    )
    return f"{verb}{verb[-1]}ing" if doubles else f"{verb}ing"


def passive(deed: str) -> str | None:
    """ "whip <the cream> until stiff" -> "the cream needs whipping until stiff"; None where that would be odd."""
    if "+" in deed:
        return None
    patient = _PATIENT.search(deed)
    if patient is None or not re.match(r"(?:the|this|these|my|our) ", patient[1]) or deed.split()[0] in _ACTIVE:
        return None
    rest = " ".join((deed[: patient.start()] + deed[patient.end() :]).split())
    several = re.split(r" (?:of|on|in|for|from|with) ", patient[1])[0]
    many = several.endswith("s") and not several.endswith("ss") or " and " in several or several.startswith("these")
    return f"{patient[1]} {'need' if many else 'needs'} {gerund(rest)}"
