"""All data sets that can be read, by name."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path

from affordagent.core.errors import AffordAgentError
from affordagent.finetune.data import lisa, ragnet, rendered
from affordagent.finetune.data.entries import DataSet, Entry

FAMILIES = {"ragnet": ragnet.SETS, "lisa": lisa.SETS, "rendered": rendered.SETS}
SETS: tuple[DataSet, ...] = tuple(data_set for family in FAMILIES.values() for data_set in family)


def choose_sets(root: Path, names: Sequence[str] | None = None) -> list[DataSet]:
    """The sets to read below `root`: those named, or without names all that are there.

    A name is a set ("openx_train"), the start of some ("handal", "graspnet_test") or a family ("ragnet", "lisa",
    "rendered"); of the last two, those that are not there are left out.

    Raises:
        AffordAgentError: no such folder, a name that is not known, or a named set that is not there.
    """
    if not root.is_dir():
        raise AffordAgentError(f"{root} is not a folder; give the one that holds the sets")
    chosen = {data_set.name: data_set for name in names or [s.name for s in SETS] for data_set in _named(name)}
    found = [data_set for data_set in chosen.values() if data_set.is_in(root)]
    for name in names or []:
        if not any(data_set in found for data_set in _named(name)):
            needs = ", ".join(data_set.needs for data_set in _named(name)[:3])
            raise AffordAgentError(f"set '{name}' is not in {root}: there is no {needs}")
    if not found:
        raise AffordAgentError(f"{root} holds none of the known sets, e.g. no {SETS[1].needs}; see docs/data.md")
    return found


def read_entries(root: Path, data_set: DataSet, seed: int) -> Iterator[Entry]:
    """The set's entries; where the whole set cannot be read, one that says why."""
    try:
        yield from data_set.read(root, seed)
    except AffordAgentError as error:
        yield Entry(data_set.name, None, str(error))


def _named(name: str) -> list[DataSet]:
    if name in FAMILIES:
        return list(FAMILIES[name])
    exact = [s for s in SETS if s.name == name]
    found = exact or [s for s in SETS if s.name.startswith(f"{name}_")]
    if not found:
        known = [*FAMILIES, *(s.name for s in SETS)]
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean '{near[0]}'?" if near else f"Known: {', '.join(known)}"
        raise AffordAgentError(f"set '{name}' is not known. {hint}")
    return found
