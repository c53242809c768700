"""How the values of the pack are stored and exported: all as safetensors files, pictures and masks also as PNG files."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import mmap
import struct
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nodegraph_nodes import conversions
from nodegraph_nodes.types import Conditioning, Image, ImageEmbedding, Latent, Mask, Noise, Sigmas

if TYPE_CHECKING:
    from torch import Tensor

    from nodegraph_diffusion.conditioning.prompt import Prompt
    from nodegraph_nodes.pictures.formats import PictureFormat


_DTYPES: Final = {
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F64": "float64",
    "I64": "int64",
    "I32": "int32",
    "U8": "uint8",
    "BOOL": "bool",
}


_SHORT_NAMES: Final = {long: short for short, long in _DTYPES.items()}

_write_sorted: Final = json.JSONEncoder(sort_keys=True).encode
_write_compact: Final = json.JSONEncoder(separators=(",", ":")).encode


class SafetensorsCodec:
    """Stores a value as a safetensors file: its tensors, and its other fields as JSON in the header.

    `convert` makes a value from another Python object.
    """

    name: str
    suffix = ".safetensors"
    extension = ".safetensors"

    def __init__(self, convert: Callable[[Any], Any] = lambda value: None) -> None:
        self.convert = convert

    def tensors(self, value: Any) -> dict[str, Tensor]:
        """The tensors of `value`, by their names in the file."""
        raise NotImplementedError

    def plain_fields(self, value: Any) -> dict[str, Any]:
        """The other fields of `value`, as JSON."""
        raise NotImplementedError

    def rebuild(self, tensors: dict[str, Tensor], fields: dict[str, Any]) -> Any:
        """The value with these tensors and fields: undoes `tensors` and `plain_fields`."""
        raise NotImplementedError

    def axes_of(self, name: str) -> str:
        """The axes of the tensor `name`, separated by spaces: a letter stands for any size, a number for itself."""
        raise NotImplementedError

    def digest(self, value: Any) -> str:
        tensors = self._contiguous(value).values()
        shapes = (part for tensor in tensors for part in (str(tensor.dtype), list(tensor.shape)))
        description = [self.name, *shapes, self.plain_fields(value)]
        digest = hashlib.sha256(_write_sorted(description).encode() + b"\0")
        for tensor in tensors:
            digest.update(_bytes_of(tensor))
        return digest.hexdigest()

    def save(self, value: Any, path: Path) -> None:
        """Write a safetensors file; without the library, which writes to another file first."""
        with path.open("wb", buffering=0) as file:
            for view in self._content(value):
                while view:
                    view = view[file.write(view) :]

    def load(self, path: Path) -> Any:
        """The value, with its tensors in a private map of the file: pages are read when they are used, and copied when changed."""
        with path.open("rb", buffering=0) as file:
            return self._read(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))

    def encode(self, value: Any) -> bytes:
        return b"".join(self._content(value))

    def decode(self, data: bytes) -> Any:
        return self._read(bytearray(data))

    def _content(self, value: Any) -> list[memoryview]:
        """A safetensors file, in parts."""
        tensors = self._contiguous(value)
        return [memoryview(self._header(tensors, value)), *map(_bytes_of, tensors.values())]

    def _read(self, content: mmap.mmap | bytearray) -> Any:
        """The value in a safetensors file, whose tensors share the memory of `content`."""
        import torch

        end = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(str(content[8:end], "utf-8"))
        fields = json.loads(header.pop("__metadata__", {}).get("fields", "{}"))
        tensors = {}
        for name, entry in header.items():
            dtype, (start, stop) = getattr(torch, _DTYPES[entry["dtype"]]), entry["data_offsets"]
            count = (stop - start) // dtype.itemsize
            flat = torch.frombuffer(content, dtype=dtype, count=count, offset=end + start) if count else torch.empty(0, dtype=dtype)
            tensors[name] = flat.view(entry["shape"])
        return self.rebuild(tensors, fields)

    def export(self, value: Any) -> list[bytes]:
        from safetensors.torch import save

        return [save(self._contiguous(value), metadata=self._metadata(value))]

    def embed(self, data: bytes, metadata: Mapping[str, str]) -> bytes:
        """The file with `metadata` added to its header; its tensors stay aligned."""
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length])
        header["__metadata__"] = {**header.get("__metadata__", {}), **metadata}
        encoded = json.dumps(header, separators=(",", ":")).encode()
        encoded += b" " * (-len(encoded) % 8)
        return struct.pack("<Q", len(encoded)) + encoded + data[8 + length :]

    def extract(self, data: bytes) -> tuple[bytes, Mapping[str, str]]:
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length])
        texts = header.pop("__metadata__", {})
        fields = {"fields": texts.pop("fields", "{}")}
        encoded = json.dumps({"__metadata__": fields, **header}, separators=(",", ":")).encode()
        encoded += b" " * (-len(encoded) % 8)
        return struct.pack("<Q", len(encoded)) + encoded + data[8 + length :], texts

    def check(self, value: Any) -> str | None:
        problems = (_problem(tensor, self.axes_of(name)) for name, tensor in self.tensors(value).items())
        return next(filter(None, problems), None)

    def size(self, value: Any) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors(value).values())

    def _contiguous(self, value: Any) -> dict[str, Tensor]:
        """The tensors on the CPU, each in its own memory, since the format does not allow two names for the same memory."""
        tensors: dict[str, Tensor] = {}
        addresses: set[int] = set()
        named = self.tensors(value)
        for name, tensor in named.items():
            if tensor.requires_grad or not tensor.is_cpu or not tensor.is_contiguous():  # asking takes less time than each of these
                tensor = tensor.detach().cpu().contiguous()
            if tensor.is_neg() or tensor.is_conj():
                tensor = tensor.resolve_neg().resolve_conj()  # the bytes in memory are others
            if len(named) == 1:
                return {name: tensor}
            address = tensor.untyped_storage().data_ptr()
            tensors[name] = tensor.clone() if address in addresses else tensor
            addresses.add(address)
        return tensors

    def _metadata(self, value: Any) -> dict[str, str]:
        return {"fields": json.dumps(self.plain_fields(value))}

    def _header(self, tensors: Mapping[str, Tensor], value: Any) -> bytes:
        """The header of a safetensors file: its length in 8 bytes, then JSON with the place of each tensor."""
        entries: dict[str, Any] = {"__metadata__": self._metadata(value)}
        end = 0
        for name, tensor in tensors.items():
            start, end = end, end + tensor.numel() * tensor.element_size()
            entries[name] = {"dtype": _SHORT_NAMES[_short(tensor.dtype)], "shape": list(tensor.shape), "data_offsets": [start, end]}
        text = _write_compact(entries).encode()
        text += b" " * (-len(text) % 8)
        return struct.pack("<Q", len(text)) + text


class TensorCodec(SafetensorsCodec):
    """Stores a value with one tensor, which has these `axes`, and a few other fields."""

    def __init__(
        self, value_type: type, tensor: str, axes: str, fields: tuple[str, ...] = (), *, convert: Callable[[Any], Any]
    ) -> None:
        super().__init__(convert)
        self.value_type, self.tensor, self.axes, self.fields = value_type, tensor, axes, fields
        self.name = value_type.__name__.lower()

    def tensors(self, value: Any) -> dict[str, Tensor]:
        return {self.tensor: getattr(value, self.tensor)}

    def plain_fields(self, value: Any) -> dict[str, Any]:
        return {name: getattr(value, name) for name in self.fields}

    def rebuild(self, tensors: dict[str, Tensor], fields: dict[str, Any]) -> Any:
        return self.value_type(tensors[self.tensor], **{name: _without_lists(fields[name]) for name in self.fields})

    def axes_of(self, name: str) -> str:
        return self.axes


class LatentCodec(TensorCodec):
    """Stores a Latent; its space as channels, factor and scale, and its numbers if it has some. Exports it as `.latent`, too."""

    def in_format(self, extension: str, options: Mapping[str, Any]) -> LatentCodec:
        if options:
            raise ValueError(f"a {extension} file has no options, found {' and '.join(options)}. Leave it out")
        if extension not in (".safetensors", ".latent"):
            raise ValueError(f"a latent is written as .safetensors or .latent, found {extension}")
        other = LatentCodec(self.value_type, self.tensor, self.axes, convert=self.convert)
        other.extension = extension
        return other

    def export(self, value: Latent) -> list[bytes]:
        if self.extension == ".safetensors":
            return super().export(value)
        from nodegraph_diffusion.latent_files import encode_latent

        if value.space is None:
            raise ValueError("a latent whose model is not known cannot be written as .latent. Save it as .safetensors")
        return [encode_latent(value.samples.detach().cpu() / value.space.scaling_factor, self._metadata(value))]

    def plain_fields(self, value: Latent) -> dict[str, Any]:
        space = value.space
        parts = None if space is None else [space.channels, space.factor, space.scaling_factor]
        return {"size": value.size, "space": parts} | ({} if value.numbers is None else {"numbers": value.numbers})

    def rebuild(self, tensors: dict[str, Tensor], fields: dict[str, Any]) -> Latent:
        from nodegraph_diffusion.networks.config import LatentSpace

        parts = fields.get("space")  # which files of earlier versions do not have
        height, width = fields["size"]
        space = None if parts is None else LatentSpace(*parts)
        return Latent(tensors["samples"], (height, width), space, _without_lists(fields.get("numbers")))


class PromptsCodec(SafetensorsCodec):
    """Stores a Conditioning. The tensors of prompt k are called `k.embedding`, `k.pooled`, `k.mask` and `k.images`."""

    name = "prompts"
    AXES: Final = {"embedding": "1 L D", "pooled": "1 P", "mask": "B H W", "images": "N P"}

    def tensors(self, value: Conditioning) -> dict[str, Tensor]:
        from nodegraph_diffusion.conditioning.prompt import TENSORS  # most commands read no prompts

        tensors = ((f"{k}.{name}", getattr(prompt, name)) for k, prompt in enumerate(value.prompts) for name in TENSORS)
        return {name: tensor for name, tensor in tensors if tensor is not None}

    def plain_fields(self, value: Conditioning) -> dict[str, Any]:
        from nodegraph_diffusion.conditioning.prompt import TENSORS
        from nodegraph_diffusion.conditioning.steps import as_lists

        def fields_of(prompt: Prompt) -> dict[str, Any]:
            fields = {name: field for name, field in vars(prompt).items() if name not in TENSORS}
            plain = {name: vars(field) if dataclasses.is_dataclass(field) else field for name, field in fields.items()}
            return plain | {"steps": as_lists(prompt.steps)}

        return {"tensors": list(self.tensors(value)), "prompts": [fields_of(prompt) for prompt in value.prompts]}

    def rebuild(self, tensors: dict[str, Tensor], fields: dict[str, Any]) -> Conditioning:
        from nodegraph_diffusion.conditioning.prompt import Area, Prompt, SizeConditioning
        from nodegraph_diffusion.conditioning.steps import from_lists

        def prompt(k: int, others: dict[str, Any]) -> Prompt:
            area, size, steps = others.pop("area"), others.pop("size"), others.pop("steps", ())
            return Prompt(
                tensors[f"{k}.embedding"],
                pooled=tensors.get(f"{k}.pooled"),
                mask=tensors.get(f"{k}.mask"),
                images=tensors.get(f"{k}.images"),
                area=area and Area(**area),
                size=size and SizeConditioning(**size),
                steps=from_lists(steps),
                **others,
            )

        return Conditioning(tuple(prompt(k, others) for k, others in enumerate(fields["prompts"])))

    def axes_of(self, name: str) -> str:
        return self.AXES[name.partition(".")[2]]


class PictureCodec(TensorCodec):
    """Stores pixels without loss, and exports each picture with 8 bits for each channel: as a PNG file, or `in_format`."""

    extension = ".png"
    options: Mapping[str, Any] = {}

    @cached_property
    def format(self) -> PictureFormat:
        from nodegraph_nodes.pictures.formats import picture_format  # most commands write no pictures

        return picture_format(self.extension, self.options)

    def in_format(self, extension: str, options: Mapping[str, Any]) -> PictureCodec:
        if extension == self.extension and not options:
            return self
        other = PictureCodec(self.value_type, self.tensor, self.axes, self.fields, convert=self.convert)
        other.extension, other.options = extension, options
        other.format  # noqa: B018 (raises ValueError if there is no such format)
        return other

    def export(self, value: Any) -> list[bytes]:
        from PIL import Image as pillow

        planes = (self._contiguous(value)[self.tensor] * 255).round().clamp(0, 255).byte().numpy()
        return [self.format.encode(pillow.fromarray(plane)) for plane in planes]

    def embed(self, data: bytes, metadata: Mapping[str, str]) -> bytes:
        return self.format.embed(data, metadata)

    def extract(self, data: bytes) -> tuple[bytes, Mapping[str, str]]:
        return self.format.extract(data)


def _problem(tensor: Tensor, axes: str) -> str | None:
    """What is wrong with a tensor that should be finite float32 with these axes, or None."""
    import torch

    names = axes.split()
    sizes = zip(names, tensor.shape, strict=False)
    fits = len(names) == tensor.ndim and all(size == int(name) for name, size in sizes if name.isdigit())
    if not fits or tensor.dtype != torch.float32:
        return f"expected float32 of shape ({', '.join(names)}), found {_short(tensor.dtype)} of shape {tuple(tensor.shape)}"
    if math.isfinite(tensor.detach().sum()) or torch.isfinite(tensor).all():  # the sum takes a fraction of the time
        return None
    counts = {"NaN": int(tensor.isnan().sum()), "infinite": int(tensor.isinf().sum())}
    found = " and ".join(f"{count} {what}" for what, count in counts.items() if count)
    return f"{found} among its {tensor.numel()} values; if it computed in another dtype, --dtype float32 may help"


def _bytes_of(tensor: Tensor) -> memoryview:
    """The bytes of a contiguous tensor on the CPU."""
    import torch

    if tensor.dtype != torch.bfloat16:  # which NumPy does not have
        return tensor.numpy().data.cast("B") if tensor.numel() else memoryview(b"")
    flat = tensor.as_strided((tensor.numel(),), (1,))  # an axis of size 1 may have any stride, with which `view` fails
    data: memoryview = flat.view(torch.uint8).numpy().data
    return data


def _without_lists(field: Any) -> Any:
    return tuple(field) if isinstance(field, list) else field


def _short(dtype: object) -> str:
    return str(dtype).removeprefix("torch.")


CODECS: dict[type, SafetensorsCodec] = {
    Image: PictureCodec(Image, "pixels", "B H W 3", convert=conversions.image),
    Mask: PictureCodec(Mask, "values", "B H W", convert=conversions.mask),
    Latent: LatentCodec(Latent, "samples", "B C h w", convert=conversions.latent),
    Conditioning: PromptsCodec(),
    Noise: TensorCodec(Noise, "values", "B C h w", ("seed", "draw", "numbers"), convert=conversions.noise),
    ImageEmbedding: TensorCodec(ImageEmbedding, "values", "B P", convert=lambda value: None),
    Sigmas: TensorCodec(Sigmas, "values", "n", convert=conversions.sigmas),
}
