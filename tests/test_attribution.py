"""Attribution by substitution: replays give the same bits, and the repaired stage is the one to blame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from affordagent.agent.session import Tools
from affordagent.core.causes import CAUSES
from affordagent.core.errors import AffordAgentError
from affordagent.core.run_store import RunStore
from affordagent.core.types import GraspPlan, Verdict
from affordagent.evaluations.causes.attribute import Scene, attribute, attribute_scene, reenact
from affordagent.evaluations.causes.comparison import Run
from affordagent.evaluations.causes.faults import Fault
from affordagent.evaluations.runner.trial import Trial, run_trial
from affordagent.graphs.attribution import NODES, judged, replay

TRIAL = Trial(suite="test", scene="mixed", seed=5, noise=True, masks="truth", target=1, command_id="test", group="test")
NOTHING: frozenset[str] = frozenset()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trial as an evaluation runs it. Its words and masks are the truth, so no models are loaded."""
    out = tmp_path_factory.mktemp("evaluation")
    try:
        row = run_trial(TRIAL, out, Tools())
    except AffordAgentError as error:
        pytest.skip(str(error))
    assert row["success"]
    return out / row["run"]


@pytest.fixture(scope="module")
def scene(folder: Path) -> Iterator[Scene]:
    with reenact(TRIAL, Tools()) as scene:
        yield scene


@pytest.fixture(scope="module")
def base(scene: Scene) -> Run:
    return scene.run(NOTHING)


def same_bits(one: GraspPlan, other: GraspPlan) -> bool:
    return one.grasp_index == other.grasp_index and all(
        np.array_equal(getattr(one, path).positions, getattr(other, path).positions)
        and np.array_equal(getattr(one, path).times_s, getattr(other, path).times_s)
        for path in ("to_pregrasp", "approach", "lift")
    )


def test_an_unchanged_replay_gives_the_same_plan_and_verdict(folder: Path, base: Run) -> None:
    store = RunStore(folder)
    assert same_bits(base.store.get("plan"), store.get("plan"))
    verdict: Verdict = store.get("verdict")
    assert base.verdict == verdict
    assert base.outcome == "success"


@pytest.mark.parametrize("node", ["ground", "propose", "execute"])
def test_so_does_one_that_begins_later(scene: Scene, base: Run, node: str) -> None:
    later = scene.run(NOTHING, base, {node})
    assert same_bits(later.store.get("plan"), base.store.get("plan"))
    assert later.verdict == base.verdict
    skipped = [record["stage"] for record in later.stages if record["message"] == "as before"]
    assert skipped == [n for n in NODES[: NODES.index(node)] if n != "find_destination"]  # which only some runs have


def test_what_comes_after_the_end_is_not_replayed(scene: Scene) -> None:
    refused = replace(scene, faults=(Fault("language", "refused"),))
    ended = refused.run(NOTHING)
    assert ended.outcome == "refused"
    assert refused.run(frozenset({"grasp"}), ended, {"propose"}) is ended


def test_nodes_are_checked(scene: Scene) -> None:
    with pytest.raises(ValueError, match="nonsense"):
        replay(scene.bench, "take it", scene.start, swaps={"nonsense": judged})


@pytest.mark.slow
def test_a_success_blames_nobody(folder: Path) -> None:
    found = attribute(folder, Tools(), repeats=0)
    assert (found.causal, found.code, found.first_failing, found.kind) == ((), None, None, None)
    assert found.evidence["reproduced"] is True
    assert set(found.shares.values()) == {0.0}
    assert found.ladder == dict.fromkeys(CAUSES, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault("language", "needless question"), "language.needless_question"),
        (Fault("grounding", "wrong object"), "grounding.wrong_object"),
        (Fault("execution", "dropped, share of the lift", 0.5), "execution.drop"),
    ],
    ids=lambda x: x.name if isinstance(x, Fault) else None,
)
def test_the_stage_with_the_fault_is_to_blame(scene: Scene, fault: Fault, code: str) -> None:
    found = attribute_scene(replace(scene, faults=(fault,)), repeats=0)
    assert found.causal == (fault.cause,)
    assert found.code == code
    assert found.shares[fault.cause] == pytest.approx(1.0)
    assert sum(found.shares.values()) == pytest.approx(1.0)
    assert found.ladder["execution"] == 1.0
    if fault.cause != "execution":  # a thing that falls is no proof that the arm did wrong
        assert found.first_failing == fault.cause


@pytest.mark.slow
def test_two_faults_share_the_blame(scene: Scene) -> None:
    """With the right object, the drop is still there; and without it, the wrong object."""
    faults = (Fault("grounding", "wrong object"), Fault("execution", "dropped, share of the lift", 0.5))
    found = attribute_scene(replace(scene, faults=faults), repeats=1)
    assert found.causal == ("grounding", "execution")
    assert found.shares["grounding"] == found.shares["execution"] == pytest.approx(0.5)
    assert found.first_failing == "grounding"
    assert found.luck == 0.0
    assert found.confidence == 1.0
    seeds = {(tuple(r["repaired"]), r["seed"]) for r in found.replays}
    assert ((), 1) in seeds
    assert (("grounding", "execution"), 1) in seeds


def test_a_folder_without_a_trial(tmp_path: Path) -> None:
    with pytest.raises(AffordAgentError, match="holds no trial"):
        attribute(tmp_path, Tools())
