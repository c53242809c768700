"""A stand-in for the Hugging Face hub on localhost, with the part of its protocol that downloads use."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

COMMIT = "0123456789abcdef0123456789abcdef01234567"

Repositories = Mapping[str, Mapping[str, bytes]]


@contextmanager
def serve(
    repositories: Repositories, gated: frozenset[str] = frozenset(), statuses: Mapping[str, int] = {}
) -> Iterator[tuple[str, list[str]]]:
    """The address of a hub with these repositories, and the requested paths. Requests for others get the status in `statuses`."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            asked.append(f"{self.command} {self.path}")
            parts = self.path.split("?")[0].strip("/").split("/")
            api = parts[:2] == ["api", "models"]
            repo, rest = "/".join(parts[2:4] if api else parts[:2]), parts[4:] if api else parts[2:]
            if repo in statuses:
                self.reply(statuses[repo], b"a page of another program", {}, body)
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
                data = repositories[repo][name]
                self.reply(200, data, {"ETag": f'"{_tag(data)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}, body)
            else:
                self.reply(404, b"no such file", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}, body)

        def reply(self, status: int, data: bytes, headers: Mapping[str, str], body: bool) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(data)

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


def _tag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
