"""The diagrams of the concept pages: `python scripts/docs_diagrams.py` writes docs/images/*.svg."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

IMAGES = Path(__file__).parents[1] / "docs" / "images"
INK, SOFT, LINE = "#1d2b33", "#5b6b75", "#8fa1ab"
TEAL, BLUE, AMBER, RED, GREY, GREEN = "#dff1ee", "#e2ecfa", "#fdf0d5", "#fbe3e0", "#eef1f3", "#e3f4e1"
_HEAD = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img" \
aria-label="{label}" font-family="system-ui, -apple-system, 'Segoe UI', sans-serif">
<title>{label}</title>
<defs><marker id="a" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">\
<path d="M0 0 10 5 0 10z" fill="{ink}"/></marker></defs>
<rect width="{w}" height="{h}" rx="10" fill="#ffffff"/>
"""


class Drawing:
    """A growing list of SVG elements; all places and sizes in the picture's pixels."""

    def __init__(self, width: int, height: int, label: str) -> None:
        self.parts = [_HEAD.format(w=width, h=height, label=escape(label), ink=SOFT)]

    def text(
        self, x: float, y: float, said: str, size: float = 14, colour: str = INK, at: str = "middle", bold: bool = False
    ) -> None:
        weight = ' font-weight="600"' if bold else ""
        self.parts.append(
            f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" fill="{colour}" text-anchor="{at}"{weight}>'
            f"{escape(said)}</text>\n"
        )

    def lines(self, x: float, y: float, said: Sequence[str], size: float = 12.5, at: str = "middle") -> None:
        for i, line in enumerate(said):
            self.text(x, y + i * (size + 4), line, size, SOFT, at)

    def box(
        self, x: float, y: float, w: float, h: float, title: str = "", below: Sequence[str] = (), fill: str = TEAL
    ) -> None:
        """A rounded box with its title and smaller lines, all in its middle."""
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="7" fill="{fill}" stroke="{LINE}"/>\n'
        )
        top = y + h / 2 + 5 - 8.5 * len(below)
        if title:
            self.text(x + w / 2, top, title, 13, bold=True)
        self.lines(x + w / 2, top + 17, below, 12)

    def path(self, d: str, colour: str = SOFT, dashed: bool = False, head: bool = True, width: float = 1.6) -> None:
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        end = ' marker-end="url(#a)"' if head else ""
        self.parts.append(f'<path d="{d}" fill="none" stroke="{colour}" stroke-width="{width:g}"{dash}{end}/>\n')

    def svg(self) -> str:
        return "".join(self.parts) + "</svg>\n"


def pipeline() -> str:
    picture = Drawing(980, 352, "The pipeline: stages, what each leaves, decisions and ends")
    stages = {
        "understand": ("query", BLUE),
        "look": ("frame, table", GREY),
        "ground": ("mask", TEAL),
        "lift": ("cloud", GREY),
        "propose": ("grasps", TEAL),
        "plan": ("path", TEAL),
        "confirm": ("a person's yes", AMBER),
        "execute": ("journal", RED),
        "verify": ("verdict", GREEN),
    }
    w, gap, y = 92, 14, 150
    left = {name: 16 + i * (w + gap) for i, name in enumerate(stages)}
    for name, (leaves, fill) in stages.items():
        picture.box(left[name], y, w, 54, name, (leaves,), fill)
    for a, b in zip(list(stages), list(stages)[1:], strict=False):
        picture.path(f"M{left[a] + w} {y + 27} H{left[b] - 2}")
    ground, lift, plan = left["ground"] + w / 2, left["lift"] + w / 2, left["plan"] + w / 2
    picture.text(16, 40, "“hand me the pan, it's hot”", 15, at="start")
    picture.path(f"M62 50 V{y - 3}")
    picture.box(ground - 62, 62, 112, 44, "ground_again", (), TEAL)
    picture.path(f"M{ground - 14} {y} V108")
    picture.text(ground - 68, 128, "in doubt", 12, SOFT)
    picture.path(f"M{ground + 20} 106 V128 H{lift - 22} V{y - 3}")
    picture.box(lift + 4, 62, 132, 44, "find_destination", (), TEAL)
    picture.path(f"M{ground + 36} {y} V134 H{lift + 8} V108", dashed=True)
    picture.text(lift + 68, 54, "“… in the box”", 12, SOFT)
    picture.path(f"M{lift + 40} 106 V128 H{lift + 12} V{y - 3}", dashed=True)
    picture.box(plan - 20, 62, 100, 44, "plan_held", (), TEAL)
    picture.path(f"M{lift + 136} 84 H{plan - 23}", dashed=True)
    picture.path(f"M{plan + 60} 106 V128 H{left['confirm'] + 46} V{y - 3}", dashed=True)
    picture.text(plan + 30, 54, "the hand holds it already", 12, SOFT)
    picture.path(f"M{left['look'] + 46} {y + 56} V{y + 86}", dashed=True)
    for name in ("understand", "ground", "lift", "propose", "plan", "confirm", "execute"):
        picture.path(f"M{left[name] + 46} {y + 56} V{y + 86}", dashed=True)
    picture.box(16, y + 88, left["execute"] + w - 16, 56, "the run may end at every stage", ("",), GREY)
    picture.lines(
        (left["execute"] + w + 16) / 2,
        y + 136,
        ("refused · needs_clarification · planned · failure, with a code, evidence and the mend",),
    )
    picture.path(f"M{left['verify'] + 46} {y + 56} V{y + 86}")
    picture.box(left["verify"], y + 88, w, 56, "success", ("or failure",), GREEN)
    picture.lines(
        490,
        y + 178,
        (
            "Under each name: what the stage leaves in the run folder. Dashed: taken when something says so.",
            "After every stage the state is on the disk; before execute every motion has passed the safety layer.",
        ),
    )
    return picture.svg()


def _axes(picture: Drawing, x: float, y: float, arms: Sequence[tuple[float, float, str, str]]) -> None:
    """Axes from (x, y): each (dx, dy, name, colour)."""
    for dx, dy, name, colour in arms:
        picture.path(f"M{x} {y} l{dx} {dy}", colour, head=False, width=3.2)
        far = 1 + 13 / max((dx * dx + dy * dy) ** 0.5, 1)
        picture.text(x + dx * far, y + dy * far + 5, name, 14, colour, bold=True)
    picture.parts.append(f'<circle cx="{x}" cy="{y}" r="4" fill="{INK}"/>\n')


def frames() -> str:
    picture = Drawing(900, 466, "The frames base, camera and tcp, seen from the side of the cell")
    x_colour, y_colour, z_colour = "#c8372d", "#2a8f3f", "#2b62c9"
    picture.parts.append(f'<rect x="60" y="380" width="780" height="14" fill="{GREY}" stroke="{LINE}"/>\n')
    picture.text(740, 412, "table, near z = 0 of the base", 13, SOFT)
    picture.parts.append('<rect x="110" y="336" width="70" height="44" rx="6" fill="#cfd8dd"/>\n')
    picture.parts.append(
        '<path d="M145 340 V270 L250 140 L405 180 L418 248" fill="none" stroke="#b3c0c7" stroke-width="22" '
        'stroke-linecap="round" stroke-linejoin="round"/>\n'
        '<path d="M396 250 h48 M400 250 v44 M440 250 v44" fill="none" stroke="#7d8d96" stroke-width="7"/>\n'
    )
    picture.parts.append('<rect x="402" y="316" width="36" height="64" rx="6" fill="#f3c9a5" stroke="#c99566"/>\n')
    picture.parts.append(
        '<g transform="rotate(35 690 110)"><rect x="662" y="88" width="56" height="30" rx="5" fill="#55636b"/>'
        '<rect x="680" y="118" width="20" height="9" fill="#2b3439"/></g>\n'
    )
    picture.path("M674 134 L448 376 M674 134 L640 376", LINE, dashed=True, head=False, width=1)
    _axes(picture, 145, 376, ((70, 0, "x", x_colour), (0, -70, "z", z_colour)))
    picture.text(92, 372, "y away", 12, y_colour)
    _axes(picture, 680, 124, ((-44, 60, "z", z_colour), (54, 40, "y", y_colour)))
    picture.text(742, 136, "x away", 12, x_colour)
    _axes(picture, 420, 300, ((0, 52, "z", z_colour), (56, 0, "y", y_colour)))
    picture.text(374, 322, "x away", 12, x_colour)
    picture.text(60, 428, "base", 16, at="start", bold=True)
    picture.lines(108, 428, ("of the robot: x to the front, z up",), at="start")
    picture.text(770, 66, "camera", 16, bold=True)
    picture.lines(770, 42, ("OpenCV: x right, y down, z forward",), 12)
    picture.text(60, 452, "tcp", 16, at="start", bold=True)
    picture.lines(108, 452, ("between the pads: z approach, y the way the fingers close",), at="start")
    picture.path("M142 366 C 60 -40 480 -20 652 92", "#1f7a74", width=2)
    picture.text(410, 62, "T_base_camera", 15, "#1f7a74", bold=True)
    picture.path("M154 372 C250 340 330 320 396 302", "#1f7a74", width=2)
    picture.text(262, 322, "T_base_tcp", 15, "#1f7a74", bold=True)
    picture.text(690, 448, "T_base_tcp = T_base_camera @ T_camera_tcp", 14, INK)
    return picture.svg()


def safety() -> str:
    picture = Drawing(900, 500, "Layers of safety, from words to the red button")
    rows = (
        ("Words, pages, language models", "may name a thing, a part, a place; no field holds a pose or a limit", BLUE),
        ("Settings file", "the only source of limits: workspace, zones, speeds, forces, payload", GREY),
        ("Planner", "keeps the limits with room to spare; avoids what the camera saw", TEAL),
        ("A person's yes", "before every motion of a real arm, once the checks are passed", AMBER),
        ("SafeArm, above every driver", "a motion outside of the limits is never sent: safety.*", RED),
        ("Driver, 125 Hz", "watches force, path, pace, age of the state; ends the motion", RED),
        ("Watchdog on the controller", "not fed for 0.2 s: its program ends, the arm stops without us", RED),
        ("The controller's safety functions", "yours to set: joint and tool limits, planes, the red button", AMBER),
    )  # fmt: skip
    for i, (name, does, fill) in enumerate(rows):
        y, inset = 18 + i * 56, 6 * i
        picture.parts.append(
            f'<rect x="{20 + inset}" y="{y}" width="{860 - 2 * inset}" height="44" rx="7" fill="{fill}" '
            f'stroke="{LINE}"/>\n'
        )
        picture.text(36 + inset, y + 28, name, 15, at="start", bold=True)
        picture.text(378, y + 28, does, 13, SOFT, at="start")
        if i + 1 < len(rows):
            picture.path(f"M450 {y + 44} v11")
    picture.text(
        450, 482, "A stop (Ctrl-C, the page's button, stop()) goes past all of this, straight to the driver.", 13.5
    )
    return picture.svg()


def exactly_once() -> str:
    picture = Drawing(920, 402, "A motion and its two entries in the journal; what a crash in between leads to")
    lanes = {"person": 60, "graph": 130, "journal": 200, "arm": 270}
    for name, y in lanes.items():
        picture.text(20, y + 5, name, 14, at="start", bold=True)
        picture.path(f"M90 {y} H890", LINE, head=False, width=1)
    blocks = (
        (110, "graph", 70, "plan", TEAL),
        (200, "person", 70, "yes", AMBER),
        (296, "journal", 124, "begin: goal, start", BLUE),
        (440, "arm", 180, "the motion", RED),
        (636, "journal", 146, "end: what came of it", BLUE),
        (808, "graph", 80, "next step", TEAL),
    )
    for x, lane, w, title, fill in blocks:
        picture.parts.append(
            f'<rect x="{x}" y="{lanes[lane] - 18}" width="{w}" height="36" rx="6" fill="{fill}" stroke="{LINE}"/>\n'
        )
        picture.text(x + w / 2, lanes[lane] + 5, title, 13)
    picture.path("M180 120 L200 72")
    picture.path("M270 72 L312 180")
    picture.path("M420 210 L440 250")
    picture.path("M620 258 L642 220")
    picture.path("M782 190 L812 150")
    for x, number in ((282, "1"), (430, "2"), (560, "3"), (796, "4")):
        picture.path(f"M{x} 34 V300", "#c8372d", dashed=True, head=False, width=1.4)
        picture.parts.append(f'<circle cx="{x}" cy="26" r="11" fill="#c8372d"/>\n')
        picture.text(x, 31, number, 13, "#ffffff", bold=True)
    picture.lines(
        30,
        328,
        (
            "Killed at 1: nothing was sent. It looks and plans anew, and asks again.",
            "Killed at 2 or 3: the journal holds a motion without an end. At rest at its goal: closed as found there.",
            "Anywhere else: execution.interrupted. A person looks; nothing is sent again.",
            "Killed at 4: the motion has ended. The arm where the journal left it: it asks, then sends the next one.",
        ),
        14,
        at="start",
    )
    return picture.svg()


def blame() -> str:
    picture = Drawing(
        900, 392, "A failed trial is replayed with stages repaired; the smallest set that helps is to blame"
    )
    causes = ("language", "depth", "calibration", "grounding", "grasp", "planning", "execution")
    x0, step, w = 160, 92, 84
    for i, cause in enumerate(causes):
        picture.text(x0 + i * step + w / 2, 30, cause, 13, bold=True)
    rows = (
        ("as it was", set(), {"grounding", "grasp"}, False),
        ("grasp repaired", {"grasp"}, {"grounding"}, False),
        ("mask repaired", {"grounding"}, set(), True),
        ("both repaired", {"grounding", "grasp"}, set(), True),
    )
    for r, (name, repaired, wrong, works) in enumerate(rows):
        y = 48 + r * 62
        picture.text(20, y + 28, name, 14, at="start", bold=True)
        for i, cause in enumerate(causes):
            fill = GREEN if cause in repaired else RED if cause in wrong else GREY
            said = "true" if cause in repaired else "wrong" if cause in wrong else "right"
            picture.box(x0 + i * step, y, w, 44, fill=fill)
            picture.text(x0 + i * step + w / 2, y + 27, said, 13, SOFT)
        end = x0 + 7 * step
        picture.text(end + 30, y + 28, "holds" if works else "drops", 14, "#1f7a44" if works else "#c8372d", bold=True)
    picture.lines(
        20,
        322,
        (
            "A wrong mask gave a grasp on the wrong part, and the thing was dropped: the run says execution.drop.",
            "With the true mask alone the usual grasp holds: grounding is causal, though the grasp was wrong as well.",
            "Shares over all orders of repairing: grounding 1, grasp 0. A repair is perfect for what it is given:",
            "the best grasp on the wrong mask still holds the wrong part.",
        ),
        14,
        at="start",
    )
    return picture.svg()


def favicon() -> str:
    """Two fingers around a thing."""
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">'
        '<rect width="32" height="32" rx="6" fill="#009485"/>'
        '<path d="M8 27 V12 H24 V27 M16 12 V4" fill="none" stroke="#fff" stroke-width="3.4"/>'
        '<circle cx="16" cy="21" r="4" fill="#ffd166"/></svg>\n'
    )


DIAGRAMS: tuple[Callable[[], str], ...] = (pipeline, frames, safety, exactly_once, blame, favicon)

if __name__ == "__main__":
    for draw in DIAGRAMS:
        (IMAGES / f"{draw.__name__}.svg").write_text(draw(), encoding="utf-8")
