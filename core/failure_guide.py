"""What each failure code means, what shows it, and what mends it: `failures.json`, read for pages, reports and people.

`python -m affordagent.core.failure_guide > docs/troubleshooting.md` writes the page of the documentation.
"""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from functools import cache
from importlib import resources

from affordagent.core.errors import AffordAgentError

PAGE = "docs/troubleshooting.md"
GROUPS = {
    "language": "Reading the command",
    "camera": "The picture",
    "calibration": "Where camera and hand are",
    "depth": "Depth",
    "grounding": "Finding the thing and its part",
    "tool": "Tools and servers",
    "grasp": "Grasps",
    "planning": "The way of the arm",
    "scene": "Room to move",
    "execution": "While it moves, and what came of it",
    "safety": "Refused by the safety layer",
    "verify": "Judging the outcome",
    "internal": "Bugs",
}
"""Group of codes -> what its codes are about, in the order of the page."""
_ABOUT = """# Troubleshooting

<!-- Written by `python -m affordagent.core.failure_guide`; the texts are in core/failures.json. -->

A stage that cannot do its work ends the run with a code, and a message that names the value, the limit and the mend.
This page has a section for each code: what it means, what to look at, and what helps. The same text by command:
`affordagent explain CODE`.

The **evidence** is kept in the run folder: `events.jsonl` has a line for each stage with its `evidence`, `report.html`
shows it with pictures, and [the pipeline](pipeline.md#the-run-folder) lists all files. The outcomes `refused` and
`needs_clarification` have a code too; they are no faults.

The stage that fails is not always the one to blame: a wrong mask can still give a right grasp, and a wrong camera pose
is noticed by the fingers. [Attribution](attribution.md) finds the cause in simulation by replaying the run with stages
repaired, and its codes are here too ("found by attribution").
"""


@dataclass(frozen=True)
class Guide:
    """meaning: what happened, in plain words. evidence: which file or number shows it, and what good and bad look
    like. mends: what a person can do, the likeliest first."""

    code: str
    meaning: str
    evidence: str
    mends: tuple[str, ...]


@cache
def guides() -> dict[str, Guide]:
    """All codes and their guides."""
    texts = json.loads(resources.files("affordagent.core").joinpath("failures.json").read_text(encoding="utf-8"))
    return {code: Guide(code, text["meaning"], text["evidence"], tuple(text["mends"])) for code, text in texts.items()}


def guide(code: str) -> Guide:
    """The guide of one `group.code`, as `StageFailure.code` has it.

    Raises:
        AffordAgentError: there is no such code; names the nearest ones.
    """
    try:
        return guides()[code]
    except KeyError:
        near = difflib.get_close_matches(code, guides(), n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"{PAGE} lists all"
        raise AffordAgentError(f"there is no failure code {code!r}: {hint}") from None


def page() -> str:
    """The documentation's page: a section a code, its anchor the code itself."""
    sections = [_ABOUT]
    for group, about in GROUPS.items():
        found = [g for code, g in guides().items() if code.startswith(f"{group}.")]
        links = " · ".join(f"[`{g.code}`](#{g.code})" for g in found)
        sections += [f"## {about}\n\n{links}\n", *map(_section, found)]
    return "\n".join(sections)


def _section(this: Guide) -> str:
    mends = "\n".join(f"- {mend}" for mend in this.mends)
    return (
        f'<a id="{this.code}"></a>\n\n### `{this.code}`\n\n{this.meaning}\n\n'
        f"**Look at:** {this.evidence}\n\n**What helps:**\n\n{mends}\n"
    )


if __name__ == "__main__":
    print(page(), end="")
