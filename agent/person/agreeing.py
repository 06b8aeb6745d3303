"""Do people agree on the masks, and what becomes of the rows when they do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from statistics import fmean, median
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from affordagent.agent.person.answers import Answer, read_answers
from affordagent.agent.person.tasks import key_of, rows_file
from affordagent.core.agreement import krippendorff_alpha
from affordagent.core.errors import AffordAgentError
from affordagent.core.overlap import overlap
from affordagent.core.types import Mask
from affordagent.finetune.data.rle import encode_rle
from affordagent.finetune.data.schema import AFFORDANCE, Sample
from affordagent.finetune.data.sources.found import question
from affordagent.finetune.data.table import iter_samples, write_parquet
from affordagent.tools.annotation.types import PERSON

SAME = 0.7  # IoU from which two masks mean the same
GOOD = 0.8  # of RAGNet's own limit for a right mask

Answers = Mapping[str, Mapping[str, Answer]]  # by person and row


@dataclass(frozen=True)
class Pair:
    """Two people's answers to one row. said: of each. iou: of two masks, None where one has none."""

    row: str
    by: tuple[str, str]
    said: tuple[str, str]
    iou: float | None

    @property
    def agrees(self) -> bool:
        return self.said[0] == self.said[1] if self.iou is None else self.iou >= SAME


@dataclass(frozen=True)
class Agreed:
    """people: how many rows each has answered. both: rows with two answers or more. iou_mean, iou_median, good: of the
    pairs of masks; good: the share of IoU >= GOOD; None without a pair. alpha: Krippendorff's, of "mask" and "absent",
    None where only one of them occurs. pairs: those that disagree first, the worst before all."""

    people: dict[str, int]
    both: int
    masks: int
    iou_mean: float | None
    iou_median: float | None
    good: float | None
    alpha: float | None
    pairs: tuple[Pair, ...]

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "pairs": [{**asdict(pair), "agrees": pair.agrees} for pair in self.pairs]}


@dataclass(frozen=True)
class Merged:
    """rows: written. by_people: of them with people's mask or "not in the picture". disputed: left open, as people
    disagree. unsaid: left open, as nobody could say."""

    rows: int
    by_people: int
    disputed: int
    unsaid: int


def agreement(folder: Path) -> Agreed:
    """Of all people with a file in the folder.

    Raises:
        AffordAgentError: there is none.
    """
    answers = read_answers(folder)
    if not answers:
        raise AffordAgentError(f"{folder} has no person-NAME.jsonl: answer some rows with `affordagent data person`")
    by_row = _by_row(answers)
    pairs = [_pair(a, b) for said in by_row.values() for a, b in combinations(said, 2)]
    ious = [pair.iou for pair in pairs if pair.iou is not None]
    alpha = krippendorff_alpha([[a.said for a in said if a.said != "cannot say"] for said in by_row.values()])
    return Agreed(
        {by: len(of) for by, of in answers.items()},
        sum(len(said) > 1 for said in by_row.values()),
        len(ious),
        round(fmean(ious), 4) if ious else None,
        round(median(ious), 4) if ious else None,
        round(fmean(iou >= GOOD for iou in ious), 4) if ious else None,
        round(alpha, 4) if np.isfinite(alpha) else None,
        tuple(sorted(pairs, key=lambda pair: (pair.agrees, pair.iou if pair.iou is not None else 0.0))),
    )


def disputed_rows(answers: Answers) -> set[str]:
    """Keys of the rows on whose answer no majority agrees."""
    return {row for row, said in _by_row(answers).items() if _majority(said) is None and _votes(said)}


def merge(place: Path, out: Path) -> Merged:
    """Write the rows with what people said of them: tool "person". Where most of those who could say agree, the row has
    their mask, or the mean of them; where not, it stays open for another look.

    Raises:
        AffordAgentError: nobody has answered, or the rows cannot be read or written.
    """
    file = rows_file(place)
    answers = read_answers(file.parent)
    if not any(answers.values()):
        raise AffordAgentError(f"{file.parent} has no answers of people: there is nothing to merge")
    if out.exists() and out.resolve() == file.resolve():
        raise AffordAgentError(f"--merge {out} are the rows themselves, which the answers are for: name another file")
    by_row, folder = _by_row(answers), file.parent.absolute()
    counts = dict.fromkeys(("by_people", "disputed", "unsaid"), 0)

    def rows() -> Iterator[Sample]:
        for row in iter_samples(file):
            said = by_row.get(key_of(row, folder)) if row.kind in AFFORDANCE else None
            if said:
                row, became = _answered(row, said)
                counts[became] += 1
            yield row

    return Merged(write_parquet(rows(), out), **counts)


def mean_mask(masks: Sequence[Mask]) -> Mask:
    """(H, W) bool: where the mean of the signed distances to the outlines is inside (Rohlfing and Maurer, "Shape-based
    averaging", IEEE TIP 2007); of one mask itself."""
    return np.sum([_inside_px(mask) for mask in masks], axis=0) > 0 if len(masks) > 1 else masks[0]


def _inside_px(mask: Mask) -> NDArray[np.float32]:
    """Distance to the outline, negative outside."""
    within, without = (cv2.distanceTransform(side.astype(np.uint8), cv2.DIST_L2, 5) for side in (mask, ~mask))
    return np.asarray(within - without, np.float32)


def _by_row(answers: Answers) -> dict[str, list[Answer]]:
    found: dict[str, list[Answer]] = {}
    for by in sorted(answers):
        for row, answer in answers[by].items():
            found.setdefault(row, []).append(answer)
    return found


def _votes(said: Sequence[Answer]) -> list[Answer]:
    return [answer for answer in said if answer.said != "cannot say"]


def _majority(said: Sequence[Answer]) -> list[Answer] | None:
    """The most answers that agree with one of them, when they are more than half of those who could say."""
    votes = _votes(said)
    alike = [[other for other in votes if other is one or _pair(one, other).agrees] for one in votes]
    most = max(alike, key=len, default=[])
    return most if 2 * len(most) > len(votes) else None


def _pair(a: Answer, b: Answer) -> Pair:
    iou = None
    if a.said == b.said == "mask":
        one, other = a.mask(), b.mask()
        if one is not None and other is not None:  # of another size: of another picture
            iou = round(overlap(one, other).iou, 4) if one.shape == other.shape else 0.0
    return Pair(a.row, (a.by, b.by), (a.said, b.said), iou)


def _answered(row: Sample, said: Sequence[Answer]) -> tuple[Sample, str]:
    """The row, and which of `Merged` it counts among."""
    votes, most = _votes(said), _majority(said)
    unsure = ", ".join(answer.by for answer in said if answer.said == "cannot say")
    beside = f"; {unsure} could not say" if unsure else ""
    open_ = replace(row, mask=None, mask_label=None, mask_rle=None, status="unlabelled", tool=None)
    if not votes:
        return replace(open_, tool_reason=f"{unsure} could not say; before: {row.tool_reason or 'nothing'}"), "unsaid"
    if most is None:
        ious = [pair.iou for a, b in combinations(votes, 2) if (pair := _pair(a, b)).iou is not None]
        told = f"IoU {min(ious):.2f}, at least {SAME} expected" if len(ious) else ""
        words = " and ".join(f"{answer.by} ({answer.said})" for answer in votes)
        return replace(open_, confidence=0.0, tool_reason=f"{words} disagree {told}{beside}".strip()), "disputed"
    who = ", ".join(answer.by for answer in most) + (f", {len(most)} of {len(votes)}" if len(votes) > 1 else "")
    masks = [mask for answer in most if answer.said == "mask" and (mask := answer.mask()) is not None]
    what = "made" if masks else "not in the picture, said"
    reason = f"{what} by {who}{beside}; before: {row.tool_reason or 'nothing'}"
    text = row.text or question(row.part or row.category or "thing", row.source_id or row.image, 0)
    labelled = replace(
        open_, text=text, status="labelled", tool=PERSON, tool_reason=reason, confidence=len(most) / len(votes)
    )
    return replace(labelled, mask_rle=encode_rle(mean_mask(masks)) if masks else None), "by_people"
