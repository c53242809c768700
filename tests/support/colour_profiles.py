"""ICC profiles of displays, by their primaries, and of a press (ICC.1:2022, 7.2, 9 and 10), and what they mean."""

from __future__ import annotations

import struct

import numpy as np

SRGB = ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060))
DISPLAY_P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
D65 = (0.3127, 0.3290)

_TO_D50 = np.array(  # Bradford's adaptation from D65, as in ICC.1:2022, annex E
    [[1.0479298, 0.0229469, -0.0501923], [0.0296278, 0.9904344, -0.0170738], [-0.0092430, 0.0150552, 0.7518743]]
)


def to_xyz(primaries) -> np.ndarray:
    """The matrix from linear RGB with these primaries and the white of D65 to CIE XYZ."""
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    white = np.array([D65[0] / D65[1], 1, (1 - D65[0] - D65[1]) / D65[1]])
    return columns * np.linalg.solve(columns, white)


def display_profile(primaries) -> bytes:
    """The profile of a display with these primaries and the transfer curve of sRGB."""
    adapted = _TO_D50 @ to_xyz(primaries)
    curve = b"para" + bytes(4) + struct.pack(">HH", 3, 0) + _fixed(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    tags = {name: b"XYZ " + bytes(4) + _fixed(*adapted[:, i]) for i, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    tags |= {b"wtpt": _WHITE} | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    return _profile(tags, version=0x04300000, kind=b"mntr", space=b"RGB ", connection=b"XYZ ")


def ink_profile() -> bytes:
    """The profile of a press of four inks whose colours are those of `ink_lab`, by a table of its 16 full tones."""
    tones = np.stack(np.meshgrid(*[[0, 1]] * 4, indexing="ij"), -1).reshape(-1, 4)  # the first ink varies slowest
    table = bytes(4) + bytes((4, 3, 2, 0)) + _fixed(*np.eye(3).flatten())
    table += bytes(range(256)) * 4 + ink_lab(tones).astype(np.uint8).tobytes() + bytes(range(256)) * 3
    tags = {b"wtpt": _WHITE, b"A2B0": b"mft1" + table}
    return _profile(tags, version=0x02400000, kind=b"prtr", space=b"CMYK", connection=b"Lab ")


def ink_lab(inks: np.ndarray) -> np.ndarray:
    """The colours of full tones of cyan, magenta, yellow and black (..., 4), each 0 or 1: CIELAB as bytes (ICC.1:2022, 10.11)."""
    cyan, magenta, yellow, black = np.moveaxis(inks, -1, 0)
    paper = 1 - black  # black covers the others
    lightness = 255 * (1 - 0.25 * cyan) * (1 - 0.35 * magenta) * (1 - 0.08 * yellow)
    red, blue = -20 * cyan + 45 * magenta - 5 * yellow, -25 * cyan - 5 * magenta + 50 * yellow
    return np.round(np.stack([paper * lightness, 128 + paper * red, 128 + paper * blue], -1))


def lab_as_srgb(lab: np.ndarray) -> np.ndarray:
    """CIELAB bytes (..., 3) of the white of D50 in sRGB, by the published formulas (CIE 15:2004, 8.2.1; IEC 61966-2-1)."""
    lightness, a, b = lab[..., 0] * 100 / 255, lab[..., 1] - 128, lab[..., 2] - 128
    y = (lightness + 16) / 116
    roots = np.stack([y + a / 500, y, y - b / 200], -1)
    linear = np.where(roots > 6 / 29, roots**3, 3 * (6 / 29) ** 2 * (roots - 4 / 29))
    xyz = linear * [0.9642, 1, 0.8249] @ np.linalg.inv(_TO_D50).T
    return _encoded(np.clip(xyz @ np.linalg.inv(to_xyz(SRGB)).T, 0, 1))


def _profile(tags: dict[bytes, bytes], *, version: int, kind: bytes, space: bytes, connection: bytes) -> bytes:
    table, body, start = b"", b"", 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    header = struct.pack(">I4sI4s4s4s", start + len(body), bytes(4), version, kind, space, connection) + bytes(12)
    header += b"acsp" + bytes(28) + _fixed(0.9642, 1, 0.8249)
    return header + bytes(128 - len(header)) + struct.pack(">I", len(tags)) + table + body


def as_srgb(colours: np.ndarray, primaries) -> np.ndarray:
    """Colours (..., 3) in [0, 1] of a display with these primaries, in sRGB, by the published formulas."""
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ (np.linalg.inv(to_xyz(SRGB)) @ to_xyz(primaries)).T, 0, 1)
    return _encoded(linear)


def _encoded(linear: np.ndarray) -> np.ndarray:
    """Linear light in [0, 1] with the transfer curve of sRGB."""
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


def _fixed(*numbers: float) -> bytes:
    return b"".join(struct.pack(">i", round(number * 65536)) for number in numbers)


_WHITE = b"XYZ " + bytes(4) + _fixed(0.9642, 1, 0.8249)
