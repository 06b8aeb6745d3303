"""`affordagent data`, `train-vlm` and `export-vlm`: data sets of the published layout, and training on them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from affordagent.agent import cli_data_annotate, cli_data_build, cli_data_card, cli_data_person, cli_instructions
from affordagent.core.errors import AffordAgentError

if TYPE_CHECKING:
    from affordagent.finetune.data.check import Report
    from affordagent.finetune.data.entries import Entry
    from affordagent.finetune.data.summary import Summary

SHOWN = 50  # problems; --json has them all
T = TypeVar("T")


def add(commands: Any) -> None:
    """Add the commands to the parser's `commands`."""
    _add_data(commands)
    _add_training(commands)


def _add_data(commands: Any) -> None:
    data = commands.add_parser("data", help="convert, check and count data sets (docs/data.md)")
    verbs = data.add_subparsers(dest="verb", required=True, metavar="VERB")

    convert = verbs.add_parser("convert", help="published or rendered folders to one Parquet file")
    _add_sets(convert, required=True)
    convert.add_argument("--split", choices=("train", "val", "test"), help="only rows of this split")
    convert.add_argument("--skip-broken", action="store_true", help="leave out rows that cannot be read")
    convert.add_argument("--out", type=Path, required=True, help="FILE.parquet")
    convert.set_defaults(handler=_convert)

    check = verbs.add_parser("check", help="list missing and broken files; exit code 1 when there are any")
    check.add_argument("file", type=Path, nargs="?", help="a Parquet or CSV file; or give --root")
    _add_sets(check, required=False)
    check.add_argument("--workers", type=int, default=4, help="threads that decode pictures (default 4)")
    check.add_argument("--json", action="store_true", help="print JSON, with every problem")
    check.set_defaults(handler=_check)

    stats = verbs.add_parser("stats", help="images, categories and instructions by source, split and kind")
    stats.add_argument("file", type=Path, help="a Parquet or CSV file")
    stats.add_argument("--json", action="store_true", help="print JSON")
    stats.set_defaults(handler=_stats)

    cli_data_build.add(verbs)
    cli_data_annotate.add(verbs)
    cli_data_card.add(verbs)
    cli_data_person.add(verbs)
    cli_instructions.add(verbs)


def _add_sets(parser: argparse.ArgumentParser, required: bool) -> None:
    parser.add_argument("--root", type=Path, required=required, help="folder with the sets, as they were published")
    parser.add_argument(
        "--sets", nargs="+", metavar="SET", help="e.g. handal openx, ragnet, lisa, rendered (default all)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the questions drawn from templates (default 0)")


def _convert(args: argparse.Namespace) -> int:
    from affordagent.finetune.data.entries import samples_of
    from affordagent.finetune.data.table import write_parquet

    if args.out.suffix != ".parquet":
        raise AffordAgentError(f"--out {args.out}: the file's name must end in .parquet")
    broken: list[Entry] = []

    def whole(entries: Iterable[Entry]) -> Iterator[Entry]:
        for entry in entries:
            if entry.sample is None and args.skip_broken:
                broken.append(entry)
            elif entry.sample is None or args.split in (None, entry.sample.split):
                yield entry

    written = 0
    with _counted("reading", _entries(args)) as entries:
        samples = samples_of(whole(entries))
        written = write_parquet(samples, args.out)
    for entry in broken[:SHOWN]:
        print(f"left out {entry.where}: {entry.problem}")
    print(f"{args.out}: {written} rows, {len(broken)} left out")
    return 0


def _check(args: argparse.Namespace) -> int:
    from affordagent.finetune.data.check import check, report

    if (args.file is None) == (args.root is None):
        raise AffordAgentError("give a file, or --root with the folder of the sets")
    if args.workers < 1:
        raise AffordAgentError(f"--workers {args.workers} must be at least 1")
    with _counted("checking", check(_entries(args), args.workers)) as problems:
        found = report(problems)
    if args.json:
        print(json.dumps(found.as_json()))
    else:
        _print_report(found)
    return 1 if found.problems else 0


def _stats(args: argparse.Namespace) -> int:
    from affordagent.finetune.data.summary import summarize
    from affordagent.finetune.data.table import iter_samples

    summary = summarize(iter_samples(args.file))
    if args.json:
        print(json.dumps(summary.as_json()))
    else:
        _print_summary(summary)
    return 0


def _entries(args: argparse.Namespace) -> Iterator[Entry]:
    """The entries of `--root`'s sets, or of the file."""
    from affordagent.finetune.data.entries import Entry
    from affordagent.finetune.data.sets import choose_sets, read_entries
    from affordagent.finetune.data.table import iter_samples

    if args.root is None:
        rows = enumerate(iter_samples(args.file), start=1)
        yield from (Entry(f"{args.file.name}, row {i}", sample) for i, sample in rows)
        return
    for data_set in choose_sets(args.root, args.sets):
        yield from read_entries(args.root, data_set, args.seed)


@contextmanager
def _counted(what: str, things: Iterable[T]) -> Iterator[Iterator[T]]:
    """The same things, with a count of them on a terminal's stderr."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn(what), TextColumn("{task.completed:.0f} rows"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)

        def counted() -> Iterator[T]:
            for number, thing in enumerate(things, start=1):
                if number % 100 == 0:
                    progress.update(task, completed=number)
                yield thing

        yield counted()


def _print_report(report: Report) -> None:
    if report.problems:
        print_columns([("what", "where", "message"), *((p.what, p.where, p.message) for p in report.problems[:SHOWN])])
        if len(report.problems) > SHOWN:
            print(f"... and {len(report.problems) - SHOWN} more; --json lists all")
    for place, counts in report.by_place.items():
        print(f"{place}: " + ", ".join(f"{count} {what}" for what, count in counts.items()))
    print(f"{report.rows} rows, {len(report.problems)} problems")


def _print_summary(summary: Summary) -> None:
    from dataclasses import astuple, fields

    from affordagent.finetune.data.summary import PAPER, Group

    names = [field.name for field in fields(Group)]
    rows = [names, *(list(astuple(group)) for group in (*summary.groups, summary.total))]
    rows.append(["the paper", "", "", *(PAPER.get(name, "") for name in names[3:])])
    print_columns([[f"{cell:,}" if isinstance(cell, int) else cell for cell in row] for row in rows])


def print_columns(rows: Sequence[Sequence[str]]) -> None:
    """Cells under each other; numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (c.rjust(w) if c[:1].isdigit() else c.ljust(w) for c, w in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def _add_training(commands: Any) -> None:
    from affordagent.finetune.vlm.train_args import add_arguments

    train = commands.add_parser("train-vlm", help="train an AffordanceVLM (docs/training.md)")
    add_arguments(train)
    train.set_defaults(handler=_train)

    export = commands.add_parser("export-vlm", help="a training run's best weights as a model of its own")
    export.add_argument("--run", type=Path, required=True, help="folder of the run")
    export.add_argument("--out", type=Path, required=True, help="new folder for the model")
    export.add_argument(
        "--format", choices=("published", "safetensors"), default="safetensors", help="(default %(default)s)"
    )
    export.add_argument("--base", type=Path, help="where the model is that training began with, if it has moved")
    export.add_argument("--vision-tower", type=Path, help="where the CLIP tower is, if it has moved")
    export.add_argument("--dtype", default="auto", help="auto (default: as the base's), fp32, bf16, fp16")
    export.set_defaults(handler=_export)


def _train(args: argparse.Namespace) -> int:
    from affordagent.finetune.vlm.train_args import need_training_packages

    need_training_packages()
    from affordagent.finetune.vlm.train import run

    return run(args)


def _export(args: argparse.Namespace) -> int:
    from affordagent.finetune.vlm.train_args import need_training_packages

    need_training_packages()
    from affordagent.finetune.vlm.export import export

    origin = export(args.run, args.out, args.format, base=args.base, vision_tower=args.vision_tower, dtype=args.dtype)
    print(f"{args.out}: {origin} of {args.run}, merged, as {args.format}")
    return 0
