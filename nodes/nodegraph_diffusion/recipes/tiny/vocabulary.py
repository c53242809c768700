"""The toy world's vocabulary in CLIP's byte-pair format: every byte, and a token for each word of its captions."""

from __future__ import annotations

from functools import cache

from nodegraph_diffusion.recipes.bytepairs import WordVocabulary
from nodegraph_diffusion.recipes.tiny.world import captions
from nodegraph_diffusion.recipes.tiny.world.scene import COLOURS, KINDS

MAX_LENGTH = 32


def words() -> list[str]:
    """Every word that a caption can contain, sorted."""
    phrases = [*captions.OPENINGS, *captions.RIGHTWARD, *captions.LEFTWARD, *COLOURS, *KINDS, "a an the"]
    for table in (captions.PLACE_PHRASES, captions.GROUND_PHRASES, captions.TIME_PHRASES):
        phrases += [phrase for options in table.values() for phrase in options]
    return sorted({word for phrase in phrases for word in phrase.split()})


@cache
def vocabulary() -> WordVocabulary:
    """The vocabulary of these words."""
    return WordVocabulary(tuple(words()), MAX_LENGTH)
