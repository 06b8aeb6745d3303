"""Where trials ended, what was to blame, and the code, as a Sankey diagram: places for bars and bands, to be drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from affordagent.core.causes import CAUSES, KIND_OF_CAUSE
from affordagent.evaluations.reporting.success import Figures

WIDTH, BAR_WIDTH, GAP, LABEL_HEIGHT, TRIALS_HEIGHT = 980.0, 14.0, 6.0, 15.0, 560.0
COLUMNS_X = (0.0, 200.0, 440.0, 690.0)
CODES_SHOWN, SETS_SHOWN = 18, 6
AND = " + "  # between the causes of `blame.blamed`
STAGES = ("understand", "look", "ground", "ground_again", "find_destination", "lift", "propose", "plan", "confirm")
STAGES_AFTER = ("execute", "verify")


@dataclass(frozen=True)
class Bar:
    """A box of the diagram, in its units; look: its colour's name."""

    x: float
    y: float
    height: float
    label: str
    n: int
    look: str


@dataclass(frozen=True)
class Band:
    """path: of an SVG outline."""

    path: str
    title: str
    look: str


@dataclass(frozen=True)
class Diagram:
    width: float
    height: float
    bars: list[Bar]
    bands: list[Band]


Node = tuple[int, str]  # column, label


def sankey(flow: Sequence[Figures]) -> Diagram:
    """Of `blame.flow`. Heights are true to the numbers; rare codes are drawn as one, and rare sets of causes too."""
    common = _common(flow)
    paths = [(_nodes(path, common), path["n"], _look(path)) for path in flow]
    totals: Counter[Node] = Counter()
    looks: dict[Node, Counter[str]] = {}
    for nodes, n, look in paths:
        for node in nodes:
            totals[node] += n
            looks.setdefault(node, Counter())[look] += n
    trials = sum(n for _, n, _ in paths)
    scale = TRIALS_HEIGHT / max(trials, 1)
    bars: dict[Node, Bar] = {}
    for column, x in enumerate(COLUMNS_X):
        y = 0.0
        for node in sorted((node for node in totals if node[0] == column), key=_order(totals)):
            height = totals[node] * scale
            room = max(height, LABEL_HEIGHT)
            look = looks[node].most_common(1)[0][0] if len(looks[node]) == 1 else "mixed"
            bars[node] = Bar(x, y + (room - height) / 2, height, node[1], totals[node], look)
            y += room + GAP
    bottom = max((bar.y + max(bar.height, LABEL_HEIGHT) for bar in bars.values()), default=0.0)
    return Diagram(WIDTH, bottom + GAP, list(bars.values()), _bands(paths, bars, scale))


def _common(flow: Sequence[Figures]) -> set[str]:
    """The codes and the sets of several causes that are drawn by themselves."""
    codes: Counter[str] = Counter()
    sets: Counter[str] = Counter()
    for path in flow:
        if path["cause"] is not None:
            codes[path["code"]] += path["n"]
            sets[path["cause"]] += path["n"] * (AND in path["cause"])
    return {name for name, _ in [*codes.most_common(CODES_SHOWN), *sets.most_common(SETS_SHOWN)]}


def _nodes(path: Figures, common: set[str]) -> list[Node]:
    nodes = [(0, "all trials"), (1, path["ended"])]
    if path["cause"] is not None:
        cause, code = path["cause"], path["code"]
        nodes.append((2, "other sets of causes" if AND in cause and cause not in common else cause))
        nodes.append((3, code if code in common else "other codes"))
    return nodes


def _look(path: Figures) -> str:
    """Kind of the first cause, "good" of successes, "plain" where nothing is blamed."""
    if path["cause"] is None:
        return "good"
    return KIND_OF_CAUSE.get(path["cause"].split(AND)[0], "plain")


def _order(totals: Counter[Node]) -> Callable[[Node], tuple[int, int, str]]:
    """Stages and causes in the pipeline's order, successes last, so that failures run level; codes by their cause's
    group, then by number."""
    known = {name: i for i, name in enumerate((*STAGES, *STAGES_AFTER))}
    causes = {name: i for i, name in enumerate(CAUSES)}

    def key(node: Node) -> tuple[int, int, str]:
        column, label = node
        if column == 1:
            return len(known) + 1 if label == "success" else known.get(label, len(known)), -totals[node], label
        group = label.split(AND)[0] if column == 2 else label.split(".")[0]
        return causes.get(group, len(causes)), -totals[node], label

    return key


def _bands(paths: Sequence[tuple[list[Node], int, str]], bars: dict[Node, Bar], scale: float) -> list[Band]:
    widths: Counter[tuple[Node, Node, str]] = Counter()
    for nodes, n, look in paths:
        for a, b in zip(nodes, nodes[1:], strict=False):
            widths[a, b, look] += n
    left, right = ({node: bar.y for node, bar in bars.items()} for _ in range(2))
    bands = []
    for (a, b, look), n in sorted(widths.items(), key=lambda w: (w[0][0][0], bars[w[0][1]].y, bars[w[0][0]].y)):
        height = n * scale
        bands.append(
            Band(
                _outline(bars[a].x + BAR_WIDTH, left[a], bars[b].x, right[b], height),
                f"{a[1]} to {b[1]}: {n}",
                look,
            )
        )
        left[a] += height
        right[b] += height
    return bands


def _outline(x0: float, y0: float, x1: float, y1: float, height: float) -> str:
    middle = (x0 + x1) / 2
    return (
        f"M{x0:.1f},{y0:.1f} C{middle:.1f},{y0:.1f} {middle:.1f},{y1:.1f} {x1:.1f},{y1:.1f} v{height:.2f} "
        f"C{middle:.1f},{y1 + height:.2f} {middle:.1f},{y0 + height:.2f} {x0:.1f},{y0 + height:.2f} Z"
    )
