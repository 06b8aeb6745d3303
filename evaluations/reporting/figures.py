"""All figures of a report, from the rows alone."""

from __future__ import annotations

from collections.abc import Sequence

from affordagent.evaluations.reporting.blame import first_against_causal, flow, kinds, ladder, luck, shapley
from affordagent.evaluations.reporting.checks import confusion, times, verified
from affordagent.evaluations.reporting.pairs import paired
from affordagent.evaluations.reporting.success import OUTSIDE_ABOVE, Figures, success, success_rate
from affordagent.evaluations.reporting.wording import wording
from affordagent.evaluations.runner.records import Row

OK_ROBOT = {
    "source": "OK-Robot (Liu et al., RSS 2024): 375 trials in homes, 121 failures, attributed by hand; shares from "
    "the paper",
    "trials": 375,
    "failed": 121,
    "shares": {
        "visual and language": 0.43,
        "pose": 0.25,
        "hardware, calibration, depth": 0.23,
        "navigation": 0.06,
        "placing": 0.03,
    },
    "comparable": {"visual": "visual and language", "pose": "pose", "hardware": "hardware, calibration, depth"},
}


def figures(rows: Sequence[Row], planned: int | None = None, in_flight: int = 0) -> Figures:
    """What the report's JSON holds; no files are read.

    Trials with an injected fault are left out of everything but `confusion`, `with_faults` and, there being no others,
    of nothing: `scope` says which. planned: trials that were asked for, None = those that are there. in_flight: those
    of the missing that had begun.
    """
    natural = [row for row in rows if row["fault"] is None]
    mine = natural or list(rows)
    planned = max(planned or 0, len(rows))
    missing = planned - len(rows)
    return {
        "trials": {
            "planned": planned,
            "done": len(rows),
            "missing": missing,
            "in_flight": in_flight,
            "with_fault": len(rows) - len(natural),
            "counted": len(mine),
            "failed": sum(not row["success"] for row in mine),
            "attributed": sum(row["attribution"] is not None for row in mine),
        },
        "scope": "trials without an injected fault" if natural else "all trials, each with an injected fault",
        "success": success(mine, len(mine) + missing),
        "with_faults": success_rate(row for row in rows if row["fault"] is not None),
        "paired_settings": paired(rows, "setting"),
        "paired_styles": paired(mine, "style"),
        "flow": flow(mine),
        "kinds": kinds(mine),
        "ok_robot": OK_ROBOT,
        "shapley": shapley(mine),
        "first_against_causal": first_against_causal(mine),
        "luck": luck(mine),
        "ladder": ladder(mine),
        "wording": wording(mine),
        "verified": verified(mine),
        "confusion": confusion(rows),
        "times": times(mine),
        "outside_above": OUTSIDE_ABOVE,
    }
