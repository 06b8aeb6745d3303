"""`affordagent data import | split | from-runs | select`: data sets from many sources (docs/data_sources.md)."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affordagent.core.errors import AffordAgentError

if TYPE_CHECKING:
    from affordagent.finetune.data.importing import Imported

SHOWN = 12


def add(verbs: Any) -> None:
    """Add the verbs to those of `affordagent data`."""
    bring = verbs.add_parser("import", help="a source's pictures and masks to one Parquet file of rows")
    bring.add_argument("source", help="handal, openx, lerobot, graspnet, egoobjects, rlbench, 3doi, coco, photos, ...")
    bring.add_argument("folder", type=Path, help="where it lies, as it was published")
    _add_import(bring)
    bring.add_argument("--frames", type=int, default=3, help="pictures of each episode or scene (default 3)")
    bring.set_defaults(handler=_import)

    runs = verbs.add_parser("from-runs", help="finished runs as rows: successes with their mask, failures as hard ones")
    runs.add_argument("folder", type=Path, metavar="RUNS", help="a run folder, or a folder that holds some")
    _add_import(runs)
    runs.add_argument("--lerobot", type=Path, metavar="DIR", help="also write the motions as a LeRobotDataset v3.0")
    runs.set_defaults(handler=_from_runs, source="runs", frames=1)

    split = verbs.add_parser("split", help="train, val and test, so that nothing leaks from one to another")
    split.add_argument("files", type=Path, nargs="+", help="Parquet files of `affordagent data import`")
    split.add_argument("--out", type=Path, help="FILE.parquet for all of them (default: the same, of one file)")
    split.add_argument("--val", type=float, default=0.05, help="share of val (default 0.05)")
    split.add_argument("--test", type=float, default=0.05, help="share of test (default 0.05)")
    split.add_argument("--seed", type=int, default=0, help="another seed, another draw (default 0)")
    split.add_argument("--keep", action="store_true", help="keep the splits that are there; mend what leaks alone")
    split.add_argument("--check", action="store_true", help="change nothing; exit code 1 when something leaks")
    split.set_defaults(handler=_split)

    select = verbs.add_parser("select", help="which rows to annotate next: failed, uncertain, unlike the others")
    select.add_argument("file", type=Path, help="a Parquet file of rows")
    select.add_argument("--n", type=int, required=True, help="how many")
    select.add_argument("--out", type=Path, help="FILE.parquet for them, the best first")
    select.add_argument("--json", action="store_true", help="print one object a line: rank, source_id, image, reason")
    select.set_defaults(handler=_select)


def _add_import(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, help="FILE.parquet; what is refused goes next to it")
    parser.add_argument("--licence", help="of what says nothing of its licence, e.g. CC-BY-4.0")
    parser.add_argument("--seed", type=int, default=0, help="of the questions drawn from templates (default 0)")
    parser.add_argument("--workers", type=int, default=2, help="threads that decode pictures (default 2)")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


def _import(args: argparse.Namespace) -> int:
    import difflib

    from affordagent.finetune.data.importing import import_to, rejects_of
    from affordagent.finetune.data.sources.all import SOURCES
    from affordagent.finetune.data.sources.found import Take

    if args.source not in SOURCES:
        near = difflib.get_close_matches(args.source, SOURCES, n=1)
        hint = f"Did you mean '{near[0]}'?" if near else f"Known: {', '.join(SOURCES)}"
        raise AffordAgentError(f"source '{args.source}' is not known. {hint}")
    for name, least in (("workers", 1), ("frames", 1), ("seed", 0)):
        if getattr(args, name) < least:
            raise AffordAgentError(f"--{name} {getattr(args, name)} must be at least {least}")
    out = parquet_path(args.out)
    take = Take(out.with_suffix(""), args.seed, args.frames, args.licence)
    with _Progress(args.source) as progress:
        counts = import_to(SOURCES[args.source](args.folder, take), out, args.workers, progress.tell)
    _print_import(out, counts, rejects_of(out), args.json)
    return 0


def _from_runs(args: argparse.Namespace) -> int:
    _import(args)
    if args.lerobot is not None:
        from affordagent.finetune.data.lerobot_export import export

        with _Progress("motions") as progress:
            written = export(args.folder, args.lerobot, progress.tell_number)
        print(f"{args.lerobot}: {written.episodes} episodes, {written.frames} frames, {len(written.rejected)} left out")
        for one in written.rejected[:SHOWN]:
            print(f"left out {one.source_id}: {one.reason}")
    return 0


def _split(args: argparse.Namespace) -> int:
    from affordagent.finetune.data.duplicates import find, leaks, split
    from affordagent.finetune.data.importing import hashed
    from affordagent.finetune.data.table import iter_samples, write_parquet

    if len(args.files) > 1 and args.out is None and not args.check:
        raise AffordAgentError(f"{len(args.files)} files are split together into one: give --out FILE.parquet")
    rows = list(hashed(row for file in args.files for row in iter_samples(file)))
    if not rows:
        raise AffordAgentError(f"{args.files[0]} has no rows")
    if not args.check:
        rows = split(rows, args.val, args.test, args.seed, args.keep)
        write_parquet(rows, parquet_path(args.out or args.files[0]))
    together = find(rows)
    sizes = Counter(together.together.tolist())
    counts = Counter(row.split for row in rows)
    found = leaks(rows)
    for leak in found[:SHOWN]:
        print(f"leak: {leak.why} ({leak.what}): {leak.splits}, e.g. {', '.join(leak.rows[:2])}")
    shares = ", ".join(f"{name} {count} ({count / len(rows):.1%})" for name, count in sorted(counts.items()))
    largest = max(sizes.values())
    print(f"{len(rows)} rows that belong together in {len(sizes)} groups, the largest of {largest}: {shares}")
    print(f"{together.exact} rows with the pixels of another picture, {len(together.near)} pairs that look alike")
    print(f"{len(found)} leaks")
    return 1 if args.check and found else 0


def _select(args: argparse.Namespace) -> int:
    import json

    from affordagent.finetune.data.selecting import select
    from affordagent.finetune.data.table import iter_samples, write_parquet

    if args.n < 1:
        raise AffordAgentError(f"--n {args.n} must be at least 1")
    chosen = select(list(iter_samples(args.file)), args.n)
    if args.out is not None:
        write_parquet((one.sample for one in chosen), parquet_path(args.out))
    for rank, one in enumerate(chosen, 1):
        name = one.sample.source_id or one.sample.image
        if args.json:
            print(json.dumps({"rank": rank, "source_id": name, "image": one.sample.image, "reason": one.reason}))
        elif rank <= SHOWN:
            print(f"{rank:4d}  {name}: {one.reason}")
    if not args.json:
        print(f"{len(chosen)} of {args.n} chosen" + (f", in {args.out}" if args.out else ""))
    return 0


def parquet_path(path: Path, option: str = "--out") -> Path:
    """Raises:
    AffordAgentError: another ending.
    """
    if path.suffix != ".parquet":
        raise AffordAgentError(f"{option} {path}: the file's name must end in .parquet")
    return path


class _Progress:
    """Counts on a terminal's stderr."""

    def __init__(self, what: str) -> None:
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        self.what, self.shown = what, Progress(*columns, console=Console(stderr=True), transient=True)
        self.task = self.shown.add_task(what, total=None)

    def __enter__(self) -> _Progress:
        self.shown.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.shown.stop()

    def tell(self, counts: Imported) -> None:
        if (counts.rows + counts.rejected) % 50 == 0:
            text = f"{self.what}: {counts.rows} rows, {counts.rejected} refused"
            self.shown.update(self.task, description=text)

    def tell_number(self, number: int) -> None:
        self.shown.update(self.task, description=f"{self.what}: {number}")


def _print_import(out: Path, counts: Imported, rejects: Path, as_json: bool) -> None:
    import json

    from affordagent.agent.cli_data import print_columns

    if as_json:
        print(json.dumps({"file": str(out), "rejects": str(rejects), **vars(counts)}))
        return
    print_columns(
        [
            ("rows", "pictures", "labelled", "unlabelled", "refused"),
            [
                f"{n:,}"
                for n in (
                    counts.rows,
                    counts.pictures,
                    counts.labelled,
                    counts.rows - counts.labelled,
                    counts.rejected,
                )
            ],
        ]
    )
    for title, counter in (("category", counts.categories), ("licence", counts.licences), ("refused", counts.reasons)):
        for name, count in counter.most_common(SHOWN):
            print(f"{title}: {name or 'not known'}: {count:,}")
    print(f"{out}; what was refused, with reasons: {rejects}")
