"""How far a text lies from the texts that models are trained with: templates, and phrases as one author or GPT writes
them. A result counts for people only where it holds *outside* that style.

Two distances, each to the nearest training text: of the meaning (MiniLM) and of the form, the sequence of function
words and punctuation with all content words alike. A text is outside when it is further off than 95 % of held-out
texts in the training style, in whichever of the two it is further. The scale of both is set by those held-out texts;
after a change of the phrases set it anew: `python -m affordagent.evaluations.commands.distance`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist

from affordagent.agent.language import retrieval
from affordagent.core.catalogue import catalogue
from affordagent.core.embedded import MINILM_SHA256, text_encoder
from affordagent.core.run_store import write_json
from affordagent.finetune.data.questions import AFFORDANCE
from affordagent.finetune.phrases import phrases

SCALE_FILE = "style_scale.json"
NAMES_EVERY = 6
QUANTILE = 95  # percent of held-out training-style texts that count as inside

_TOKEN = re.compile(r"n't|'\w+|\w+?(?=n't)|\w+|[^\w\s]")
_CONTENT = "w"
FUNCTION_WORDS = frozenset(
    "a an the this that these those some any no not n't every each all both either one ones thing something "
    "anything someone i you he she it we they me him her us them my your his its our their mine yours am is are "
    "was were be been being do does did have has had having can could may might will would shall should must need "
    "needs want wants 'm 's 're 've 'd 'll and or but so because if when while then than as of in on at by for "
    "from to with without into onto over under up down out off about after before near next here there where what "
    "which who whose how why please pls thanks yes ok let give get pass hand bring take grab hold pick lift fetch "
    "find use like just now too very more only also robot".split()
)


@dataclass(frozen=True)
class StyleDistance:
    """How far a text is from the training texts.

    meaning: 1 - cosine to the nearest, form: edit distance to the nearest skeleton over the longer one's length, both
    in [0, 1]. combined in [0, 1): the larger of the two in units of its 95th percentile over held-out training-style
    texts, m / (m + edge), so that 0.5 is the edge.
    """

    meaning: float
    form: float
    combined: float

    @property
    def outside(self) -> bool:
        return self.combined > 0.5


@dataclass(frozen=True)
class Scale:
    """meaning, form: 95th percentiles over `held_out` texts; edge: of the larger of the two in units of these."""

    meaning: float
    form: float
    edge: float
    held_out: int
    digest: str


def style_distances(texts: Sequence[str]) -> list[StyleDistance]:
    """How far each text is from the training style; 8 CPU-ms a text, once the encoder is loaded."""
    if not texts:
        return []
    known = scale()
    meaning, form = meaning_distance(texts), form_distance(texts)
    further = np.maximum(meaning / known.meaning, form / known.form)
    rows = zip(meaning, form, further / (further + known.edge), strict=True)
    return [StyleDistance(*(round(float(value), 4) for value in row)) for row in rows]


def training_texts() -> list[str]:
    """The training phrases, and the templates, each with a sixth of the categories' plain names in turns: any name is
    in several of them, and all would take five times as long to embed."""
    templates = [*phrases()["templates_train"], *(text.format("{name}") for text in AFFORDANCE)]
    named = [
        text.format(name=kind.name, part=kind.part or "body")
        for turn, text in enumerate(templates)
        for number, kind in enumerate(catalogue().values())
        if number % NAMES_EVERY == turn % NAMES_EVERY
    ]
    functional = (text for texts in phrases()["train"].values() for text in texts)
    return list(dict.fromkeys([*functional, *named]))


def held_out_texts() -> list[str]:
    """Phrases in the training style that are not trained: the development split."""
    trained = set(training_texts())
    found = dict.fromkeys(text for texts in phrases()["dev"].values() for text in texts)
    return [text for text in found if text not in trained]


def meaning_distance(texts: Sequence[str]) -> NDArray[np.float64]:
    """(N,) 1 - cosine of the sentence embedding to the nearest training text's, in [0, 1]."""
    nearest = (text_encoder().sentences(list(texts)) @ _training_embeddings().T).max(1)
    return np.clip(1.0 - nearest.astype(np.float64), 0.0, 1.0)


def form_distance(texts: Sequence[str]) -> NDArray[np.float64]:
    """(N,) normalised edit distance of the skeleton to the nearest training text's, in [0, 1]."""
    return _edits(_skeletons(texts), _training_skeletons()).min(1)


def skeleton(text: str) -> tuple[str, ...]:
    """The text's function words and punctuation; every other word is one and the same mark."""
    words = _TOKEN.findall(text.lower().replace("\u2019", "'"))
    return tuple(word if word in FUNCTION_WORDS or not word[-1].isalnum() else _CONTENT for word in words)


def _skeletons(texts: Iterable[str]) -> list[str]:
    """Skeletons with one character a word, for `cdist`."""
    signs = {word: chr(0x4E00 + i) for i, word in enumerate((_CONTENT, *sorted(FUNCTION_WORDS)))}
    return ["".join(signs.get(word, word[-1]) for word in skeleton(text)) for text in texts]


def _edits(first: Sequence[str], second: Sequence[str]) -> NDArray[np.float64]:
    return cdist(first, second, scorer=Levenshtein.normalized_distance, dtype=np.float64)


@cache
def _training_skeletons() -> tuple[str, ...]:
    return tuple(sorted(set(_skeletons(training_texts()))))


@cache
def _training_embeddings() -> NDArray[np.float32]:
    """(N, 384) of `training_texts`; most of them come with the language stage's index."""
    rows = {text: row for row, text in enumerate(retrieval.sentences())}
    texts = training_texts()
    new = [text for text in texts if text not in rows]
    stored = retrieval.index().embeddings[[rows[text] for text in texts if text in rows]]
    return np.concatenate([stored, text_encoder().sentences(new)])


@cache
def scale() -> Scale:
    """The packaged scale if it belongs to today's phrases and encoder, else a fresh one (about 3 CPU-s)."""
    path = files("affordagent.evaluations").joinpath(f"commands/{SCALE_FILE}")
    if path.is_file():
        stored = Scale(**json.loads(path.read_text(encoding="utf-8")))
        if stored.digest == _digest():
            return stored
    return fit_scale()


def fit_scale() -> Scale:
    """The 95th percentiles over `held_out_texts`."""
    texts = held_out_texts()
    meaning, form = meaning_distance(texts), form_distance(texts)
    units = [float(np.percentile(values, QUANTILE)) for values in (meaning, form)]
    edge = float(np.percentile(np.maximum(meaning / units[0], form / units[1]), QUANTILE))
    return Scale(round(units[0], 4), round(units[1], 4), round(edge, 4), len(texts), _digest())


def _digest() -> str:
    made_of = [MINILM_SHA256, sorted(FUNCTION_WORDS), training_texts(), held_out_texts()]
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()


if __name__ == "__main__":
    write_json(Path(__file__).with_name(SCALE_FILE), asdict(fit_scale()))
