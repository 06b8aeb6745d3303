"""The page: a talk on the left, what the robot sees and means on the right. Composes; knows nothing of robots."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import Any

import gradio as gr

from affordagent.agent.web import words
from affordagent.agent.web.hub import LONGEST_TEXT, Hub
from affordagent.agent.web.view import ADD, EDIT_HINT, LIVE, MOST_ANSWERS, PLAN, TAB_3D, TAB_PICTURE, TAKE, Shown, View

WITH_STOPS = "(...given) => [...given.slice(0, -1), String(window.affordagentStops)]"  # when it was said
STOP = '<button id="stop" type="button" aria-label="Stop the robot">STOP</button>'
LEGEND = """<div class="legend">
<span><i style="background:#ff00be"></i>part to hold</span>
<span><i style="background:#28be5a"></i>its object</span>
<span><i style="background:#fabe1e"></i>where it goes, or a choice</span>
<span><i style="background:#5a8cf0"></i>things, grasps considered</span>
<span><i style="background:#eb2d23"></i>chosen grasp</span></div>"""


@dataclass(frozen=True)
class Page:
    """Gradio's blocks, and what they are mounted with."""

    blocks: gr.Blocks
    theme: gr.Theme
    css: str
    head: str


def build(hub: Hub) -> Page:
    """The page over an open hub."""
    files = resources.files("affordagent.agent").joinpath("web")
    script = files.joinpath("page.js").read_text()
    font = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]  # of the machine: none is fetched
    theme = gr.themes.Default(
        primary_hue="blue", neutral_hue="slate", font=font, font_mono=["ui-monospace", "monospace"]
    )
    return Page(_blocks(hub), theme, files.joinpath("page.css").read_text(), f"<script>{script}</script>")


def _blocks(hub: Hub) -> gr.Blocks:
    view = View(hub)
    with gr.Blocks(title="affordagent", analytics_enabled=False, fill_width=True) as blocks:
        page, edit, stops = gr.State(Shown()), gr.State(None), gr.Textbox(visible=False)
        refresh = gr.Button("refresh", elem_id="refresh")
        with gr.Row(elem_id="top"):
            with gr.Column(scale=3, min_width=200):
                status = gr.HTML(elem_id="status")
            with gr.Column(scale=1, min_width=160, elem_id="stopbox"):
                gr.HTML(STOP)
        gr.HTML('<div id="alarm" role="alert"></div>')
        with gr.Row():
            with gr.Column(scale=5, min_width=320):
                chat = gr.HTML(elem_id="chat")
                with gr.Row(elem_id="answers"):
                    answers = [gr.Button(visible=False, elem_classes="answer") for _ in range(MOST_ANSWERS)]
                with gr.Row():
                    text = gr.Textbox(
                        placeholder="What shall I do?", show_label=False, container=False, scale=5, max_lines=4,
                        max_length=LONGEST_TEXT, elem_id="text",
                    )  # fmt: skip
                    send = gr.Button("Send", variant="primary", scale=1, min_width=80, elem_id="send")
                note = gr.HTML(elem_id="note")
                with gr.Row():
                    take = gr.Button("Take command", size="sm", elem_id="take", visible=False)
                    leave = gr.Button("Hand over command", size="sm", elem_id="leave", visible=False)
            with gr.Column(scale=6, min_width=320), gr.Tabs():
                with gr.Tab("Picture") as tab_picture:
                    picture = gr.Image(
                        interactive=False, show_label=False, format="jpeg", buttons=["fullscreen"], elem_id="picture",
                    )  # fmt: skip
                    gr.HTML(LEGEND)
                    mode = gr.Radio([PLAN, LIVE], value=PLAN, show_label=False, container=False, elem_id="mode")
                    with gr.Accordion("The mask is wrong? Mark the part to hold", open=False, elem_id="editing"):
                        hint = gr.HTML(EDIT_HINT, elem_id="hint")
                        with gr.Row():
                            adds = gr.Radio([ADD, TAKE], value=ADD, show_label=False, container=False)
                            again = gr.Button("Start over", size="sm")
                            use = gr.Button("Use this mask", size="sm", variant="primary", elem_id="use")
                    why = gr.HTML(elem_id="why")
                with gr.Tab("3D") as tab_3d:
                    plot = gr.Plot(show_label=False, elem_id="plot")
                with gr.Tab("Runs") as tab_runs:
                    runs = gr.Dropdown(label="Run", choices=[], elem_id="runs", filterable=False)
                    run_picture = gr.Image(interactive=False, show_label=False, format="jpeg", buttons=[])
                    run_words = gr.HTML(elem_id="run")
                    run_3d = gr.Button("Show it in 3D", size="sm")
                    run_plot = gr.Plot(show_label=False, visible=False)
                with gr.Tab("Settings"):
                    gr.HTML(words.settings(hub.session.settings))

        shown = [page, chat, status, *answers, picture, why, plot, take, leave]

        def on(trigger: Any, does: Any, inputs: list[Any], outputs: list[Any], **how: Any) -> None:
            trigger(does, inputs, outputs, show_progress="hidden", queue=True, api_visibility="private", **how)

        many: dict[str, Any] = {"concurrency_limit": None}
        on(refresh.click, view.refresh, [page, mode, edit], shown, trigger_mode="always_last", **many)
        for trigger in (text.submit, send.click):
            on(trigger, view.say, [text, page, mode, edit, stops], [text, note, *shown], js=WITH_STOPS, **many)
        for index, button in enumerate(answers):
            on(button.click, view.choosing(index), [page, mode, edit, stops], [note, *shown], js=WITH_STOPS, **many)
        on(take.click, view.take, [page, mode, edit], [note, *shown], **many)
        on(leave.click, view.leave, [page, mode, edit], [note, *shown], **many)
        on(mode.change, view.refresh, [page, mode, edit], shown, **many)
        on(tab_picture.select, view.turning_to(TAB_PICTURE), [page, mode, edit], shown, **many)
        on(tab_3d.select, view.turning_to(TAB_3D), [page, mode, edit], shown, **many)
        on(tab_runs.select, view.list_runs, [], [runs], **many)
        on(runs.change, view.open_run, [runs], [run_picture, run_words, run_plot], **many)
        on(run_3d.click, view.open_3d, [runs], [run_plot], **many)
        on(picture.select, view.click, [edit, adds], [edit, picture, hint], **many)
        on(again.click, view.start_over, [page, mode], [edit, hint, *shown], **many)
        on(use.click, view.use, [edit, page, mode, stops], [edit, hint, *shown], js=WITH_STOPS, **many)
    return blocks
