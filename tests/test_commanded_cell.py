"""A cell that a program commands: a plan moves nothing, waits, and is carried out once, by its own word, or not."""

import threading
import time

import pytest

from affordagent.agent.commanded_cell import CommandedCell
from affordagent.agent.session import Tools
from affordagent.agent.settings import Settings
from affordagent.core.errors import AffordAgentError, Refused, StageFailure
from affordagent.core.journal import MOTIONS_FILE, read_motions
from affordagent.robot.model import JOINT_NAMES
from affordagent.robot.sim.cell import SimCell
from affordagent.robot.sim.scene import sample_scene

WITHIN_S = 120  # for a command on a machine that is busy


@pytest.fixture(scope="module")
def tools():
    return Tools()


def cell_over(tools, root, world=None):
    world = world or SimCell(sample_scene("kitchen", 2))
    return CommandedCell(Settings(scene="kitchen", seed=2), root, tools, world)


@pytest.fixture(scope="module")
def kitchen(tools, tmp_path_factory):
    """A cell in which nothing is carried out, and its simulated world."""
    world, root = SimCell(sample_scene("kitchen", 2)), tmp_path_factory.mktemp("kitchen")
    with cell_over(tools, root, world) as cell:
        yield cell, world
    assert not motions(root)


def code_of(call, *args):
    with pytest.raises(StageFailure) as failed:
        call(*args).result(WITHIN_S)
    return failed.value.code


def motions(folder):
    return [motion for file in folder.rglob(MOTIONS_FILE) for motion in read_motions(file)]


def test_a_plan_waits_and_is_carried_out_once(tools, tmp_path):
    with cell_over(tools, tmp_path) as cell:
        seen = cell.look().result(WITHIN_S)
        assert len(seen.table.proposals) == 5
        assert not seen.arm_in_view
        found = cell.find("the mug").result(WITHIN_S)
        assert (found.name, found.part) == ("mug", "handle")
        assert found.mask.confidence > 0.8
        turn = cell.plan("pick up the mug").result(WITHIN_S)
        plan = turn.plan
        assert plan.says == "The mug is picked up and held. Move the robot?"
        assert plan.steps[0].startswith("open the fingers to ")
        assert plan.steps[3] == "close the fingers"
        assert not plan.needs_person
        assert cell.find("the pot").result(WITHIN_S).name == "pot"  # a look and a find leave the plan as it is
        assert not motions(tmp_path)

        first = cell.grasp(plan.id)
        assert code_of(cell.grasp, plan.id) in ("planning.unknown_plan", "execution.busy")
        turn = first.result(WITHIN_S)
        assert [ended.outcome for ended in turn.ended] == ["success"]
        assert code_of(cell.grasp, plan.id) == "planning.unknown_plan"
        assert [motion.step for motion in motions(tmp_path)].count("close") == 1
        assert code_of(cell.find, "the pot") == "camera.arm_in_view"


@pytest.mark.slow
def test_one_command_after_the_other(tools, tmp_path):
    """What is held is put back; then the arm must leave the camera's view, which is a plan of its own."""
    with cell_over(tools, tmp_path) as cell:
        cell.grasp(cell.plan("pick up the mug").result(WITHIN_S).plan.id).result(WITHIN_S)
        turn = cell.plan("put it back").result(WITHIN_S)
        assert turn.plan.steps[-2:] == ("draw the hand back (1.3 s)", "wait 1 s")
        assert cell.grasp(turn.plan.id).result(WITHIN_S).said == ("Done: the mug is back where it was.",)
        turn = cell.plan("pick up the pot").result(WITHIN_S)
        assert turn.plan.run is None
        turn = cell.grasp(turn.plan.id).result(WITHIN_S)
        assert "The pot is picked up" in turn.plan.says
        before = motions(tmp_path)
    assert motions(tmp_path) == before  # closed with a plan that waited


def test_a_plan_that_no_longer_holds_is_not_carried_out(kitchen, monkeypatch):
    cell, world = kitchen

    def plan():
        return cell.plan("pick up the mug").result(WITHIN_S).plan

    made = plan()
    mug = next(o.name for o in world.scene.objects if o.category == "mug")
    place = world.model.joint(f"{mug}/free").qposadr[0]
    world.data.qpos[place] += 0.03  # somebody moves it
    assert code_of(cell.grasp, made.id) == "planning.stale"
    assert code_of(cell.grasp, made.id) == "planning.unknown_plan"
    world.data.qpos[place] -= 0.03

    made = plan()
    joint = world.model.joint(JOINT_NAMES[0]).qposadr[0]
    world.data.qpos[joint] += 0.1  # somebody pushes the arm
    assert code_of(cell.grasp, made.id) == "planning.stale"
    world.data.qpos[joint] -= 0.1

    first, second = plan(), plan()
    assert code_of(cell.grasp, first.id) == "planning.unknown_plan"  # it made room
    monkeypatch.setattr(cell, "valid_s", 0.0)
    assert code_of(cell.grasp, second.id) == "planning.stale"


@pytest.mark.slow
def test_a_noisy_camera_is_no_change(tools, tmp_path):
    world = SimCell(sample_scene("kitchen", 2), noise=True, seed=2)
    with cell_over(tools, tmp_path, world) as cell:
        made = cell.plan("pick up the mug").result(WITHIN_S).plan
        assert [e.outcome for e in cell.grasp(made.id).result(WITHIN_S).ended] == ["success"]


def test_stop_waits_for_nothing(kitchen):
    cell, _ = kitchen
    begun = threading.Event()
    planning = cell.plan("pick up the mug", lambda stage: begun.set() if stage == "propose" else None)
    assert code_of(cell.look) == "execution.busy"
    assert begun.wait(WITHIN_S)
    started = time.process_time()
    assert cell.stop() == "planning"
    assert time.process_time() - started < 0.1
    turn = planning.result(WITHIN_S)
    assert turn.plan is None
    assert turn.ended[-1].failure["code"] == "execution.stopped"

    made = cell.plan("pick up the mug").result(WITHIN_S).plan
    assert cell.stop() == "idle"
    assert code_of(cell.grasp, made.id) == "planning.unknown_plan"


@pytest.mark.slow
def test_stop_while_it_moves(tools, tmp_path):
    with cell_over(tools, tmp_path) as cell:
        made = cell.plan("pick up the mug").result(WITHIN_S).plan
        moving = threading.Event()
        going = cell.grasp(made.id, lambda stage: moving.set() if stage == "execute" else None)
        assert moving.wait(WITHIN_S)
        cell.stop()
        assert going.result(WITHIN_S).ended[-1].failure["code"] == "execution.stopped"
        assert "close" not in [motion.step for motion in motions(tmp_path) if motion.ended]


def test_stopped_before_the_cell_was_open(tools, tmp_path):
    with cell_over(tools, tmp_path) as cell:
        planning = cell.plan("pick up the mug")
        cell.stop()
        assert code_of(lambda: planning) == "execution.stopped"
        assert not [*tmp_path.iterdir()]


@pytest.mark.slow
def test_a_question_comes_back_with_its_choices(tools, tmp_path):
    with CommandedCell(Settings(scene="twins", seed=3), tmp_path, tools) as cell:
        with pytest.raises(StageFailure) as asked:
            cell.find("the mug").result(WITHIN_S)
        assert asked.value.code == "grounding.which"
        assert len(asked.value.evidence["choices"]) == 2
        turn = cell.plan("pick up the mug").result(WITHIN_S)
        assert turn.plan is None
        assert [c["label"][:14] for c in turn.question["choices"]] == ["the orange one", "the black one,"]
        assert "mug" in cell.plan("the black one").result(WITHIN_S).plan.says


def test_what_cannot_be_taken_is_said(kitchen):
    cell, _ = kitchen
    for text, code in (("  ", "language.empty"), ("x" * 3000, "language.too_long")):
        assert code_of(cell.plan, text) == code
        assert code_of(cell.find, text) == code
    assert code_of(cell.grasp, "no such plan") == "planning.unknown_plan"
    with pytest.raises(Refused) as refused:
        cell.find("what is that?").result(WITHIN_S)
    assert refused.value.code == "language.no_motion_wanted"
    assert cell.plan("what is that?").result(WITHIN_S).plan is None
    assert code_of(cell.find, "hand me the hammer").startswith("grounding.")


def test_a_cell_that_does_not_open_says_so_to_every_command(tools, tmp_path):
    with CommandedCell(Settings(scene="nowhere"), tmp_path, tools) as cell:
        assert code_of(cell.plan, "pick up the mug") == "tool.unavailable"
        assert code_of(cell.look) == "tool.unavailable"


def test_on_hardware_a_person_is_needed(kitchen, monkeypatch):
    cell, world = kitchen
    monkeypatch.setattr(world, "is_hardware", True)
    assert cell.plan("pick up the mug").result(WITHIN_S).plan.needs_person


def test_nothing_of_a_bug_is_left_waiting(kitchen, monkeypatch):
    """A bug in a check before the motion: the run says so, nothing moves, and the next command is taken."""
    import affordagent.agent.commanded_cell as module

    def broken(session, plan):
        raise ValueError("a bug")

    cell, _ = kitchen
    made = cell.plan("pick up the mug").result(WITHIN_S).plan
    monkeypatch.setattr(module, "check_unchanged", broken)
    turn = cell.grasp(made.id).result(WITHIN_S)
    assert turn.ended[-1].failure["code"] == "internal.error"
    assert len(cell.look().result(WITHIN_S).table.proposals) == 5


def test_after_the_end_nothing_is_taken(tools, tmp_path):
    with cell_over(tools, tmp_path) as cell:
        cell.look().result(WITHIN_S)
    with pytest.raises(AffordAgentError, match="closed"):
        cell.look()
