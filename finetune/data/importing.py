"""What a source finds, looked at picture by picture and written: good rows to Parquet, all others with their reason.

OUT.parquet            the rows
OUT.rejects.jsonl      {"source_id", "reason"} a line: what no row could be made of, and why
"""

from __future__ import annotations

import json
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from affordagent.core.errors import AffordAgentError
from affordagent.finetune.data.check import problems_of
from affordagent.finetune.data.entries import Entry
from affordagent.finetune.data.pictures import look
from affordagent.finetune.data.schema import Rejected, Sample
from affordagent.finetune.data.table import PATHS, check_sample, write_parquet

Found = Sample | Rejected
REJECTS = ".rejects.jsonl"
AHEAD = 8  # rows a worker may be ahead of the writer
SHOWN_REASON = 60


@dataclass
class Imported:
    """What came of an import, counted as it goes. reasons: the start of each reason -> how often."""

    rows: int = 0
    labelled: int = 0
    rejected: int = 0
    pictures: int = 0
    categories: Counter[str] = field(default_factory=Counter)
    licences: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)


def import_to(
    found: Iterable[Found], out: Path, workers: int = 2, tell: Callable[[Imported], None] = lambda counts: None
) -> Imported:
    """Write `out` and the rejects next to it; `tell` hears the counts after each row.

    Raises:
        AffordAgentError: not one row, the folder cannot be written, or the source is none at all.
    """
    counts = Imported()
    rejects = rejects_of(out)
    rejects.parent.mkdir(parents=True, exist_ok=True)
    draft = rejects.with_name(rejects.name + ".part")
    with draft.open("w", encoding="utf-8") as file:

        def kept() -> Iterator[Sample]:
            seen: set[str] = set()
            for one in verified(found, workers):
                if isinstance(one, Rejected):
                    counts.rejected += 1
                    counts.reasons[_kind_of(one.reason)] += 1
                    file.write(json.dumps(asdict(one), ensure_ascii=True) + "\n")
                else:
                    _count(counts, one, seen)
                    yield one
                tell(counts)

        try:
            write_parquet(kept(), out)
        finally:
            file.flush()
            os.replace(draft, rejects)
    return counts


def verified(found: Iterable[Found], workers: int = 2) -> Iterator[Found]:
    """The same in the same order, each picture decoded: what is broken, does not fit, or has an id that was there
    before becomes Rejected; the others get `sha256` and `phash`. Few are held at a time."""
    ids: set[str] = set()
    waiting: deque[Future[Found]] = deque()
    with ThreadPoolExecutor(max_workers=workers) as pool:
        for one in found:
            if isinstance(one, Sample):
                name = one.source_id or one.image
                if name in ids:
                    one = Rejected(name, "source_id is there twice; the first counts")
                ids.add(name)
            waiting.append(pool.submit(_verified, one))
            if len(waiting) > AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def hashed(rows: Iterable[Sample]) -> Iterator[Sample]:
    """The rows, those without hashes with them.

    Raises:
        AffordAgentError: a picture is missing or broken.
    """
    for row in rows:
        if row.sha256 is not None and row.phash is not None:
            yield row
            continue
        seen = look(row.image)
        if isinstance(seen, str):
            raise AffordAgentError(f"image {row.image} {seen}; `affordagent data check` lists all such")
        yield replace(row, sha256=seen.sha256, phash=seen.phash)


def rejects_of(out: Path) -> Path:
    """The file of the rejects next to `out`."""
    return out.with_name(out.stem + REJECTS)


def read_rejects(out: Path) -> list[Rejected]:
    """What the import of `out` refused."""
    lines = rejects_of(out).read_text(encoding="utf-8").splitlines()
    return [Rejected(**json.loads(line)) for line in lines]


def _verified(one: Found) -> Found:
    if isinstance(one, Rejected):
        return one
    name = one.source_id or one.image
    paths = {name: os.path.abspath(path) for name in PATHS if (path := getattr(one, name)) is not None}
    one = replace(one, **paths)
    try:
        _check_texts(one)
        check_sample(one, name)
    except AffordAgentError as error:
        return Rejected(name.encode("utf-8", "replace").decode(), str(error).removeprefix(f"{name}, "))
    if problems := problems_of(Entry(name, one)):
        return Rejected(name, "; ".join(problem.message for problem in problems)[:1000])
    seen = look(one.image)
    assert not isinstance(seen, str)  # problems_of has looked at it
    return replace(one, sha256=seen.sha256, phash=seen.phash)


def _check_texts(row: Sample) -> None:
    """Refuse what Parquet cannot hold: names of files that are no UTF-8."""
    for name, value in vars(row).items():
        if isinstance(value, str):
            try:
                value.encode("utf-8")
            except UnicodeEncodeError as error:
                raise AffordAgentError(f"column '{name}' holds what is no UTF-8; rename the file") from error


def _count(counts: Imported, row: Sample, seen: set[str]) -> None:
    counts.rows += 1
    counts.labelled += row.status == "labelled"
    counts.categories[row.category or ""] += 1
    counts.licences[row.licence or "not known"] += 1
    if row.image not in seen:
        seen.add(row.image)
        counts.pictures += 1


def _kind_of(reason: str) -> str:
    """The words of a reason without its numbers and names, to count it by."""
    words = [w for w in reason.split()[:14] if not any(c.isdigit() or c in "/\\'\"" for c in w)]
    return " ".join(words)[:SHOWN_REASON]
