"""Nodes that read text."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from nodegraph import Help, Range, Run, node
from nodegraph_nodes.models.text_encoders import load_readers
from nodegraph_nodes.types import Conditioning, TextEncoder

_MAX_NAMED = 8  # the most unknown words that a notice names


@node(
    "TextEncode",
    numeric=True,
    foreign_names=("CLIPTextEncode", "CLIPTextEncodeSDXL", "CLIPTextEncodeSDXLRefiner", "CLIPSetLastLayer"),
)
def text_encode(
    text_encoder: TextEncoder,
    text: Annotated[
        str, Help("the prompt; (word:1.2) and (word) set weights, BREAK starts a chunk, embedding:NAME inserts a loaded embedding")
    ],
    clip_skip: Annotated[
        int | None,
        Range(1, 32),
        Help("the layer to read, counted from the last, which is 1; default: the one that the model was trained with"),
    ] = None,
    syntax: Annotated[
        Literal["comfyui", "a1111"],
        Help("a1111: nested weights multiply, [word] weighs less, the mean is restored, and [a:b:0.5], [a|b] and AND work"),
    ] = "comfyui",
    text_2: Annotated[
        str | None, Help("the prompt for the second text encoder of an SDXL model (OpenCLIP bigG); default: the same text")
    ] = None,
    run: Run = Run(),
) -> Conditioning:
    """Encode a prompt for `UNetDenoise`.

    A long prompt is read in chunks, and the picture attends to all of them. With `syntax: a1111`, `[from:to:when]` switches after
    `when` steps, a number or a fraction of them (`[to:when]` adds, `[from::when]` removes), and `[one|other]` takes the next one in
    each step. `AND` between prompts, each with a weight such as `:1.2` at its end, adds what each of them adds to the negative
    prompt. With `text_2`, each of SDXL's two text encoders reads its own text; the second one also sets the pooled embedding.
    """
    from nodegraph_diffusion.text.encode import read_prompt
    from nodegraph_diffusion.text.plain_syntax import EMBEDDING, plain_syntax
    from nodegraph_diffusion.text.scheduled import Term, Variant, read_terms

    readers = load_readers(text_encoder, run, clip_skip)
    tokenizer = readers[0].tokenizer
    if untaken := plain_syntax(text, syntax):
        listed = ", ".join(f"'{part}' ({advice})" for part, advice in untaken)
        run.notice(f"the prompt contains syntax of other programs, which is read as text: {listed}")
    terms = read_terms(text) if syntax == "a1111" else [Term((Variant(text),))]
    if text_2 is not None and syntax == "a1111" and [len(term.variants) for term in read_terms(text_2)] != [1]:
        raise ValueError("text_2: expected a prompt without [a:b:0.5], [a|b] and AND, found one with them; write them in text")
    texts = [variant.text for term in terms for variant in term.variants]
    plain = EMBEDDING.sub("", " ".join(texts))
    if text_encoder.parts[0].tokenizer is not None and (unknown := tokenizer.unknown_words(plain)):
        run.notice(
            f"the model's vocabulary does not contain {_quoted(unknown)}; such a word has little effect, since it is read in pieces"
        )
    prompts = tuple(
        dataclasses.replace(
            read_prompt(readers, variant.text, clip_skip, syntax, text_2=text_2).map(lambda tensor: tensor.cpu()),
            steps=variant.steps,
            term=number,
            term_weight=term.weight,
        )
        for number, term in enumerate(terms)
        for variant in term.variants
    )
    chunks = max(prompt.embedding.shape[1] for prompt in prompts) // tokenizer.max_length
    if chunks > 1 and "BREAK" not in text:
        run.notice(
            f"the prompt is longer than the {tokenizer.max_length - 2} tokens that the model reads at once: it is read in {chunks} "
            f"chunks, and the picture attends to all of them"
        )
    return Conditioning(prompts)


def _quoted(words: list[str]) -> str:
    quoted = [f"'{word}'" for word in words[:_MAX_NAMED]]
    if len(words) > _MAX_NAMED:
        quoted.append(f"{len(words) - _MAX_NAMED} more")
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"
