"""The graph for LangGraph's own tools (`langgraph.json` points here) and its picture for the docs."""

from __future__ import annotations

import atexit
from pathlib import Path
from types import SimpleNamespace

from langgraph.graph.state import CompiledStateGraph

from affordagent.agent.session import Session, run_folder
from affordagent.agent.settings import Settings
from affordagent.core.run_store import RunStore
from affordagent.graphs.grasp import build


def make_graph() -> CompiledStateGraph:
    """The grasp graph over the cell of ./affordagent.toml, which stays connected until the process ends."""
    session = Session(Settings.load(None)).__enter__()
    atexit.register(session.__exit__, None, None, None)
    store = RunStore(run_folder(Path("runs"), "studio"))
    return build(session.workbench(store))


def mermaid() -> str:
    """The pipeline as a mermaid diagram, drawn from the compiled graph itself."""
    return build(SimpleNamespace(swaps={})).get_graph().draw_mermaid()  # type: ignore[arg-type]  # no node runs here
