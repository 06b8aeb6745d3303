"""Makes the table of agent/language/knowledge.py from WordNet's files.

    apt-get download wordnet-base && dpkg -x wordnet-base_*.deb DIR
    python -m affordagent.agent.language.wordnet DIR/usr/share/wordnet

Format of the files: wndb(5WN), https://wordnet.princeton.edu/documentation/wndb5wn.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp

from affordagent.agent.language.knowledge import TABLE, Vectors
from affordagent.core.catalogue import catalogue
from affordagent.core.embedded import text_encoder
from affordagent.core.lexicon import lexicon

# Lexicographer files: artifacts and food come before plants, where a noun is several of them.
ARTIFACT, FOOD, PLANT = 6, 13, 20
# Kinds at the top of the tree, which say nothing of a thing.
VAGUE = frozenset(
    "entity,physical entity,object,whole,artifact,instrumentality,abstraction,matter,substance,solid,thing,"
    "natural object,living thing,organism,unit,article,device,implement,causal agent,plant part,plant organ".split(",")
)
KINDS = 5  # how many kinds above a noun are read
# What stands or lies on a table is among these, and is none of those.
HANDY = frozenset(
    "instrumentality commodity covering creation sheet strip article block fabric decoration padding plaything sphere"
    " line surface float product layer".split()
)
NOT_HANDY = frozenset(
    "structure,conveyance,building,way,facility,system,weapon,vehicle,room,area,surgical instrument,drug,machine".split(
        ","
    )
)
EDIBLE_PLANT = frozenset(["fruit", "vegetable", "edible fruit", "seed", "nut"])
OTHERS = 4  # things that a deed's own thing is told from, in the fit
RIDGE = 0.01


@dataclass(frozen=True)
class Synset:
    file: int
    words: tuple[str, ...]
    above: tuple[str, ...]
    definition: str


class Nouns:
    """The nouns of WordNet. folder: with data.noun, index.noun and index.verb."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def synsets(self) -> dict[str, Synset]:
        return dict(map(_synset, _lines(self.folder / "data.noun")))

    @cached_property
    def senses(self) -> dict[str, list[str]]:
        fields = (line.split() for line in _lines(self.folder / "index.noun"))
        return {f[0].replace("_", " "): f[-int(f[2]) :] for f in fields}

    @cached_property
    def verbs(self) -> frozenset[str]:
        return frozenset(line.split()[0] for line in _lines(self.folder / "index.verb"))

    def thing(self, noun: str) -> str | None:
        """The synset of the first sense that can be held, by the order of files above; None when there is none."""
        found = [s for s in self.senses.get(noun, []) if not self.synsets[s].words[0][0].isupper()]
        rank = {ARTIFACT: 0, FOOD: 0, PLANT: 1}
        held = [s for s in found if self.synsets[s].file in rank]
        return min(held, key=lambda s: rank[self.synsets[s].file]) if held else None

    def above(self, synset: str) -> list[str]:
        """All kinds above, the nearest first."""
        found: list[str] = []
        queue = list(self.synsets[synset].above)
        while queue:
            kind = queue.pop(0)
            if kind not in found:
                found.append(kind)
                queue += self.synsets[kind].above
        return found

    def is_handy(self, synset: str) -> bool:
        kinds = {self.synsets[s].words[0] for s in self.above(synset)}
        if self.synsets[synset].file == ARTIFACT:
            return bool(kinds & HANDY) and not kinds & NOT_HANDY
        return self.synsets[synset].file == FOOD or bool(kinds & EDIBLE_PLANT)

    def kinds(self, synset: str) -> list[Synset]:
        named = (self.synsets[s] for s in self.above(synset))
        return [kind for kind in named if kind.words[0] not in VAGUE][:KINDS]


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="latin1") as file:
        yield from (line for line in file if not line.startswith("  "))  # the licence comes first


def _synset(line: str) -> tuple[str, Synset]:
    head, _, gloss = line.partition(" | ")
    fields = head.split()
    count = int(fields[3], 16)
    words = tuple(word.replace("_", " ") for word in fields[4 : 4 + 2 * count : 2])
    pointers = fields[5 + 2 * count :]
    above = tuple(pointers[i + 1] for i in range(0, 4 * int(fields[4 + 2 * count]), 4) if pointers[i] in ("@", "@i"))
    return fields[0], Synset(int(fields[1]), words, above, re.split(r'; "', gloss)[0].strip(" ;\n"))


def read_meanings(nouns: Nouns, synsets: list[str]) -> tuple[Vectors, Vectors]:
    """(N, 384) embeddings of the definitions, and (N, 384) means over the kinds' names and definitions."""
    definitions = _encoded([nouns.synsets[s].definition for s in synsets])
    texts = [[t for kind in nouns.kinds(s) for t in (kind.words[0], kind.definition)] for s in synsets]
    unique = {text: row for row, text in enumerate(dict.fromkeys(t for found in texts for t in found))}
    encoded = _encoded(list(unique))
    kinds = [
        encoded[[unique[t] for t in found]].mean(0) if found else own
        for found, own in zip(texts, definitions, strict=True)
    ]
    return definitions, np.array(kinds)


def _encoded(texts: list[str], batch: int = 64) -> Vectors:
    """Sorted by length: a batch is padded to its longest."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    out = np.zeros((len(texts), 384), np.float32)
    for start in range(0, len(order), batch):
        at = order[start : start + batch]
        out[at] = text_encoder().sentences([texts[i] for i in at])
    return out


def deeds(verbs: frozenset[str]) -> list[tuple[str, str]]:
    """(verb, thing's plainest name) of the uses in the lexicon and the catalogue: "Drink water": ("drink", "glass")."""
    pairs = [(use.split()[0].lower(), thing.names[0]) for thing in lexicon().values() for use in thing.uses]
    for category in catalogue().values():
        used = (text.removeprefix("Used to ") for text in category.description if text.startswith("Used to "))
        pairs += [(text.split()[0].strip(","), category.names[0]) for text in used]
    return [(verb, name) for verb, name in pairs if verb in verbs]


def fit_weights(views: Vectors, pairs: list[tuple[int, int]], deeds: Vectors, seed: int = 0) -> NDArray[np.float64]:
    """(V,) weights of the views with which a deed's own thing is best told from `OTHERS` random ones.

    views: (V, T, 384) of each thing. pairs: (deed, thing). deeds: (D, 384), centred.
    """
    rng = np.random.default_rng(seed)
    own = {d: {t for other, t in pairs if other == d} for d, _ in pairs}
    rows = []
    for deed, thing in pairs:
        others = [t for t in rng.permutation(views.shape[1]) if t not in own[deed]][:OTHERS]
        rows.append(views[:, [thing, *others]] @ deeds[deed])
    table = np.array(rows, np.float64)  # (P, V, 1 + OTHERS)
    spread = table.std(axis=(0, 2))

    def loss(weights: NDArray[np.float64]) -> float:
        logits = np.einsum("v,pvc->pc", weights / spread, table)
        return float((logsumexp(logits, axis=1) - logits[:, 0]).mean() + RIDGE * (weights**2).sum())

    return minimize(loss, np.ones(len(views))).x / spread


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the table of what things are for from WordNet's files.")
    parser.add_argument("folder", type=Path, help="with data.noun, index.noun, index.verb")
    nouns = Nouns(parser.parse_args().folder)
    plain = {noun: nouns.thing(noun) for noun in nouns.senses if re.fullmatch(r"[a-z][a-z' -]*", noun)}
    chosen = {noun: synset for noun, synset in plain.items() if synset and nouns.is_handy(synset)}
    synsets = {synset: row for row, synset in enumerate(dict.fromkeys(chosen.values()))}
    definitions, kinds = read_meanings(nouns, list(synsets))

    pairs = [(verb, name) for verb, name in deeds(nouns.verbs) if name in chosen]
    verbs, names = (list(dict.fromkeys(words)) for words in zip(*pairs, strict=True))
    wishes = _encoded([f"something to {verb}" for verb in verbs])
    rows = [synsets[chosen[name]] for name in names]
    views = np.stack([_encoded([f"a {name}" for name in names]), definitions[rows], kinds[rows]])
    numbered = [(verbs.index(verb), names.index(name)) for verb, name in pairs]
    weights = fit_weights(views, numbered, wishes - wishes.mean(0))
    print(f"{len(chosen)} nouns, {len(synsets)} meanings, {len(pairs)} pairs, weights {weights.round(2)}")

    meanings = weights[1] * definitions + weights[2] * kinds
    scales = np.abs(meanings).max(1) / 127
    np.savez_compressed(
        Path(__file__).with_name(TABLE),
        nouns=np.frombuffer("\n".join(chosen).encode(), np.uint8),
        rows=np.array([synsets[s] for s in chosen.values()], np.uint16),
        meanings=np.round(meanings / scales[:, None]).astype(np.int8),
        scales=scales.astype(np.float32),
        any_deed=wishes.mean(0),
        weights=weights,
    )


if __name__ == "__main__":
    main()
