"""What a run leaves besides its folder, where the settings ask for it: a Rerun recording, spans for a collector."""

from __future__ import annotations

from affordagent.agent import otel, rerun_trace
from affordagent.agent.settings import Settings
from affordagent.core.errors import AffordAgentError
from affordagent.core.run_store import RunStore


def check_tracing(settings: Settings) -> None:
    """Before anything is opened: are the extras there that the settings need?

    Raises:
        AffordAgentError: one is not; the message names it.
    """
    otel.endpoint_of(settings.otel)
    if settings.rerun:
        rerun_trace.check_rerun()


def trace(store: RunStore, settings: Settings) -> None:
    """After the run of that folder has ended and is written down. What goes wrong here is an event of it, no more."""
    try:
        if settings.rerun:
            rerun_trace.write_trace(store.folder, store)
        if (endpoint := otel.endpoint_of(settings.otel)) is not None:
            otel.send_run(store, endpoint, settings.otel_words)
    except (AffordAgentError, OSError, RuntimeError, ValueError) as error:
        store.event("trace", failed=f"{type(error).__name__}: {error}")


def leaves_the_machine(settings: Settings) -> list[str]:
    """What of a run is sent elsewhere, and why, a line each; empty unless a person asked for it."""
    from langsmith.utils import get_env_var, tracing_is_enabled

    lines = []
    if tracing_is_enabled():  # by LANGSMITH_TRACING=true or an older name of it: LangGraph's own doing
        to = get_env_var("ENDPOINT", default="https://api.smith.langchain.com")
        lines.append(f"LANGSMITH_TRACING is set: LangGraph sends commands and what each stage said to {to}")
    if (endpoint := otel.endpoint_of(settings.otel)) is not None:
        what = "commands, what each stage said, outcomes and times" if settings.otel_words else "outcomes and times"
        lines.append(f"OpenTelemetry: {what} of each run go to {endpoint}")
    return lines
