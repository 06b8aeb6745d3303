"""How much a set holds: pictures, categories and instructions, next to what the paper says of RAGNet."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from affordagent.finetune.data.schema import AFFORDANCE, Sample

PAPER = {"images": 273_000, "categories": 180, "instructions": 26_000}  # Wu et al., RAGNet, ICCV 2025


@dataclass(frozen=True)
class Group:
    """Counts of the rows of one source, split and kind. images: distinct; categories: distinct, of things that are
    there; instructions: rows with a purpose (easy, hard); negatives: labelled rows without a mask where one could be;
    unlabelled: rows whose mask nobody has made yet."""

    source: str
    split: str
    kind: str
    rows: int
    images: int
    categories: int
    instructions: int
    negatives: int
    unlabelled: int


@dataclass(frozen=True)
class Summary:
    """groups: by source, split, kind; total: of all affordance rows together, comparable with PAPER; rows: of all."""

    groups: tuple[Group, ...]
    total: Group
    rows: int

    def as_json(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "groups": [asdict(group) for group in self.groups],
            "affordance": asdict(self.total),
            "paper": PAPER,
        }


def summarize(samples: Iterable[Sample]) -> Summary:
    groups: dict[tuple[str, str, str], list[Sample]] = defaultdict(list)
    for sample in samples:
        groups[sample.source, sample.split, sample.kind].append(sample)
    affordance = [s for (_, _, kind), some in groups.items() if kind in AFFORDANCE for s in some]
    counted = tuple(_group(*key, groups[key]) for key in sorted(groups))
    return Summary(counted, _group("all", "all", "affordance", affordance), sum(len(some) for some in groups.values()))


def _group(source: str, split: str, kind: str, samples: list[Sample]) -> Group:
    return Group(
        source,
        split,
        kind,
        rows=len(samples),
        images=len({s.image for s in samples}),
        categories=len({s.category.lower() for s in samples if s.category is not None and not _is_negative(s)}),
        instructions=sum(s.kind in ("easy", "hard") for s in samples),
        negatives=sum(map(_is_negative, samples)),
        unlabelled=sum(s.status == "unlabelled" for s in samples),
    )


def _is_negative(sample: Sample) -> bool:
    labelled = sample.status == "labelled"
    return labelled and sample.kind != "vqa" and sample.mask is None and sample.mask_rle is None
