"""Manipulation tasks: what sentences ask for, what is found, where it is touched, how it is judged; whole trials."""

import json
from dataclasses import replace

import numpy as np
import pytest

from affordagent.agent.language.tasks import understand_task
from affordagent.agent.session import Tools
from affordagent.core.errors import AffordAgentError, StageFailure
from affordagent.core.types import PartCloud
from affordagent.evaluations.runner.records import TRIALS
from affordagent.evaluations.tasks.figures import draw
from affordagent.evaluations.tasks.run import run, summarise, trials_of
from affordagent.evaluations.tasks.slide import MODES, account_of
from affordagent.evaluations.tasks.stages import Stroke, TaskRun
from affordagent.evaluations.tasks.table import TASKS, WAYS
from affordagent.evaluations.tasks.trial import TaskTrial, run_task
from affordagent.robot.interface import LOOK_Q
from affordagent.robot.limits import MotionLimits
from affordagent.robot.sim.cell import SimCell
from affordagent.robot.sim.objects.shapes import rot_z
from affordagent.robot.sim.task_judge import Moment, judge_task, moment
from affordagent.robot.sim.task_scenes import TaskScene, sample_task_scene
from affordagent.tools.coloured import find_target, find_thing
from affordagent.tools.contact_goals import (
    FRONT_M,
    Footprint,
    block_of,
    footprint_of,
    press_goal,
    push_goal,
    reach_goal,
)
from affordagent.tools.motion.contact import plan_contact
from affordagent.tools.table import find_objects


@pytest.mark.parametrize("name", [name for name in TASKS if name != "pick"])
def test_every_sentence_of_a_task_is_read_as_that_task(name):
    scene = sample_task_scene(name, 3)
    for sentence in TASKS[name].sentences:
        read = understand_task(sentence.format(colour=scene.colour, goal=scene.goal_colour))
        assert read is not None, sentence
        kind, query = read
        assert kind == name
        if query.destination is not None:
            assert query.destination.attributes == {"colour": scene.goal_colour}


@pytest.mark.parametrize(
    "text", ["pick up the red cup", "hand me the hammer", "push the chair away", "is the jar open?"]
)
def test_other_sentences_are_left_to_the_usual_language(text):
    assert understand_task(text) is None


def test_a_task_scene_is_drawn_from_its_seed_alone():
    one, same, other = (sample_task_scene("slide", seed) for seed in (5, 5, 6))
    assert [o.T_base_object.tolist() for o in one.scene.objects] == [
        o.T_base_object.tolist() for o in same.scene.objects
    ]
    assert one.scene.objects[0].T_base_object.tolist() != other.scene.objects[0].T_base_object.tolist()
    with pytest.raises(AffordAgentError, match="there are: reach"):
        sample_task_scene("juggle", 0)


@pytest.fixture(scope="module")
def slide():
    """A scene to slide in, its cell, the picture and what was found in it."""
    scene = sample_task_scene("slide", 0)
    with SimCell(scene.scene) as cell:
        frame = cell.look()
        yield scene, cell, frame, find_objects(frame)


def test_block_and_target_are_found_by_colour(slide):
    scene, cell, frame, table = slide
    truth = {t.name: t.mask for t in cell.truth()}
    for found, name in (
        (find_thing(frame, table, "block", scene.colour), scene.thing),
        (find_target(frame, table, scene.goal_colour), scene.goal),
    ):
        assert (found.mask & truth[name]).sum() / (found.mask | truth[name]).sum() > 0.9
    absent = next(c for c in ("red", "green", "blue", "purple") if c not in (scene.colour, scene.goal_colour))
    for missing in (lambda: find_thing(frame, table, "block", absent), lambda: find_target(frame, table, absent)):
        with pytest.raises(StageFailure) as failure:
            missing()
        assert failure.value.code == "grounding.not_found"


def _cloud(points, table_z_m=0.0):
    nothing = np.empty((0, 3))
    return PartCloud(
        points, np.tile([0.0, 0, 1], (len(points), 1)), points, nothing, table_z_m, np.array([0.9, 0, 0.7]), 1.0
    )


def _top_of_block(centre, half, yaw, high_m=0.04):
    x, y = (a.ravel() for a in np.meshgrid(*(np.linspace(-h, h, 15) for h in half)))
    c, s = np.cos(yaw), np.sin(yaw)
    return np.column_stack([centre[0] + c * x - s * y, centre[1] + s * x + c * y, np.full(x.size, high_m)])


@pytest.mark.parametrize("yaw", [0.0, 0.4, 1.2])
def test_a_push_goes_through_the_middle_of_the_block_and_ends_with_it_on_the_target(yaw):
    centre, target = np.array([0.45, 0.05]), np.array([0.5, -0.12])
    block = block_of(_cloud(_top_of_block(centre, (0.03, 0.025), yaw)))
    np.testing.assert_allclose(block.centre, centre, atol=1e-3)
    goal = push_goal(_cloud(_top_of_block(centre, (0.03, 0.025), yaw)), block, target)
    start = goal.T_base_tcp[0][:3, 3]
    d = (target - centre) / np.linalg.norm(target - centre)
    np.testing.assert_allclose(goal.stroke_m[:2] / np.linalg.norm(goal.stroke_m), d, atol=0.02)
    behind_m = (centre - start[:2]) @ d
    assert behind_m > block.support_m(d) + FRONT_M  # the fingers come down beside the block, not on it
    end = (start + goal.stroke_m)[:2]
    np.testing.assert_allclose(end + d * (FRONT_M + block.half_along_m(d)), target, atol=2e-3)
    assert goal.T_base_tcp[0][2, 2] == -1  # the hand points down


def test_the_middle_of_a_ball_and_of_a_cap():
    rng = np.random.default_rng(0)
    d = rng.normal(size=(400, 3))
    ball = np.array([0.4, 0.1, 0.12]) + 0.02 * d / np.linalg.norm(d, axis=1, keepdims=True)
    goal = reach_goal(_cloud(ball[ball[:, 2] > 0.11]))
    np.testing.assert_allclose(goal.T_base_tcp[0][:3, 3] + goal.stroke_m, [0.4, 0.1, 0.12], atol=1e-6)
    angle, radius = rng.uniform(0, 2 * np.pi, 400), 0.02 * np.sqrt(rng.uniform(0, 1, 400))
    cap = np.column_stack([0.5 + radius * np.cos(angle), 0.1 + radius * np.sin(angle), np.full(400, 0.03)])
    np.testing.assert_allclose(press_goal(_cloud(cap)).T_base_tcp[0][:2, 3], [0.5, 0.1], atol=1e-3)
    with pytest.raises(StageFailure) as failure:
        reach_goal(_cloud(ball[:5]))
    assert failure.value.code == "grasp.none"


def test_a_stroke_is_planned_within_the_limits_or_refused():
    points = _top_of_block((0.45, 0.0), (0.03, 0.03), 0.0)
    goal = push_goal(_cloud(points), footprint_of(points), np.array([0.45, 0.2]))
    plan = plan_contact(goal, _cloud(points), LOOK_Q, limits=MotionLimits())
    assert np.abs(plan.to_above.positions[0] - LOOK_Q).max() < 1e-9
    back = plan.way_back(len(plan.stroke))
    np.testing.assert_allclose(back[-1][1].positions[-1], LOOK_Q)  # home by the way it came
    joints = [plan.to_above, plan.down, *plan.stroke, *(motion for _, motion in back)]
    assert all(
        np.abs(a.positions[-1] - b.positions[0]).max() < 1e-6 for a, b in zip(joints[:-1], joints[1:], strict=True)
    )

    away = push_goal(_cloud(points), footprint_of(points), np.array([0.45, 1.4]))
    with pytest.raises(StageFailure) as failure:
        plan_contact(away, _cloud(points), LOOK_Q, limits=MotionLimits())
    assert failure.value.stage == "plan"

    wall = np.column_stack([np.linspace(0.4, 0.5, 60), np.full(60, 0.12), np.full(60, 0.05)])
    blocked = PartCloud(points, points * 0, points, wall, 0.0, np.array([0.9, 0, 0.7]), 1.0)
    with pytest.raises(StageFailure) as failure:
        plan_contact(goal, blocked, LOOK_Q, limits=MotionLimits())
    assert failure.value.code == "scene.blocked"
    speck = replace(blocked, obstacles=np.array([[0.45, 0.12, 0.007]]))  # of depth noise
    assert plan_contact(goal, speck, LOOK_Q, limits=MotionLimits()).stroke


def _with(at: Moment, name: str, T) -> Moment:
    return Moment({**at.T_base_body, name: T}, at.pressed_m)


def test_the_judge_of_a_slide(slide):
    scene, cell, _, _ = slide
    before = moment(cell)
    assert judge_task("slide", scene, before, None, before).code == "execution.missed_place"
    T = before.T_base_body[scene.goal].copy()
    on_target = _with(before, scene.thing, T)
    done = judge_task("slide", scene, before, None, on_target)
    assert done.success
    assert done.measured["off_m"] == 0
    beside = T.copy()
    beside[:2, 3] += T[:2, 0] * 0.045  # its middle is still over the target, a side of it is not
    result = judge_task("slide", scene, before, None, _with(before, scene.thing, beside))
    assert not result.success
    assert result.measured["middle_over_target"] == 1
    other = next(o.name for o in scene.scene.objects if o.name not in (scene.thing, scene.goal))
    knocked = before.T_base_body[other].copy()
    knocked[0, 3] += 0.05
    assert judge_task("slide", scene, before, None, _with(on_target, other, knocked)).code == "execution.collision"


def test_the_judge_of_a_button_wants_the_right_one_and_no_other():
    scene = sample_task_scene("press", 0)
    with SimCell(scene.scene) as cell:
        before = moment(cell)
    other = next(name for name in before.pressed_m if name != scene.thing)

    def judged(**pressed_m: float):
        at = Moment(before.T_base_body, {**before.pressed_m, **pressed_m})
        return judge_task("press", scene, before, at, before).code

    assert max(before.pressed_m.values()) < 0.001  # a cap holds its own weight
    assert judged(**{scene.thing: 0.004}) is None
    assert judged(**{scene.thing: 0.002}) == "execution.no_contact"
    assert judged(**{scene.thing: 0.004, other: 0.004}) == "grounding.wrong_object"


def test_trials_have_the_ways_of_sliding_and_unknown_ones_are_refused():
    trials = trials_of(["press", "slide"], ["default", "one stroke"], range(2))
    assert len({t.key for t in trials}) == len(trials) == 6
    with pytest.raises(AffordAgentError, match="juggle"):
        trials_of(["juggle"], ["default"], range(1))
    assert all(way.strokes >= 1 for way in WAYS.values())


@pytest.mark.parametrize("task", ["press", "slide"])
def test_a_whole_trial_leaves_a_row_and_a_run_folder(task, tmp_path):
    row = run_task(TaskTrial(task, 0), tmp_path, Tools())
    assert row["success"], row["failure_message"]
    folder = tmp_path / row["run"]
    stages = [e["stage"] for e in map(json.loads, (folder / "events.jsonl").read_text().splitlines()) if "stage" in e]
    wanted = ["understand", "look", "ground", "lift", "propose", "plan", "confirm", "execute", "verify"]
    assert list(dict.fromkeys(stages)) == wanted
    assert json.loads((folder / "contact.json").read_text())["report"]
    if task == "slide":
        (tmp_path / TRIALS).write_text(json.dumps(row) + "\n")
        assert "1 of 1" in draw(tmp_path)
    assert summarise([dict(row)])[task + (": default" if task == "slide" else "")]["success"]["k"] == 1


@pytest.mark.slow
def test_a_resumed_evaluation_runs_what_is_missing(tmp_path):
    trials = trials_of(["reach", "close"], ["default"], range(2))
    first = run(tmp_path, trials[:3])
    rows = run(tmp_path, trials)
    assert rows[:3] == first
    assert [row["key"] for row in rows] == [t.key for t in trials]


def _slid(scene: TaskScene, cell: SimCell, across_m: float, short_m: float, turned: float, finger_m: float):
    """The account of a made-up slide: where the block ended beside and before the target, and the fingers behind it."""
    start = moment(cell)
    T_block, target = start.T_base_body[scene.thing], start.T_base_body[scene.goal][:2, 3]
    d = (target - T_block[:2, 3]) / np.linalg.norm(target - T_block[:2, 3])
    left = np.array([-d[1], d[0]])
    T, tcp = T_block.copy(), np.eye(4)
    T[:3, :3] = rot_z(turned) @ T_block[:3, :3]
    T[:2, 3] = target + across_m * left - short_m * d
    tcp[:2, 3] = T[:2, 3] - finger_m * d
    end = Moment({**start.T_base_body, scene.thing: T, "tcp": tcp}, {})
    block = Footprint(T_block[:2, 3], T_block[:2, :2].T, np.array([0.03, 0.03]))
    line = np.stack([np.append(T_block[:2, 3] - 0.05 * d, 0.02), np.append(target - 0.04 * d, 0.02)])
    run = TaskRun("slide", scene, cell, WAYS["default"], start, target_xy=target)
    run.strokes.append(Stroke(line, block, target, None, [start, end]))
    verdict = judge_task("slide", scene, start, end, end)
    row = {"success": verdict.success, "failure_code": verdict.code, "failure_stage": "verify"}
    return account_of(run, {**row, "checks": verdict.checks, "measured": verdict.measured})


@pytest.mark.parametrize(
    ("across_m", "short_m", "turned", "finger_m", "mode"),
    [
        (0.0, 0.0, 0.0, 0.045, None),
        (0.06, 0.01, 0.1, 0.045, "drifted sideways"),
        (0.04, 0.05, 1.0, 0.12, "slid off"),
        (0.0, 0.07, 0.0, 0.045, "undershoot"),
        (0.0, -0.07, 0.0, 0.045, "overshoot"),
    ],
)
def test_how_a_slide_failed(slide, across_m, short_m, turned, finger_m, mode):
    scene, cell, _, _ = slide
    account = _slid(scene, cell, across_m, short_m, turned, finger_m)
    assert account.mode == mode
    assert account.mode is None or account.mode in MODES
    assert account.across_m == pytest.approx(across_m, abs=1e-3)
    assert account.along_m == pytest.approx(-short_m, abs=1e-3)
    assert account.offset_m == pytest.approx(0, abs=1e-3)


def test_a_slide_that_was_led_elsewhere_is_told_from_a_blocked_one(slide):
    scene, cell, _, _ = slide
    blocked = {"success": False, "failure_code": "scene.blocked", "failure_stage": "plan"}
    target = scene.scene.object(scene.goal).T_base_object[:2, 3]
    for seen, mode in ((target, "way blocked"), (target + 0.2, "wrong target")):
        assert account_of(TaskRun("slide", scene, cell, WAYS["default"], target_xy=seen), blocked).mode == mode


def test_task_scene_names_its_goal():
    scene = sample_task_scene("close", 0)
    assert isinstance(scene, TaskScene)
    assert scene.scene.object(scene.thing).category == "lid"
    assert scene.scene.object(scene.goal).obj.colour == scene.goal_colour
