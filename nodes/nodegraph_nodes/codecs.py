"""How the pack's values are stored and exported: safetensors for all of them, PNG for people to look at."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nodegraph_nodes.types import Conditioning, Image, Latent, Mask, Noise

if TYPE_CHECKING:
    from torch import Tensor


class TensorCodec:
    """A value with one tensor and a few plain fields, as a safetensors file with the fields in its header.

    `axes` names the tensor's dimensions, a number being the only size that one has.
    """

    suffix = ".safetensors"
    extension = ".safetensors"

    def __init__(self, kind: type, tensor: str, axes: str, *fields: str) -> None:
        self.kind, self.tensor, self.axes, self.fields = kind, tensor, axes, fields
        self.name = kind.__name__.lower()

    def digest(self, value: Any) -> str:
        import torch

        tensor = self._tensor(value)
        about = [self.name, str(tensor.dtype), list(tensor.shape), self._plain(value)]
        total = hashlib.sha256(json.dumps(about, sort_keys=True).encode() + b"\0")
        total.update(tensor.flatten().view(torch.uint8).numpy().data)
        return total.hexdigest()

    def save(self, value: Any, path: Path) -> None:
        from safetensors.torch import save_file

        save_file({self.tensor: self._tensor(value)}, path, metadata=self._metadata(value))

    def load(self, path: Path) -> Any:
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            fields = json.loads((file.metadata() or {}).get("fields", "{}"))
            tensor = file.get_tensor(self.tensor)
        return self.kind(tensor, **{name: _restored(fields[name]) for name in self.fields})

    def export(self, value: Any) -> list[bytes]:
        from safetensors.torch import save

        return [save({self.tensor: self._tensor(value)}, metadata=self._metadata(value))]

    def embed(self, data: bytes, metadata: Mapping[str, str]) -> bytes:
        """The file with `metadata` beside what its header says already; its tensors stay aligned."""
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length])
        header["__metadata__"] = {**header.get("__metadata__", {}), **metadata}
        encoded = json.dumps(header, separators=(",", ":")).encode()
        encoded += b" " * (-len(encoded) % 8)
        return struct.pack("<Q", len(encoded)) + encoded + data[8 + length :]

    def check(self, value: Any) -> str | None:
        import torch

        tensor: Tensor = getattr(value, self.tensor)
        axes = self.axes.split()
        sizes = zip(axes, tensor.shape, strict=False)
        fits = len(axes) == tensor.ndim and all(size == int(axis) for axis, size in sizes if axis.isdigit())
        if not fits or tensor.dtype != torch.float32:
            return f"expected float32 of shape ({', '.join(axes)}), found {_short(tensor.dtype)} of shape {tuple(tensor.shape)}"
        if torch.isfinite(tensor).all():
            return None
        counts = {"NaN": int(tensor.isnan().sum()), "infinite": int(tensor.isinf().sum())}
        found = " and ".join(f"{count} {what}" for what, count in counts.items() if count)
        return f"{found} among its {tensor.numel()} values; --dtype float32 may help"

    def version(self, value: Any) -> int | None:
        """Counts changes of the tensor in place; None where torch does not count them."""
        tensor: Tensor = getattr(value, self.tensor)
        return None if tensor.is_inference() else tensor._version

    def size(self, value: Any) -> int:
        tensor: Tensor = getattr(value, self.tensor)
        return tensor.numel() * tensor.element_size()

    def _tensor(self, value: Any) -> Tensor:
        tensor: Tensor = getattr(value, self.tensor)
        return tensor.detach().cpu().contiguous()

    def _plain(self, value: Any) -> dict[str, Any]:
        return {name: getattr(value, name) for name in self.fields}

    def _metadata(self, value: Any) -> dict[str, str]:
        return {"fields": json.dumps(self._plain(value))}


class PictureCodec(TensorCodec):
    """Pixels without loss in the store, and as PNG files of 8 bits a channel, one for each picture, outside it."""

    extension = ".png"

    def export(self, value: Any) -> list[bytes]:
        from PIL import Image as pillow

        files = []
        for plane in (self._tensor(value) * 255).round().clamp(0, 255).byte().numpy():
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


def _restored(field: Any) -> Any:
    return tuple(field) if isinstance(field, list) else field


def _short(dtype: object) -> str:
    return str(dtype).removeprefix("torch.")


CODECS: dict[type, TensorCodec] = {
    Image: PictureCodec(Image, "pixels", "B H W 3"),
    Mask: PictureCodec(Mask, "values", "B H W"),
    Latent: TensorCodec(Latent, "samples", "B C h w", "size"),
    Conditioning: TensorCodec(Conditioning, "embedding", "B L D"),
    Noise: TensorCodec(Noise, "values", "B C h w", "seed"),
}
