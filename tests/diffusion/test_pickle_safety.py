"""Malicious and damaged pickles: nothing in one is ever executed, whether pickles are allowed or not."""

from __future__ import annotations

import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nodegraph_diffusion.checkpoint import CheckpointError, convert, describe
from nodegraph_diffusion.checkpoint.files.header import read_header
from nodegraph_diffusion.checkpoint.files.mapped_file import MappedFile
from nodegraph_diffusion.checkpoint.files.pickle_permission import PICKLES_VARIABLE
from nodegraph_diffusion.text.inversion import read_inversion
from tests.support.pickles import FORMS, Evil


def rezip(path: Path, change: dict[str, bytes | None], compression: int = zipfile.ZIP_STORED, **more: bytes) -> None:
    """Write the archive again with other content in some entries."""
    with zipfile.ZipFile(path) as archive:
        entries = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in {**entries, **{f"model/{name}.pkl": content for name, content in more.items()}}.items():
            short = name.partition("/")[2]
            if change.get(short, content) is not None:
                archive.writestr(name, change.get(short, content))


@pytest.mark.usefixtures("allowed")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"change": {"byteorder": b"big"}}, "numbers whose highest byte comes first"),
        ({"change": {"data.pkl": None}}, "a zip archive that PyTorch did not write"),
        ({"change": {}, "constants": b"\x80\x02N."}, "a TorchScript program, which is code"),
        ({"change": {}, "compression": zipfile.ZIP_DEFLATED}, "is compressed or encrypted"),
        ({"change": {"data/0": None}}, "a damaged one"),
        ({"change": {"data/0": b"12345"}}, r"'a' with shape \[2, 3\] does not fit into its storage of 6 numbers"),
        ({"change": {"data.pkl": b""}}, "a damaged one"),
        ({"change": {"data.pkl": b"\x80\x02" + b"}" * 33_000_000}}, "33000002 bytes, more than the limit of 32000000"),
    ],
)
def test_archive_not_written_by_pytorch_is_refused(tmp_path, arguments, message):
    torch.save({"a": torch.ones(2, 3)}, tmp_path / "model.pt")
    rezip(tmp_path / "model.pt", **arguments)
    with pytest.raises(CheckpointError, match=message):
        read_header(tmp_path / "model.pt")


def archive(path: Path, program: bytes) -> Path:
    """A file as torch.save writes it, whose pickle is `program` and which has one storage of 24 bytes."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("model/data.pkl", program)
        file.writestr("model/data/0", bytes(24))
    return path


def tensor_program(offset: int, shape: tuple[int, ...], strides: tuple[int, ...], count: int = 6) -> bytes:
    def numbers(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(b"\x8a\x09" + value.to_bytes(9, "little", signed=True) for value in values) + b"t"

    storage = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpu" + numbers((count,))[1:-1] + b"tQ"
    view = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + numbers((offset,))[1:-1] + numbers(shape) + numbers(strides)
    return b"\x80\x02}X\x01\0\0\0a" + view + b"\x89}tRs."


@pytest.mark.usefixtures("allowed")
def test_handmade_pickle_is_read(tmp_path):
    file = archive(tmp_path / "model.pt", tensor_program(1, (2, 2), (2, 1)))
    assert MappedFile(file).tensor("a").tolist() == [[0, 0], [0, 0]]


@pytest.mark.usefixtures("allowed")
@pytest.mark.parametrize(
    "lie",
    [
        (0, (7,), (1,)),  # beyond the storage
        (6, (1,), (1,)),
        (5, (2,), (1,)),
        (7, (0,), (1,)),
        (-1, (2,), (1,)),
        (0, (-2,), (1,)),
        (0, (2,), (-1,)),
        (0, (2, 2), (1,)),
        (0, (10**9,), (0,)),  # one number, a thousand million times
        (0, (2,) * 60, (0,) * 60),
        (0, (1,) * 100, (1,) * 100),
        (1 << 62, (1,), (1,)),
        (0, (2,), (1,), 7),  # a storage larger than its bytes
        (0, (2,), (1,), -6),
        (0, (2,), (1,), 1 << 61),
    ],
)
def test_tensor_with_a_false_size_is_refused(tmp_path, lie):
    with pytest.raises(CheckpointError, match="a damaged one"):
        read_header(archive(tmp_path / "model.pt", tensor_program(*lie)))


@pytest.mark.usefixtures("allowed")
@pytest.mark.parametrize(
    "program",
    [
        b"\x80\x02r\xff\xff\xff\xff.",  # a memo of 2^32 places
        b"\x80\x02Nr\xff\xff\xff\xff.",
        b"\x80\x02X\xff\xff\xff\xffa.",  # a text of 4 GB
        b"\x80\x02\x8a\xff" + b"\xff" * 255 + b".",
        b"\x80\x02" + b"(" * 100_000 + b"t" * 100_000 + b".",  # 100,000 tuples inside each other
        b"\x80\x02}" + b"(" * 100_000 + b"t" * 100_000 + b"Ns.",  # and as a key
        b"\x80\x02]q\0h\0a.",  # a list in itself
        b"\x80\x02}q\0X\x0a\0\0\0state_dicth\0s.",
        b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
        b"\x80\x02.",
        b"\x80\x02",
        b"\x80\x02u.",
        b"\x80\x02}Nu.",
        b"\x80\x02)\x81.",
        b"\x80\x02N)R.",
        b"\x80\x02NQ.",
        b"\x80\x02h\x07.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.",
        b"\x80\x02ccollections\nOrderedDict\nN\x85R.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x0c\0\0\0__defaults__N\x85sb.",
        b"\x80\x02c\xff\n\xff\n.",
    ],
)
def test_malicious_pickle_is_refused(tmp_path, program):
    with pytest.raises(CheckpointError):
        read_header(archive(tmp_path / "model.pt", program))


@pytest.mark.usefixtures("allowed")
@pytest.mark.parametrize(
    ("program", "message"),
    [
        (b"\x80\x02cposix\nsystem\nX\x01\0\0\0aR.", "the name 'posix.system', which stands for code"),
        (b"\x80\x02c__builtin__\neval\n.", "the name '__builtin__.eval'"),
        (b"\x80\x02cbuiltins\ngetattr\n.", "the name 'builtins.getattr'"),
        (b"\x80\x02ctorch.serialization\nload\n.", "the name 'torch.serialization.load'"),
        (b"\x80\x02cnumpy\nload\n.", "the name 'numpy.load'"),
        (b"\x80\x02cpytorch_lightning.x\ny;os\n.", "the name 'pytorch_lightning.x.y;os'"),
        (b"\x80\x02(X\x01\0\0\0aiposix\nsystem\n.", "the opcode b'i'"),
        (b"\x80\x02(cposix\nsystem\nX\x01\0\0\0ao.", "the name 'posix.system'"),
        (b"\x80\x02X\x02\0\0\0osX\x06\0\0\0system\x93.", r"the opcode b'\\x93'"),
        (b"\x80\x02\x82\x01.", r"the opcode b'\\x82'"),
        (b"\x80\x04N.", "version 4 of the pickle protocol"),
    ],
)
def test_reference_to_code_is_refused_and_named(tmp_path, program, message):
    with pytest.raises(CheckpointError, match=f"found {message}.*None of it was run"):
        read_header(archive(tmp_path / "model.pt", program))


# --- nothing in a pickle is ever executed

DOORS = {
    "LoadModel": lambda path: describe(path).model(),
    "LoadControlNet": lambda path: describe(path).controlnet(),
    "LoadLora": lambda path: describe(path).lora(),
    "LoadEmbedding": lambda path: read_inversion(describe(path).embedding(), [128]),
    "header": read_header,
    "tensors": MappedFile,
    "convert": lambda path: convert(path, path.with_name("new.safetensors")),
}


def evil_files(folder: Path, marker: Path) -> list[Path]:
    """Malicious pickles of every form, with a command in every place."""
    places: list[Any] = [
        Evil(marker),
        {"weight": Evil(marker)},
        {"weight": torch.ones(2), "extra": Evil(marker)},
        {"state_dict": {"weight": torch.ones(2)}, "callbacks": {"x": Evil(marker)}},
    ]
    files = []
    for number, content in enumerate(places):
        for form in FORMS:
            files.append(folder / f"{number}{len(form)}.ckpt")
            torch.save(content, files[-1], **form)
        for protocol in range(6):
            files.append(folder / f"{number}-{protocol}.pkl")
            files[-1].write_bytes(pickle.dumps(content, protocol))
    return files


@pytest.mark.parametrize("permission", ["0", "1"])
@pytest.mark.parametrize("door", DOORS)
def test_command_in_a_pickle_never_runs(tmp_path, monkeypatch, door, permission):
    marker = tmp_path / "marker"
    files = evil_files(tmp_path, marker)
    monkeypatch.setenv(PICKLES_VARIABLE, permission)
    for file in files:
        with pytest.raises(CheckpointError):
            DOORS[door](file)
    assert not marker.exists()
    assert not (tmp_path / "new.safetensors").exists()
    torch.load(files[0], weights_only=False)  # what it would have done
    assert marker.exists()


@pytest.mark.parametrize("permission", ["0", "1"])
def test_command_in_a_folder_never_runs(tmp_path, monkeypatch, folder, permission):
    monkeypatch.setenv(PICKLES_VARIABLE, permission)
    (file,) = (folder / "unet").glob("*.safetensors")
    torch.save({"weight": Evil(tmp_path / "marker")}, file.with_suffix(".bin"))
    file.unlink()
    with pytest.raises(CheckpointError, match=r"system'|unless you allow it"):
        describe(folder).model()
    assert not (tmp_path / "marker").exists()


def test_reader_cannot_look_up_functions():
    """No module of the reader imports what could look up a function by its name."""
    from nodegraph_diffusion.checkpoint.files import pickle_file
    from nodegraph_diffusion.checkpoint.files import pickle_opcodes as opcodes

    for module in (opcodes, pickle_file):
        text = Path(module.__file__).read_text(encoding="utf-8")
        for word in ("import pickle", "import torch", "importlib", "getattr(", "eval(", "exec(", "__import__"):
            assert word not in text


# --- damage


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.usefixtures("allowed")
def test_truncated_file_is_refused(tmp_path, data):
    tensors = {"a": torch.ones(50), "b": torch.arange(30.0).reshape(5, 6).T, "c": torch.ones(3).half()}
    torch.save(tensors, tmp_path / "model.pt", **data.draw(st.sampled_from(FORMS)))
    content = (tmp_path / "model.pt").read_bytes()
    length = data.draw(st.integers(0, len(content) - 1))
    (tmp_path / "cut.pt").write_bytes(content[:length])
    with pytest.raises(CheckpointError):
        read_header(tmp_path / "cut.pt")


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.usefixtures("allowed")
def test_changed_bytes_are_harmless_or_refused(tmp_path, data):
    tensors = {"a": torch.ones(5), "b": torch.arange(30.0).reshape(5, 6).T, "c": torch.ones(3).half()}
    torch.save(tensors, tmp_path / "model.pt", **data.draw(st.sampled_from(FORMS)))
    content = bytearray((tmp_path / "model.pt").read_bytes())
    for at, byte in data.draw(st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), min_size=1, max_size=4)):
        content[at] = byte
    (tmp_path / "model.pt").write_bytes(content)
    try:
        names = read_header(tmp_path / "model.pt").tensors
        mapped = MappedFile(tmp_path / "model.pt")
        for name, info in names.items():
            if info.dtype in ("F16", "F32"):
                assert mapped.tensor(name).sum().isfinite() in (True, False)
    except CheckpointError:
        pass


@pytest.mark.usefixtures("allowed")
def test_zip_with_a_false_directory_is_refused(tmp_path):
    torch.save({"a": torch.ones(5)}, tmp_path / "model.pt")
    content = (tmp_path / "model.pt").read_bytes()
    at = content.rindex(b"PK\x01\x02")
    while at > 0:
        for offset, form, value in ((20, "<I", 1 << 31), (24, "<I", 1 << 31), (42, "<I", 1 << 31), (42, "<I", 5), (46, "<B", 255)):
            changed = bytearray(content)
            struct.pack_into(form, changed, at + offset, value)
            (tmp_path / "bad.pt").write_bytes(changed)
            if b"model/data" in content[at : at + 80]:
                with pytest.raises(CheckpointError):
                    read_header(tmp_path / "bad.pt")
        at = content.rfind(b"PK\x01\x02", 0, at)


@pytest.mark.slow
@pytest.mark.usefixtures("allowed")
@pytest.mark.parametrize("form", FORMS)
def test_20_000_tensors_are_read(tmp_path, form):
    torch.save({f"layer.{i}.weight": torch.zeros(2) for i in range(20_000)}, tmp_path / "model.pt", **form)
    assert len(read_header(tmp_path / "model.pt").tensors) == 20_000
