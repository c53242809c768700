"""A1111's syntax for prompts that change during a run; the texts of each step come from its documentation and from its rules."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodegraph_diffusion.conditioning.steps import as_lists, from_lists
from nodegraph_diffusion.text.scheduled import MOST_VARIANTS, read_terms, read_variants


def texts(prompt, steps):
    """The text of each step."""
    variants = read_variants(prompt)
    found = []
    for step in range(steps):
        (active,) = [variant.text for variant in variants if all(condition.holds(step, steps) for condition in variant.steps)]
        found.append(active)
    return found


def runs(prompt, steps):
    """The number of the last step of each text in a row, and the text."""
    found = texts(prompt, steps)
    return [(step + 1, text) for step, text in enumerate(found) if step + 1 == steps or found[step + 1] != text]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("test", [(10, "test")]),
        ("a [b:3]", [(3, "a "), (10, "a b")]),
        ("a [b: 3]", [(3, "a "), (10, "a b")]),
        ("a [[[b]]:2]", [(2, "a "), (10, "a [[b]]")]),
        ("[(a:2):3]", [(3, ""), (10, "(a:2)")]),
        ("a [b : c : 1] d", [(1, "a b  d"), (10, "a  c  d")]),
        ("a[b:[c:d:2]:1]e", [(1, "abe"), (2, "ace"), (10, "ade")]),
        ("a [unbalanced", [(10, "a [unbalanced")]),
        ("a [b:.5] c", [(5, "a  c"), (10, "a b c")]),
        ("a [{b|d{:.5] c", [(10, "a [{b|d{:.5] c")]),  # '|' beside ':' is neither
        ("((a][:b:c [d:3]", [(3, "((a][:b:c "), (10, "((a][:b:c d")]),
        ("[a|(b:1.1)]", [(step, "(b:1.1)" if step % 2 == 0 else "a") for step in range(1, 11)]),
        ("[fe|]male", [(step, "male" if step % 2 == 0 else "female") for step in range(1, 11)]),
        ("a [b::0.3]", [(3, "a b"), (10, "a ")]),
        ("a [b:c:1.0]", [(10, "a b")]),
        (r"\[a:b:0.5\]", [(10, r"\[a:b:0.5\]")]),
        ("a [b:c:99]", [(10, "a b")]),
    ],
)
def test_texts_of_the_steps(prompt, expected):
    assert runs(prompt, 10) == expected


def test_a_fraction_is_rounded_down_to_a_step():
    assert runs("[a:b:0.5]", 5) == [(2, "a"), (5, "b")]


def test_example_of_the_documentation():
    prompt = "a landscape with a [mountain:lake:0.25] and [an oak:a christmas tree:0.75][ in foreground::0.6][ in background:0.25]"
    assert runs(prompt, 100) == [
        (25, "a landscape with a mountain and an oak in foreground"),
        (60, "a landscape with a lake and an oak in foreground in background"),
        (75, "a landscape with a lake and an oak in background"),
        (100, "a landscape with a lake and a christmas tree in background"),
    ]


def test_terms_have_weights():
    terms = read_terms("a cat :1.2 AND a [red|blue] dog AND a penguin :-2")
    assert [term.weight for term in terms] == [1.2, 1.0, -2.0]
    assert [[variant.text.strip() for variant in term.variants] for term in terms] == [
        ["a cat"],
        ["a red dog", "a blue dog"],
        ["a penguin"],
    ]
    (whole,) = read_terms("a BAND at 16:9")
    assert (whole.weight, whole.variants[0].text) == (1.0, "a BAND at 16:9")


def test_too_many_texts_are_refused():
    with pytest.raises(ValueError, match=f"expected at most {MOST_VARIANTS} different texts"):
        read_variants("[a|b|c][d|e|f|g|h][i|j|k|l|m|n|o]")
    assert len(read_variants("[a|b]" * 20)) == 2  # they alternate together


@settings(deadline=None)
@given(st.text(r"ab:|[]()\ .13", max_size=30), st.integers(1, 7))
def test_each_step_has_one_text(prompt, steps):
    try:
        read_variants(prompt)
    except ValueError:
        return
    texts(prompt, steps)


def test_deep_and_long_texts_are_read():
    for text in ("[" * 2000 + "a" + "]" * 2000, "(a)" * 2000, "[a:b:0.5" * 2000):
        assert [variant.text for variant in read_variants(text)] == [text]


def test_conditions_survive_json():
    conditions = [variant.steps for variant in read_variants("[a:b:0.5] [c|d] [e:3]")]
    assert [from_lists(as_lists(condition)) for condition in conditions] == conditions
