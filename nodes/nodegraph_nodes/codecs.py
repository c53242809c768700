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
    """A value with one tensor and a few plain fields, as a safetensors file with the fields in its header."""

    suffix = ".safetensors"
    extension = ".safetensors"

    def __init__(self, kind: type, tensor: str, *fields: str) -> None:
        self.kind, self.tensor, self.fields = kind, tensor, fields
        self.name = kind.__name__.lower()

    def digest(self, value: Any) -> str:
        tensor: Tensor = getattr(value, self.tensor)
        about = {"type": self.name, "dtype": str(tensor.dtype), "shape": list(tensor.shape), **self._plain(value)}
        total = hashlib.sha256(json.dumps(about, sort_keys=True).encode() + b"\0")
        total.update(tensor.contiguous().numpy().data.cast("B"))
        return total.hexdigest()

    def save(self, value: Any, path: Path) -> None:
        from safetensors.torch import save_file

        save_file({self.tensor: getattr(value, self.tensor).contiguous()}, path, metadata=self._metadata(value))

    def load(self, path: Path) -> Any:
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            fields = json.loads((file.metadata() or {}).get("fields", "{}"))
            tensor = file.get_tensor(self.tensor)
        return self.kind(tensor, **{name: self._restored(fields[name]) for name in self.fields})

    def export(self, value: Any) -> list[bytes]:
        from safetensors.torch import save

        return [save({self.tensor: getattr(value, self.tensor).contiguous()}, metadata=self._metadata(value))]

    def embed(self, data: bytes, metadata: Mapping[str, str]) -> bytes:
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length])
        header["__metadata__"] = {**header.get("__metadata__", {}), **metadata}
        encoded = json.dumps(header, separators=(",", ":")).encode()
        encoded += b" " * (-len(encoded) % 8)
        return struct.pack("<Q", len(encoded)) + encoded + data[8 + length :]

    def check(self, value: Any) -> str | None:
        import torch

        tensor: Tensor = getattr(value, self.tensor)
        if torch.isfinite(tensor).all():
            return None
        nan, infinite = int(torch.isnan(tensor).sum()), int(torch.isinf(tensor).sum())
        return f"{nan} of its {tensor.numel()} values are NaN and {infinite} infinite; dtype float32 may help"

    def size(self, value: Any) -> int:
        tensor: Tensor = getattr(value, self.tensor)
        return tensor.numel() * tensor.element_size()

    def _plain(self, value: Any) -> dict[str, Any]:
        return {name: getattr(value, name) for name in self.fields}

    def _metadata(self, value: Any) -> dict[str, str]:
        return {"fields": json.dumps(self._plain(value))}

    @staticmethod
    def _restored(field: Any) -> Any:
        return tuple(field) if isinstance(field, list) else field


class PictureCodec(TensorCodec):
    """Pixels without loss in the store, and as PNG files of 8 bits a channel, one for each picture, outside it."""

    extension = ".png"

    def export(self, value: Any) -> list[bytes]:
        from PIL import Image as pillow

        planes = (getattr(value, self.tensor) * 255).round().clamp(0, 255).byte().numpy()
        files = []
        for plane in planes:
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
    body = b"iTXt" + key.encode("latin-1") + b"\0\0\0\0\0" + text.encode()
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))


CODECS: dict[type, TensorCodec] = {
    Image: PictureCodec(Image, "pixels"),
    Mask: PictureCodec(Mask, "values"),
    Latent: TensorCodec(Latent, "samples", "size"),
    Conditioning: TensorCodec(Conditioning, "embedding"),
    Noise: TensorCodec(Noise, "values", "seed"),
}
