"""Run an evaluation, or go on with it: the trials that its folder lacks, then the table of all."""

from __future__ import annotations

import fcntl
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from affordagent.agent.results import versions
from affordagent.agent.session import Tools, tools_of
from affordagent.core.errors import AffordAgentError
from affordagent.core.run_store import as_plain, write_json
from affordagent.evaluations.runner.records import ATTRIBUTIONS, EVALUATION, RUNS, TRIALS, Row
from affordagent.evaluations.runner.table import read_rows, write_table
from affordagent.evaluations.runner.trial import Trial, read_trial, run_trial
from affordagent.evaluations.trials import run_trials

LOCK = ".lock"
MAY_GROW = ("trials", "rounds", "repeats")  # more of them may be asked for later

_loaded: dict[Tools, Tools] = {}  # one set of models a process, and one for each setting with others


@dataclass(frozen=True)
class Evaluation:
    """asked: of the suite, JSON's own types. settings: changes of the default settings, by name."""

    suite: str
    asked: Mapping[str, Any]
    settings: Mapping[str, Mapping[str, Any]]
    trials: list[Trial]

    def as_json(self) -> dict[str, Any]:
        """`evaluation.json`."""
        known = {"suite": self.suite, "asked": self.asked, "settings": self.settings}
        return as_plain({**known, "versions": versions(), "trials": len(self.trials)})


def evaluate(
    evaluation: Evaluation,
    out: Path,
    workers: int | None = 1,
    ray: str | None = None,
    anew: bool = False,
    on_row: Callable[[Row], None] = lambda row: None,
    say: Callable[[str], None] = lambda line: None,
) -> list[Row]:
    """The rows of all trials, in their order. Those that `out` has are not run again.

    workers, ray, on_row, say: as for `trials.run_trials`. anew: what is in `out` is moved aside first.

    Raises:
        AffordAgentError: `out` is of another evaluation, or in use; or some trials raised.
        KeyboardInterrupt: after Ctrl-C; the same evaluation goes on.
    """
    keys = [trial.key for trial in evaluation.trials]
    if len(set(keys)) < len(keys):
        raise AffordAgentError("two trials are the same; are two settings the same?")
    with alone_in(out):
        claim(evaluation, out, anew)
        work = partial(_work, out=out.resolve())
        try:
            rows = run_trials(evaluation.trials, out / TRIALS, work, workers, on_row, ray, say)  # type: ignore[arg-type]
        finally:
            if (out / TRIALS).is_file():
                write_table(out)
    return rows  # type: ignore[return-value]


@contextmanager
def alone_in(out: Path) -> Iterator[None]:
    """No other process works in this folder meanwhile; one that was killed does not count.

    Raises:
        AffordAgentError: another does.
    """
    out.mkdir(parents=True, exist_ok=True)
    with (out / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AffordAgentError(
                f"another evaluation is running in {out}: wait for it, or take another --out"
            ) from error
        yield


def claim(evaluation: Evaluation, out: Path, anew: bool) -> None:
    """Write down what `out` holds, or see that it is the same.

    Raises:
        AffordAgentError: it is not; the message says what differs.
    """
    file, asked = out / EVALUATION, evaluation.as_json()
    if anew:
        _move_aside(out)
    if not file.is_file():
        write_json(file, asked)
        return
    there = json.loads(file.read_text())
    differing = list(_differences(there, asked))
    if differing:
        raise AffordAgentError(
            f"{out} holds another evaluation: {'; '.join(differing)}. Take another --out, or --anew to move it aside"
        )
    asked["trials"] = max(there["trials"], asked["trials"])
    write_json(file, asked)


def _differences(there: Any, here: Any, path: str = "") -> Iterator[str]:
    if isinstance(there, dict) and isinstance(here, dict):
        for name in sorted(there.keys() | here.keys()):
            if name not in MAY_GROW:
                yield from _differences(there.get(name), here.get(name), f"{path}.{name}".lstrip("."))
    elif there != here:
        yield f"{path} was {json.dumps(there)}, now {json.dumps(here)}"


def _move_aside(out: Path) -> None:
    """OUT/before-N gets all but the lock and what was moved aside before."""
    found = [path for path in out.iterdir() if path.name != LOCK and not path.name.startswith("before-")]
    if not found:
        return
    number = 1 + sum(path.name.startswith("before-") for path in out.iterdir())
    aside = out / f"before-{number}"
    aside.mkdir()
    for path in found:
        path.rename(aside / path.name)


def attribute_all(
    out: Path,
    of_successes: float = 0.1,
    workers: int | None = 1,
    ray: str | None = None,
    on_row: Callable[[dict[str, Any]], None] = lambda row: None,
    say: Callable[[str], None] = lambda line: None,
) -> list[dict[str, Any]]:
    """Find out who is to blame, for each trial of `out` that failed and a sample of those that succeeded; those that
    have their attribution already keep it. Returns the lines of attributions.jsonl.

    of_successes: share of the successes, in [0, 1]; which ones, their keys decide. workers, ray, on_row, say: as for
    `trials.run_trials`.

    Raises:
        AffordAgentError: `out` holds no evaluation, or is in use; or some trials could not be replayed.
        KeyboardInterrupt: after Ctrl-C; the same call goes on.
    """
    with alone_in(out):
        blamed = to_attribute(read_rows(out), of_successes)
        work = partial(_attribute, out=out.resolve())
        try:
            return run_trials(blamed, out / ATTRIBUTIONS, work, workers, on_row, ray, say)
        finally:
            write_table(out)


@dataclass(frozen=True)
class Ended:
    """A trial that has ended."""

    key: str


def to_attribute(rows: Sequence[Row], of_successes: float) -> list[Ended]:
    """The failures and a sample of the successes, in the order of the rows."""
    return [Ended(row["key"]) for row in rows if not row["success"] or _share_of(row["key"]) < of_successes]


def _share_of(key: str) -> float:
    """A number in [0, 1) that is the key's own, whatever else is in the evaluation."""
    return zlib.crc32(key.encode()) / 2**32


def _work(trial: Trial, out: Path) -> Row:
    return run_trial(trial, out, _tools_for(trial))


def _attribute(ended: Ended, out: Path) -> dict[str, Any]:
    from affordagent.evaluations.causes.attribute import attribute

    folder = out / RUNS / ended.key
    return {"key": ended.key, **as_plain(asdict(attribute(folder, _tools_for(read_trial(folder)))))}


def _tools_for(trial: Trial) -> Tools:
    import torch

    torch.set_num_threads(1)
    tools = tools_of(trial.run_settings)
    return _loaded.setdefault(tools, tools)
