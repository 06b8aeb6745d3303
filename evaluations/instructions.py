"""How good generated instructions are: what they give away, what they are taken to mean, how varied they are.

    affordagent data instructions --n 5000 --style hard --offline --unjudged --categories ... --out runs/hard.jsonl
    python -m affordagent.evaluations.instructions runs/hard.jsonl --wordnet DIR --out docs/results/instructions.json

Meanings are judged by the offline language among the catalogue's categories with a handle to hold (19: HANDAL's 17,
knife and scissors). It was not fitted to these texts, but it is also what the generator filters with: a rate that is
not circular needs a file made with --unjudged. A second judge knows no sentence of ours: the nearest of the 19 by
MiniLM to the catalogue's descriptions. Diversity is compared with the natural commands and the training phrases, for
equal counts.
"""

from __future__ import annotations

import argparse
import re
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affordagent.agent.instructions.judge import judged
from affordagent.core.catalogue import catalogue
from affordagent.core.embedded import text_encoder
from affordagent.core.jsonl import read_lines
from affordagent.core.run_store import write_json
from affordagent.evaluations.commands.command import CommandGold, shipped_commands
from affordagent.evaluations.commands.distance import skeleton, style_distances
from affordagent.evaluations.commands.stats import as_text
from affordagent.evaluations.instruction_leaks import leaks_by_hand, leaks_by_wordnet
from affordagent.evaluations.statistics import rate
from affordagent.finetune.data.instructions.pairs import Instruction
from affordagent.finetune.phrases import phrases

NINETEEN = tuple(category.name for category in catalogue().values() if category.part)
SAMPLE = 100  # texts that diversity is measured over: it falls with the number of texts
REPEATS = 20
TOP = 10


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure generated instructions.")
    parser.add_argument("file", type=Path, help="JSONL of `affordagent data instructions --out`")
    parser.add_argument("--wordnet", type=Path, help="folder with WordNet's data.noun and data.verb")
    parser.add_argument("--out", type=Path, help="JSON")
    parser.add_argument("--seed", type=int, default=0, help="of the samples (default 0)")
    args = parser.parse_args()
    pairs = [Instruction(**line) for line in read_lines(args.file)]
    found = measured(pairs, args.wordnet, args.seed)
    print(as_text({name: value for name, value in found.items() if name not in ("meaning_by_category", "misread")}))
    if args.out:
        write_json(args.out, found)


def measured(pairs: Sequence[Instruction], wordnet: Path | None = None, seed: int = 0) -> dict[str, Any]:
    """Everything about the pairs, as JSON; meanings and leaks of the hard ones about the 19 categories alone."""
    started = time.process_time()
    hard = [pair for pair in pairs if pair.style == "hard" and pair.category in NINETEEN]
    words = [len(pair.question.split()) for pair in pairs]
    found: dict[str, Any] = {
        "pairs": len(pairs),
        "by_style": dict(Counter(pair.style for pair in pairs)),
        "categories": len({pair.category for pair in pairs}),
        "words": {"median": float(np.median(words)), "longest": max(words)},
        "longest_answer": max(len(pair.answer.split()) for pair in pairs),
    }
    if hard:
        found |= {"leaks": leaked(hard, wordnet), **meanings(hard)}
    found["diversity"] = {
        "instructions": diversity([pair.question for pair in pairs], seed),
        "natural_commands": diversity(natural(), seed),
        "training_phrases": diversity([t for texts in phrases()["train"].values() for t in texts], seed),
    }
    found["diversity_in_categories"] = in_categories(pairs, seed)
    found["distance"] = distances([pair.question for pair in pairs])
    return found | {"cpu_s": round(time.process_time() - started, 1)}


def leaked(pairs: Sequence[Instruction], wordnet: Path | None) -> dict[str, Any]:
    """How many questions give the name away, by the list and by WordNet's files (None without them), with examples."""
    by_hand = [(p.category, words, p.question) for p in pairs if (words := leaks_by_hand(p.question, p.category))]
    found: dict[str, Any] = {"checked": len(pairs), "by_hand": len(by_hand), "by_wordnet": None}
    if wordnet is not None:
        by_wordnet = [
            (p.category, words, p.question)
            for p in pairs
            if (words := leaks_by_wordnet(p.question, p.category, wordnet))
        ]
        found |= {"by_wordnet": len(by_wordnet), "examples": [*by_hand, *by_wordnet][:TOP]}
    return found


def meanings(pairs: Sequence[Instruction]) -> dict[str, Any]:
    """What the offline language takes them to mean. meaning: right among the 19 and read as a request; first_of_all:
    right among everything it knows; second_judge: right by the descriptions alone."""
    verdicts = [judged(pair.question, NINETEEN) for pair in pairs]
    right = [v.request and v.meant == p.category for v, p in zip(verdicts, pairs, strict=True)]
    second = nearest_descriptions([pair.question for pair in pairs])
    by_category: dict[str, list[bool]] = defaultdict(list)
    for pair, good in zip(pairs, right, strict=True):
        by_category[pair.category].append(good)
    wrong = Counter(
        f"{p.category}: {v.meant if v.request else 'no request'}"
        for p, v, good in zip(pairs, verdicts, right, strict=True)
        if not good
    )
    return {
        "among": list(NINETEEN),
        "meaning": rate(sum(right), len(right)),
        "read_as_request": rate(sum(v.request for v in verdicts), len(verdicts)),
        "first_of_all": rate(sum(v.best == p.category for v, p in zip(verdicts, pairs, strict=True)), len(pairs)),
        "second_judge": rate(sum(s == p.category for s, p in zip(second, pairs, strict=True)), len(pairs)),
        "meaning_by_category": {name: rate(sum(good), len(good)) for name, good in by_category.items()},
        "misread": dict(wrong.most_common()),
    }


def nearest_descriptions(texts: Sequence[str]) -> list[str]:
    """The one of the 19 whose description is nearest to each text: no name, no training sentence."""
    described = text_encoder().sentences([" ".join(catalogue()[name].description) for name in NINETEEN])
    return [NINETEEN[i] for i in (text_encoder().sentences(list(texts)) @ described.T).argmax(1)]


def diversity(texts: Sequence[str], seed: int) -> dict[str, float]:
    """Means over samples of `SAMPLE` texts: distinct_1, 2, 3 (different n-grams over all, Li et al. 2016), similarity
    (mean cosine of two texts), nearest (mean cosine to the most similar other), skeletons (different orders of function
    words over texts). unique: different texts over all."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(REPEATS):
        sample = [texts[i] for i in rng.permutation(len(texts))[:SAMPLE]]
        words = [re.findall(r"[a-z0-9']+", text.lower()) for text in sample]
        cosines = _cosines(sample)
        rows.append(
            [
                *(_distinct(words, n) for n in (1, 2, 3)),
                float(cosines[np.triu_indices(len(sample), 1)].mean()),
                float((cosines - 2 * np.eye(len(sample))).max(1).mean()),
                len({skeleton(text) for text in sample}) / len(sample),
            ]
        )
    names = ("distinct_1", "distinct_2", "distinct_3", "similarity", "nearest", "skeletons")
    means = {name: round(float(value), 3) for name, value in zip(names, np.mean(rows, axis=0), strict=True)}
    forms = Counter(skeleton(text) for text in texts)
    return means | {
        "unique": round(len(set(texts)) / len(texts), 4),
        "top_10_skeletons": round(sum(n for _, n in forms.most_common(TOP)) / len(texts), 4),
    }


def in_categories(pairs: Sequence[Instruction], seed: int) -> dict[str, float]:
    """The same of the texts about one category, the mean over the categories."""
    texts: dict[str, list[str]] = defaultdict(list)
    for pair in pairs:
        texts[pair.category].append(pair.question)
    rows = [diversity(found, seed) for found in texts.values() if len(found) > 1]
    return {name: round(float(np.mean([row[name] for row in rows])), 3) for name in rows[0]} if rows else {}


def distances(texts: Sequence[str]) -> dict[str, Any]:
    """From the training style (medians, share outside; the natural commands' beside it), and to the natural commands
    that name nothing: the mean cosine of each text to its nearest command, and of each command to its nearest text."""
    found = {}
    for name, some in (("instructions", list(texts)), ("natural_commands", natural())):
        measured = style_distances(some)
        found[name] = {
            "meaning": round(float(np.median([d.meaning for d in measured])), 3),
            "form": round(float(np.median([d.form for d in measured])), 3),
            "outside": rate(sum(d.outside for d in measured), len(measured)),
        }
    cosines = text_encoder().sentences(list(texts)) @ text_encoder().sentences(natural()).T
    nearest = {
        "text_to_command": round(float(cosines.max(1).mean()), 3),
        "command_to_text": round(float(cosines.max(0).mean()), 3),
    }
    return found | {"nearest": nearest}


@cache
def natural() -> list[str]:
    """The development half of the natural commands about the 19 that name no category."""
    found = []
    for command in shipped_commands("dev"):
        if command.language == "en" and isinstance(command.gold, CommandGold):
            known = set(command.gold.categories) & set(NINETEEN)
            if known and not any(leaks_by_hand(command.text, name) for name in known):
                found.append(command.text)
    return found


def _cosines(texts: Sequence[str]) -> NDArray[np.float32]:
    vectors = text_encoder().sentences(list(texts))
    return vectors @ vectors.T


def _distinct(words: Sequence[Sequence[str]], n: int) -> float:
    grams = [tuple(text[i : i + n]) for text in words for i in range(len(text) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0


if __name__ == "__main__":
    main()
