"""What a run leaves besides its folder: a Rerun recording, spans for a collector; and nothing where nobody asked."""

import http.server
import os
import shutil
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager

import numpy as np
import pytest

from affordagent.agent import otel, rerun_trace
from affordagent.agent.cli import main
from affordagent.agent.rerun_trace import TRACE_FILE, write_trace
from affordagent.agent.session import Session
from affordagent.agent.settings import Settings
from affordagent.agent.tracing import check_tracing, leaves_the_machine, trace
from affordagent.core.errors import AffordAgentError
from affordagent.core.run_store import RunStore

COMMAND = "pick up the mug of my aunt Agatha"
STAGES = ["understand", "look", "ground", "lift", "propose", "plan", "confirm", "execute", "verify"]
KITCHEN = Settings(scene="kitchen", seed=2)
WITHIN_S = 120


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs, one that came to its end and one whose thing is not there; and who was spoken to meanwhile."""
    root, spoken_to = tmp_path_factory.mktemp("runs"), []
    inner = socket.socket.connect

    def connect(self, address):
        spoken_to.append(address)
        return inner(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect)
        patch.delenv(otel.ENDPOINT_VARIABLE, raising=False)
        with Session(KITCHEN) as session:
            whole = session.run(COMMAND, root / "whole")
            broken = session.run("hand me the hammer", root / "broken")
    assert (whole.outcome, broken.outcome) == ("success", "failure")
    return whole.run_dir, broken.run_dir, spoken_to


@contextmanager
def collector():
    """A server on loopback, and the (path, body) it was sent."""
    sent = []

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            sent.append((self.path, self.rfile.read(int(self.headers["Content-Length"] or 0))))
            self.send_response(200)
            self.end_headers()

        def do_GET(self):
            sent.append((self.path, b""))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *args):
            """Not to the terminal."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", sent
    finally:
        server.shutdown()
        thread.join(WITHIN_S)
        server.server_close()


def test_by_default_nothing_leaves(runs):
    whole, broken, spoken_to = runs
    assert spoken_to == []
    assert leaves_the_machine(Settings()) == []
    assert not (whole / TRACE_FILE).exists()


# ---- Rerun


def rows_of(file):
    """Entity -> the rows of its component columns, read back from the file."""
    chunk = pytest.importorskip("rerun.chunk", reason="the extra is not installed: pip install 'affordagent[rerun]'")
    found = {}
    for one in chunk.RrdReader(str(file)).stream():
        table = one.to_record_batch().to_pydict()
        found.setdefault(str(one.entity_path), []).append((one.is_static, table))
    return found


def column(rows, entity, name):
    tables = [table for _, table in rows[entity] if name in table]
    return [value for table in tables for value in table[name]]


def test_a_recording_holds_the_whole_run(runs):
    whole, _, _ = runs
    store, rows = RunStore(whole), rows_of(write_trace(whole))
    assert {f"/stages/{stage}" for stage in STAGES} <= set(rows)
    said = " ".join(line for lines in column(rows, "/log", "TextLog:text") for line in lines)
    for words in (COMMAND, "look: 5 things on the table", "close is sent", "outcome: success"):
        assert words in said
    frame = store.get("frame")
    (matrix,) = column(rows, "/world/camera", "Pinhole:image_from_camera")
    np.testing.assert_allclose(np.array(matrix[0]).reshape(3, 3).T[0], [frame.camera.fx, 0, frame.camera.cx], rtol=1e-6)
    assert len(column(rows, "/world/camera/color", "EncodedImage:blob")) == 2  # before and after
    assert len(column(rows, "/world/camera/things", "Boxes2D:half_sizes")[0]) == len(store.get("table").proposals)
    mask = np.array(column(rows, "/world/camera/mask", "SegmentationImage:buffer")[0][0], np.uint8)
    assert (mask == rerun_trace.PART).sum() == store.get("part_mask").mask.sum()
    depth = np.array(column(rows, "/world/camera/depth", "DepthImage:buffer")[0][0], np.uint8).view(np.uint16)
    np.testing.assert_allclose(depth.reshape(frame.depth_m.shape) * 1e-4, frame.depth_m, atol=6e-5)
    part = np.array(column(rows, "/world/cloud/part", "Points3D:positions")[0])
    np.testing.assert_allclose(part, store.get("cloud").part, atol=1e-5)
    assert len(column(rows, "/world/grasps", "LineStrips3D:strips")[0]) == min(len(store.get("grasps")[0]), 20)
    plan = store.get("plan")
    joint = np.ravel(column(rows, "/arm/joint_1_rad", "Scalars:scalars"))
    assert joint[0] == pytest.approx(plan.to_pregrasp.positions[0, 0])
    seconds = column(rows, "/world/tcp", "motion")
    assert (np.diff([s.total_seconds() for s in seconds]) >= 0).all()
    length_s = sum(way.duration_s for way in (plan.to_pregrasp, plan.approach, plan.lift))
    assert seconds[-1].total_seconds() == pytest.approx(length_s, abs=0.2)


def test_a_run_that_ended_half_way_gives_what_there_was(runs, tmp_path):
    _, broken, _ = runs
    rows = rows_of(write_trace(broken))
    assert "/world/camera/depth" in rows
    assert "/stages/ground" in rows
    assert not {"/world/cloud/part", "/world/path", "/stages/lift"} & set(rows)
    assert "ERROR" in [level for levels in column(rows, "/log", "TextLog:level") for level in levels]
    torn = tmp_path / "torn"
    shutil.copytree(broken, torn)
    (torn / "table.npz").write_bytes(b"half a fi")
    (torn / "events.jsonl").write_bytes((torn / "events.jsonl").read_bytes()[:-40])
    assert "/world/camera/color" in rows_of(write_trace(torn))


def test_the_command_writes_one_for_an_old_run(runs, tmp_path, capsys, monkeypatch):
    whole, broken, _ = runs
    assert main(["rerun", str(whole), str(broken)]) == 0
    assert capsys.readouterr().out.split() == [str(run / TRACE_FILE) for run in (whole, broken)]
    assert main(["rerun", str(tmp_path)]) == 2
    assert "holds no run" in capsys.readouterr().err
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["rerun", str(whole)]) == 2
    assert "affordagent[rerun]" in capsys.readouterr().err
    with pytest.raises(AffordAgentError, match=r"affordagent\[rerun\]"):
        check_tracing(Settings(rerun=True))


def test_a_setting_writes_it_and_no_fault_of_it_is_the_runs(runs, tmp_path, monkeypatch):
    whole, _, _ = runs
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    (run / TRACE_FILE).unlink(missing_ok=True)
    trace(RunStore(run), Settings())
    assert not (run / TRACE_FILE).exists()
    trace(RunStore(run), Settings(rerun=True))
    assert (run / TRACE_FILE).stat().st_size > 100_000

    def full(folder, store):
        raise OSError("no space left on device")

    monkeypatch.setattr(rerun_trace, "write_trace", full)
    trace(RunStore(run), Settings(rerun=True))
    assert RunStore(run).events()[-1]["failed"] == "OSError: no space left on device"


# ---- OpenTelemetry


def spans_of(sent):
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    requests = [ExportTraceServiceRequest.FromString(body) for path, body in sent if path == "/v1/traces"]
    return [s for r in requests for resource in r.resource_spans for scope in resource.scope_spans for s in scope.spans]


def facts_of(span):
    return {a.key.removeprefix("affordagent."): a.value for a in span.attributes}


@pytest.mark.parametrize("words", [False, True])
def test_spans_reach_a_collector(runs, words):
    pytest.importorskip("opentelemetry.sdk", reason="the extra is not installed: pip install 'affordagent[otel]'")
    whole, broken, _ = runs
    with collector() as (url, sent):
        settings = Settings(otel=url, otel_words=words)
        assert url in leaves_the_machine(settings)[0]
        for run in (whole, broken):
            trace(RunStore(run), settings)
        assert otel.provider_of(url).force_flush(30_000)
        spans = spans_of(sent)
    runs_seen = [span for span in spans if span.name == "run"]
    assert [facts_of(span)["outcome"].string_value for span in runs_seen] == ["success", "failure"]
    stages = [span for span in spans if span.trace_id == runs_seen[0].trace_id and span.name != "run"]
    assert [span.name for span in stages] == STAGES
    for span in stages:
        assert span.parent_span_id == runs_seen[0].span_id
        took_s = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9
        assert took_s == pytest.approx(facts_of(span)["seconds"].double_value, abs=0.002)
    assert facts_of(runs_seen[1])["code"].string_value == "grounding.not_found"
    failed = [span for span in spans if span.status.code == 2]
    assert [span.name for span in failed] == ["ground", "run"]
    everything = b"".join(body for _, body in sent)
    assert b"PNG" not in everything
    for said in (b"aunt", b"mug", b"hammer"):
        assert (said in everything) == words


def test_a_collector_that_is_away_harms_nothing(runs):
    pytest.importorskip("opentelemetry.sdk", reason="the extra is not installed: pip install 'affordagent[otel]'")
    whole, _, _ = runs
    before = len(RunStore(whole).events())
    trace(RunStore(whole), Settings(otel="http://127.0.0.1:9"))
    assert len(RunStore(whole).events()) == before


def test_the_setting_needs_its_extra_and_the_environment_does_not(monkeypatch):
    monkeypatch.setenv(otel.ENDPOINT_VARIABLE, "http://collector:4318")
    assert otel.endpoint_of(None) == "http://collector:4318"
    assert otel.endpoint_of("http://mine:1") == "http://mine:1"
    monkeypatch.setattr(otel, "is_installed", lambda: False)
    assert otel.endpoint_of(None) is None
    with pytest.raises(AffordAgentError, match=r"affordagent\[otel\]"):
        check_tracing(Settings(otel="http://mine:1"))


# ---- LangSmith

GRAPH = """
import sys
from pathlib import Path
from langchain_core.tracers.langchain import wait_for_all_tracers
from affordagent.agent.settings import Settings
from affordagent.agent.tracing import leaves_the_machine
from affordagent.core.errors import Refused
from affordagent.core.run_store import RunStore
from affordagent.graphs.grasp import build
from affordagent.graphs.state import Workbench
from affordagent.robot.limits import MotionLimits

def refuse(text):
    raise Refused("understand", "language.no_motion_wanted", "no")

nobody = lambda what: None
bench = Workbench(None, None, RunStore(Path(sys.argv[1])), refuse, None, None, MotionLimits(), 0.6, 0.4, False, 0,
                  nobody, nobody)
assert build(bench).invoke({"command": "hello"})["outcome"] == "refused"
wait_for_all_tracers()
print(leaves_the_machine(Settings()))
"""


@pytest.mark.parametrize("asked", [False, True])
def test_langsmith_hears_of_a_run_only_where_the_environment_says_so(tmp_path, asked):
    ours = {k: v for k, v in os.environ.items() if not k.startswith(("LANGSMITH", "LANGCHAIN"))}
    with collector() as (url, sent):
        environment = {**ours, "LANGSMITH_ENDPOINT": url, "LANGSMITH_API_KEY": "key"}
        environment |= {"LANGSMITH_TRACING": "true"} if asked else {}
        command = [sys.executable, "-c", GRAPH, str(tmp_path)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=WITHIN_S, check=False)
        assert done.returncode == 0, done.stderr
    assert bool([path for path, body in sent if path.startswith("/runs")]) == asked
    assert bool(sent) == asked
    assert ("LANGSMITH_TRACING is set" in done.stdout) == (url in done.stdout) == asked
