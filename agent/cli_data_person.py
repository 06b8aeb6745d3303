"""`affordagent data person | export`: masks by people, and rows for other programs (docs/annotation.md)."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

SHOWN = 20


def add(verbs: Any) -> None:
    """Add the verbs to those of `affordagent data`."""
    person = verbs.add_parser(
        "person",
        help="a page to make the masks that no tool could; agreement of two people; merge",
        epilog="see docs/annotation.md",
    )
    person.add_argument("place", type=Path, metavar="DIR|ROWS", help="a folder of `data annotate`, or a file of rows")
    what = person.add_mutually_exclusive_group(required=True)
    what.add_argument("--by", metavar="NAME", help="serve the page; answers go to person-NAME.jsonl next to the rows")
    what.add_argument("--agreement", action="store_true", help="how far people agree; disagreements first")
    what.add_argument("--merge", type=Path, metavar="OUT.parquet", help="the rows with what people said of them")
    person.add_argument("--all", action="store_true", help="also rows that need no person, for a second look")
    person.add_argument("--sam2", metavar="W", help="weights of SAM 2 (default: colours and GrabCut)")
    person.add_argument("--host", default="127.0.0.1", help="address to serve on (default: this machine only)")
    person.add_argument("--port", type=int, default=8772, help="default 8772; 0: any that is free")
    person.add_argument("--token", help="needed for other addresses than loopback; part of the printed link")
    person.add_argument("--json", action="store_true", help="print the agreement or the counts as JSON")
    person.set_defaults(handler=_person)

    out = verbs.add_parser("export", help="rows with masks as COCO or LabelMe files, the pictures with them")
    out.add_argument("rows", type=Path, help="a Parquet or CSV file")
    out.add_argument("--format", choices=("coco", "labelme"), required=True)
    out.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder")
    out.set_defaults(handler=_export)


def _person(args: argparse.Namespace) -> int:
    if args.agreement:
        return _agreement(args)
    return _merge(args) if args.merge is not None else _serve(args)


def _serve(args: argparse.Namespace) -> int:
    import os

    from affordagent.agent.person.agreeing import disputed_rows
    from affordagent.agent.person.answers import AnswerFile, read_answers
    from affordagent.agent.person.helping import Helper
    from affordagent.agent.person.page import create_app
    from affordagent.agent.person.tasks import rows_file, tasks_of
    from affordagent.agent.serve_vlm import bound_socket, checked_token, run_app
    from affordagent.tools.segmenter import Segmenter
    from affordagent.tools.vlm_wire import TOKEN_VARIABLE

    token = checked_token(args.token or os.environ.get(TOKEN_VARIABLE), args.host)
    folder = rows_file(args.place).parent
    tasks = tasks_of(args.place, args.all, disputed_rows(read_answers(folder)))
    kept = AnswerFile(folder, args.by)
    with bound_socket(args.host, args.port) as listener:
        app = create_app(tasks, kept, Helper(Segmenter(args.sam2) if args.sam2 else None), token)
        listener.listen()
        shown = f"[{args.host}]" if ":" in args.host else args.host
        link = f"http://{shown}:{listener.getsockname()[1]}/" + (f"#{token}" if token else "")
        print(f"{link}: {len(tasks)} rows; answers go to {kept.path}; Ctrl-C stops", flush=True)
        run_app(app, listener, access_log=False)
    return 0


def _agreement(args: argparse.Namespace) -> int:
    from affordagent.agent.person.agreeing import GOOD, agreement
    from affordagent.agent.person.tasks import rows_file

    found = agreement(rows_file(args.place).parent)
    if args.json:
        print(json.dumps(found.as_json()))
        return 0
    from affordagent.agent.cli_data import print_columns

    print(", ".join(f"{by} {count}" for by, count in found.people.items()) + f" rows; {found.both} by two or more")
    if found.iou_mean is not None:
        print(f"{found.masks} pairs of masks: IoU mean {found.iou_mean}, median {found.iou_median}; ", end="")
        print(f"{found.good:.1%} of {GOOD} or more")
    alpha = "not known, all said the same" if found.alpha is None else found.alpha
    print(f"in the picture or not: Krippendorff's alpha {alpha}")
    worst = [pair for pair in found.pairs if not pair.agrees]
    if worst:
        print(f"{len(worst)} disagree; a third person is shown them first:")
        print_columns([(p.row, " / ".join(p.by), " / ".join(p.said), f"{p.iou or 0:.2f}") for p in worst[:SHOWN]])
    return 0


def _merge(args: argparse.Namespace) -> int:
    from dataclasses import asdict

    from affordagent.agent.cli_data_build import parquet_path
    from affordagent.agent.person.agreeing import merge

    found = merge(args.place, parquet_path(args.merge, "--merge"))
    if args.json:
        print(json.dumps(asdict(found)))
    else:
        left = f"{found.disputed} left open as they disagree, {found.unsaid} as none could say"
        print(f"{args.merge}: {found.rows} rows, {found.by_people} by people, {left}")
    return 0


def _export(args: argparse.Namespace) -> int:
    from affordagent.finetune.data.exporting import export
    from affordagent.finetune.data.table import iter_samples

    done = export(iter_samples(args.rows), args.out, args.format)
    print(f"{args.out}: {done.masks} masks in {done.pictures} pictures; {done.left_out} rows without a mask left out")
    return 0
