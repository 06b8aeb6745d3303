"""Spans of a run for an OpenTelemetry collector, sent over OTLP/HTTP after the run has ended: one for the run, one for
each stage, with outcome, code and seconds. No picture is ever sent; words only where the settings say so.
"""

from __future__ import annotations

import importlib.util
import os
from datetime import timedelta
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from affordagent.agent.clock import Clock
from affordagent.core.errors import AffordAgentError
from affordagent.core.run_store import RunStore

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

ENDPOINT_VARIABLE = "OTEL_EXPORTER_OTLP_ENDPOINT"  # and _HEADERS, for a key; as in the specification of OTLP
PATH = "/v1/traces"
WITHIN_S = 5.0  # for the collector to answer; a run is over by then and does not wait


def is_installed() -> bool:
    found = importlib.util.find_spec("opentelemetry") is not None
    return found and all(importlib.util.find_spec(f"opentelemetry.{name}") for name in ("sdk", "exporter"))


def endpoint_of(setting: str | None) -> str | None:
    """Where spans go: the setting, or what the environment names, where the extra is there to send them, or nowhere.

    Raises:
        AffordAgentError: the setting names a collector, and the extra is missing.
    """
    if setting is None:
        return os.environ.get(ENDPOINT_VARIABLE) or None if is_installed() else None
    if not is_installed():
        raise AffordAgentError(
            f"otel = {setting!r} needs the OpenTelemetry SDK: pip install 'affordagent[otel]', or leave the setting out"
        )
    return setting


def send_run(store: RunStore, endpoint: str, words: bool) -> None:
    """Hand the spans of a run that has ended to the exporter, which sends them from a thread of its own.

    Args:
        words: send the command and what the stages said too.

    Raises:
        AffordAgentError: the folder holds no run.
    """
    from opentelemetry.trace import Status, StatusCode, set_span_in_context

    clock = Clock.of(store)
    end = clock.end or {"outcome": "unfinished", "failure": None}
    failure = end["failure"] or {}
    facts = {"outcome": end["outcome"], "cell": clock.cell, "stage": failure.get("stage"), "code": failure.get("code")}
    if words:
        facts |= {"command": clock.command, "run": store.folder.name, "message": failure.get("message")}

    def ns(seconds: float) -> int:
        return int((clock.began + timedelta(seconds=seconds)).timestamp() * 1e9)

    tracer = provider_of(endpoint).get_tracer("affordagent")
    whole = tracer.start_span("run", start_time=ns(0), attributes=_attributes(facts))
    for span in clock.spans:
        record = span.record
        said = {"status": record["status"], "code": record["code"]}
        said |= {"seconds": record["duration_s"], "cpu_seconds": record["cpu_s"]}
        said |= {"message": record["message"]} if words else {}
        one = tracer.start_span(
            span.stage, set_span_in_context(whole), start_time=ns(span.from_s), attributes=_attributes(said)
        )
        if record["status"] == "failed":
            one.set_status(Status(StatusCode.ERROR, record["code"]))
        one.end(ns(span.to_s))
    if end["outcome"] == "failure":
        whole.set_status(Status(StatusCode.ERROR, failure.get("code")))
    whole.end(ns(clock.to_s))


@cache
def provider_of(endpoint: str) -> TracerProvider:
    """The way to one collector, opened once in a process; what is left is sent when the process ends. It is not the
    global provider: no library's spans go there."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    names = Resource.create({"service.name": "affordagent", "service.version": version("affordagent")})
    base = endpoint.rstrip("/")
    provider = TracerProvider(resource=names)
    exporter = OTLPSpanExporter(endpoint=base if base.endswith(PATH) else base + PATH, timeout=WITHIN_S)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _attributes(facts: dict[str, Any]) -> dict[str, Any]:
    return {f"affordagent.{name}": value for name, value in facts.items() if value is not None}
