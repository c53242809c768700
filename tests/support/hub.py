"""A stand-in for the Hugging Face hub on localhost, with the part of its protocol that downloads use."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Literal, NamedTuple

from nodegraph_diffusion.checkpoint.files import hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"

Fault = Literal["damaged", "cut"]
"""What goes wrong with a file: zeros instead of its bytes, or only half of them unless a range is asked for."""

Repositories = Mapping[str, Mapping[str, bytes]]


@contextmanager
def serve(
    repositories: Repositories,
    gated: frozenset[str] = frozenset(),
    statuses: Mapping[str, int] = {},
    faults: Mapping[str, Fault] = {},
    pauses: Mapping[str, str] = {},
) -> Iterator[tuple[str, list[str]]]:
    """The address of a hub with these repositories, and the requested paths. Requests for others get the status in `statuses`.

    `pauses` are the Retry-After of these answers.

    `faults` are what goes wrong with files of these names; the caller may change them at any time. The range that was asked for
    follows the path.
    """
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            wanted = self.headers.get("Range")
            asked.append(f"{self.command} {self.path}{f' {wanted}' if wanted else ''}")
            parts = self.path.split("?")[0].strip("/").split("/")
            api = parts[:2] == ["api", "models"]
            repo, rest = "/".join(parts[2:4] if api else parts[:2]), parts[4:] if api else parts[2:]
            if repo in statuses:
                pause = {"Retry-After": pauses[repo]} if repo in pauses else {}
                self.reply(statuses[repo], b"a page of another program", pause, body)
            elif repo not in repositories:
                self.reply(401, b"Invalid username or password.", {"X-Error-Code": "RepoNotFound"}, body)
            elif repo in gated:
                self.reply(403, b"gated", {"X-Error-Code": "GatedRepo"}, body)
            elif len(rest) > 1 and rest[1] not in ("main", COMMIT):
                self.reply(404, b"no such revision", {"X-Error-Code": "RevisionNotFound"}, body)
            elif api:
                files = [{"rfilename": name, "size": len(data)} for name, data in repositories[repo].items()]
                answer = {
                    "id": repo,
                    "modelId": repo,
                    "sha": COMMIT,
                    "private": False,
                    "tags": [],
                    "downloads": 0,
                    "siblings": files,
                }
                if rest[:1] == ["tree"]:
                    answer = [{"type": "file", "path": n, "size": len(d), "oid": _tag(d)} for n, d in repositories[repo].items()]
                self.reply(200, json.dumps(answer).encode(), {"Content-Type": "application/json"}, body)
            elif (name := "/".join(rest[2:])) in repositories[repo]:
                answer = _file_answer(repositories[repo][name], wanted, faults.get(name))
                self.close_connection = body and answer.sent is not None  # elsewhere the client would use the connection again
                headers = {"X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes", **answer.headers}
                self.reply(answer.status, answer.data, headers, body, sent=answer.sent)
            else:
                self.reply(404, b"no such file", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}, body)

        def reply(self, status: int, data: bytes, headers: Mapping[str, str], body: bool, sent: int | None = None) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(data[:sent])

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def save_in_hub_cache(source: Path, repo: str) -> None:
    """Put a model's folder, or a single file, where `hub.fetch` would in the hub's cache of the environment."""
    folder = hub._snapshot(hub.parse(f"hf://{repo}"))
    if source.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, folder)
        return
    shutil.copytree(source, folder)
    (folder / ".nodegraph").write_text(".")


class _FileAnswer(NamedTuple):
    status: int
    data: bytes
    headers: Mapping[str, str]
    sent: int | None = None


def _file_answer(data: bytes, wanted: str | None, fault: Fault | None) -> _FileAnswer:
    """The answer to a request for a file, or for the range of it that is `wanted`."""
    tag = {"ETag": f'"{_tag(data)}"'}
    if fault == "damaged":
        data = bytes(len(data))
    if not wanted:
        return _FileAnswer(200, data, tag, len(data) // 2 if fault == "cut" else None)
    start = int(wanted.removeprefix("bytes=").partition("-")[0])
    return _FileAnswer(206, data[start:], {**tag, "Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"})


def _tag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
