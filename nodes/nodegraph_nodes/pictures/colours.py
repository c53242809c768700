"""Colours of pictures as sRGB: profiles are applied, other colour models are converted."""

from __future__ import annotations

import functools
import io
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

_PROFILE_MODES: Final = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab ": "LAB"}
"""Pillow's mode of the pictures that a profile of a colour space is for."""

_UNNOTICED: Final = 1
"""A profile that changes no colour by more than this, of 255 levels, is sRGB: the pixels stay as they are."""


def in_srgb(picture: Picture) -> Picture:
    """The picture in the colours of sRGB, by its embedded profile (perceptual intent). Its transparency stays.

    Without a profile, the picture itself is returned, as colours without a profile are sRGB. Raises ValueError if the profile
    cannot be used.
    """
    profile = picture.info.get("icc_profile")
    if not profile and picture.mode != "LAB":
        return picture
    if is_deep_grey(picture):
        raise ValueError("a profile of a picture with more than 8 bits")
    from PIL import ImageCms

    try:
        space, transform = _transform(profile or None)
        mode = _PROFILE_MODES.get(space)
        transparent = picture.has_transparency_data
        opacity = picture.convert("RGBA").getchannel("A") if transparent and picture.mode != "LAB" else None
        if mode is None or (mode in ("CMYK", "LAB")) != (picture.mode in ("CMYK", "LAB")):
            raise ValueError(f"a profile for {space.strip() or 'nothing'} in a picture of mode {picture.mode}")
        if transform is None:
            return picture
        plain = picture.convert("RGBA").convert("RGB") if opacity is not None else picture
        converted = ImageCms.applyTransform(plain.convert(mode), transform)
    except (ImageCms.PyCMSError, OSError, TypeError, AttributeError) as error:
        raise ValueError(str(error)) from error
    assert converted is not None
    if opacity is not None:
        converted.putalpha(opacity)
    return converted


def is_deep_grey(picture: Picture) -> bool:
    """Whether a picture holds grey values of more than 8 bits."""
    return picture.mode == "F" or picture.mode.startswith("I")


@functools.lru_cache(maxsize=8)
def _transform(profile: bytes | None) -> tuple[str, Any]:
    """The colour space of a profile, and its transform to sRGB, None if it changes nothing. Without a profile: CIELAB's."""
    from PIL import ImageChops, ImageCms

    source = ImageCms.createProfile("LAB") if profile is None else ImageCms.ImageCmsProfile(io.BytesIO(profile))
    space = "Lab " if profile is None else str(source.profile.xcolor_space)  # type: ignore[union-attr]
    mode = _PROFILE_MODES.get(space)
    if mode is None:
        return space, None
    transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    if mode in ("RGB", "L"):
        probe = _probe().convert(mode)
        seen = ImageCms.applyTransform(probe, transform)
        assert seen is not None
        bands = ImageChops.difference(seen, probe.convert("RGB")).getextrema()
        if max(high for _, high in bands) <= _UNNOTICED:  # type: ignore[misc]
            return space, None
    return space, transform


def _probe() -> Picture:
    """A picture of 16 * 16 * 16 colours."""
    from PIL import Image as pillow

    levels = range(0, 256, 17)
    return pillow.frombytes("RGB", (256, 16), bytes(part for r in levels for g in levels for b in levels for part in (r, g, b)))
