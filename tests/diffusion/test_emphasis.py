"""A1111's syntax for weights; test_prompt.py covers ComfyUI's."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodegraph_diffusion.text.emphasis import parse_emphasis, parse_weights


@pytest.mark.parametrize(
    ("text", "stretches"),
    [
        ("", [("", 1)]),
        ("a red fox", [("a red fox", 1)]),
        ("a (red) fox", [("a ", 1), ("red", 1.1), (" fox", 1)]),
        ("a [red] fox", [("a ", 1), ("red", 1 / 1.1), (" fox", 1)]),
        ("((snow))", [("snow", 1.21)]),
        ("([snow])", [("snow", 1)]),
        ("(red fox:1.4)", [("red fox", 1.4)]),
        ("((red:1.4) fox:2)", [("red", 2.8), (" fox", 2)]),  # ComfyUI: 1.4 and 2
        ("(red: -.5 )", [("red", -0.5)]),
        ("[red:1.4]", [("red:1.4", 1 / 1.1)]),
        ("(a:b:1.2)", [("a:b", 1.2)]),
        ("(a:b)", [("a:b", 1.1)]),
        ("a:1.2) b", [("a:1.2) b", 1)]),
        ("a) b]", [("a) b]", 1)]),
        ("a (b (c", [("a ", 1), ("b ", 1.1), ("c", 1.21)]),
        ("(a [b) c]", [("a ", 1.1), ("b", 1), (" c", 1 / 1.1)]),
        (r"\(a\) \[b\] \\ \c", [(r"(a) [b] \ c", 1)]),  # a lone backslash is dropped
        ("()(a)", [("a", 1.1)]),
        ("(a:1.2.3)", [("a:1.2.3", 1.1)]),
    ],
)
def test_emphasis_sets_weights(text, stretches):
    parsed = parse_emphasis(text)
    assert [part for part, _ in parsed] == [part for part, _ in stretches]
    assert [weight for _, weight in parsed] == pytest.approx([weight for _, weight in stretches])


@settings(deadline=None)
@given(st.text("ab ,.:()[]\\12"))
def test_no_text_is_lost(text):
    letters = [char for char in text if char in "ab"]
    for parse in (parse_emphasis, parse_weights):
        assert [char for part, _ in parse(text) for char in part if char in "ab"] == letters


def test_deep_nesting_does_not_recurse():
    assert parse_emphasis("[" * 1000 + "a" + "]" * 1000)[0][0] == "a"
