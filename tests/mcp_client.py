"""The client's side of the tests of the MCP server: conversations that end, answers, and the person who is asked."""

import asyncio

from mcp_types import ElicitResult

from affordagent.core.journal import MOTIONS_FILE, read_motions

WITHIN_S = 300  # for a whole conversation on a machine that is busy


def motions(folder):
    return [motion.step for file in folder.rglob(MOTIONS_FILE) for motion in read_motions(file)]


def within(conversation):
    async def limited():
        async with asyncio.timeout(WITHIN_S):
            return await conversation

    return asyncio.run(limited())


async def answer_of(client, tool, **arguments):
    """The structured answer; the same stands in the text, and a failure is marked as one."""
    result = await client.call_tool(tool, arguments)
    answer = result.structured_content
    assert result.is_error == (answer["failure"] is not None)
    return answer, result


def person(*answers):
    """Who is asked, and what they were asked."""
    left, questions = list(answers), []

    async def asked(context, params):
        questions.append(params.message)
        yes = left.pop(0)
        return ElicitResult(action="decline") if yes is None else ElicitResult(action="accept", content={"move": yes})

    return asked, questions
