"""`affordagent eval`: evaluations that print and keep their figures."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affordagent.agent import cli_annotating, cli_eval_studies, cli_eval_suites, cli_fallback, cli_instances
from affordagent.core.errors import AffordAgentError

if TYPE_CHECKING:
    from affordagent.evaluations.segmentation_task import Task
    from affordagent.evaluations.segmenters import Generation

SHOWN_CATEGORIES = 30
GENERATIONS: dict[str, tuple[Generation, ...]] = {
    "free": ("free",),
    "teacher-forced": ("teacher-forced",),
    "both": ("free", "teacher-forced"),
}


def add(commands: Any) -> None:
    """Add the commands to the parser's `commands`."""
    group = commands.add_parser("eval", help="measure: suites of trials, segmentation, controller ...").add_subparsers(
        dest="evaluation", required=True, metavar="EVALUATION"
    )
    seg = group.add_parser(
        "segmentation",
        help="gIoU and cIoU of masks on a file of rows, or on a published suite",
        description="gIoU and cIoU as LISA defines them, with bootstrap intervals, by kind and category.",
        epilog="see docs/evaluation.md",
    )
    data = seg.add_mutually_exclusive_group(required=True)
    data.add_argument("--data", type=Path, metavar="FILE", help="Parquet, or CSV with image,mask,text[,category,kind]")
    data.add_argument("--suite", metavar="NAME", help="a published split below --root; `list` names them")
    seg.add_argument("--root", type=Path, metavar="DIR", help="folder of the published RAGNet data, for --suite")
    seg.add_argument("--vlm", default="mini", help="mini (default), a checkpoint's folder, or http://HOST:PORT")
    seg.add_argument("--vision-tower", type=Path, metavar="DIR", help="CLIP folder of a published checkpoint")
    seg.add_argument(
        "--generation",
        choices=tuple(GENERATIONS),
        help="the model's own answer, or the reference's as in the published figures (default free; both for a suite)",
    )
    seg.add_argument("--out", type=Path, metavar="DIR", help="keep rows, summary.json and report.html; a rerun goes on")
    seg.add_argument("--limit", type=int, metavar="N", help="N rows, evenly spread over the data")
    seg.add_argument("--workers", type=int, metavar="N", help="processes with a model each (default: one a GPU)")
    seg.add_argument("--skip-missing", action="store_true", help="leave out rows whose files are missing")
    seg.add_argument("--present-above", type=float, metavar="P", help="confidence below which the mini says 'not here'")
    seg.add_argument("--settings", type=Path, help="TOML settings file (default: ./affordagent.toml when it is there)")
    seg.add_argument("--seed", type=int, default=0, help="of the bootstrap (default 0)")
    seg.add_argument("--json", action="store_true", help="print one JSON object on stdout and nothing else there")
    seg.set_defaults(handler=_segmentation)
    _add_controller(group)
    cli_instances.add(group)
    cli_annotating.add(group)
    cli_fallback.add(group)
    cli_eval_suites.add(group)
    cli_eval_studies.add(group)


def _segmentation(args: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from affordagent.evaluations.segmentation import SUMMARY, evaluate, summary
    from affordagent.evaluations.suites import SUITES

    if args.suite == "list":
        for name, suite in SUITES.items():
            print(f"{name:<22} {suite.title}")
        return 0
    task = _task(args)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("loading the model", total=len(task.rows) * len(task.generations))

        def on_row(done: int, total: int) -> None:
            progress.update(bar, description="rows", completed=done)

        rows = evaluate(task, args.out, args.workers, on_row)
    result = summary(task, rows)
    if args.out is not None:
        from affordagent.core.run_store import write_json
        from affordagent.evaluations.segmentation_page import write_page

        write_json(args.out / SUMMARY, result)
        write_page(task, rows, result, args.out)
    if args.json:
        print(json.dumps(result))
    else:
        _print_tables(result, args.out)
    return 0


def _task(args: argparse.Namespace) -> Task:
    from affordagent.agent.settings import Settings
    from affordagent.evaluations.segmentation_task import Model, limited, task_of_file, task_of_suite, without_missing
    from affordagent.tools.vlm import kind_of

    settings = Settings.load(args.settings, present_above=args.present_above)
    model = Model(args.vlm, args.vision_tower, settings.present_above)
    is_mini = kind_of(args.vlm) == "mini"
    if is_mini and args.generation not in (None, "free"):
        raise AffordAgentError(f"--generation {args.generation}: the mini model writes no reply to force; leave it out")
    generations = GENERATIONS[args.generation or ("both" if args.suite and not is_mini else "free")]
    if args.suite is None:
        task = task_of_file(args.data, model, generations, args.seed)
    elif args.root is None:
        raise AffordAgentError("--suite needs --root, the folder of the published RAGNet data")
    else:
        task = task_of_suite(args.suite, args.root, model, generations, args.seed)
    if args.limit is not None:
        task = limited(task, args.limit)
    return without_missing(task, args.skip_missing)


def _print_tables(result: dict[str, Any], out: Path | None) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    shown = {result["generation"]: result}
    if "teacher_forced" in result:
        shown["teacher-forced"] = result["teacher_forced"]
    for generation, figures in shown.items():
        table = Table(title=f"{result['data']}, {result['vlm']}, {generation}", title_justify="left")
        for name in ("", "n", "gIoU", "95 %", "cIoU", "95 %"):
            table.add_column(name, justify="left" if not name else "right")
        table.add_row(*_cells("all", figures))
        if figures["absent_detected"] and figures["present"]:
            table.add_row(*_cells("rows with something to find", figures["present"]))
        groups = [(f"kind {k}", v) for k, v in figures["per_kind"].items()]
        categories = sorted(figures["per_category"].items(), key=lambda item: -item[1]["n"])[:SHOWN_CATEGORIES]
        for name, group in groups + (categories if len(categories) > 1 else []):
            table.add_row(*_cells(name, group))
        console.print(table)
        for name, text in (("false_refusals", "refused although there"), ("absent_detected", "absent, and said so")):
            if figures[name] is not None:
                console.print(f"{text}: {figures[name]['k']} of {figures[name]['n']}")
        console.print(
            f"a query: {figures['seconds_per_query']:.2f} s, {figures['cpu_s_per_query']:.2f} CPU-s; "
            f"memory {figures['peak_rss_gb']} GB"
        )
    if "published" in result:
        published = result["published"]
        console.print(f"published (teacher-forced): gIoU {published['giou']:.3f}, cIoU {published['ciou']:.3f}")
    if result["skipped"]:
        console.print(f"left out: {', '.join(f'{n} rows, {why}' for why, n in result['skipped'].items())}")
    if out is not None:
        console.print(f"report: {out / 'report.html'}")


def _cells(name: str, group: dict[str, Any]) -> list[str]:
    intervals = [" to ".join(f"{v:.3f}" for v in group[key]) for key in ("giou_interval", "ciou_interval")]
    return [name, str(group["n"]), f"{group['giou']:.3f}", intervals[0], f"{group['ciou']:.3f}", intervals[1]]


def _add_controller(group: Any) -> None:
    path = group.add_parser(
        "controller",
        help="grasps through driver and emulated controller against the simulated arm alone",
        description="The same planned grasps by the simulated arm, and by the driver on an emulated controller with "
        "MuJoCo behind it. About 20 s a scene.",
        epilog="see docs/evaluation.md",
    )
    path.add_argument("--scene", default="mixed", help="see `affordagent scenes` (default mixed)")
    path.add_argument("--first-seed", type=int, default=0, metavar="N", help="of the scenes (default 0)")
    path.add_argument("--scenes", type=int, default=20, metavar="N", help="how many (default 20)")
    path.add_argument("--grasps", choices=("best", "worst"), default="best", help="which to plan (default best)")
    path.add_argument("--repeats", type=int, default=2, metavar="N", help="nudged trials a scene (default 2)")
    path.add_argument("--host", default="127.0.0.1", help="loopback address for the emulator (default 127.0.0.1)")
    path.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSONL of all trials; a rerun goes on")
    path.add_argument("--json", action="store_true", help="print one JSON object on stdout and nothing else there")
    path.set_defaults(handler=_controller)


def _controller(args: argparse.Namespace) -> int:
    from rich.console import Console

    from affordagent.evaluations.controller_path import Study, run, summarise

    seeds = range(args.first_seed, args.first_seed + args.scenes)
    study = Study(args.scene, seeds, args.grasps, args.repeats, args.host)
    progress = Console(stderr=True)
    rows = run(study, args.out, lambda row: progress.print(f"{row['key']}: {row['code'] or 'ok'}"))
    result = summarise(rows)
    if args.json:
        print(json.dumps(result))
    else:
        _print_controller(result)
    return 0


def _print_controller(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(f"{result['scenes']} scenes, {result['no_plan']} of them without a plan")
    table = Table(title="strict success, and what differs from direct", title_justify="left")
    for name in ("", "n", "success", "95 %", "lost", "won", "McNemar p"):
        table.add_column(name, justify="left" if not name else "right")
    for kind in ("direct", "nudged", "controller"):
        figures = result[kind]
        success = figures["success"]
        low, high = success["wilson95"]
        pairs = [str(figures[k]) for k in ("only_direct_succeeded", "only_this_succeeded")] if kind != "direct" else []
        p = [f"{figures['mcnemar_p']:.2f}"] if kind != "direct" else []
        table.add_row(
            kind, str(success["n"]), f"{success['k']} ({success['rate']:.2f})", f"{low:.2f} to {high:.2f}", *pairs, *p
        )
    console.print(table)
    table = Table(title="differences from direct, median (largest)", title_justify="left")
    names = {"slip_m": "slip, mm", "lift_m": "lift, mm", "rotation_rad": "rotation, mrad"}
    names |= {"final_q_rad": "final joints, mrad", "duration_s": "duration, ms"}
    for name in ("", *names.values()):
        table.add_column(name, justify="left" if not name else "right")
    for kind in ("nudged", "controller"):
        found = result[kind]["differences"]
        cells = [f"{1e3 * found[n]['median']:.2f} ({1e3 * found[n]['max']:.2f})" if n in found else "" for n in names]
        table.add_row(kind, *cells)
    console.print(table)
    if result["controller"]["other_outcome"]:
        console.print(f"another outcome through the controller: seeds {result['controller']['other_outcome']}")
