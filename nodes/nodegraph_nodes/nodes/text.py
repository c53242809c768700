"""Nodes that read text."""

from __future__ import annotations

from typing import Annotated, Literal

from nodegraph import Help, Range, Run, node
from nodegraph_nodes.types import Conditioning, TextEncoder

_NAMED = 8  # how many unknown words a notice names


@node(
    "TextEncode",
    numeric=True,
    foreign_names=("CLIPTextEncode", "CLIPTextEncodeSDXL", "CLIPTextEncodeSDXLRefiner", "CLIPSetLastLayer"),
)
def text_encode(
    text_encoder: TextEncoder,
    text: Annotated[str, Help("the prompt; (word:1.2) and (word) weigh, BREAK begins a new chunk, embedding:NAME is a loaded one")],
    clip_skip: Annotated[
        int | None,
        Range(1, 32),
        Help("which layer is read, counted from the last; absent: the one that the model was trained with"),
    ] = None,
    syntax: Annotated[
        Literal["comfyui", "a1111"], Help("a1111: weights multiply, [word] weighs less, and the mean is restored")
    ] = "comfyui",
    run: Run = Run(),
) -> Conditioning:
    """Encode a prompt for `UNetDenoise`. Long ones are read in chunks."""
    from nodegraph_diffusion.text.encode import EMBEDDING, read_prompt

    readers = text_encoder.readers(run, clip_skip)
    tokenizer = readers[0].tokenizer
    plain = EMBEDDING.sub("", text)
    if text_encoder.parts[0].tokenizer is not None and (unknown := tokenizer.unknown_words(plain)):
        run.notice(f"the model's vocabulary does not hold {_listed(unknown)}; what it has to spell means little to it")
    prompt = read_prompt(readers, text, clip_skip, syntax).map(lambda tensor: tensor.cpu())
    chunks = prompt.embedding.shape[1] // tokenizer.max_length
    if chunks > 1 and "BREAK" not in text:
        run.notice(
            f"the prompt is longer than the {tokenizer.max_length - 2} tokens that the model reads at once: it is read in {chunks} "
            f"chunks, which the picture attends to together"
        )
    return Conditioning((prompt,))


def _listed(words: list[str]) -> str:
    quoted = [f"'{word}'" for word in words[:_NAMED]]
    if len(words) > _NAMED:
        quoted.append(f"{len(words) - _NAMED} more")
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"
