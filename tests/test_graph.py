"""The graph: its picture in the docs, its routers, and how stages end. Tools are replaced by small ones here; the real
chain is tested in test_end_to_end.py."""

import importlib.util
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from langgraph.graph import END

from affordagent.agent.studio import mermaid
from affordagent.core.errors import AffordAgentError, NeedsClarification, Refused, StageFailure
from affordagent.core.run_store import RunStore
from affordagent.core.types import STAGES
from affordagent.graphs import moving, stages
from affordagent.graphs.grasp import after_ground, unless_ended
from affordagent.graphs.state import Workbench
from affordagent.robot.interface import ArmState

DOC = Path(__file__).parents[1] / "docs" / "pipeline.md"


def test_the_picture_in_the_docs_is_the_graph():
    drawn = re.search(r"<!-- graph -->\n```mermaid\n(.*?)\n```\n<!-- /graph -->", DOC.read_text(), re.S)
    assert drawn
    assert drawn.group(1) == mermaid().strip(), "paste the output of `affordagent graph` into docs/pipeline.md"


def test_every_stage_is_a_node():
    nodes = set(re.findall(r"^\t(\w+)\(\w+\)$", mermaid(), re.M))
    assert nodes == {*STAGES, "ground_again", "find_destination", "plan_held"}


@pytest.mark.parametrize(
    ("state", "goes_to"),
    [
        ({"grounding": "sure"}, "lift"),
        ({"grounding": "doubtful"}, "ground_again"),
        ({"grounding": "failed"}, "ground_again"),
        ({"grounding": "sure", "outcome": "failure"}, END),
    ],
)
def test_route_after_ground(state, goes_to):
    assert after_ground(state) == goes_to


def test_a_run_goes_on_until_it_has_an_outcome():
    route = unless_ended("plan")
    assert route({}) == "plan"
    assert route({"outcome": "refused"}) == END


def bench(store: RunStore) -> Workbench:
    fields = dict.fromkeys(("cell", "arm", "understand", "grounder", "fallback", "limits"))
    return Workbench(
        **fields,
        store=store,
        sure_above=0.6,
        present_above=0.2,
        ask_before_motion=True,
        seed=0,
        on_stage=lambda s: None,
        on_record=lambda r: None,
    )


@pytest.mark.parametrize(
    ("error", "status", "outcome"),
    [
        (StageFailure("lift", "depth.hole", "no depth here", valid=0.0), "failed", "failure"),
        (Refused("understand", "language.stop", "stopped"), "refused", "refused"),
        (
            NeedsClarification("understand", "language.ambiguous", "which?"),
            "needs_clarification",
            "needs_clarification",
        ),
    ],
)
def test_a_typed_failure_becomes_the_outcome(tmp_path, error, status, outcome):
    def stage(bench, state):
        raise error

    update = stages.node(bench(RunStore(tmp_path)), "lift", stage)({})
    assert update["outcome"] == outcome
    assert update["failure"] == {"stage": "lift", "code": error.code, "message": error.message}
    assert update["stages"][0]["status"] == status
    assert update["stages"][0]["evidence"] == error.evidence
    assert error.code in (tmp_path / "events.jsonl").read_text()


def test_what_is_not_installed_is_a_typed_failure_too(tmp_path):
    def stage(bench, state):
        raise AffordAgentError("no OpenGL: install libegl1")

    update = stages.node(bench(RunStore(tmp_path)), "look", stage)({})
    assert update["outcome"] == "failure"
    assert update["failure"] == {
        "stage": "look",
        "code": "tool.unavailable",
        "message": "no OpenGL: install libegl1",
    }


def test_a_stage_that_works_is_timed_and_recorded(tmp_path):
    def stage(bench, state):
        return stages.Done("fine", {"n": 1}, {"grounding": "sure"})

    update = stages.node(bench(RunStore(tmp_path)), "ground", stage)({})
    assert update["grounding"] == "sure"
    record = update["stages"][0]
    assert (record["stage"], record["status"], record["code"], record["message"]) == ("ground", "ok", None, "fine")
    assert record["duration_s"] >= 0


def test_the_ecosystems_tools_can_open_it(tmp_path, monkeypatch):
    """langgraph.json names a factory whose graph runs a command."""
    file, _, name = json.loads((DOC.parents[1] / "langgraph.json").read_text())["graphs"]["grasp"].partition(":")
    spec = importlib.util.spec_from_file_location("studio", DOC.parents[1] / file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.chdir(tmp_path)
    state = getattr(module, name)().invoke({"command": "What is a ratchet for?"})
    assert state["outcome"] == "refused"
    assert list(tmp_path.glob("runs/*studio*/events.jsonl"))


def test_a_hand_that_holds_something_is_not_opened():
    state = ArmState(np.zeros(6), 0.023, 0.0, holding=True)
    with pytest.raises(StageFailure, match="23 mm wide.*recover --open") as caught:
        moving._empty_handed(state)
    assert caught.value.code == "execution.hand_full"
    for holding in (False, None):
        assert moving._empty_handed(replace(state, holding=holding)).holding is holding
