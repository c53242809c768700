"""Nodes that read text."""

from __future__ import annotations

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
        Help("a1111: nested weights multiply, [word] weighs less, and the mean of the encoding is restored"),
    ] = "comfyui",
    run: Run = Run(),
) -> Conditioning:
    """Encode a prompt for `UNetDenoise`.

    A long prompt is read in chunks, and the picture attends to all of them.
    """
    from nodegraph_diffusion.text.encode import EMBEDDING, read_prompt

    readers = load_readers(text_encoder, run, clip_skip)
    tokenizer = readers[0].tokenizer
    plain = EMBEDDING.sub("", text)
    if text_encoder.parts[0].tokenizer is not None and (unknown := tokenizer.unknown_words(plain)):
        run.notice(
            f"the model's vocabulary does not contain {_quoted(unknown)}; such a word has little effect, since it is read in pieces"
        )
    prompt = read_prompt(readers, text, clip_skip, syntax).map(lambda tensor: tensor.cpu())
    chunks = prompt.embedding.shape[1] // tokenizer.max_length
    if chunks > 1 and "BREAK" not in text:
        run.notice(
            f"the prompt is longer than the {tokenizer.max_length - 2} tokens that the model reads at once: it is read in {chunks} "
            f"chunks, and the picture attends to all of them"
        )
    return Conditioning((prompt,))


def _quoted(words: list[str]) -> str:
    quoted = [f"'{word}'" for word in words[:_MAX_NAMED]]
    if len(words) > _MAX_NAMED:
        quoted.append(f"{len(words) - _MAX_NAMED} more")
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"
