"""Rows of pictures in, rows with masks out: annotation by priority over a file of any size, that a kill cannot spoil.

The input is cut into shards once. A shard's answer is written whole: first its rows, then `done/<shard>.json`, which
says that it is done; a restart goes on with the others. So every row is answered exactly once, however often the work
was killed, on this machine's processes or on a Ray cluster.

    OUT/run.json             the input's SHA-256, weights, versions: another input needs another folder
    OUT/todo/<shard>.parquet the input's rows; an episode is never cut
    OUT/shards/<shard>.parquet, OUT/done/<shard>.json   answered rows; counts, seconds, rejected rows
    OUT/rows.parquet, OUT/rejected.jsonl                all of them, in the input's order, when all is done
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from affordagent.agent.results import versions
from affordagent.core.errors import AffordAgentError
from affordagent.core.run_store import write_json
from affordagent.core.workers import process_pool, work_through
from affordagent.finetune.data.rle import encode_rle
from affordagent.finetune.data.schema import AFFORDANCE, Sample
from affordagent.finetune.data.table import box_of_row, iter_samples, load_image, load_mask, write_parquet
from affordagent.tools.annotation.chain import Chain, Weights, chain_of, check_wish
from affordagent.tools.annotation.types import Annotation, Wanted
from affordagent.tools.annotation.video import FlowTracker, Sam2Tracker, Tracked, Tracker, propagate
from affordagent.tools.detection import Picture

SHARD_ROWS = 200
Key = tuple[Any, ...]  # of rows that differ in their text alone


@dataclass(frozen=True)
class Shard:
    """A piece of the work: `key` names its files below `out`."""

    out: Path
    key: str
    weights: Weights

    @property
    def todo(self) -> Path:
        return self.out / "todo" / f"{self.key}.parquet"

    @property
    def rows(self) -> Path:
        return self.out / "shards" / f"{self.key}.parquet"

    @property
    def done(self) -> Path:
        return self.out / "done" / f"{self.key}.json"


@dataclass(frozen=True)
class Counts:
    """rows: of the input. labelled, to_a_person, rejected: what became of them. by_tool: of the labelled. cpu_s: of all
    workers."""

    rows: int
    labelled: int
    to_a_person: int
    rejected: int
    by_tool: dict[str, int]
    cpu_s: float


def annotate_file(
    source: Path,
    out: Path,
    weights: Weights,
    *,
    workers: int = 1,
    ray: str | None = None,
    shard_rows: int = SHARD_ROWS,
    on_shard: Callable[[int, int], None] = lambda rows, of: None,
) -> Counts:
    """Answer all rows of a Parquet or CSV file into the folder `out`, or go on where an earlier call was cut off.

    workers: processes, or Ray's actors with `ray`, its address ("local" for a cluster of one's own). on_shard: told how
    many rows are done, of how many.

    Raises:
        AffordAgentError: the folder holds the work on something else, a file cannot be read, or Ray is not there.
    """
    shards = prepare(source, out, weights, shard_rows)
    sizes = {shard.key: _count(shard.todo) for shard in shards}
    total, finished = sum(sizes.values()), sum(sizes[s.key] for s in shards if s.done.is_file())
    on_shard(finished, total)

    def on_result(key: str) -> None:
        nonlocal finished
        finished += sizes[key]
        on_shard(finished, total)

    waiting = [shard for shard in shards if not shard.done.is_file()]
    if ray is not None:
        from affordagent.agent.annotating_ray import answer_on_ray

        answer_on_ray(waiting, ray, workers, on_result)
    elif workers == 1:
        for shard in waiting:
            on_result(answer(shard))
    else:
        with process_pool(workers) as pool:
            work_through(pool, answer, waiting, on_result)
    return gather(shards, out)


def prepare(source: Path, out: Path, weights: Weights, shard_rows: int) -> list[Shard]:
    """The shards of the work, cut now or by an earlier call.

    Raises:
        AffordAgentError: the folder holds the work on another input, or by other weights.
    """
    digest = hashlib.sha256(Path(source).read_bytes()).hexdigest() if Path(source).is_file() else ""
    asked = {"input_sha256": digest, "weights": asdict(weights), "shard_rows": shard_rows}
    record = out / "run.json"
    if record.is_file():
        known = json.loads(record.read_text())
        for name, value in asked.items():
            if known.get(name) != value:
                raise AffordAgentError(
                    f"{out} holds work with {name} {known.get(name)}, not {value}: name another folder"
                )
        return [Shard(out, key, weights) for key in known["shards"]]
    keys = []
    for number, rows in enumerate(_cut(iter_samples(source), shard_rows)):
        keys.append(f"part-{number:05d}")
        write_parquet(rows, Shard(out, keys[-1], weights).todo)
    if not keys:
        raise AffordAgentError(f"{source} has no rows")
    write_json(record, {**asked, "input": str(source), "shards": keys, "versions": versions()})
    return [Shard(out, key, weights) for key in keys]


def _cut(rows: Iterator[Sample], size: int) -> Iterator[list[Sample]]:
    """Pieces of about `size` rows; rows of one picture or one episode that follow each other stay together."""
    piece: list[Sample] = []
    for _, together in groupby(rows, lambda row: row.group or row.image):
        piece += together
        if len(piece) >= size:
            yield piece
            piece = []
    if piece:
        yield piece


def answer(shard: Shard) -> str:
    """Do a shard's work; its key. To be called in any process."""
    started = time.process_time()
    rows = list(iter_samples(shard.todo))
    answers = _Answers(_chain(shard.weights), _tracker(shard.weights))
    answered, rejected = answers.of(rows)
    shard.rows.unlink(missing_ok=True)
    if answered:
        write_parquet(answered, shard.rows)
    shard.done.parent.mkdir(parents=True, exist_ok=True)
    write_json(shard.done, {"rows": len(rows), "rejected": rejected, "cpu_s": round(time.process_time() - started, 3)})
    return shard.key


@cache
def _chain(weights: Weights) -> Chain:
    """Loaded once a process."""
    return chain_of(weights)


@cache
def _tracker(weights: Weights) -> Tracker:
    return Sam2Tracker(weights.sam2) if weights.sam2 and not weights.sam2.endswith(".pt") else FlowTracker()


class _Answers:
    """Answers rows picture by picture, and what is left of an episode from its answered frames."""

    def __init__(self, chain: Chain, tracker: Tracker) -> None:
        self.chain, self.tracker = chain, tracker

    def of(self, rows: list[Sample]) -> tuple[list[Sample], list[dict[str, str]]]:
        """The answered rows in their order, and those that cannot be answered, with the reason."""
        found: dict[Key, Annotation] = {}
        rejected: dict[Key, str] = {}
        for _, of_image in groupby(rows, lambda row: row.image):
            asked = {_key(row): row for row in of_image if _is_asked(row)}
            picture, wishes = _looked_at(asked, rejected)
            if wishes:
                found |= dict(zip(wishes, self.chain.annotate(picture, list(wishes.values())), strict=True))
        self._follow_episodes(rows, found)
        keys = [_key(row) if _is_asked(row) else None for row in rows]
        kept = [
            row if key is None else _answered(row, found[key])
            for row, key in zip(rows, keys, strict=True)
            if key not in rejected
        ]
        refused = [
            {"source_id": row.source_id or row.image, "reason": rejected[key]}
            for row, key in zip(rows, keys, strict=True)
            if key is not None and key in rejected
        ]
        return kept, refused

    def _follow_episodes(self, rows: list[Sample], found: dict[Key, Annotation]) -> None:
        """Where a frame has no mask, one is carried to it from the nearest frame of its episode that has."""
        frames: dict[tuple[Any, ...], list[tuple[int, Sample]]] = {}
        for row in rows:
            frame = _frame_of(row)
            if _is_asked(row) and _key(row) in found and frame is not None and row.group is not None:
                frames.setdefault((row.group, row.category, row.part), []).append((frame, row))
        for episode in frames.values():
            known = [(frame, row) for frame, row in episode if found[_key(row)].mask is not None]
            for frame, row in episode:
                if known and found[_key(row)].mask is None:
                    nearest = min(known, key=lambda other: abs(other[0] - frame))[1]
                    carried = self._carried(found[_key(nearest)], nearest, row)
                    if carried is not None and carried.believed:
                        found[_key(row)] = _followed(found[_key(row)], carried, self.tracker.name, nearest)

    def _carried(self, known: Annotation, there: Sample, here: Sample) -> Tracked | None:
        frames = [load_image(there), load_image(here)]
        if known.mask is None or frames[0].shape != frames[1].shape:
            return None
        return propagate(self.tracker, frames, known.mask, 0)[1]


def _followed(asked: Annotation, carried: Tracked, tool: str, nearest: Sample) -> Annotation:
    reason = f"{asked.reason}; carried from {nearest.source_id or nearest.image}, way back {carried.round_trip:.2f}"
    return replace(asked, mask=carried.mask, tool=tool, reason=reason, uncertainty=(1 - carried.round_trip) / 2)


def _is_asked(row: Sample) -> bool:
    """Rows for the part to hold, but for questions about what is not there."""
    absent = row.status == "labelled" and row.mask is None and row.mask_rle is None
    return row.kind in AFFORDANCE and not absent


def _key(row: Sample) -> Key:
    return row.image, row.category, row.part, row.box, row.mask, row.mask_label, row.mask_rle


def _frame_of(row: Sample) -> int | None:
    frame = json.loads(row.provenance).get("frame") if row.provenance else None
    return frame if isinstance(frame, int) else None


def _looked_at(asked: dict[Key, Sample], rejected: dict[Key, str]) -> tuple[Picture, dict[Key, Wanted]]:
    """The picture of some rows, and what is wanted of it; rows that do not say so are added to the rejected."""
    picture, wishes = np.zeros((1, 1, 3), np.uint8), {}
    for key, row in asked.items():
        try:
            picture = load_image(row)
            wishes[key] = _wish(row, picture)
        except AffordAgentError as error:
            rejected[key] = str(error)
    return picture, wishes


def _wish(row: Sample, picture: Picture) -> Wanted:
    """Raises:
    AffordAgentError: no category, a mask that cannot be read, a mask or a box that does not fit the picture.
    """
    if row.category is None:
        raise AffordAgentError("the row has no category: nothing says what to look for")
    known = row.mask is not None or row.mask_rle is not None
    original = load_mask(row, picture.shape) if known else None
    wish = Wanted(row.category, row.part, original, box_of_row(row))
    check_wish(wish, picture)
    return wish


def _answered(row: Sample, annotation: Annotation) -> Sample:
    """The row with its mask; without one it stays open for a person, who begins with the best of what was refused."""
    measured = {a.tool: {m.name: round(m.value, 4) for m in a.measures} for a in annotation.attempts if a.measures}
    checks: dict[str, Any] = dict(list(measured.values())[-1] if measured else {}) | {"by_tool": measured}
    refused = [a.mask for a in annotation.attempts if a.mask is not None and a.mask.any()]
    if annotation.mask is None and refused:
        checks["refused_rle"] = encode_rle(refused[-1])
    told = replace(
        row,
        tool_reason=annotation.reason,
        confidence=round(1 - annotation.uncertainty, 4),
        checks=json.dumps(checks),
    )
    if annotation.tool == "original":
        return replace(told, tool="original")
    if annotation.mask is None:
        return replace(told, mask=None, mask_label=None, mask_rle=None, status="unlabelled", tool=None)
    made = encode_rle(annotation.mask)
    return replace(told, mask=None, mask_label=None, mask_rle=made, status="labelled", tool=annotation.tool)


def gather(shards: list[Shard], out: Path) -> Counts:
    """Put all shards together in `rows.parquet` and `rejected.jsonl`, and count.

    Raises:
        AffordAgentError: a shard is not done.
    """
    open_ = [shard.key for shard in shards if not shard.done.is_file()]
    if open_:
        raise AffordAgentError(f"{len(open_)} of {len(shards)} shards are not done; the same command goes on")
    records = [json.loads(shard.done.read_text()) for shard in shards]
    rejected = [one for record in records for one in record["rejected"]]
    files = [shard.rows for shard in shards if shard.rows.is_file()]
    tools: Counter[str] = Counter()
    people = 0

    def rows() -> Iterator[Sample]:
        nonlocal people
        for row in (row for file in files for row in iter_samples(file)):
            people += row.status == "unlabelled"
            if row.status == "labelled":
                tools[row.tool or "not asked"] += 1
            yield row

    if files:
        write_parquet(rows(), out / "rows.parquet")
    (out / "rejected.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rejected))
    counts = Counts(
        sum(record["rows"] for record in records),
        sum(tools.values()),
        people,
        len(rejected),
        dict(tools.most_common()),
        round(sum(record["cpu_s"] for record in records), 1),
    )
    write_json(out / "summary.json", asdict(counts))
    return counts


def _count(parquet: Path) -> int:
    import pyarrow.parquet as pq

    return int(pq.read_metadata(parquet).num_rows)
