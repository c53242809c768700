"""How the pack's values are stored and exported: safetensors for all of them, PNG for people to look at."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nodegraph_diffusion.conditioning.prompt import TENSORS, Area, Prompt, SizeConditioning
from nodegraph_nodes.types import Conditioning, Image, Latent, Mask, Noise, Sigmas

if TYPE_CHECKING:
    from torch import Tensor


class SafetensorsCodec:
    """A value with tensors and plain fields, as a safetensors file with the fields in its header."""

    name: str
    suffix = ".safetensors"
    extension = ".safetensors"

    def tensors(self, value: Any) -> dict[str, Tensor]:
        """The tensors of `value` by their names in the file."""
        raise NotImplementedError

    def plain(self, value: Any) -> dict[str, Any]:
        """What else there is of `value`, as JSON has it."""
        raise NotImplementedError

    def restored(self, tensors: dict[str, Tensor], fields: dict[str, Any]) -> Any:
        """The value of which `tensors` and `plain` gave these."""
        raise NotImplementedError

    def expected(self, name: str) -> str:
        """The axes of the tensor `name`: a number is the only size that one has."""
        raise NotImplementedError

    def digest(self, value: Any) -> str:
        import torch

        stored = self._stored(value).values()
        about = [self.name, *(part for tensor in stored for part in (str(tensor.dtype), list(tensor.shape))), self.plain(value)]
        total = hashlib.sha256(json.dumps(about, sort_keys=True).encode() + b"\0")
        for tensor in stored:
            total.update(tensor.flatten().view(torch.uint8).numpy().data)
        return total.hexdigest()

    def save(self, value: Any, path: Path) -> None:
        from safetensors.torch import save_file

        save_file(self._stored(value), path, metadata=self._metadata(value))

    def load(self, path: Path) -> Any:
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            fields = json.loads((file.metadata() or {}).get("fields", "{}"))
            names = file.keys()
            return self.restored({name: file.get_tensor(name) for name in names}, fields)

    def export(self, value: Any) -> list[bytes]:
        from safetensors.torch import save

        return [save(self._stored(value), metadata=self._metadata(value))]

    def embed(self, data: bytes, metadata: Mapping[str, str]) -> bytes:
        """The file with `metadata` beside what its header says already; its tensors stay aligned."""
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length])
        header["__metadata__"] = {**header.get("__metadata__", {}), **metadata}
        encoded = json.dumps(header, separators=(",", ":")).encode()
        encoded += b" " * (-len(encoded) % 8)
        return struct.pack("<Q", len(encoded)) + encoded + data[8 + length :]

    def check(self, value: Any) -> str | None:
        problems = (_wrong_with(tensor, self.expected(name)) for name, tensor in self.tensors(value).items())
        return next(filter(None, problems), None)

    def version(self, value: Any) -> int | None:
        """Counts changes of the tensors in place; None where torch does not count them."""
        tensors = self.tensors(value).values()
        return None if any(tensor.is_inference() for tensor in tensors) else sum(tensor._version for tensor in tensors)

    def size(self, value: Any) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors(value).values())

    def _stored(self, value: Any) -> dict[str, Tensor]:
        stored: dict[str, Tensor] = {}
        places: set[int] = set()
        for name, tensor in self.tensors(value).items():
            whole = tensor.detach().cpu().contiguous()
            place = whole.untyped_storage().data_ptr()
            stored[name] = whole.clone() if place in places else whole  # the format has no two names for one memory
            places.add(place)
        return stored

    def _metadata(self, value: Any) -> dict[str, str]:
        return {"fields": json.dumps(self.plain(value))}


class TensorCodec(SafetensorsCodec):
    """A value with one tensor, of these `axes`, and a few plain fields."""

    def __init__(self, kind: type, tensor: str, axes: str, *fields: str) -> None:
        self.kind, self.tensor, self.axes, self.fields = kind, tensor, axes, fields
        self.name = kind.__name__.lower()

    def tensors(self, value: Any) -> dict[str, Tensor]:
        return {self.tensor: getattr(value, self.tensor)}

    def plain(self, value: Any) -> dict[str, Any]:
        return {name: getattr(value, name) for name in self.fields}

    def restored(self, tensors: dict[str, Tensor], fields: dict[str, Any]) -> Any:
        return self.kind(tensors[self.tensor], **{name: _restored(fields[name]) for name in self.fields})

    def expected(self, name: str) -> str:
        return self.axes


class PromptsCodec(SafetensorsCodec):
    """Conditioning: the tensors of prompt k are called `k.embedding` and so on."""

    name = "prompts"
    AXES: Final = {"embedding": "1 L D", "pooled": "1 P", "mask": "B H W"}

    def tensors(self, value: Conditioning) -> dict[str, Tensor]:
        named = ((f"{k}.{name}", getattr(prompt, name)) for k, prompt in enumerate(value.prompts) for name in TENSORS)
        return {name: tensor for name, tensor in named if tensor is not None}

    def plain(self, value: Conditioning) -> dict[str, Any]:
        def described(prompt: Prompt) -> dict[str, Any]:
            fields = {name: field for name, field in vars(prompt).items() if name not in TENSORS}
            return {name: vars(field) if dataclasses.is_dataclass(field) else field for name, field in fields.items()}

        return {"tensors": list(self.tensors(value)), "prompts": [described(prompt) for prompt in value.prompts]}

    def restored(self, tensors: dict[str, Tensor], fields: dict[str, Any]) -> Conditioning:
        def prompt(k: int, plain: dict[str, Any]) -> Prompt:
            area, size = plain.pop("area"), plain.pop("size")
            return Prompt(
                tensors[f"{k}.embedding"],
                pooled=tensors.get(f"{k}.pooled"),
                mask=tensors.get(f"{k}.mask"),
                area=area and Area(**area),
                size=size and SizeConditioning(**size),
                **plain,
            )

        return Conditioning(tuple(prompt(k, plain) for k, plain in enumerate(fields["prompts"])))

    def expected(self, name: str) -> str:
        return self.AXES[name.partition(".")[2]]


class PictureCodec(TensorCodec):
    """Pixels without loss in the store, and as PNG files of 8 bits a channel, one for each picture, outside it."""

    extension = ".png"

    def export(self, value: Any) -> list[bytes]:
        from PIL import Image as pillow

        files = []
        for plane in (self._stored(value)[self.tensor] * 255).round().clamp(0, 255).byte().numpy():
            buffer = io.BytesIO()
            pillow.fromarray(plane).save(buffer, format="PNG")
            files.append(buffer.getvalue())
        return files

    def embed(self, data: bytes, metadata: Mapping[str, str]) -> bytes:
        """The PNG with an iTXt chunk for each text, behind its header (PNG specification, 11.3.3.4)."""
        (length,) = struct.unpack(">I", data[8:12])
        end = 8 + 12 + length  # of IHDR, which is always the first chunk
        return data[:end] + b"".join(_text_chunk(key, text) for key, text in metadata.items()) + data[end:]


def _text_chunk(key: str, text: str) -> bytes:
    body = b"iTXt" + key.encode("latin-1") + b"\0\0\0\0\0" + text.encode()  # not compressed, no language, key not translated
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))


def _wrong_with(tensor: Tensor, axes: str) -> str | None:
    """What is wrong with a tensor that should be finite float32 of these axes."""
    import torch

    names = axes.split()
    sizes = zip(names, tensor.shape, strict=False)
    fits = len(names) == tensor.ndim and all(size == int(name) for name, size in sizes if name.isdigit())
    if not fits or tensor.dtype != torch.float32:
        return f"expected float32 of shape ({', '.join(names)}), found {_short(tensor.dtype)} of shape {tuple(tensor.shape)}"
    if torch.isfinite(tensor).all():
        return None
    counts = {"NaN": int(tensor.isnan().sum()), "infinite": int(tensor.isinf().sum())}
    found = " and ".join(f"{count} {what}" for what, count in counts.items() if count)
    return f"{found} among its {tensor.numel()} values; --dtype float32 may help"


def _restored(field: Any) -> Any:
    return tuple(field) if isinstance(field, list) else field


def _short(dtype: object) -> str:
    return str(dtype).removeprefix("torch.")


CODECS: dict[type, SafetensorsCodec] = {
    Image: PictureCodec(Image, "pixels", "B H W 3"),
    Mask: PictureCodec(Mask, "values", "B H W"),
    Latent: TensorCodec(Latent, "samples", "B C h w", "size"),
    Conditioning: PromptsCodec(),
    Noise: TensorCodec(Noise, "values", "B C h w", "seed"),
    Sigmas: TensorCodec(Sigmas, "values", "n"),
}
