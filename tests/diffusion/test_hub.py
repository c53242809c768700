"""Models by hub address, downloaded from a local stand-in server, each in a separate process."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest

from nodegraph_diffusion.checkpoint import CheckpointError
from nodegraph_diffusion.checkpoint.files import hub_connection, hub_resume
from nodegraph_diffusion.checkpoint.files.hub import Reference, describe_fetch, fetch, find_fetched, parse
from nodegraph_diffusion.checkpoint.files.hub_connection import require_answer
from nodegraph_diffusion.checkpoint.files.hub_errors import describe_error
from nodegraph_diffusion.checkpoint.files.hub_hash import remove_damaged
from nodegraph_diffusion.checkpoint.files.hub_incomplete import missing_files
from tests.support.hub import COMMIT, Fault, serve

pytestmark = pytest.mark.slow

REPOSITORIES = {
    "org/folder": {
        "model_index.json": b"{}",
        "README.md": b"not wanted",
        "scheduler/scheduler_config.json": b"{}",
        "tokenizer/vocab.json": b"{}",
        "tokenizer/merges.txt": b"",
        "safety_checker/model.safetensors": b"not wanted",
        "unet/config.json": b"{}",
        "unet/diffusion_pytorch_model.safetensors": b"not wanted: half precision will do",
        "unet/diffusion_pytorch_model.fp16.safetensors": b"unet",
        "unet/diffusion_pytorch_model.non_ema.safetensors": b"not wanted",
        "unet/diffusion_pytorch_model.bin": b"not wanted",
        "vae/config.json": b"{}",
        "vae/diffusion_pytorch_model-00001-of-00002.safetensors": b"one",
        "vae/diffusion_pytorch_model-00002-of-00002.safetensors": b"two",
        "vae/diffusion_pytorch_model.safetensors.index.json": b"{}",
    },
    "org/single": {"model.safetensors": b"weights", "model.ckpt": b"not wanted"},
    "org/part": {
        "config.json": b"{}",
        "README.md": b"not wanted",
        "diffusion_pytorch_model.bin": b"not wanted",
        "diffusion_pytorch_model.safetensors": b"weights",
        "sdxl.vae.safetensors": b"not wanted: the same under other names",
    },
    "org/several": {"a.safetensors": b"a", "b.safetensors": b"b", "deep/c.safetensors": b"c"},
    "org/adapter": {"README.md": b"", "adapter_config.json": b"{}", "adapter_model.safetensors": b"adapter"},
    "org/pickles": {"model.ckpt": b"not wanted"},
    "org/variants": {
        "model_index.json": b"{}",
        "unet/config.json": b"{}",
        "unet/diffusion_pytorch_model.bf16.safetensors": b"unet",
        "unet/diffusion_pytorch_model.non_ema.safetensors": b"not wanted",
        "vae/config.json": b"{}",
        "vae/diffusion_pytorch_model.non_ema-00001-of-00001.safetensors": b"vae",
        "vae/diffusion_pytorch_model.safetensors.index.non_ema.json": b"{}",
    },
    "org/gated": {"model.safetensors": b"secret"},
}
WANTED = {
    ".nodegraph",
    "model_index.json",
    "scheduler/scheduler_config.json",
    "tokenizer/merges.txt",
    "tokenizer/vocab.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model-00001-of-00002.safetensors",
    "vae/diffusion_pytorch_model-00002-of-00002.safetensors",
    "vae/diffusion_pytorch_model.safetensors.index.json",
}
FETCH = """
import json
import os
import sys
from nodegraph_diffusion.checkpoint import CheckpointError
from nodegraph_diffusion.checkpoint.files.hub import fetch
for text in sys.argv[1:]:
    try:
        print(fetch(text, json.loads(os.environ.get("EXPECTED", "{}"))))
    except CheckpointError as error:
        print(error)
print("huggingface_hub" in sys.modules)
"""


ASK = f"""
import time
slept = []
time.sleep = slept.append
{FETCH}
print(sum(slept))
"""


class Fetched(NamedTuple):
    """The result or error of `fetch`, whether it imported the hub's library, and the requests to the hub."""

    output: str
    imported: bool
    asked: list[str]
    stderr: str = ""

    @property
    def files(self) -> set[str]:
        folder = Path(self.output)
        return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


class Hub:
    """A running stand-in for the hub, with a separate cache folder."""

    def __init__(self, address: str, asked: list[str], home: Path) -> None:
        self.address, self.asked, self.home = address, asked, home

    def fetch(self, text: str, **environment: str) -> Fetched:
        """The result for an address, in a process of its own."""
        return self.fetch_all(text, **environment)[0]

    def fetch_all(self, *texts: str, **environment: str) -> list[Fetched]:
        """The result for each of these addresses, in one process; the requests are those of all."""
        self.asked.clear()
        variables = {**os.environ, "HF_ENDPOINT": self.address, "HF_HOME": str(self.home), "HF_HUB_OFFLINE": "0", **environment}
        done = subprocess.run([sys.executable, "-c", FETCH, *texts], env=variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        *outputs, imported = done.stdout.splitlines()
        assert len(outputs) == len(texts)
        return [Fetched(output, imported == "True", list(self.asked), done.stderr) for output in outputs]


@pytest.fixture
def faults() -> dict[str, Fault]:
    """What goes wrong with files of the hub, by name; tests change it."""
    return {}


@pytest.fixture
def hub(tmp_path: Path, faults: dict[str, Fault]) -> Iterator[Hub]:
    with serve(REPOSITORIES, gated=frozenset({"org/gated"}), statuses={"org/lost": 404, "org/closed": 403}, faults=faults) as (
        address,
        asked,
    ):
        yield Hub(address, asked, tmp_path)


def test_needed_files_of_a_folder_are_fetched_once(hub):
    first, second = hub.fetch("hf://org/folder"), hub.fetch("hf://org/folder")
    assert first.files == WANTED
    assert second == Fetched(first.output, imported=False, asked=[])


def test_a_variant_is_fetched_if_nothing_else_is_published(hub):
    assert hub.fetch("hf://org/variants").files == {
        ".nodegraph",
        *(name for name, content in REPOSITORIES["org/variants"].items() if content != b"not wanted"),
    }


def test_part_alone_is_fetched_once(hub):
    first, second = hub.fetch("hf://org/part"), hub.fetch("hf://org/part")
    assert first.files == {".nodegraph", "config.json", "diffusion_pytorch_model.safetensors"}
    assert second == Fetched(first.output, imported=False, asked=[])


def test_part_of_a_model_is_fetched_with_its_configs(hub):
    first, second = hub.fetch("hf://org/folder/vae"), hub.fetch("hf://org/folder/vae")
    assert second == Fetched(first.output, imported=False, asked=[])
    folder = Path(first.output)
    fetched = {file.relative_to(folder.parent).as_posix() for file in folder.parent.rglob("*") if file.is_file()}
    assert fetched == {"vae/.nodegraph", *(name for name in WANTED if name != ".nodegraph" and not name.startswith("unet/d"))}
    assert hub.fetch("hf://org/folder").files == WANTED | {"vae/.nodegraph"}


def test_single_file_is_fetched_once(hub):
    first, second = hub.fetch("hf://org/single"), hub.fetch("hf://org/single")
    assert Path(first.output).read_bytes() == b"weights"
    assert second == Fetched(first.output, imported=False, asked=[])


def test_adapter_is_fetched_with_its_config(hub):
    first, second = hub.fetch("hf://org/adapter"), hub.fetch("hf://org/adapter")
    assert first.files == {".nodegraph", "adapter_config.json", "adapter_model.safetensors"}
    assert second == Fetched(first.output, imported=False, asked=[])


def test_fetched_files_are_found_without_the_network(hub, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(hub.home))
    monkeypatch.setenv("HF_ENDPOINT", hub.address)
    for text in ("hf://org/single", "hf://org/folder/vae", "hf://org/several/a.safetensors"):
        assert find_fetched(text) is None
        path = hub.fetch(text).output
        hub.asked.clear()
        assert find_fetched(text) == Path(path)
        assert hub.asked == []


def test_a_large_download_that_broke_off_is_continued_by_the_next_run(hub, faults, monkeypatch):
    """Until it is complete, no file has the name that the hub's library looks for; another process continues it."""
    monkeypatch.setattr(hub_resume, "LARGE", 1)
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 2)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # whatever the environment says
    faults["model.safetensors"] = "cut"

    def download() -> None:
        cache = hub.home / "hub"
        hub_resume.download_resumably("org/single", "model.safetensors", revision="main", cache=cache, endpoint=hub.address)

    with monkeypatch.context() as broken:
        broken.setattr("huggingface_hub.file_download.time.sleep", broken_off)
        with pytest.raises(KeyboardInterrupt):
            download()
    blob = hub.home / "hub/models--org--single/blobs" / hashlib.sha256(b"weights").hexdigest()
    assert not blob.exists()
    assert blob.with_name(f"{blob.name}.nodegraph-partial").read_bytes() == b"we"  # whole pieces of the library
    hub.asked.clear()
    download()
    assert blob.read_bytes() == b"weights"
    assert any(request.startswith("GET") and request.endswith("model.safetensors bytes=2-") for request in hub.asked), hub.asked
    assert not list(blob.parent.glob("*partial"))
    hub.asked.clear()
    fetched = hub.fetch("hf://org/single")
    assert Path(fetched.output).read_bytes() == b"weights"
    assert not [request for request in fetched.asked if request.startswith("GET") and "/resolve/" in request]


def broken_off(seconds: float) -> None:
    """In place of a pause before the hub's library tries again: the user interrupts it."""
    raise KeyboardInterrupt


@pytest.mark.parametrize("address", ["hf://org/single", "hf://org/single/model.safetensors"])
def test_a_damaged_download_is_found_by_its_hash_and_removed(hub, faults, address):
    faults["model.safetensors"] = "damaged"
    fetched = hub.fetch(address)
    assert "expected 'model.safetensors' with the hash that the hub gives for it, found another content" in fetched.output
    assert not [file for file in hub.home.rglob("*") if file.is_file() and file.read_bytes() == bytes(len(b"weights"))]
    faults.clear()
    assert Path(hub.fetch(address).output).read_bytes() == b"weights"


def test_one_damaged_file_of_a_folder_is_fetched_again_and_the_others_stay(hub, faults):
    faults["unet/diffusion_pytorch_model.fp16.safetensors"] = "damaged"
    assert "diffusion_pytorch_model.fp16.safetensors' with the hash" in hub.fetch("hf://org/folder").output
    faults.clear()
    again = hub.fetch("hf://org/folder")
    assert again.files == WANTED
    downloads = [request for request in again.asked if request.startswith("GET") and "/resolve/" in request]
    assert [request.rpartition("/")[2] for request in downloads] == ["diffusion_pytorch_model.fp16.safetensors"]


UNET = "unet/diffusion_pytorch_model.fp16.safetensors"


@pytest.mark.parametrize(
    ("address", "name", "key"),
    [
        ("hf://org/single", "model.safetensors", "model"),
        ("hf://org/single/model.safetensors", "model.safetensors", "model"),
        ("hf://org/folder", UNET, UNET),
        ("hf://org/folder/vae", *["diffusion_pytorch_model-00002-of-00002.safetensors"] * 2),
    ],
)
def test_a_download_is_compared_with_the_hash_in_a_lock_file(hub, address, name, key):
    content = {"model": b"weights", UNET: b"unet"}.get(key, b"two")
    wrong, right = ({key: hashlib.sha256(data).hexdigest()} for data in (b"other", content))
    for _ in range(2):  # what was refused is not found by the next run
        output = hub.fetch(address, EXPECTED=json.dumps(wrong)).output
        assert f"expected '{name}' with the SHA-256 {wrong[key][:12]}..., as the lock file says, found {right[key][:12]}" in output
    fetched = Path(hub.fetch(address, EXPECTED=json.dumps(right)).output)
    assert (fetched / name if fetched.is_dir() else fetched).read_bytes() == content


def test_a_refused_download_leaves_the_same_file_of_another_revision(hub):
    good = Path(hub.fetch(f"hf://org/single@{COMMIT}").output)
    before = good.resolve().read_bytes()
    hub.fetch("hf://org/single", EXPECTED=json.dumps({"model": "00" * 32}))
    assert (good.resolve().read_bytes(), before) == (b"weights", b"weights")


def test_hashes_of_git_are_checked_too(tmp_path):
    content = b"{}"
    name = hashlib.sha1(b"blob 2\0" + content).hexdigest()
    for blob, written in ((tmp_path / name, content), (tmp_path / "no hash", content)):
        blob.write_bytes(written)
        assert remove_damaged([blob]) == []
    (tmp_path / name).write_bytes(b"[]")
    (tmp_path / "link").symlink_to(tmp_path / name)
    assert remove_damaged([tmp_path / "link"]) == [tmp_path / "link"]
    assert [file.name for file in tmp_path.iterdir()] == ["no hash"]


def test_file_and_revision_can_be_given(hub):
    assert Path(hub.fetch("hf://org/several/deep/c.safetensors").output).read_bytes() == b"c"
    at_commit = f"hf://org/several@{COMMIT}/b.safetensors"
    assert Path(hub.fetch(at_commit).output).read_bytes() == b"b"
    assert hub.fetch(at_commit).asked == []


def test_cached_file_does_not_hide_the_others(hub):
    hub.fetch("hf://org/several/b.safetensors")
    assert hub.fetch("hf://org/several").output == (
        "hf://org/several: expected a diffusers folder or one .safetensors file, found 2 files: a.safetensors, b.safetensors. "
        "Name one: hf://org/several/a.safetensors"
    )


def test_missing_files_give_a_one_line_error(hub):
    messages = {
        "hf://org/nothing": "expected a model on the hub, found none. Copy its name from its page",
        "hf://org/gated": "found one whose terms must be accepted first. Accept them on its page, then log in",
        "hf://org/single@v9": "expected a revision 'v9', found none",
        "hf://org/single/other.safetensors": "expected a file 'other.safetensors', found none",
        "hf://org/folder/safety_checker": "expected a part of a model in 'safety_checker', found none",
        "hf://org/pickles": "expected a diffusers folder or one .safetensors file, found neither",
    }
    for (text, message), fetched in zip(messages.items(), hub.fetch_all(*messages), strict=True):
        assert fetched.output.startswith(f"{text}: expected ")
        assert message in fetched.output


def test_downloaded_files_work_offline(hub):
    fetched = hub.fetch("hf://org/folder")
    (Path(fetched.output) / ".nodegraph").unlink()  # as if another program had fetched it
    assert hub.fetch("hf://org/folder", HF_HUB_OFFLINE="1").output == fetched.output
    output = hub.fetch("hf://org/single", HF_HUB_OFFLINE="1").output
    assert output == (
        "hf://org/single: expected a download from the hub, found HF_HUB_OFFLINE, which forbids downloads. "
        "Unset it, or give a path instead."
    )


WHOLE = {
    "model_index.json": json.dumps(
        {
            "_class_name": "StableDiffusionPipeline",
            **{part: ["x", "y"] for part in ("unet", "vae", "text_encoder", "tokenizer", "scheduler", "safety_checker")},
            "text_encoder_2": [None, None],
        }
    ),
    "scheduler/scheduler_config.json": "{}",
    "tokenizer/vocab.json": "{}",
    "tokenizer/merges.txt": "",
    "text_encoder/config.json": "{}",
    "text_encoder/model.safetensors": "",
    "unet/config.json": "{}",
    "unet/diffusion_pytorch_model.fp16-00001-of-00002.safetensors": "",
    "unet/diffusion_pytorch_model.fp16-00002-of-00002.safetensors": "",
    "unet/diffusion_pytorch_model.safetensors.index.fp16.json": "{}",
    "vae/config.json": "{}",
    "vae/diffusion_pytorch_model.bin": "",
}


def write_snapshot(folder: Path, names: Iterable[str]) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(WHOLE[name])
    return folder


@pytest.mark.parametrize("name", [name for name in WHOLE if name != "model_index.json"])
def test_each_file_that_a_broken_off_download_lacks_is_named(tmp_path, name):
    assert missing_files(write_snapshot(tmp_path / "whole", WHOLE)) == []
    missing = missing_files(write_snapshot(tmp_path / "broken", WHOLE.keys() - {name}))
    only_weights = name in ("text_encoder/model.safetensors", "vae/diffusion_pytorch_model.bin")
    if "index" in name:
        assert missing == ["unet/diffusion_pytorch_model.fp16.safetensors.index.json"]
    else:
        assert missing == [f"the weights of {Path(name).parent}" if only_weights else name]


@pytest.mark.parametrize(
    ("part", "names", "missing"),
    [
        ("unet", ["unet/config.json"], ["model_index.json"]),
        ("unet", [name for name in WHOLE if not name.startswith("vae/")], ["vae/config.json"]),
        ("unet", [name for name in WHOLE if not name.startswith("scheduler/")], ["scheduler/scheduler_config.json"]),
        ("unet", WHOLE, []),
        ("vae", ["vae/config.json", "vae/diffusion_pytorch_model.bin"], []),
        ("vae", ["vae/config.json"], ["the weights of vae"]),
        (
            "text_encoder",
            ["model_index.json", "text_encoder/config.json", "text_encoder/model.safetensors"],
            ["tokenizer/vocab.json"],
        ),
        ("text_encoder", ["text_encoder/config.json", "text_encoder/model.safetensors"], []),
        ("", ["unet/config.json"], ["config.json", "its weights"]),
    ],
)
def test_a_part_needs_what_says_how_it_was_trained(tmp_path, part, names, missing):
    assert missing_files(write_snapshot(tmp_path, names), part)[: len(missing) or None] == missing


def test_a_model_of_another_family_is_not_incomplete(tmp_path):
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline", "transformer": ["x", "y"], "vae": ["x", "y"]}')
    assert missing_files(tmp_path) == []


def test_a_download_that_broke_off_is_not_taken_for_a_model_while_the_hub_is_away(tmp_path, monkeypatch):
    """Not by this program, and not offline; without a scheduler, the folder would otherwise be one of noise levels by default."""
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    snapshot = tmp_path / "hub/models--org--folder/snapshots/main"
    write_snapshot(snapshot, WHOLE.keys() - {"scheduler/scheduler_config.json", "text_encoder/model.safetensors"})
    lacks = "and in the cache a model without the weights of text_encoder, scheduler/scheduler_config.json"
    with pytest.raises(CheckpointError, match=f"found no connection .*, {lacks}. Check the connection"):
        fetch("hf://org/folder")
    assert find_fetched("hf://org/folder") is None
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CheckpointError, match=f"found HF_HUB_OFFLINE, which forbids downloads, {lacks}. Unset it"):
        find_fetched("hf://org/folder")
    write_snapshot(snapshot, WHOLE)
    assert find_fetched("hf://org/folder") == snapshot
    assert find_fetched("hf://org/other") is None
    assert describe_fetch("hf://org/other").endswith(", which HF_HUB_OFFLINE forbids now")


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_unreachable_hub_is_one_message(hub):
    fetched = hub.fetch("hf://org/single", HF_ENDPOINT="http://127.0.0.1:9")
    assert fetched.output.startswith("hf://org/single: expected a download from the hub, found no connection (http://127.0.0.1:9: ")
    assert "Check the connection" in fetched.output
    assert fetched.stderr == ""  # not one message for each time that the hub's library tries again


@pytest.mark.parametrize(
    ("status", "pause", "requests", "found"),
    [
        (503, None, 3, "a failure of {address} itself (503). Run again later"),
        (503, "2", 3, "a failure of {address} itself (503). Run again later"),
        (503, "3600", 1, "a failure of {address} itself (503)"),
        (429, None, 1, "the answer 'too many requests' (429) from {address}. Wait some minutes"),
    ],
)
def test_busy_hub_is_one_message_after_a_few_seconds(tmp_path, status, pause, requests, found):
    """Its library would ask six times, for 23 seconds or for as long as the hub says."""
    pauses = {} if pause is None else {"org/busy": pause}
    with serve({}, statuses={"org/busy": status}, pauses=pauses) as (address, asked):
        variables = {**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
        command = [sys.executable, "-c", ASK, "hf://org/busy"]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    message, _, slept = done.stdout.splitlines()
    assert f"hf://org/busy: expected a download from the hub, found {found.format(address=address)}" in message
    assert done.stderr == ""
    assert float(slept) <= 6
    assert sum(request.startswith("GET /api/models/org/busy") for request in asked) == requests


def test_answer_without_a_reason_is_no_connection_problem(hub):
    lost, closed, file = hub.fetch_all("hf://org/lost", "hf://org/closed", "hf://org/lost/x.safetensors")
    not_found = (
        f"expected a download from the hub, found the answer 'not found' (404) from {hub.address}. Copy the names of model and "
        "file from the model's page. HF_ENDPOINT is set: check that there is a hub."
    )
    assert lost.output == f"hf://org/lost: {not_found}"
    assert file.output == f"hf://org/lost/x.safetensors: {not_found}"
    assert f"found a refusal (403) by {hub.address}. If the model is private, log in with" in closed.output
    assert lost.stderr == ""


class TimeoutException(Exception):
    """As httpx calls it."""


class TransportError(Exception):
    """As httpx calls it."""


class StatusError(Exception):
    """An answer with a status, as httpx and requests have it."""

    def __init__(self, status: int) -> None:
        super().__init__(f"{status} Error for url: https://hub/api/x. More: https://developer.mozilla.org")
        self.response = SimpleNamespace(status_code=status)


@pytest.mark.parametrize(
    ("cause", "found", "hint"),
    [
        (TimeoutException("The read operation timed out"), "no answer from https://hub in time", "HF_HUB_DOWNLOAD_TIMEOUT"),
        (TimeoutError("timed out"), "no answer from https://hub in time", "Run again: a download goes on where it stopped."),
        (TransportError("Server disconnected"), "a lost connection to https://hub (Server disconnected)", "Check the connection"),
        (StatusError(429), "the answer 'too many requests' (429) from https://hub", "Wait some minutes"),
        (StatusError(503), "a failure of https://hub itself (503)", "Run again later"),
        (StatusError(418), "an answer with status 418 from https://hub", "Check HF_ENDPOINT"),
        (OSError(28, "No space left on device"), "an error of the disk: No space left on device", "Free some space"),
        (ValueError("odd"), "an error (odd)", "Check the connection"),
        (ValueError(), "an error (ValueError)", "Check the connection"),
    ],
    ids=str,
)
def test_errors_of_the_hub_are_in_our_words(cause, found, hint):
    described = describe_error(cause, "https://hub")
    assert described[0] == found
    assert hint in described[1]


@pytest.mark.parametrize("cause", [TimeoutException("x"), TransportError("x"), StatusError(404)], ids=str)
def test_error_behind_another_one_counts(cause):
    error = FileNotFoundError("Please check your connection and try again")
    error.__cause__ = cause
    assert describe_error(error, "https://hub") == describe_error(cause, "https://hub")


def test_hub_that_is_away_is_noticed(silent, hub):
    require_answer(hub.address)
    for address, reason in (
        (f"http://127.0.0.1:{silent.getsockname()[1]}", "no answer within 0.1 seconds"),
        ("http://127.0.0.1:9", "the connection was refused"),
        ("http://hub.invalid", "its name cannot be found"),
    ):
        with pytest.raises(ConnectionError, match=f"{address}: {reason}"):
            require_answer(address, seconds=0.1 if "answer" in reason else 60)


def test_hub_that_did_not_answer_is_not_asked_again_at_once(silent, monkeypatch):
    address = f"http://127.0.0.1:{silent.getsockname()[1]}"
    silent.settimeout(0)
    for page in ("/one", "/two"):
        with pytest.raises(ConnectionError, match="no answer within"):
            require_answer(address, page, seconds=0.1)
    silent.accept()[0].close()
    with pytest.raises(BlockingIOError):
        silent.accept()
    monkeypatch.setattr(hub_connection, "SILENT_FOR", 0.0)
    with pytest.raises(ConnectionError, match="no answer within"):
        require_answer(address, seconds=0.1)
    silent.accept()[0].close()  # it was asked


def test_hub_addresses_are_parsed():
    assert parse("hf://org/name") == Reference("org/name", "main", None)
    assert parse("hf://org/na.me@fp16/sub/x.safetensors") == Reference("org/na.me", "fp16", "sub/x.safetensors")
    assert str(parse("hf://org/name@v1/x.safetensors")) == "hf://org/name@v1/x.safetensors"


@pytest.mark.parametrize(
    "text", ["hf://", "hf://name", "hf://a/b@", "hf://a/b@v/../../x", "hf://../x", "hf://a b/c", "hf://a/b/../c"]
)
def test_other_texts_are_not_addresses(text):
    with pytest.raises(CheckpointError, match="expected hf://organisation/name"):
        fetch(text)
