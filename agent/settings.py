"""Settings: defaults that run anywhere, changed by a TOML file. Safety limits come from here and nowhere else."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from affordagent.core.errors import AffordAgentError
from affordagent.robot.arms import ArmName
from affordagent.robot.cameras.config import CameraConfig
from affordagent.robot.hand_over import HandOver
from affordagent.robot.limits import MotionLimits
from affordagent.robot.ur5.config import Ur5Config

ASK_WHICH = 0.2  # a talk asks which of two things is meant, where the settings do not say otherwise
DEFAULT_FILE = Path("affordagent.toml")


class Settings(BaseModel):
    """Everything a run depends on besides its command."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cell: str = Field(default="sim", description="sim | frame:PREFIX | ur5:HOST")
    scene: str = Field(default="bench", description="scene of the simulated cell, see `affordagent scenes`")
    seed: int = Field(default=0, ge=0)
    noise: bool = Field(default=False, description="RealSense-like noise and holes in the simulated camera")
    vlm: str = Field(
        default="mini",
        min_length=1,
        description="who grounds: mini (the shipped one) | folder of a mini or published AffordanceVLM | "
        "http://HOST:PORT of `affordagent serve-vlm`, its token in the environment as AFFORDAGENT_VLM_TOKEN | "
        "whatever `fallback` may be",
    )
    vision_tower: Path | None = Field(
        default=None, description="folder of the CLIP vision tower, for a published AffordanceVLM in a folder"
    )
    fallback: str = Field(
        default="tabletop",
        min_length=1,
        description="who gives the second opinion: tabletop | none | grounded-sam2[:DINO,SAM2] | "
        "florence2[:FLORENCE[,SAM2]] | pointing:URL,MODEL[,SAM2] (an OpenAI-compatible API, its key in "
        "the environment as AFFORDAGENT_LLM_KEY); "
        "weights are folders or the hub's names in the local cache; see docs/perception.md",
    )
    grasps: str = Field(
        default="antipodal",
        min_length=1,
        description="who proposes grasps: antipodal (needs no weights) | contact-graspnet:FILE | "
        "graspnet-baseline:FILE | graspgen:tcp://HOST:PORT | npy:FILE; see docs/grasp_backends.md",
    )
    language: str = Field(
        default="offline",
        min_length=1,
        description="who reads commands: offline (English) | URL,MODEL of an OpenAI-compatible server (any language it "
        "speaks), its key in the environment as AFFORDAGENT_LLM_KEY; see docs/language.md",
    )
    language_sees: bool = Field(default=False, description="show that model the camera's picture: for one with eyes")
    language_within_s: float = Field(
        default=20.0, gt=0, le=120, description="for its answer; after that the command is read offline"
    )
    sure_above: float = Field(
        default=0.6, ge=0, le=1, description="confidence from which the model's mask needs no second one"
    )
    present_above: float = Field(
        default=0.4, ge=0, le=1, description="probability of being there, below which the thing counts as absent"
    )
    ask_which: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="ask which thing is meant when another one's score is at least this share of the best one's",
    )
    confirm: bool = Field(default=False, description="ask before simulated motion too; hardware always asks")
    dry_run: bool = Field(default=False, description="stop before the motion: everything but moving")
    speed: float = Field(default=1.0, gt=0, le=1, description="share of the limits' speeds to move at")
    rerun: bool = Field(default=False, description="write trace.rrd, a Rerun recording, into each run folder")
    otel: str | None = Field(
        default=None,
        min_length=1,
        description="URL of an OpenTelemetry collector (OTLP over HTTP, e.g. http://127.0.0.1:4318) that is sent a "
        "span of each run and stage: outcomes, codes, seconds; default: OTEL_EXPORTER_OTLP_ENDPOINT in the environment",
    )
    otel_words: bool = Field(default=False, description="send it the command and what the stages said too")
    limits: MotionLimits = Field(default_factory=MotionLimits)
    hand_over: HandOver = Field(default_factory=HandOver)
    ur5: Ur5Config = Field(default_factory=Ur5Config)
    camera: CameraConfig = Field(default_factory=CameraConfig)

    @property
    def arm_model(self) -> ArmName:
        """The arm that plans and checks are made for; the simulated one is a UR5e."""
        return self.ur5.model if self.cell.startswith("ur5:") else "UR5e"

    @model_validator(mode="after")
    def _only_a_model_sees(self) -> Settings:
        if self.language_sees and self.language == "offline":
            raise ValueError("language_sees = true needs a model that sees: language = URL,MODEL")
        return self

    @model_validator(mode="after")
    def _limits_suit_the_arm(self) -> Settings:
        self.limits.check_arm(self.arm_model, self.ur5.payload_kg)
        return self

    @model_validator(mode="after")
    def _handing_over_suits_the_limits(self) -> Settings:
        if "hand_over" in self.model_fields_set:  # else it is checked when something is to be handed over
            self.hand_over.check(self.limits)
        return self

    @classmethod
    def load(cls, path: Path | None, **changes: object) -> Settings:
        """Read `path` (or ./affordagent.toml when it is there) and apply the changes that are not None.

        Raises:
            AffordAgentError: unreadable file, unknown key, or a value out of range; the message names it.
        """
        source = path or (DEFAULT_FILE if DEFAULT_FILE.is_file() else None)
        try:
            values = tomllib.loads(source.read_text()) if source else {}
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise AffordAgentError(f"cannot read the settings file {source}: {error}") from error
        return cls.of({**values, **{k: v for k, v in changes.items() if v is not None}}, source)

    @classmethod
    def of(cls, values: Mapping[str, object], source: Path | None = None) -> Settings:
        """Settings with these values, which came from `source`.

        Raises:
            AffordAgentError: unknown key, or a value out of range; the message names it.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            faults = "; ".join(
                ": ".join(filter(None, (".".join(map(str, e["loc"])), e["msg"].removeprefix("Value error, "))))
                for e in error.errors()
            )
            raise AffordAgentError(f"settings{f' in {source}' if source else ''}: {faults}") from error
