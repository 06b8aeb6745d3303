"""The MCP server as clients start it: a child process on stdin and stdout."""

import json
import os
import signal
import subprocess
import sys

import pytest

pytest.importorskip("mcp", reason="the extra is not installed: pip install 'affordagent[mcp]'")

from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp_client import answer_of, motions, person, within

SERVER = [sys.executable, "-m", "affordagent.agent.cli", "mcp", "--scene", "kitchen", "--seed", "2", "--confirm"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def test_a_child_process_is_commanded(tmp_path):
    """Everything once over stdin and stdout; the settings want a person's yes before each motion."""

    async def conversation():
        command, *arguments = [*SERVER, "--runs", str(tmp_path)]
        server = StdioServerParameters(command=command, args=arguments, env=ENVIRONMENT, cwd=tmp_path)
        asked, questions = person(None, False, True)
        async with Client(server, elicitation_callback=asked) as client:
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            assert sorted(tools) == ["find", "grasp", "look", "plan", "stop"]
            assert list(tools["grasp"].input_schema["properties"]) == ["plan_id"]  # no argument says yes
            assert list(tools["plan"].input_schema["properties"]) == ["text"]

            seen, result = await answer_of(client, "look")
            assert len(seen["things"]) == 5
            assert [block.type for block in result.content] == ["text", "image"]
            found, result = await answer_of(client, "find", text="the mug by its handle")
            assert (found["found"]["thing"], found["found"]["part"]) == ("mug", "handle")
            assert result.content[1].mime_type == "image/jpeg"

            stages = []

            async def progress(count, total, message):
                stages.append(message)

            result = await client.call_tool("plan", {"text": "pick up the mug"}, progress_callback=progress)
            assert {"look", "ground", "propose"} <= set(stages)
            plan = result.structured_content["plan"]
            assert plan["needs_person"]
            for code in ("execution.declined", "execution.declined"):
                refused, _ = await answer_of(client, "grasp", plan_id=plan["plan_id"])
                assert (refused["failure"]["kind"], refused["failure"]["code"]) == ("refused", code)
            assert not motions(tmp_path)
            done, _ = await answer_of(client, "grasp", plan_id=plan["plan_id"])
            assert done["outcomes"] == ["success"]
            assert len(questions) == 3
            assert questions[0].startswith("The mug is picked up and held. Move the robot? (open the fingers")
            again, _ = await answer_of(client, "grasp", plan_id=plan["plan_id"])
            assert again["failure"]["code"] == "planning.unknown_plan"
            assert motions(tmp_path).count("close") == 1
        return len(questions)

    assert within(conversation()) == 3


@pytest.mark.slow
def test_a_signal_ends_it_though_nobody_closes_the_pipe(tmp_path):
    command = [*SERVER, "--runs", str(tmp_path)]
    server = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path, env=ENVIRONMENT, text=True
    )
    try:
        about = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
        for message in (
            {"id": 1, "method": "initialize", "params": about},
            {"method": "notifications/initialized"},
            {"id": 2, "method": "tools/call", "params": {"name": "look", "arguments": {}}},
        ):
            server.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
            server.stdin.flush()
            if "id" in message:
                assert json.loads(server.stdout.readline())["id"] == message["id"]
        server.send_signal(signal.SIGTERM)
        assert server.wait(120) == 130
    finally:
        server.kill()
        server.communicate()
