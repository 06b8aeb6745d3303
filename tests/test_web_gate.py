"""What stands before the page: the token, other pages, other names for this machine, and paths nobody needs."""

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

from affordagent.agent.web.gate import BODY_BYTES, SEAT_COOKIE, Gate

TOKEN = "a-token-of-24-characters"
HOME = "http://127.0.0.1:7860"


def app():
    inner = FastAPI()

    @inner.get("/")
    async def page():
        return PlainTextResponse("page")

    @inner.get("/now")
    async def now():
        return PlainTextResponse("now")

    @inner.post("/stop")
    async def stop():
        return PlainTextResponse("stopped")

    @inner.post("/gradio_api/upload")
    async def upload():
        return PlainTextResponse("uploaded")

    return inner


@pytest.fixture
def ask():
    """ask(method, path, token=..., host=..., **request): the answer of a new client."""
    import anyio

    def ask(method, path, *, token=None, host="127.0.0.1", base=HOME, visits=(), **request):
        async def go():
            transport = httpx.ASGITransport(Gate(app(), token, host))
            async with httpx.AsyncClient(transport=transport, base_url=base) as client:
                for visit in visits:
                    await client.get(visit)
                return await client.request(method, path, **request)

        return anyio.run(go)

    return ask


def test_this_machine_needs_no_token(ask):
    answer = ask("GET", "/")
    assert answer.text == "page"
    assert SEAT_COOKIE in answer.headers["set-cookie"]
    assert "HttpOnly" in answer.headers["set-cookie"]
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert ask("POST", "/stop", content=b"", headers={"Origin": HOME}).text == "stopped"


@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("GET", "/now"), ("POST", "/stop"), ("GET", "/config")])
def test_elsewhere_a_token_is_needed_for_every_path(ask, method, path):
    at = {"token": TOKEN, "host": "0.0.0.0", "base": "http://robot.local:7860"}
    assert ask(method, path, **at).status_code == 401
    assert ask(method, path, **at, headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert ask(method, path, **at, headers={"Authorization": f"Bearer {TOKEN}"}).status_code in (200, 404)


def test_the_first_visit_leaves_a_cookie_and_hides_the_token(ask):
    answer = ask("GET", f"/?token={TOKEN}", token=TOKEN)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert TOKEN not in answer.headers["set-cookie"]
    assert ask("GET", "/now", token=TOKEN, visits=[f"/?token={TOKEN}"]).text == "now"
    assert ask("GET", "/?token=wrong", token=TOKEN).status_code == 401
    assert ask("GET", f"/now?token={TOKEN}", token=TOKEN).status_code == 401  # it opens the page only


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},  # another program on this machine
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"},
    ],
)
def test_other_pages_may_ask_for_nothing(ask, headers):
    assert ask("POST", "/stop", headers=headers).status_code == 403
    assert ask("GET", "/now", headers=headers).status_code == 403


def test_a_link_from_another_page_may_be_followed(ask):
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert ask("GET", "/", headers=headers).status_code == 200
    assert ask("POST", "/stop", headers=headers).status_code == 403


@pytest.mark.parametrize("host", ["evil.example", "evil.example:7860", "127.0.0.1.evil.example", "[::1", ""])
def test_another_name_for_this_machine_is_refused(ask, host):
    """DNS rebinding: a stranger's name that leads here."""
    assert ask("GET", "/", headers={"Host": host}).status_code == 421


@pytest.mark.parametrize("host", ["localhost:7860", "127.0.0.1:7860", "[::1]:7860", "127.0.0.1"])
def test_its_own_names_are_not(ask, host):
    assert ask("GET", "/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/upload",
        "/gradio_api/proxy=http://169.254.169.254/",
        "/gradio_api/run/predict",
        "/gradio_api/call/say",
        "/gradio_api/vibe-edit",
        "/gradio_api/component_server",
        "/monitoring",
        "/login",
    ],
)
def test_what_the_page_does_not_need_is_not_there(ask, path):
    assert ask("POST", path, content=b"x").status_code == 404
    assert ask("GET", path).status_code == 404


def test_bodies_have_a_limit(ask):
    assert ask("POST", "/stop", content=b"x" * (BODY_BYTES + 1)).status_code == 413

    async def drip():
        yield b"x"

    assert ask("POST", "/stop", content=drip()).status_code == 411
