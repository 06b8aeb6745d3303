"""The simulated cell: what stands on the table, how it looks, and the MuJoCo model of it.

World = base frame: the UR5e's base at the origin, the table's surface at z = 0. Everything is drawn from (name, seed).
Shapes never seen in training: the generator of training data draws objects from instance seeds below
VALIDATION_SEEDS.start, the scenes here only from TEST_SEEDS.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import mujoco
import numpy as np

from affordagent.core.camera import CameraIntrinsics
from affordagent.core.errors import AffordAgentError
from affordagent.core.geometry import Array, look_at
from affordagent.robot.arms import ArmName
from affordagent.robot.model import PREFIX, attach_arm, set_physics
from affordagent.robot.sim.bodies import add_object, add_object_materials, quaternion
from affordagent.robot.sim.objects.model import HouseholdObject
from affordagent.robot.sim.placement import place
from affordagent.robot.sim.textures import TableKind, add_material, table_image

TRAINING_SEEDS = range(0, 1_000_000)
VALIDATION_SEEDS = range(1_000_000, 2_000_000)
TEST_SEEDS = range(2_000_000, 3_000_000)

LOOK_CAMERA = "look"
OVERVIEW_CAMERA = "overview"


@dataclass(frozen=True)
class CameraPose:
    """An ideal pinhole camera at `position`, looking at `target` (base frame, metres)."""

    position: tuple[float, float, float] = (0.938, 0.0, 0.716)
    target: tuple[float, float, float] = (0.45, 0.0, 0.02)
    fovy_deg: float = 42.0
    width: int = 640
    height: int = 480

    @property
    def T_base_camera(self) -> Array:
        return look_at(self.position, self.target)

    @property
    def intrinsics(self) -> CameraIntrinsics:
        return pinhole(self.width, self.height, self.fovy_deg)


def pinhole(width: int, height: int, fovy_deg: float) -> CameraIntrinsics:
    """MuJoCo's camera in our convention: the image's middle lies between pixels, at (W/2 - 0.5, H/2 - 0.5)."""
    f = height / 2 / np.tan(np.deg2rad(fovy_deg) / 2)
    return CameraIntrinsics(width, height, f, f, width / 2 - 0.5, height / 2 - 0.5)


@dataclass(frozen=True)
class PlacedObject:
    """name: unique in its scene, without slashes."""

    name: str
    category: str
    obj: HouseholdObject
    T_base_object: Array


@dataclass(frozen=True)
class Light:
    direction: tuple[float, float, float]
    diffuse: tuple[float, float, float]
    shadow: bool


@dataclass(frozen=True)
class Appearance:
    """seed: of the textures and glosses. ambient: of the headlight, 0 to 1."""

    table: TableKind
    table_repeat: float
    wall_rgb: tuple[float, float, float]
    lights: tuple[Light, ...]
    ambient: float
    seed: int


@dataclass(frozen=True)
class Scene:
    name: str
    seed: int
    objects: tuple[PlacedObject, ...]
    appearance: Appearance
    camera: CameraPose

    def object(self, name: str) -> PlacedObject:
        return next(o for o in self.objects if o.name == name)


@dataclass(frozen=True)
class SceneRecipe:
    """required: categories that are always there. held_out: how many are never trained. The rest of `count` comes from
    the trained categories of `pool`, none twice; with `twins` one category stands there in two colours."""

    count: int
    required: tuple[str, ...] = ()
    pool: Literal["all", "hand tools", "kitchen"] = "all"
    held_out: int = 0
    twins: bool = False

    @property
    def description(self) -> str:
        always = f", always {', '.join(self.required)}" if self.required else ""
        extra = f", {self.held_out} of kinds never trained" if self.held_out else ""
        twins = ", two of one kind in different colours" if self.twins else ""
        return f"{self.count} objects from {self.pool}{always}{extra}{twins}"


SCENES: dict[str, SceneRecipe] = {
    "bench": SceneRecipe(6, ("hammer", "mug", "pot or pan", "screwdriver", "spatula")),
    "workshop": SceneRecipe(5, ("hammer",), "hand tools"),
    "kitchen": SceneRecipe(5, ("mug", "pot or pan"), "kitchen"),
    "mixed": SceneRecipe(5),
    "twins": SceneRecipe(5, twins=True),
    "novel": SceneRecipe(5, held_out=3),
    "empty": SceneRecipe(0),
    "packing": SceneRecipe(4, ("open box",)),  # after the others: a scene's place in the table is part of its seed
    "serving": SceneRecipe(4, ("tray",), "kitchen"),
}


def _choose_categories(recipe: SceneRecipe, rng: np.random.Generator) -> list[str]:
    from affordagent.robot.sim.objects import library

    pools = {"all": library.CATEGORIES, "hand tools": library.HAND_TOOLS, "kitchen": library.KITCHEN}
    chosen = list(recipe.required)
    chosen += [str(c) for c in rng.choice(sorted(library.HELD_OUT), recipe.held_out, replace=False)]
    pool = [c for c in sorted(pools[recipe.pool]) if c not in chosen]
    free = recipe.count - len(chosen) - recipe.twins
    chosen += [str(c) for c in rng.choice(pool, free, replace=False)] if free > 0 else []
    if recipe.twins:
        chosen.append(chosen[int(rng.integers(len(chosen)))])
    return chosen


def make_objects(categories: list[str], rng: np.random.Generator) -> list[HouseholdObject]:
    """One instance each; a category's second instance has another colour word."""
    from affordagent.robot.sim.objects import library

    made: list[HouseholdObject] = []
    for category in categories:
        for _ in range(100):
            obj = library.make(category, int(rng.integers(TEST_SEEDS.start, TEST_SEEDS.stop)))
            if all((o.category, o.colour) != (obj.category, obj.colour) for o in made):
                break
        made.append(obj)
    return made


def sample_appearance(rng: np.random.Generator) -> Appearance:
    kinds: tuple[TableKind, ...] = ("wood", "wood", "speckle", "plain", "cloth")
    azimuth = rng.uniform(-1.2, 1.2)  # from the camera's side: the arm's shadow falls away from the objects
    elevation = np.deg2rad(rng.uniform(50, 75))

    def light(azimuth: float, elevation: float, strength: float, shadow: bool) -> Light:
        flat = np.cos(elevation)
        direction = (-flat * np.cos(azimuth), -flat * np.sin(azimuth), -np.sin(elevation))
        r, g, b = (float(x) for x in strength * (1 + rng.normal(0, 0.03, 3)))
        return Light((float(direction[0]), float(direction[1]), float(direction[2])), (r, g, b), shadow)

    key = light(azimuth, elevation, rng.uniform(0.4, 0.55), True)
    fill = light(azimuth + rng.uniform(2, 4), elevation, rng.uniform(0.15, 0.3), False)
    grey = float(rng.uniform(0.6, 0.9))
    kind = kinds[int(rng.integers(len(kinds)))]
    wall = (grey, grey, float(grey * rng.uniform(0.95, 1.05)))
    seed = int(rng.integers(2**31))
    return Appearance(kind, float(rng.uniform(1, 2.5)), wall, (key, fill), float(rng.uniform(0.3, 0.42)), seed)


def sample_scene(name: str, seed: int, camera: CameraPose | None = None) -> Scene:
    """The scene `name` of SCENES with this seed; the same arguments always give the same scene.

    Raises:
        AffordAgentError: unknown name, or no arrangement of the objects fits.
    """
    rng = _rng_of(name, seed)
    objects = make_objects(_choose_categories(SCENES[name], rng), rng)
    return arrange(objects, rng, name, seed, camera)


def scene_categories(name: str, seed: int) -> list[str]:
    """What stands in `sample_scene(name, seed)`, in its order, without making it.

    Raises:
        AffordAgentError: unknown name.
    """
    rng = _rng_of(name, seed)
    return _choose_categories(SCENES[name], rng)


def _rng_of(name: str, seed: int) -> np.random.Generator:
    if name not in SCENES:
        raise AffordAgentError(f"no scene is called {name!r}; there are: {', '.join(SCENES)}")
    return np.random.default_rng([seed, list(SCENES).index(name)])


def arrange(
    objects: list[HouseholdObject], rng: np.random.Generator, name: str, seed: int, camera: CameraPose | None = None
) -> Scene:
    """A scene with the given objects at random places on a random table.

    Raises:
        AffordAgentError: no arrangement of the objects fits.
    """
    camera = camera or CameraPose()
    poses = place(objects, rng, camera.T_base_camera, camera.intrinsics)
    names = [f"{o.category.replace(' ', '_')}_{i}" for i, o in enumerate(objects)]
    placed = [PlacedObject(n, o.category, o, T) for n, o, T in zip(names, objects, poses, strict=True)]
    return Scene(name, seed, tuple(placed), sample_appearance(rng), camera)


def add_camera(spec: mujoco.MjSpec, name: str, pose: CameraPose) -> None:
    T = pose.T_base_camera
    R = T[:3, :3] @ np.diag([1.0, -1.0, -1.0])  # MuJoCo cameras look along -z, y up
    spec.worldbody.add_camera(name=name, pos=T[:3, 3], quat=quaternion(R), fovy=pose.fovy_deg)


def set_visual(spec: mujoco.MjSpec, width: int, height: int, samples: int, shadow_size: int) -> None:
    """Render sizes and clip planes; a fixed extent, or the clip planes would move with the objects."""
    spec.visual.global_.offwidth, spec.visual.global_.offheight = width, height
    spec.visual.quality.offsamples, spec.visual.quality.shadowsize = samples, shadow_size
    spec.visual.map.znear, spec.visual.map.zfar = 0.02, 20
    spec.visual.map.shadowclip = 1.4
    spec.stat.extent, spec.stat.center = 1.0, [0.4, 0, 0.2]


def _add_room(spec: mujoco.MjSpec, look: Appearance, rng: np.random.Generator) -> None:
    world, box = spec.worldbody, mujoco.mjtGeom.mjGEOM_BOX
    grey = float(rng.uniform(0.35, 0.6))
    sky = mujoco.mjtTexture.mjTEXTURE_SKYBOX
    gradient = mujoco.mjtBuiltin.mjBUILTIN_GRADIENT
    spec.add_texture(
        name="sky", type=sky, builtin=gradient, rgb1=[0.75, 0.78, 0.8], rgb2=[0.45, 0.48, 0.52], width=64, height=384
    )
    add_material(spec, "table", table_image(rng, look.table, 512), repeat=look.table_repeat, specular=0.12)
    add_material(spec, "floor", table_image(rng, "speckle"), repeat=1.0, rgba=(grey, grey, grey, 1), specular=0.02)
    world.add_geom(
        name="table", type=box, size=[0.65, 0.7, 0.02], pos=[0.3, 0, -0.02], material="table", condim=6,
        friction=[0.7, 0.005, 0.001],
    )  # fmt: skip
    world.add_geom(
        name="floor", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[5, 5, 0.1], pos=[0, 0, -0.75], material="floor"
    )
    see_only = {"type": box, "contype": 0, "conaffinity": 0}
    for i, (x, y) in enumerate([(-0.3, -0.65), (-0.3, 0.65), (0.9, -0.65), (0.9, 0.65)]):
        world.add_geom(
            name=f"leg{i}", size=[0.025, 0.025, 0.355], pos=[x, y, -0.395], rgba=[0.25, 0.25, 0.26, 1], **see_only
        )
    world.add_geom(name="wall", size=[0.02, 4, 1.5], pos=[-1.3, 0, 0.75], rgba=[*look.wall_rgb, 1], **see_only)
    spec.visual.headlight.ambient = [look.ambient] * 3
    spec.visual.headlight.diffuse, spec.visual.headlight.specular = [0.15] * 3, [0, 0, 0]
    directional = mujoco.mjtLightType.mjLIGHT_DIRECTIONAL
    for i, light in enumerate(look.lights):
        at = np.array([0.45, 0, 0]) - 1.8 * np.array(light.direction)
        world.add_light(
            name=f"light{i}", type=directional, pos=at, dir=light.direction, diffuse=light.diffuse,
            specular=[0.3 if light.shadow else 0.1] * 3, castshadow=light.shadow,
        )  # fmt: skip


def build_spec(
    scene: Scene,
    with_arm: bool = True,
    arm_faces: int | None = 1200,
    samples: int = 4,
    shadow_size: int = 2048,
    arm: ArmName = "UR5e",
) -> mujoco.MjSpec:
    """The scene as a MuJoCo model to compile: room, objects, cameras "look" and "overview", the arm.

    arm_faces: triangles of each of the arm's visual meshes (None: all of them). samples, shadow_size: render quality.
    arm: which one, see `robot.model`.
    """
    spec = mujoco.MjSpec()
    spec.modelname = f"cell-{scene.name}-{scene.seed}"
    rng = np.random.default_rng(scene.appearance.seed)
    set_visual(spec, 1280, 960, samples, shadow_size)
    set_physics(spec)
    _add_room(spec, scene.appearance, rng)
    add_object_materials(spec, rng)
    add_camera(spec, LOOK_CAMERA, scene.camera)
    add_camera(spec, OVERVIEW_CAMERA, CameraPose((1.5, -1.15, 0.95), (0.3, 0.0, 0.15), 42.0))
    for placed in scene.objects:
        add_object(spec, placed.name, placed.obj, placed.T_base_object, rng)
    if with_arm:
        attach_arm(spec, arm_faces, arm)
        # a stretched link's collider may reach into the table, over which this one only turns
        spec.add_exclude(bodyname1="world", bodyname2=f"{PREFIX}shoulder_link")
    return spec
