"""Nodes that read text."""

from __future__ import annotations

from typing import Annotated

from nodegraph import Help, Range, Run, node
from nodegraph_nodes.types import Conditioning, TextEncoder


@node("TextEncode", numeric=True)
def text_encode(
    text_encoder: TextEncoder,
    text: Annotated[str, Help("the prompt; (word:1.2) and (word) weigh, long ones are read in chunks")],
    clip_skip: Annotated[int, Range(1, 12), Help("which layer is read, counted from the last")] = 1,
    run: Run = Run(),  # noqa: B008 - has no state
) -> Conditioning:
    """Encode a prompt for `UNetDenoise`."""
    from nodegraph_diffusion.prompt import chunk_prompt, encode_prompt
    from nodegraph_diffusion.tokenizer import load_tokenizer

    model = text_encoder.load(run)
    folder = text_encoder.checkpoint.tokenizer
    tokenizer = run.resident(("tokenizer", folder), lambda: load_tokenizer(folder))
    if folder is not None and (unknown := tokenizer.unknown_words(text)):
        said = ", ".join(f"'{word}'" for word in unknown[:8])
        run.notice(f"the model's vocabulary has no word {said}; it is spelled out, and means little to the model")
    chunks = len(chunk_prompt(tokenizer, text))
    if chunks > 1:
        run.notice(
            f"the prompt is longer than the model takes at once ({tokenizer.max_length - 2} tokens): it is read in {chunks} "
            f"chunks, which the picture attends to together"
        )
    if clip_skip > model.config.layers:
        raise ValueError(f"clip_skip: expected at most {model.config.layers}, the layers of this text encoder, found {clip_skip}")
    return Conditioning(encode_prompt(model, tokenizer, text, clip_skip).cpu())
