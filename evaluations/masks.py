"""Which thing, and which part of it? The grounding tool on rendered scenes of shapes it has never seen.

    python -m affordagent.evaluations.masks --data DIR --out DIR [--proposals depth|truth] [--rgb-only] [--images N]

Texts come from the test phrases only and go through the language stage. A trial counts the pick (Wilson interval), the
IoU of the part given the right pick, and gIoU (mean) and cIoU (of sums) over all trials (bootstrap over trials). In
every picture something that is not there is asked for, too: how often is it refused, and how often is what is there?
With `--fit` the weights of the tool's voices and its confidence are fitted instead (`mask_fit`, development sets only).
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from affordagent.agent.language.understand import understand
from affordagent.agent.settings import Settings
from affordagent.core.catalogue import catalogue
from affordagent.core.errors import AffordAgentError, StageFailure
from affordagent.core.lexicon import lexicon
from affordagent.core.types import FunctionalQuery, Mask, ObjectProposal, RgbdFrame, TableScene, box_of
from affordagent.evaluations.statistics import bootstrap_mean, bootstrap_ratio, rate
from affordagent.finetune.mini_data import CLUTTER, Row, list_rows, object_mask, part_mask
from affordagent.finetune.phrases import Split, Style, sample_text
from affordagent.robot.sim.sensor import SensorNoise
from affordagent.tools.affordance_vlm import SHIPPED_CHECKPOINT, AffordanceTool, Look
from affordagent.tools.table import find_objects, find_table

STYLES: tuple[Style, ...] = ("template", "easy", "hard")
MIN_TARGET_PX = 120  # of the part
TILES = 24  # failures, and successes, on the contact sheet
OWN_IOU = 0.25  # a proposal stands for the thing it overlaps best, if at least so much


@dataclass(frozen=True)
class Trial:
    """One text in one picture. found: some proposal stands for the target; right: the chosen one does."""

    image: str
    category: str
    style: Style
    text: str
    proposals: int
    found: bool
    right: bool
    intersection_px: int
    union_px: int
    confidence: float
    is_there: float
    failure: str | None = None
    absent: str | None = None  # "known" or "unknown": the text asks for something that is not there
    traits: dict[str, float] = field(default_factory=dict)

    @property
    def iou(self) -> float:
        return self.intersection_px / max(self.union_px, 1)


@dataclass(frozen=True)
class Target:
    """A thing that can be asked for in a picture, and how."""

    thing: dict[str, Any]
    ambiguous: bool


def targets(row: Row) -> list[Target]:
    """Things whose part is in view and that words can tell from the others: by category, else by colour."""
    things = row.visible()
    found = []
    for thing in things:
        alike = [o for o in things if o is not thing and o["category"] == thing["category"]]
        if thing["part_px"] >= MIN_TARGET_PX and all(o["colour"] != thing["colour"] for o in alike):
            found.append(Target(thing, bool(alike)))
    return found


def query_of(text: str) -> FunctionalQuery:
    """The language stage's reading; texts it would not act on are still asked, in the person's words alone."""
    try:
        query = understand(text)
    except AffordAgentError:
        return FunctionalQuery(text=text, intent="pick")
    return query


def spread(rows: list[Row], count: int) -> list[Row]:
    """At most `count` rows, evenly spread: neighbours in a set show the same instances."""
    return rows[:: max(1, len(rows) // max(count, 1))][:count]


def frame_of(row: Row, noise: bool, rng: np.random.Generator) -> RgbdFrame:
    color, depth_m = row.color(), row.depth_m()
    if noise:
        color, depth_m = SensorNoise().apply(color, depth_m, row.camera.fx, rng)
    return RgbdFrame(color, depth_m, row.camera)


def scene_of(row: Row, frame: RgbdFrame, proposals: Literal["depth", "truth"]) -> TableScene:
    """Proposals by depth clusters, or the true outlines of things and clutter."""
    if proposals == "depth":
        return find_objects(frame)
    labels = row.labels()
    masks = [object_mask(labels, thing["slot"]) for thing in row.visible()]
    count, pieces, stats, _ = cv2.connectedComponentsWithStats((labels == CLUTTER).astype(np.uint8))
    masks += [pieces == i for i in range(1, count) if stats[i, cv2.CC_STAT_AREA] > 300]
    plane = find_table(frame)
    height = np.where(frame.depth_m > 0, frame.camera.back_project(frame.depth_m) @ plane[:3] + plane[3], np.nan)
    return TableScene(plane, height.astype(np.float32), [ObjectProposal(i, m, box_of(m)) for i, m in enumerate(masks)])


def own_proposal(scene: TableScene, target: Mask) -> int | None:
    """Index of the proposal that stands for the target."""
    overlap = [_iou(p.mask, target) for p in scene.proposals]
    return int(np.argmax(overlap)) if overlap and max(overlap) >= OWN_IOU else None


def _iou(a: Mask, b: Mask) -> float:
    return float((a & b).sum() / max((a | b).sum(), 1))


@dataclass(frozen=True)
class Setting:
    """How the pictures are shown to the tool."""

    proposals: Literal["depth", "truth"] = "depth"
    rgb_only: bool = False
    noise: bool = True
    per_image: int = 1
    seed: int = 0


def looks(tool: AffordanceTool, rows: list[Row], setting: Setting) -> Iterator[tuple[Row, Look, list[Target], Any]]:
    """Each picture looked at once, with the targets to ask for and the generator of its texts."""
    for number, row in enumerate(rows):
        rng = np.random.default_rng([setting.seed, number])
        asked = targets(row)
        if not asked:
            continue
        frame = frame_of(row, setting.noise, rng)
        try:
            scene = scene_of(row, frame, setting.proposals)
        except StageFailure:
            scene = TableScene(row.plane_camera, np.full(frame.depth_m.shape, np.nan, np.float32), [])
        if setting.rgb_only:
            frame = replace(frame, depth_m=np.zeros_like(frame.depth_m))
        order = rng.permutation(len(asked))[: setting.per_image]
        if scene.proposals:
            yield row, tool.look(frame, scene), [asked[i] for i in order], rng


def text_of(target: Target, style: Style, rng: np.random.Generator, split: Split = "test") -> str:
    thing = target.thing
    return sample_text(rng, thing["category"], thing["colour"], thing["part"], target.ambiguous, split, style)


def absent_text(rng: np.random.Generator, here: set[str], style: Style, split: Split) -> tuple[str, str]:
    """A text for something that is not among the categories `here`, and whether it is of the catalogue ("known") or,
    half of the time, of the lexicon ("unknown")."""
    if rng.random() < 0.5:
        absent = str(rng.choice(sorted(set(catalogue()) - here)))
        return sample_text(rng, absent, "red", None, False, split, style, but_not=here), "known"
    strange = [name for name, thing in lexicon().items() if not here.intersection(thing.names)]
    thing = lexicon()[str(rng.choice(strange))]
    return str(rng.choice(thing.uses)) if style == "hard" else f"I need the {rng.choice(thing.names)}", "unknown"


def judge(
    tool: AffordanceTool, row: Row, look: Look, target: Target, style: Style, text: str
) -> tuple[Trial, Mask | None]:
    """Ask the tool and compare with the truth; the trial and the mask that was found."""
    labels = row.labels()
    own = own_proposal(look.scene, object_mask(labels, target.thing["slot"]))
    truth = part_mask(labels, target.thing)
    query = query_of(text)
    ranking = tool.rank(look, query)
    chosen = int(ranking.share.argmax())
    common = (row.record["id"], target.thing["category"], style, text, len(look.scene.proposals))
    try:
        found = tool.part(look, query, ranking, chosen)
    except StageFailure as failure:
        return Trial(*common, own is not None, chosen == own, 0, int(truth.sum()), 0.0, 0.0, failure.code), None
    both, either = int((found.mask & truth).sum()), int((found.mask | truth).sum())
    sure = (found.confidence, found.is_there)
    trial = Trial(*common, own is not None, chosen == own, both, either, *sure, traits=found.evidence["traits"])
    return trial, found.mask


def summary(trials: list[Trial]) -> dict[str, Any]:
    """Figures of some trials; intervals are 95 %, those of means by bootstrap over trials."""
    right = [t for t in trials if t.right]
    mean, low, high = bootstrap_mean([t.iou for t in trials])
    part_mean, part_low, part_high = bootstrap_mean([t.iou for t in right])
    return {
        "pick": rate(len(right), len(trials)),
        "target_has_proposal": rate(sum(t.found for t in trials), len(trials)),
        "part_iou_given_pick": [round(v, 4) for v in (part_mean, part_low, part_high)],
        "giou": [round(v, 4) for v in (mean, low, high)],
        "ciou": [round(v, 4) for v in bootstrap_ratio([(t.intersection_px, t.union_px) for t in trials])],
        "brier": round(float(np.mean([(t.confidence - (t.iou >= 0.5)) ** 2 for t in trials])), 4),
        "refused": refused(trials),
    }


def refused(trials: list[Trial]) -> dict[str, Any]:
    """How often the answer is "not here"."""
    least = Settings().present_above
    return rate(sum(t.is_there < least for t in trials), len(trials))


def evaluate(tool: AffordanceTool, data: Path, out: Path, images: int, setting: Setting) -> dict[str, Any]:
    """Ask for `setting.per_image` things a picture in every style, and for one that is not there; writes trials.jsonl,
    summary.json, contact.png."""
    out.mkdir(parents=True, exist_ok=True)
    trials: list[Trial] = []
    absent: list[Trial] = []
    tiles: list[tuple[Trial, NDArray[np.uint8]]] = []
    with (out / "trials.jsonl").open("w") as log:
        for row, look, asked, rng in looks(tool, spread(list_rows(data), images), setting):
            for target in asked:
                for style in STYLES:
                    trial, mask = judge(tool, row, look, target, style, text_of(target, style, rng))
                    trials.append(trial)
                    log.write(json.dumps(asdict(trial) | {"iou": round(trial.iou, 4)}) + "\n")
                    log.flush()
                    failures = sum(t.iou < 0.5 for t, _ in tiles)
                    if (trial.iou < 0.5 and failures < TILES) or (trial.iou >= 0.5 and len(tiles) - failures < TILES):
                        tiles.append((trial, _tile(row, look, target, trial, mask)))
            style = STYLES[int(rng.integers(len(STYLES)))]
            text, kind = absent_text(rng, {thing["category"] for thing in row.record["objects"]}, style, "test")
            trial = replace(judge(tool, row, look, asked[0], style, text)[0], category="", absent=kind)
            absent.append(trial)
            log.write(json.dumps(asdict(trial)) + "\n")
    groups: dict[str, list[Trial]] = defaultdict(list)
    for trial in trials:
        groups["all"].append(trial)
        groups[f"style {trial.style}"].append(trial)
        groups[f"category {trial.category}"].append(trial)
    result = {
        "setting": asdict(setting),
        "data": data.name,
        **{k: summary(v) for k, v in sorted(groups.items())},
        "absent": {kind: refused([t for t in absent if t.absent == kind]) for kind in ("known", "unknown")},
    }
    (out / "summary.json").write_text(json.dumps(result, indent=1))
    contact_sheet(tiles, out / "contact.png")
    return result


def _tile(row: Row, look: Look, target: Target, trial: Trial, mask: Mask | None) -> NDArray[np.uint8]:
    """The picture with the truth outlined green and the found part red."""
    picture = look.frame.color.copy()
    if mask is not None:
        picture[mask] = (0.45 * picture[mask] + [140, 0, 0]).astype(np.uint8)
    outline, _ = cv2.findContours(part_mask(row.labels(), target.thing).astype(np.uint8), 0, 2)
    cv2.drawContours(picture, outline, -1, (0, 255, 0), 1)
    small = np.asarray(cv2.resize(picture, (320, 240), interpolation=cv2.INTER_AREA), np.uint8)
    verdict = f"{trial.iou:.2f} conf {trial.confidence:.2f}{'' if trial.right else ' WRONG THING'}"
    small[:32] //= 3
    for line, words in enumerate((trial.text[:52], f"{trial.category}: {verdict}")):
        cv2.putText(small, words, (4, 12 + 14 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (255, 255, 255), 1, cv2.LINE_AA)
    return small


def contact_sheet(tiles: list[tuple[Trial, NDArray[np.uint8]]], path: Path) -> None:
    """Worst first."""
    if not tiles:
        return
    pictures = [picture for _, picture in sorted(tiles, key=lambda tile: tile[0].iou)]
    pictures += [np.zeros_like(pictures[0])] * (-len(pictures) % 4)
    sheet = np.vstack([np.hstack(pictures[i : i + 4]) for i in range(0, len(pictures), 4)])
    cv2.imwrite(str(path), sheet[..., ::-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, nargs="+", help="one set; with --fit, several")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, default=SHIPPED_CHECKPOINT)
    parser.add_argument("--proposals", choices=("depth", "truth"), default="depth")
    parser.add_argument("--rgb-only", action="store_true", help="the network sees no depth (proposals still do)")
    parser.add_argument("--images", type=int, default=10_000, help="so many pictures, spread over the set")
    parser.add_argument("--fit", action="store_true", help="fit pick weights and confidence, on the validation set")
    given = parser.parse_args()
    tool = AffordanceTool(given.checkpoint)
    setting = Setting(given.proposals, given.rgb_only)
    if given.fit:
        from affordagent.evaluations.mask_fit import fit

        print(json.dumps(fit(tool, given.data, given.images, replace(setting, per_image=2)), indent=1))
        return
    if len(given.data) > 1:
        parser.error("one --data at a time, except with --fit")
    result = evaluate(tool, given.data[0], given.out, given.images, setting)
    print(json.dumps({k: v for k, v in result.items() if not k.startswith("category")}, indent=1))


if __name__ == "__main__":
    main()
