"""The colours of the picture world, 8-bit RGB, and the light of each time of day."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

from nodegraph_diffusion.recipes.pictureworld.scene import Colour, Place, Time

RGB = tuple[int, int, int]
Role = Literal["outline", "paint", "shade", "light", "wood", "cream", "dark", "window", "glass", "gold", "leaf", "pale", "flame"]
"""What a part of a thing is made of; the first four depend on the thing's colour."""
ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True)
class Paint:
    """A colour of things: in the light, in full, in the shade, and as the line around it."""

    light: RGB
    full: RGB
    shade: RGB
    outline: RGB


PAINTS: dict[Colour, Paint] = {
    "red": Paint((244, 122, 112), (222, 46, 50), (170, 28, 46), (110, 24, 40)),
    "orange": Paint((255, 186, 106), (248, 134, 28), (206, 92, 14), (134, 62, 22)),
    "yellow": Paint((255, 240, 150), (255, 216, 48), (230, 172, 26), (142, 104, 30)),
    "green": Paint((126, 206, 122), (38, 150, 70), (18, 108, 62), (12, 66, 48)),
    "blue": Paint((122, 172, 250), (42, 98, 222), (26, 64, 172), (20, 38, 104)),
    "purple": Paint((190, 140, 232), (138, 66, 196), (98, 40, 150), (60, 28, 96)),
    "pink": Paint((255, 202, 224), (255, 138, 190), (226, 92, 152), (140, 54, 96)),
    "white": Paint((255, 255, 255), (250, 249, 246), (214, 216, 228), (118, 120, 140)),
    "black": Paint((116, 114, 132), (58, 56, 70), (36, 34, 46), (18, 16, 26)),
    "brown": Paint((190, 140, 98), (138, 84, 50), (100, 58, 36), (62, 34, 24)),
}
MOONLIT_OUTLINE: RGB = (168, 174, 214)
"""The outline of black things at night, so that they can be seen."""

MATERIALS: dict[Role, RGB] = {
    "wood": (150, 102, 66),
    "cream": (252, 238, 212),
    "dark": (50, 44, 60),
    "window": (196, 228, 246),
    "glass": (196, 228, 246),
    "gold": (255, 206, 74),
    "leaf": (92, 172, 74),
    "pale": (255, 255, 255),
    "flame": (255, 160, 40),
}
GLOW: RGB = (255, 226, 120)

LIGHT: dict[Time, RGB] = {"day": (100, 100, 100), "sunset": (98, 91, 88), "night": (86, 87, 98)}
"""How much of each channel of a thing's colours is seen, in percent."""
SHADOW: RGB = (24, 22, 54)


def lit(colour: RGB, time: Time) -> RGB:
    """A colour in the light of a time of day."""
    red, green, blue = ((channel * percent + 50) // 100 for channel, percent in zip(colour, LIGHT[time], strict=True))
    return red, green, blue


@cache
def fills(colour: Colour, time: Time) -> tuple[RGB, ...]:
    """The colour of each of ROLES in a thing; windows and flames glow by themselves."""
    paint = PAINTS[colour]
    roles: dict[Role, RGB] = {
        "outline": paint.outline,
        "paint": paint.full,
        "shade": paint.shade,
        "light": paint.light,
        **MATERIALS,
    }
    seen = {role: lit(each, time) for role, each in roles.items()}
    seen["flame"] = roles["flame"]
    if time == "night":
        seen["window"] = GLOW
        if colour == "black":
            seen["outline"] = MOONLIT_OUTLINE
    return tuple(seen[role] for role in ROLES)


@dataclass(frozen=True)
class Sky:
    """A sky's gradient from the top to the horizon, its light (sun or moon), that light's halo, and its clouds."""

    top: RGB
    middle: RGB
    low: RGB
    orb: RGB
    halo: RGB
    cloud: RGB
    cloud_shade: RGB


SKIES: dict[Time, Sky] = {
    "day": Sky(
        top=(84, 168, 240),
        middle=(142, 204, 250),
        low=(214, 240, 252),
        orb=(255, 226, 96),
        halo=(255, 246, 190),
        cloud=(255, 255, 255),
        cloud_shade=(226, 238, 250),
    ),
    "sunset": Sky(
        top=(110, 84, 164),
        middle=(226, 128, 150),
        low=(255, 190, 122),
        orb=(255, 120, 76),
        halo=(255, 206, 130),
        cloud=(246, 168, 164),
        cloud_shade=(222, 136, 158),
    ),
    "night": Sky(
        top=(16, 20, 58),
        middle=(30, 38, 92),
        low=(62, 72, 132),
        orb=(250, 242, 210),
        halo=(92, 100, 156),
        cloud=(64, 72, 124),
        cloud_shade=(50, 56, 106),
    ),
}


@dataclass(frozen=True)
class Ground:
    """A place's colours: two bands behind (hills, sea, mountains or mesas), and the ground from its far to its near edge."""

    far: RGB
    middle: RGB
    near: RGB
    front: RGB


GROUNDS: dict[tuple[Place, Time], Ground] = {
    ("meadow", "day"): Ground((126, 190, 150), (110, 186, 112), (158, 216, 112), (120, 190, 88)),
    ("meadow", "sunset"): Ground((136, 122, 112), (128, 132, 86), (178, 172, 88), (140, 142, 72)),
    ("meadow", "night"): Ground((32, 60, 86), (30, 68, 76), (44, 94, 80), (30, 70, 64)),
    ("beach", "day"): Ground((44, 132, 204), (104, 196, 222), (250, 232, 184), (238, 208, 150)),
    ("beach", "sunset"): Ground((92, 92, 160), (198, 134, 160), (240, 194, 146), (214, 160, 120)),
    ("beach", "night"): Ground((28, 50, 116), (58, 90, 152), (120, 112, 118), (92, 86, 98)),
    ("snow", "day"): Ground((150, 180, 218), (196, 216, 240), (242, 248, 254), (218, 232, 248)),
    ("snow", "sunset"): Ground((158, 122, 166), (214, 168, 186), (248, 222, 222), (226, 190, 204)),
    ("snow", "night"): Ground((54, 70, 126), (84, 102, 158), (136, 154, 200), (108, 126, 178)),
    ("desert", "day"): Ground((206, 116, 88), (222, 146, 104), (238, 178, 122), (218, 150, 98)),
    ("desert", "sunset"): Ground((150, 70, 88), (178, 88, 84), (210, 122, 86), (180, 94, 74)),
    ("desert", "night"): Ground((60, 42, 88), (72, 50, 90), (100, 72, 102), (76, 54, 86)),
}


def mixed(first: RGB, second: RGB, percent: int) -> RGB:
    """The colour that is `first` at 0 percent and `second` at 100."""
    red, green, blue = ((a * (100 - percent) + b * percent + 50) // 100 for a, b in zip(first, second, strict=True))
    return red, green, blue
