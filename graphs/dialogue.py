"""A talk: turn after turn over one cell, with what was said, seen and taken kept between them.

Its state is small and JSON's own types only, and lives in a SQLite file under the talk's thread id; what was seen and
planned stays in the run folders that it names.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Annotated, Any, Literal, NotRequired, Protocol, TypedDict

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

Deed = Literal["grasp", "deliver", "say", "tell", "plan"]


class Thing(TypedDict):
    """What was last spoken of or taken. query: `FunctionalQuery` as JSON. run: folder name. at_m: where it stood, base
    frame. ruled_out: points of the things that were said not to be it."""

    query: dict[str, Any]
    run: str
    at_m: list[float] | None
    ruled_out: list[list[float]]


class Question(TypedDict):
    """What the person was asked. kind: which of the choices, what thing, where to, or whether to do `acts`. query: that
    the answer completes. choices: {"label", "at_m", "box"}, as `graphs.referents.Choice`. acts: done upon a yes. steps:
    of the plan that the question interrupts, at: which of them `query` is of."""

    kind: Literal["which", "what", "where", "whether"]
    text: str
    query: dict[str, Any] | None
    choices: list[dict[str, Any]]
    acts: list[Act]
    steps: NotRequired[list[Act]]
    at: NotRequired[int]


class Act(TypedDict, total=False):
    """What is done about a turn. query: of a grasp or a delivery, or of what is asked about. text: what is said. about:
    what is told, see `agent.talk.questions`. steps: of a plan, at: the first that has not been looked for yet. aside:
    the question that was asked before stays open."""

    do: Deed
    query: dict[str, Any] | None
    text: str
    ask: Question
    about: str
    steps: list[Act]
    at: int
    aside: bool


class TalkState(TypedDict, total=False):
    """turns: {"who": "person" | "robot", "text", "run"}. acts: still to do, in order. counts: of questions and runs.
    last: folder name of the last run. seen: of the last one with a picture of the table."""

    text: str
    turns: Annotated[list[dict[str, Any]], operator.add]
    acts: list[Act]
    thing: Thing | None
    held: Thing | None
    asked: Question | None
    counts: dict[str, int]
    last: str | None
    seen: str | None


class Partner(Protocol):
    """Who reads the turns and acts on them: `agent.talk.Conversation`. Each gives the changes of the state."""

    def read(self, state: TalkState) -> TalkState: ...

    def act(self, state: TalkState) -> TalkState: ...


def build(partner: Partner, checkpointer: BaseCheckpointSaver) -> CompiledStateGraph:
    """read -> act, again while there is something left to do."""
    graph = StateGraph(TalkState)
    graph.add_node("read", _node(partner.read))
    graph.add_node("act", _node(partner.act))
    graph.add_edge(START, "read")
    graph.add_edge("read", "act")
    graph.add_conditional_edges("act", what_next, ["act", END])
    return graph.compile(checkpointer=checkpointer, name="talk")


def what_next(state: TalkState) -> str:
    return "act" if state.get("acts") else END


def _node(step: Callable[[TalkState], TalkState]) -> Any:
    return lambda state: step(state)
