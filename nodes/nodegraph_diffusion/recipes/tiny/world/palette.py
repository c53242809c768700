"""The colours of the toy world, 8-bit RGB, and the light of each time of day."""

from __future__ import annotations

from dataclasses import dataclass

from nodegraph_diffusion.recipes.tiny.world.scene import Colour, Place, Time

RGB = tuple[int, int, int]

PAINT: dict[Colour, RGB] = {
    "red": (224, 44, 48),
    "orange": (250, 132, 22),
    "yellow": (255, 216, 40),
    "green": (22, 142, 74),
    "blue": (36, 92, 222),
    "purple": (136, 62, 192),
    "pink": (255, 130, 186),
    "white": (250, 248, 244),
}

WOOD: RGB = (142, 92, 58)
CREAM: RGB = (250, 236, 208)
DARK: RGB = (58, 50, 66)
GLASS: RGB = (200, 230, 246)
GLOW: RGB = (255, 226, 120)

LIGHT: dict[Time, tuple[float, float, float]] = {
    "day": (1.0, 1.0, 1.0),
    "sunset": (0.98, 0.90, 0.88),
    "night": (0.87, 0.88, 0.98),
}
"""The factor of each channel of a thing's paint."""


@dataclass(frozen=True)
class Sky:
    """A sky's gradient from `top` to `low` at the horizon, the light in it (sun or moon) and its clouds."""

    top: RGB
    low: RGB
    orb: RGB
    cloud: RGB


SKIES: dict[Time, Sky] = {
    "day": Sky((96, 178, 244), (206, 236, 252), (255, 224, 92), (255, 255, 255)),
    "sunset": Sky((134, 92, 160), (255, 182, 120), (255, 118, 82), (238, 150, 156)),
    "night": Sky((18, 22, 62), (56, 66, 122), (248, 240, 206), (56, 64, 112)),
}


@dataclass(frozen=True)
class Ground:
    """A place's colours: the far band behind (hills, sea, mountains, mesas), the ground, and its swell in front."""

    far: RGB
    near: RGB
    front: RGB


GROUNDS: dict[tuple[Place, Time], Ground] = {
    ("meadow", "day"): Ground((112, 184, 110), (158, 214, 112), (144, 203, 100)),
    ("meadow", "sunset"): Ground((128, 130, 88), (172, 172, 92), (158, 160, 82)),
    ("meadow", "night"): Ground((32, 66, 74), (44, 92, 78), (38, 82, 70)),
    ("beach", "day"): Ground((58, 150, 208), (246, 226, 176), (238, 214, 160)),
    ("beach", "sunset"): Ground((92, 108, 164), (236, 188, 140), (226, 176, 130)),
    ("beach", "night"): Ground((32, 58, 122), (112, 106, 110), (102, 96, 102)),
    ("snow", "day"): Ground((164, 190, 222), (238, 245, 252), (224, 236, 248)),
    ("snow", "sunset"): Ground((172, 134, 168), (244, 216, 218), (234, 202, 210)),
    ("snow", "night"): Ground((58, 76, 130), (128, 146, 192), (116, 134, 182)),
    ("desert", "day"): Ground((206, 122, 92), (226, 160, 112), (216, 148, 102)),
    ("desert", "sunset"): Ground((166, 82, 84), (198, 112, 84), (188, 102, 78)),
    ("desert", "night"): Ground((66, 46, 84), (92, 66, 92), (82, 58, 84)),
}


def mix(a: RGB, b: RGB, amount: float) -> RGB:
    """The colour that is `a` at amount 0 and `b` at 1."""
    red, green, blue = (round(x + (y - x) * amount) for x, y in zip(a, b, strict=True))
    return red, green, blue


def lit(colour: RGB, time: Time) -> RGB:
    """A paint as it looks in the light of a time of day."""
    red, green, blue = (round(x * light) for x, light in zip(colour, LIGHT[time], strict=True))
    return red, green, blue
