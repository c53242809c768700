"""Prompts: from weighted text to the encoding that a denoiser attends to, computed as in ComfyUI or as in A1111."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor

from nodegraph_diffusion.conditioning.prompt import Prompt
from nodegraph_diffusion.text.emphasis import parse_emphasis
from nodegraph_diffusion.text.emphasis import parse_weights as parse_weights
from nodegraph_diffusion.text.plain_syntax import EMBEDDING
from nodegraph_diffusion.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from nodegraph_diffusion.networks.clip import CLIPTextModel

WHOLE_BELOW = 8  # a segment of fewer tokens is not split at the end of a chunk
COMMA_REACH = 20  # A1111 splits after a comma if it is among this many last tokens of a chunk
BREAK = re.compile(r"\s*\bBREAK\b\s*")
TRAILING = ",.;"  # characters that may follow an embedding's name

Syntax = Literal["comfyui", "a1111"]
WeightedToken = tuple[int, float]


@dataclass(frozen=True, eq=False)
class Reader:
    """One text encoder of a model: its network, its tokenizer, and the embeddings for `embedding:NAME`, by name.

    An embedding is (n, width), read as n tokens. None means that its file has none for this encoder; then it is left out.
    """

    model: CLIPTextModel
    tokenizer: Tokenizer
    embeddings: Mapping[str, Tensor | None] = field(default_factory=dict)


def read_prompt(
    readers: Sequence[Reader], text: str, clip_skip: int | None = None, syntax: Syntax = "comfyui", *, text_2: str | None = None
) -> Prompt:
    """Encode `text`, which may have weights and any length, with all text encoders of a model.

    For n chunks, the embedding is (1, n * max_length, width), float32 on the models' device: the encodings of all encoders joined
    along the width, cut to the shortest of them. `pooled` is the last encoder's projection of the first chunk, without weights, if
    it has one. `clip_skip` 2 reads the last but one layer, None the layer that the model was trained with.

    A token of weight w becomes empty + w * (z - empty), where z is its encoding and `empty` that of an empty prompt at the
    same position. By A1111's rules it becomes w * z, and then each chunk is scaled back to its mean. `BREAK` begins a new chunk.
    With `text_2`, the second of two encoders reads this text instead, and the shorter one is filled up with empty chunks, as in
    ComfyUI. Raises ValueError for an unknown embedding, for a `text_2` without two encoders, and if tokenizer and model do not
    belong together.
    """
    if text_2 is None:
        encoded = [_read(reader, text, clip_skip, syntax) for reader in readers]
    else:
        if len(readers) != 2:
            raise ValueError(f"text_2: expected a model with two text encoders, such as SDXL, found {len(readers)}; leave it out")
        texts = (text, text_2)
        chunks = (chunk_prompt(r.tokenizer, t, syntax, _inserted(r)[0]) for r, t in zip(readers, texts, strict=True))
        least = max(map(len, chunks))
        encoded = [_read(r, t, clip_skip, syntax, least=least) for r, t in zip(readers, texts, strict=True)]
    length = min(embedding.shape[1] for embedding, _ in encoded)
    return Prompt(torch.cat([embedding[:, :length] for embedding, _ in encoded], dim=-1), pooled=encoded[-1][1])


def encode_prompt(model: CLIPTextModel, tokenizer: Tokenizer, text: str, clip_skip: int | None = None) -> Tensor:
    """The embedding (1, n * max_length, width) of `read_prompt` for a model with one text encoder."""
    return read_prompt([Reader(model, tokenizer)], text, clip_skip).embedding


def read_pooled(reader: Reader, text: str) -> Tensor:
    """The encoding of the end of `text`, (1, width) float32, after the last layer and its norm; weights do not count."""
    tokens = torch.tensor([[token for token, _ in chunk_prompt(reader.tokenizer, text, embeddings=_inserted(reader)[0])[0]]])
    with torch.no_grad():
        device = next(reader.model.parameters()).device
        hidden, _ = reader.model.encode(tokens.to(device), 1, _inserted(reader)[1])  # (1, max_length, width)
    end = int((tokens[0] == reader.model.config.eos).int().argmax())
    return hidden[:, end].float()


def chunk_prompt(
    tokenizer: Tokenizer, text: str, syntax: Syntax = "comfyui", embeddings: Mapping[str, Sequence[int]] | None = None
) -> list[list[WeightedToken]]:
    """`text` as chunks of `tokenizer.max_length` tokens with their weights; each has a begin token, text, end and padding.

    A segment of one weight that does not fit into the rest of a chunk continues in the next one; a segment of fewer than 8 tokens
    moves there whole. By A1111's rules, everything after a comma among the last 20 tokens moves there. `embeddings` are the tokens
    of each name. An empty text is one empty chunk.
    """
    room = tokenizer.max_length - 2
    if room < 1:
        raise ValueError(f"tokenizer: expected a max_length of at least 3, found {tokenizer.max_length}; CLIP has 77")
    pieces = _pieces(tokenizer, text, syntax, embeddings or {})
    chunks = _filled(pieces, room) if syntax == "comfyui" else _filled_to_commas(pieces, room, tokenizer.encode(",")[-1])
    if len(chunks) > 1 and not chunks[-1]:
        chunks.pop()  # nothing follows the last BREAK
    return [_framed(tokenizer, chunk) for chunk in chunks]


class _Piece(NamedTuple):
    """Tokens of one weight, of text or of an embedding."""

    tokens: list[WeightedToken]
    embedded: bool = False


def _pieces(tokenizer: Tokenizer, text: str, syntax: Syntax, embeddings: Mapping[str, Sequence[int]]) -> Iterator[_Piece | None]:
    """The segments of `text`, split around embeddings; None for each BREAK."""
    for segment, weight in parse_weights(text) if syntax == "comfyui" else parse_emphasis(text):
        for i, part in enumerate(BREAK.split(segment)):
            if i:
                yield None
            end = 0
            for match in EMBEDDING.finditer(part):
                name = _embedding_name(match[1], embeddings)
                yield _Piece([(token, weight) for token in tokenizer.encode(part[end : match.start()])])
                yield _Piece([(token, weight) for token in embeddings[name]], embedded=True)
                end = match.start(1) + len(name)
            yield _Piece([(token, weight) for token in tokenizer.encode(part[end:])])


def _embedding_name(word: str, embeddings: Mapping[str, Sequence[int]]) -> str:
    for name in (word, word.rstrip(TRAILING)):
        if name in embeddings:
            return name
    known = ", ".join(sorted(embeddings)) or "none"
    raise ValueError(
        f"prompt: expected the name of an embedding of this text encoder after 'embedding:', found '{word}'; it has {known}. "
        "Load it under this name first"
    )


def _filled(pieces: Iterable[_Piece | None], room: int) -> list[list[WeightedToken]]:
    """The pieces in chunks of at most `room` tokens; short pieces are not split."""
    chunks: list[list[WeightedToken]] = [[]]
    for piece in pieces:
        if piece is None:
            chunks.append([])
            continue
        tokens = piece.tokens
        whole = len(tokens) < min(WHOLE_BELOW, room + 1)
        while len(tokens) > room - len(chunks[-1]):
            count = 0 if whole else room - len(chunks[-1])
            chunks[-1] += tokens[:count]
            tokens = tokens[count:]
            chunks.append([])
        chunks[-1] += tokens
    return chunks


def _filled_to_commas(pieces: Iterable[_Piece | None], room: int, comma: int) -> list[list[WeightedToken]]:
    """The pieces in chunks of at most `room` tokens, split after a comma near their end; embeddings stay whole if possible."""
    chunks: list[list[WeightedToken]] = [[]]
    last_comma: int | None = None
    for piece in pieces:
        if piece is None or (piece.embedded and chunks[-1] and len(chunks[-1]) + len(piece.tokens) > room):
            chunks.append([])
            last_comma = None
        for token in piece.tokens if piece else []:
            chunk = chunks[-1]
            if len(chunk) == room:
                near = token[0] != comma and last_comma is not None and room - last_comma <= COMMA_REACH
                cut = last_comma + 1 if near and last_comma is not None else room
                chunks.append(chunk[cut:])
                del chunk[cut:]
                last_comma = None
            elif token[0] == comma:
                last_comma = len(chunk)
            chunks[-1].append(token)
    return chunks


def _read(reader: Reader, text: str, clip_skip: int | None, syntax: Syntax, *, least: int = 1) -> tuple[Tensor, Tensor | None]:
    """One encoder's encoding of `text`, in `least` chunks or more: (1, n * max_length, width), and the pooled (1, projection)."""
    model, tokenizer = reader.model, reader.tokenizer
    embeddings, inserted = _inserted(reader)
    chunks = chunk_prompt(tokenizer, text, syntax, embeddings)
    chunks += chunk_prompt(tokenizer, "") * (least - len(chunks))
    count = len(chunks)
    weights = torch.tensor([[weight for _, weight in chunk] for chunk in chunks])
    weighted = bool((weights != 1).any())
    if weighted and syntax == "comfyui":
        chunks += chunk_prompt(tokenizer, "")
    tokens = torch.tensor([[token for token, _ in chunk] for chunk in chunks])  # (n, max_length)
    _require_match(model, tokenizer, tokens, 0 if inserted is None else len(inserted))
    device = next(model.parameters()).device
    with torch.no_grad():
        hidden, pooled = model.encode(tokens.to(device), clip_skip, inserted)  # (n, max_length, width), (n, projection)
    encoded, weights = hidden.float(), weights.to(device)[:, :, None]
    if weighted and syntax == "comfyui":
        encoded = torch.lerp(encoded[-1], encoded[:count], weights)
    elif weighted:
        scaled = encoded * weights
        encoded = scaled * (encoded.mean(dim=(1, 2), keepdim=True) / scaled.mean(dim=(1, 2), keepdim=True))
    pooled = None if pooled is None else pooled[:1].float()
    return encoded.reshape(1, -1, encoded.shape[-1]), pooled  # (1, n * max_length, width)


def _inserted(reader: Reader) -> tuple[dict[str, range], Tensor | None]:
    """The tokens of each embedding, and their vectors (n, width) in order."""
    tokens: dict[str, range] = {}
    first = reader.model.config.vocab_size
    for name, vectors in reader.embeddings.items():
        tokens[name] = range(first, first + (0 if vectors is None else len(vectors)))
        first = tokens[name].stop
    rows = [vectors for vectors in reader.embeddings.values() if vectors is not None]
    return tokens, torch.cat(rows) if rows else None


def _framed(tokenizer: Tokenizer, tokens: list[WeightedToken]) -> list[WeightedToken]:
    filling = tokenizer.max_length - len(tokens) - 2
    return [(tokenizer.bos, 1.0), *tokens, (tokenizer.eos, 1.0), *[(tokenizer.pad, 1.0)] * filling]


def _require_match(model: CLIPTextModel, tokenizer: Tokenizer, tokens: Tensor, inserted: int) -> None:
    config = model.config
    if tokenizer.max_length > config.max_length or int(tokens.max()) >= config.vocab_size + inserted:
        raise ValueError(
            f"prompt: expected a tokenizer for a text encoder of {config.vocab_size} tokens and {config.max_length} "
            f"positions, found one of {tokenizer.vocab_size} tokens and {tokenizer.max_length} positions; "
            "load both from one checkpoint"
        )
