"""Pictures in a folder, with their captions."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from nodegraph import Resource
from nodegraph.plugin_api import dataclass, under
from nodegraph_training.data.captions import BESIDE, TABLES, Fault, picture_of, read_table, read_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nodegraph_diffusion.training.pictures.buckets import Buckets

PICTURES: Final = (".png", ".jpg", ".jpeg", ".webp", ".bmp")

_MOST_LISTED: Final = 20
"""How many faults a message lists."""

_FIRST_TURNED: Final = 5
"""Orientations from this one on exchange height and width (Exif 2.3, tag 0x0112)."""

_MOST_IN_MEMORY: Final = 4096
"""How many pictures of a folder are kept in memory."""


@dataclass(frozen=True)
class PictureFolder:
    """The files of a folder by their paths below it: pictures, captions beside pictures, and tables of captions."""

    path: Path
    pictures: Mapping[str, Path]
    captions: Mapping[str, Path]
    tables: Mapping[str, Path]


@dataclass(frozen=True)
class CaptionedPicture:
    """A picture in a file, with its caption."""

    name: str
    path: Path
    caption: str


def find_folder(text: str, base: Path) -> Resource:
    """The folder that an input names. Raises FileNotFoundError and ValueError with a message for the user."""
    path = under(base, text)
    if not path.is_dir():
        raise FileNotFoundError(f"there is no folder {path}" if not path.exists() else f"{path} is not a folder")
    files = {
        file.relative_to(path).as_posix(): file
        for file in sorted(path.rglob("*"))
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts)
    }

    def of(suffixes: tuple[str, ...]) -> dict[str, Path]:
        return {name: file for name, file in files.items() if file.suffix.lower() in suffixes}

    found = PictureFolder(path, of(PICTURES), of(BESIDE), of(TABLES))
    if not found.pictures:
        raise ValueError(f"{path}: expected pictures ({', '.join(PICTURES)}), found none; name the folder that they are in")
    return Resource(found, {**found.pictures, **found.captions, **found.tables})


def captioned(folder: PictureFolder, caption: str | None) -> tuple[list[CaptionedPicture], list[Fault]]:
    """The pictures with their captions, and the files that cannot be used.

    A text file beside a picture comes before a table; `caption` is for pictures that have neither.
    """
    captions, faults = _from_tables(folder)
    beside = {PurePosixPath(name).with_suffix("").as_posix(): name for name in sorted(folder.captions, reverse=True)}
    found = []
    for name, path in folder.pictures.items():
        text: str | Fault | None = captions.get(name, caption)
        if (file := beside.get(PurePosixPath(name).with_suffix("").as_posix())) is not None:
            text = read_text(file, folder.captions[file])
        problem = _problem_of_picture(path)
        if problem is not None:
            faults.append(Fault(name, problem))
        elif isinstance(text, Fault):
            faults.append(text)
        elif text is None:
            reason = "it has no caption: no .txt or .caption file beside it, and no row in a table; or give 'caption'"
            faults.append(Fault(name, reason))
        else:
            found.append(CaptionedPicture(name, path, text))
    return found, faults


def listed(faults: list[Fault]) -> str:
    """The faults as lines."""
    lines = [f"- {fault}" for fault in faults[:_MOST_LISTED]]
    if len(faults) > _MOST_LISTED:
        lines.append(f"- and {len(faults) - _MOST_LISTED} more")
    return "\n".join(lines)


class FolderPictures:
    """Captioned pictures, cut to squares of `side` pixels around their centre, or to the size of the bucket of each."""

    def __init__(self, pictures: list[CaptionedPicture], side: int, buckets: Buckets | None = None) -> None:
        self.side, self._pictures = side, pictures
        self._sizes = [(side, side) if buckets is None else buckets.of(*_upright_size(each.path)) for each in pictures]
        self._read = lru_cache(maxsize=_MOST_IN_MEMORY)(self._pixels)

    def __len__(self) -> int:
        return len(self._pictures)

    def size(self, index: int) -> tuple[int, int]:
        """Height and width of the picture as it is cut."""
        return self._sizes[index]

    def pixels(self, index: int) -> NDArray[np.uint8]:
        """A picture, (height, width, 3)."""
        return self._read(index)

    def caption(self, index: int, number: int = 0) -> str:
        """The caption of the picture."""
        return self._pictures[index].caption

    def label(self, index: int) -> str | None:
        """The folder that the picture is in; None if it is in no folder of its own."""
        parent = PurePosixPath(self._pictures[index].name).parent.name
        return parent or None

    def words(self) -> list[str]:
        """Every word of the captions, sorted."""
        import re

        return sorted({word for picture in self._pictures for word in re.findall(r"\w+", picture.caption.lower())})

    def _pixels(self, index: int) -> NDArray[np.uint8]:
        import numpy as np
        from PIL import Image, ImageOps

        with Image.open(self._pictures[index].path) as picture:
            upright = ImageOps.exif_transpose(picture).convert("RGB")
            height, width = self._sizes[index]
            return np.asarray(ImageOps.fit(upright, (width, height), Image.Resampling.LANCZOS))


def _from_tables(folder: PictureFolder) -> tuple[dict[str, str], list[Fault]]:
    """The captions in tables by picture, and what is wrong with the tables."""
    captions: dict[str, str] = {}
    faults: list[Fault] = []
    for table, path in folder.tables.items():
        rows, wrong = read_table(table, path)
        faults += wrong
        for row in rows:
            picture = picture_of(row, table, folder.pictures)
            if picture is None:
                faults.append(Fault(table, f"it names '{row.file}', and there is no such picture"))
            else:
                captions[picture] = row.caption
    return captions, faults


def _upright_size(path: Path) -> tuple[int, int]:
    """Height and width of a picture as it is shown."""
    from PIL import ExifTags, Image

    with Image.open(path) as picture:
        turned = picture.getexif().get(ExifTags.Base.Orientation, 1) >= _FIRST_TURNED
        return (picture.width, picture.height) if turned else (picture.height, picture.width)


def _problem_of_picture(path: Path) -> str | None:
    """Why a picture cannot be read; None if it can."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            picture.load()
    except Image.DecompressionBombError:
        return "it has more pixels than Pillow reads"
    except OSError as error:
        return f"it is not a whole picture ({error.strerror or 'damaged, or of another format'})"
    except (ValueError, SyntaxError):
        return "it is not a whole picture (damaged, or of another format)"
    return None
