"""The pipeline: from a sentence to a verified grasp. Nodes, then edges, then compile."""

from __future__ import annotations

from collections.abc import Callable

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from affordagent.graphs import delivering, grounding, held, moving, stages
from affordagent.graphs.state import GraspState, Stage, Workbench


def build(bench: Workbench, checkpointer: BaseCheckpointSaver | None = None) -> CompiledStateGraph:
    """The graph over one workbench. A checkpointer is needed where motion must be confirmed."""
    graph = StateGraph(GraspState)

    def add(name: str, stage: Stage, recorded_as: str | None = None) -> None:
        graph.add_node(name, stages.node(bench, recorded_as or name, bench.swaps.get(name, stage)))

    add("understand", stages.understand)
    add("look", stages.look)
    add("ground", grounding.ground)
    add("ground_again", grounding.ground_again, recorded_as="ground")
    add("find_destination", delivering.find_destination, recorded_as="ground")
    add("lift", stages.lift)
    add("propose", stages.propose)
    add("plan", moving.plan)
    add("plan_held", held.plan_held, recorded_as="plan")
    add("confirm", moving.confirm)
    add("execute", moving.execute)
    add("verify", moving.verify)

    graph.add_conditional_edges(START, begin, ["understand", "find_destination", "plan_held"])
    graph.add_conditional_edges("understand", unless_ended("look"), ["look", END])
    graph.add_conditional_edges("look", unless_ended("ground"), ["ground", END])
    graph.add_conditional_edges("ground", after_ground, ["lift", "ground_again", "find_destination", END])
    graph.add_conditional_edges("ground_again", once_grounded, ["lift", "find_destination", END])
    graph.add_conditional_edges("find_destination", once_placed, ["lift", "plan_held", END])
    graph.add_conditional_edges("lift", unless_ended("propose"), ["propose", END])
    graph.add_conditional_edges("propose", unless_ended("plan"), ["plan", END])
    graph.add_conditional_edges("plan", unless_ended("confirm"), ["confirm", END])
    graph.add_conditional_edges("plan_held", unless_ended("confirm"), ["confirm", END])
    graph.add_conditional_edges("confirm", unless_ended("execute"), ["execute", END])
    graph.add_conditional_edges("execute", unless_ended("verify"), ["verify", END])
    graph.add_edge("verify", END)
    return graph.compile(checkpointer=checkpointer, name="grasp")


def begin(state: GraspState) -> str:
    """A command begins with its words; what is held already only has to get where it is to go."""
    if not state.get("held"):
        return "understand"
    return "find_destination" if state.get("places") else "plan_held"


def unless_ended(following: str) -> Callable[[GraspState], str]:
    """Router: on to `following`, or to the end once there is an outcome."""

    def route(state: GraspState) -> str:
        return END if state.get("outcome") else following

    return route


def after_ground(state: GraspState) -> str:
    """A sure mask goes on; a doubtful or missing one gets a second opinion from the fallback tool."""
    if state.get("outcome") or state.get("grounding") == "sure":
        return once_grounded(state)
    return "ground_again"


def once_grounded(state: GraspState) -> str:
    """With the object found, a command to put it somewhere needs the destination too."""
    if state.get("outcome"):
        return END
    return "find_destination" if state.get("places") else "lift"


def once_placed(state: GraspState) -> str:
    """With the destination found, the object is taken, unless the hand holds it."""
    if state.get("outcome"):
        return END
    return "plan_held" if state.get("held") else "lift"
