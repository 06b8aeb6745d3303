"""The page in a browser: from a command to a success, questions, STOP, watchers, markup, a phone, a token."""

import time

import pytest
from web_service import browser, served

from affordagent.agent.session import Session, Tools
from affordagent.agent.settings import Settings
from affordagent.agent.web.hub import Hub
from affordagent.agent.web.words import chat_items
from affordagent.core.journal import MOTIONS_FILE, read_motions

WAIT_S = 90.0
WAIT_MS = 1000 * WAIT_S
TEXT, ANSWER = "#text textarea, #text input", "#answers button:visible"
NASTY = (
    "<script>window.hurt=1</script><img src=x onerror='window.hurt=2'>[link](javascript:window.hurt=3) "
    "![](http://evil.example/x.png) ${window.hurt=4} {{hurt}} <svg onload=window.hurt=5> \x00\x1b[31m \u202e"
)


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """Two mugs; it asks which, and before it moves."""
    settings = Settings(scene="twins", seed=3, ask_which=0.5, confirm=True)
    with Hub(lambda: Session(settings, Tools()), tmp_path_factory.mktemp("runs")) as hub:
        yield hub


@pytest.fixture(scope="module")
def chromium():
    with browser() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def url(chromium, hub):
    with served(hub) as url:
        yield url


@pytest.fixture
def visit(chromium, url, hub):
    """visit(): a page of a new browser. Nobody commands, and nothing is under way."""
    assert hub.wait(lambda now: now.state != "busy", WAIT_S).state == "idle"
    hub.hand_over(hub.now().commander or "")
    contexts, said = [], len(chat_items(hub.entries()))

    def visit(**how):
        contexts.append(chromium.new_context(**({"viewport": {"width": 1200, "height": 900}} | how)))
        page = contexts[-1].new_page()
        page.set_default_timeout(WAIT_MS)
        page.faults, page.asked = [], []
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(url)
        page.wait_for_selector("#status .dot.idle")
        page.wait_for_function("n => document.querySelectorAll('.talk > :not(.hello)').length >= n", arg=said)
        page.said = page.locator(".talk > :not(.hello)").count()
        return page

    yield visit
    hub.stop()
    hub.wait(lambda now: now.state != "busy", WAIT_S)
    for context in contexts:
        context.close()


def new(page, item, inside=""):
    """What has been added to the talk since the visit."""
    return page.locator(f".talk > {item}:nth-child(n+{page.said + 1}) {inside}")


def say(page, text):
    page.fill(TEXT, text)
    page.press(TEXT, "Enter")


def moved(hub):
    return sum(len(read_motions(path)) for path in hub.root.rglob(MOTIONS_FILE))


def test_no_moves_nothing_and_a_stale_answer_neither(visit, hub):
    page, before = visit(), moved(hub)
    say(page, "pick up the orange mug")
    page.wait_for_selector("#answers button:visible >> text=Yes, move the robot")
    page.click("#answers button:visible >> text=No")
    new(page, ".steps", ".outcome.refused").wait_for()
    page.wait_for_selector("#status .dot.idle")
    assert page.locator(ANSWER).count() == 0
    assert moved(hub) == before


def test_a_mask_is_marked_by_a_click_and_used(visit, hub):
    """The black mug is marked while the plan for the orange one waits for an answer: that is a no."""
    page, before = visit(), moved(hub)
    say(page, "pick up the orange mug")
    page.wait_for_selector("#answers button:visible >> text=Yes, move the robot")
    first = hub.now().run
    page.get_by_text("The mask is wrong?").click()
    box = page.locator("#picture img").bounding_box()
    page.mouse.click(box["x"] + 0.38 * box["width"], box["y"] + 0.6 * box["height"])
    page.wait_for_selector("#hint >> text=pixels are marked")
    page.click("#use")
    new(page, ".steps", "li >> text=as marked by the person").wait_for()
    assert hub.wait(lambda now: now.run != first and now.stage != "ground", WAIT_S).run != first
    assert moved(hub) == before


def test_stop_while_it_plans(visit, hub, monkeypatch):
    """From the press to the arm's own stop, while the robot's thread computes."""
    page, told_s, arm = visit(), [], hub.session.cell.arm
    inner = arm.stop
    monkeypatch.setattr(arm, "stop", lambda: (told_s.append(time.time()), inner()))
    clock = "(performance.timeOrigin + performance.now()) / 1000"
    page.evaluate(f"addEventListener('pointerdown', () => window.pressed_s = {clock}, true)")
    say(page, "pick up the orange mug by its handle")
    assert hub.wait(lambda now: now.stage in ("ground", "lift", "propose", "plan"), WAIT_S).state == "busy"
    page.click("#stop")
    new(page, ".steps", ".outcome.failure").wait_for()
    page.wait_for_selector("#why .why >> text=execution.stopped")
    taken_s = told_s[0] - page.evaluate("window.pressed_s")
    print(f"from the press to the arm: {1e3 * taken_s:.0f} ms")
    assert taken_s < 3.0, "of a loaded machine; docs/web.md has the measured times"


def test_one_commands_the_other_watches_and_may_stop(visit, hub):
    ann, bob = visit(), visit()
    say(ann, "pick up the orange mug")
    new(bob, ".ask", ">> text=Move the robot?").wait_for()
    assert bob.locator(ANSWER).count() == 0
    assert "somebody else commands" in bob.locator("#status").inner_text()
    say(bob, "yes")
    bob.wait_for_selector("#note p")
    assert hub.now().question is not None
    bob.click("#stop")
    ann.wait_for_selector("#status .dot.idle")
    bob.click("#take")
    bob.wait_for_selector("#note p >> text=Somebody else commands")
    ann.click("#leave")
    bob.wait_for_selector("#status >> text=nobody commands")
    bob.click("#take")
    bob.wait_for_selector("#status >> text=you command")
    ann.wait_for_selector("#status >> text=somebody else commands")


def test_what_is_said_is_text_and_nothing_else(visit, hub, url):
    page = visit()
    say(page, NASTY)
    new(page, ":is(.say, .ask)").first.wait_for()
    shown = new(page, ".person", "span").inner_text()
    assert "<script>window.hurt=1</script>" in shown
    assert "${window.hurt=4} {{hurt}}" in shown
    assert "\ufffd[31m" in shown
    assert page.locator(".talk script, .talk img, .talk svg, .talk a").count() == 0
    page.wait_for_selector("#status .dot.idle")
    page.evaluate("document.querySelector('#text textarea, #text input').removeAttribute('maxlength')")
    page.fill(TEXT, "x" * 100_000)
    page.click("#send")
    page.wait_for_function(
        "n => document.querySelector('#note p') || document.querySelectorAll('.talk > .person').length > n",
        arg=page.locator(".talk > .person").count(),
    )
    assert page.evaluate("window.hurt") is None
    assert not [address for address in page.asked if not address.startswith((url, "data:", "blob:"))]


def test_it_fits_a_phone(visit):
    page = visit(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    stop = page.locator("#stop")
    for tab in ("Picture", "3D", "Runs", "Settings"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(200)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        box = stop.bounding_box()
        assert 0 <= box["y"] <= 844 - box["height"]
        assert box["width"] > 300
        assert box["height"] >= 44
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        assert page.evaluate("([x, y]) => document.elementFromPoint(x, y).id", [x, y]) == "stop"


def test_a_token_is_needed(chromium, hub):
    token = "a-token-of-24-characters"
    with served(hub, token) as url:
        context = chromium.new_context()
        page = context.new_page()
        assert page.goto(url).status == 401
        for path in ("/config", "/now", "/theme.css", "/gradio_api/info", "/gradio_api/file=/etc/passwd"):
            assert context.request.get(url + path).status == 401
        assert context.request.post(url + "/stop").status == 401
        assert page.goto(f"{url}/?token={token}").status == 200
        page.wait_for_selector("#status .dot")
        assert "token" not in page.url
        assert context.request.get(f"{url}/gradio_api/file=/etc/passwd").status in (403, 404)
        context.close()


def test_from_a_command_over_a_question_to_a_success(visit, hub, url):
    """The last one: after it the arm is in the camera's view, and asks whether to move away first."""
    page = visit()
    start = time.monotonic()
    say(page, "pick up the mug")
    new(page, ".steps", "li").first.wait_for()
    first_stage_s = time.monotonic() - start
    page.wait_for_selector("#answers button:visible >> text=2. the black one, on the right")
    assert new(page, ".ask", ".choices li").all_inner_texts() == [
        "the orange one, on the left",
        "the black one, on the right",
    ]
    assert moved(hub) == 0
    page.click(f"{ANSWER} >> nth=1")
    page.wait_for_selector("#answers button:visible >> text=Yes, move the robot")
    page.wait_for_selector("#picture img")
    page.click("#answers button:visible >> text=Yes, move the robot")
    new(page, ".steps", ".outcome.success").wait_for()
    new(page, ".say", ">> text=I hold the mug by its handle.").wait_for()
    page.get_by_role("tab", name="Runs").click()
    page.wait_for_selector("#run .run .success")
    page.get_by_role("tab", name="Settings").click()
    page.wait_for_selector(".settings >> text=tcp_speed_m_s")
    assert page.locator(".settings input, .settings textarea, .settings button").count() == 0
    assert not page.faults
    assert not [address for address in page.asked if not address.startswith((url, "data:", "blob:"))]
    assert first_stage_s < 5.0, "of a loaded machine; docs/web.md has the measured times"
    say(page, "put it back")
    page.click("#answers button:visible >> text=Yes, move the robot")
    new(page, ".say", ">> text=back where it was").wait_for()
