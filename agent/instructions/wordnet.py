"""Makes the table of agent/instructions/kin.py from WordNet's files.

    apt-get download wordnet-base && dpkg -x wordnet-base_*.deb DIR
    python -m affordagent.agent.instructions.wordnet DIR/usr/share/wordnet

Format of the files: wndb(5WN), https://wordnet.princeton.edu/documentation/wndb5wn. The things are those of
agent/language/wordnet.py: whatever stands or lies on a table.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from affordagent.agent.language.wordnet import Nouns

TABLE = "kin.npz"
FILES = {"n": "data.noun", "v": "data.verb", "a": "data.adj", "s": "data.adj", "r": "data.adv"}


def things(nouns: Nouns) -> list[dict[str, Any]]:
    """One of each meaning that can be held: its words, the rows of the kinds right above, its definition."""
    chosen = [s for s, synset in nouns.synsets.items() if not synset.words[0][0].isupper() and nouns.is_handy(s)]
    rows = {synset: row for row, synset in enumerate(chosen)}
    return [
        {
            "words": list(nouns.synsets[s].words),
            "above": [rows[kind] for kind in nouns.synsets[s].above if kind in rows],
            "gloss": nouns.synsets[s].definition,
        }
        for s in chosen
    ]


def relatives(folder: Path, nouns: set[str]) -> dict[str, list[str]]:
    """Noun -> the words that WordNet derives from it, or it from them: "strainer" -> "strain"."""
    words = {pos: dict(_words(folder / name)) for pos, name in FILES.items() if pos != "s"}
    words["s"] = words["a"]
    found: dict[str, set[str]] = defaultdict(set)
    for fields in _fields(folder / "data.noun"):
        own = words["n"][fields[0]]
        for pointer, target, pos, which in _pointers(fields):
            if pointer != "+":
                continue
            source, other = int(which[:2], 16), int(which[2:], 16)
            if own[source - 1] in nouns:
                found[own[source - 1]].add(words[pos][target][other - 1])
    return {noun: sorted(derived - {noun}) for noun, derived in sorted(found.items()) if derived - {noun}}


def _words(path: Path) -> Iterator[tuple[str, list[str]]]:
    for fields in _fields(path):
        count = int(fields[3], 16)
        yield fields[0], [re.sub(r"\(\w+\)$", "", w).replace("_", " ").lower() for w in fields[4 : 4 + 2 * count : 2]]


def _fields(path: Path) -> Iterator[list[str]]:
    with path.open(encoding="latin1") as file:
        yield from (line.partition(" | ")[0].split() for line in file if not line.startswith("  "))


def _pointers(fields: list[str]) -> Iterator[tuple[str, str, str, str]]:
    at = 5 + 2 * int(fields[3], 16)
    for i in range(at, at + 4 * int(fields[at - 1]), 4):
        pointer, target, pos, which = fields[i : i + 4]
        yield pointer, target, pos, which


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the table of names and their kin from WordNet's files.")
    parser.add_argument("folder", type=Path, help="with data.noun, data.verb, data.adj, data.adv and the indexes")
    folder = parser.parse_args().folder
    found = things(Nouns(folder))
    derived = relatives(folder, {word.lower() for thing in found for word in thing["words"]})
    text = json.dumps({"things": found, "relatives": derived}, separators=(",", ":"))
    np.savez_compressed(Path(__file__).with_name(TABLE), table=np.frombuffer(text.encode(), np.uint8))
    print(f"{len(found)} meanings, {len(derived)} nouns with relatives")


if __name__ == "__main__":
    main()
