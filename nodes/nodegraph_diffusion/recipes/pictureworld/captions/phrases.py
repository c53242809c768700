"""The words of captions."""

from __future__ import annotations

from nodegraph_diffusion.recipes.pictureworld.scene import COLOURS, Colour, Kind, Place, Relation, Size, Time

NOUNS: dict[Kind, tuple[tuple[str, str], ...]] = {
    "house": (("house", "houses"), ("cottage", "cottages")),
    "tree": (("tree", "trees"),),
    "boat": (("boat", "boats"), ("sailboat", "sailboats")),
    "car": (("car", "cars"), ("automobile", "automobiles")),
    "cat": (("cat", "cats"), ("kitty", "kitties")),
    "balloon": (("balloon", "balloons"),),
    "mushroom": (("mushroom", "mushrooms"), ("toadstool", "toadstools")),
    "castle": (("castle", "castles"), ("palace", "palaces")),
    "owl": (("owl", "owls"),),
    "rabbit": (("rabbit", "rabbits"), ("bunny", "bunnies")),
    "flower": (("flower", "flowers"), ("blossom", "blossoms")),
    "rocket": (("rocket", "rockets"), ("spaceship", "spaceships")),
}
"""The singular and plural of each kind's names, the usual one first."""

COLOUR_WORDS: dict[Colour, tuple[str, ...]] = {colour: (colour,) for colour in COLOURS} | {"purple": ("purple", "violet")}
SIZE_WORDS: dict[Size, tuple[str, ...]] = {"small": ("small", "little", "tiny"), "large": ("large", "big", "huge")}
COUNT_WORDS: dict[int, tuple[str, ...]] = {2: ("two", "a pair of"), 3: ("three",)}

OPENINGS = ("a picture of", "a drawing of", "a scene with", "an image of", "a painting of")
THERE = ("there is", "there are")

RELATION_PHRASES: dict[Relation, tuple[str, ...]] = {
    "left": ("left of", "to the left of", "on the left of"),
    "right": ("right of", "to the right of", "on the right of"),
    "above": ("above", "over"),
    "below": ("below", "under", "beneath"),
}
BESIDE = ("beside", "next to")
BETWEEN = "between"
TOGETHER = {2: ("side by side", "next to each other"), 3: ("in a row", "side by side")}
"""How the members of a group stand beside each other."""

PLACE_PHRASES: dict[Place, tuple[str, ...]] = {
    "meadow": ("in a meadow", "on a meadow", "in the meadow", "on the grass", "in a grassy field"),
    "beach": ("on a beach", "on the beach", "at the beach", "by the sea", "at the seaside"),
    "snow": ("in the snow", "in snow", "in a snowy field", "in a snowy landscape"),
    "desert": ("in the desert", "in a desert", "among the dunes"),
}
TIME_PHRASES: dict[Time, tuple[str, ...]] = {
    "day": ("by day", "during the day", "in daylight", "on a sunny day", "under a day sky"),
    "sunset": ("at sunset", "at dusk", "under a sunset sky", "as the sun sets"),
    "night": ("at night", "under a night sky", "under the stars", "by moonlight"),
}
GROUND_PHRASES: dict[Place, tuple[str, ...]] = {
    "meadow": ("a meadow", "an empty meadow", "a grassy field"),
    "beach": ("a beach", "an empty beach", "the sea"),
    "snow": ("a snowy field", "snow", "an empty snowy field"),
    "desert": ("a desert", "an empty desert"),
}
"""What a caption of a scene without things names."""
HOUR_PHRASES: dict[Time, tuple[str, ...]] = {
    "day": ("a sunny day", "a day sky"),
    "sunset": ("a sunset", "a sunset sky"),
    "night": ("a starry night", "a night sky"),
}
"""What a caption of a scene without things names if it leaves the place open."""


def words() -> list[str]:
    """Every word that a caption can contain, sorted; the comma is not a word."""
    tables: list[tuple[str, ...]] = [OPENINGS, THERE, BESIDE, ("a an the one another and", BETWEEN)]
    tables += [*COLOUR_WORDS.values(), *SIZE_WORDS.values(), *COUNT_WORDS.values(), *RELATION_PHRASES.values(), *TOGETHER.values()]
    tables += [*PLACE_PHRASES.values(), *TIME_PHRASES.values(), *GROUND_PHRASES.values(), *HOUR_PHRASES.values()]
    tables += [names for nouns in NOUNS.values() for names in nouns]
    return sorted({word for phrases in tables for phrase in phrases for word in phrase.split()})
