"""Nodes that read text."""

from __future__ import annotations

from typing import Annotated

from nodegraph import Help, Range, Run, node
from nodegraph_nodes.types import Conditioning, TextEncoder

_NAMED = 8  # how many unknown words a notice names


@node("TextEncode", numeric=True)
def text_encode(
    text_encoder: TextEncoder,
    text: Annotated[str, Help("the prompt; (word:1.2) and (word) weigh, long ones are read in chunks")],
    clip_skip: Annotated[int, Range(1, 12), Help("which layer is read, counted from the last")] = 1,
    run: Run = Run(),
) -> Conditioning:
    """Encode a prompt for `UNetDenoise`."""
    from nodegraph_diffusion.conditioning import Prompt
    from nodegraph_diffusion.prompt import chunk_prompt, encode_prompt

    checkpoint = text_encoder.checkpoint
    if clip_skip > checkpoint.text.layers:
        raise ValueError(
            f"clip_skip: expected at most {checkpoint.text.layers}, the layers of this text encoder, found {clip_skip}"
        )
    model, tokenizer = text_encoder.load(run), text_encoder.tokenizer(run)
    if checkpoint.tokenizer is not None and (unknown := tokenizer.unknown_words(text)):
        run.notice(f"the model's vocabulary does not hold {_listed(unknown)}; what it has to spell means little to it")
    chunks = len(chunk_prompt(tokenizer, text))
    if chunks > 1:
        run.notice(
            f"the prompt is longer than the {tokenizer.max_length - 2} tokens that the model reads at once: it is read in {chunks} "
            f"chunks, which the picture attends to together"
        )
    return Conditioning((Prompt(encode_prompt(model, tokenizer, text, clip_skip).cpu()),))


def _listed(words: list[str]) -> str:
    quoted = [f"'{word}'" for word in words[:_NAMED]]
    if len(words) > _NAMED:
        quoted.append(f"{len(words) - _NAMED} more")
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"
