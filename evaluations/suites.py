"""The validation splits of the two tables in RAGNet's README, with the figures printed there.

https://github.com/wudongming97/AffordanceNet#main-results. All of them are teacher-forced: the reference answer stands
before the [AFF] whose mask is measured, also in the reasoning table, where that answer names the thing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from affordagent.core.errors import AffordAgentError
from affordagent.finetune.data.entries import DataSet, samples_of
from affordagent.finetune.data.ragnet import SETS
from affordagent.finetune.data.schema import Sample


@dataclass(frozen=True)
class Suite:
    """data: the published set of that name. published_giou, published_ciou: of AffordanceNet, in [0, 1]."""

    title: str
    data: str
    published_giou: float
    published_ciou: float


SUITES = {
    "handal": Suite("HANDAL", "handal_all_val", 0.603, 0.608),
    "handal-mini": Suite("HANDAL mini", "handal_mini_val", 0.605, 0.603),
    "graspnet-seen": Suite("GraspNet seen", "graspnet_test_seen_val", 0.633, 0.640),
    "graspnet-novel": Suite("GraspNet novel", "graspnet_test_novel_val", 0.456, 0.332),
    "3doi": Suite("3DOI", "3doi_val", 0.374, 0.374),
    "reasoning-handal-easy": Suite("reasoning HANDAL (easy)", "handal_easy_reasoning_val", 0.583, 0.581),
    "reasoning-handal-hard": Suite("reasoning HANDAL (hard)", "handal_hard_reasoning_val", 0.582, 0.578),
    "reasoning-3doi-easy": Suite("reasoning 3DOI (easy)", "3doi_easy_reasoning_val", 0.381, 0.394),
}


def data_of(suite: Suite) -> DataSet:
    return next(s for s in SETS if s.name == suite.data)


def samples_of_suite(name: str, root: Path) -> list[Sample]:
    """The rows of a suite from the folder of the published data.

    Raises:
        AffordAgentError: no such suite, its data is not below `root`, or a row of it cannot be read.
    """
    if name not in SUITES:
        raise AffordAgentError(f"no suite {name!r}; there are {', '.join(SUITES)}")
    data = data_of(SUITES[name])
    if not data.is_in(root):
        raise AffordAgentError(
            f"{root / data.needs} is not there: --root must be the folder of the published RAGNet data"
        )
    return list(samples_of(data.read(root, 0)))
