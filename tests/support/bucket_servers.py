"""Servers on this machine that answer as Google Cloud Storage (XML API) and Azure Blob Storage do, for one bucket."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


class BucketServer(ThreadingHTTPServer):
    """Holds objects as their content and a number that rises with each write, by name; and parts that are not put together yet."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, tuple[bytes, int]] = {}
        self.parts: dict[tuple[str, str], bytes] = {}
        self.writes = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def write(self, name: str, content: bytes, *, expected: str | None) -> int | None:
        """Write an object; None if it is not the one that is expected: "0" for none, a number, or None for any."""
        with self.lock:
            if expected is not None and expected != str(self.objects.get(name, (b"", 0))[1]):
                return None
            self.writes += 1
            self.objects[name] = content, self.writes
            return self.writes


@contextmanager
def bucket_server() -> Iterator[BucketServer]:
    server = BucketServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


class _Handler(BaseHTTPRequestHandler):
    """Requests of both kinds of clients: those of Azure have the header `x-ms-version`."""

    protocol_version = "HTTP/1.1"
    server: BucketServer

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is printed."""

    def _start(self) -> tuple[str, dict[str, str], bytes, bool]:
        """The name of the object, the query, the body, and whether the client is one of Azure."""
        address = urlsplit(self.path)
        is_azure = "x-ms-version" in self.headers
        name = unquote(address.path).split("/", 3 if is_azure else 2)[3 if is_azure else 2 :]
        query = {key: values[0] for key, values in parse_qs(address.query, keep_blank_values=True).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        return name[0] if name else "", query, body, is_azure

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self) -> None:
        name, query, _, is_azure = self._start()
        if not name:
            self._list(query.get("prefix", ""), is_azure=is_azure)
        elif name not in self.server.objects:
            self._answer(404, b"<Error/>")
        else:
            content, number = self.server.objects[name]
            tag = {"ETag": f'"{number}"', "Last_Modified": formatdate(usegmt=True), "x_goog_generation": str(number)}
            self._answer(200, content, **tag)

    do_HEAD = do_GET

    def do_PUT(self) -> None:
        name, query, body, is_azure = self._start()
        part = query.get("blockid") or query.get("partNumber")
        if part is not None:
            self.server.parts[name, part] = body
            self._answer(201 if is_azure else 200, ETag=f'"{part}"')
            return
        if query.get("comp") == "blocklist":
            blocks = re.findall(rb"<(?:Uncommitted|Latest|Committed)>([^<]+)<", body)
            body = b"".join(self.server.parts.pop((name, block.decode())) for block in blocks)
        expected = self.headers.get("x-goog-if-generation-match")
        if is_azure:
            match = self.headers.get("If-Match")
            expected = "0" if self.headers.get("If-None-Match") == "*" else match.strip('"') if match is not None else None
        number = self.server.write(name, body, expected=expected)
        if number is None:
            self._answer(409 if is_azure and expected == "0" else 412, b"<Error/>")
        else:
            self._answer(201 if is_azure else 200, ETag=f'"{number}"', x_goog_generation=str(number))

    def do_POST(self) -> None:
        """An upload in parts begins, or ends; or Azure removes several objects."""
        name, query, body, _ = self._start()
        if query.get("comp") == "batch":
            self._remove_all(body.decode())
            return
        if "uploads" in query:
            xml = "<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>"
            self._answer(200, xml.encode())
            return
        numbers = re.findall(rb"<PartNumber>(\d+)<", body)
        number = self.server.write(name, b"".join(self.server.parts.pop((name, n.decode())) for n in numbers), expected=None)
        xml = f"<CompleteMultipartUploadResult><ETag>{number}</ETag></CompleteMultipartUploadResult>"
        self._answer(200, xml.encode(), x_goog_generation=str(number))

    def do_DELETE(self) -> None:
        name, _, _, is_azure = self._start()
        found = self.server.objects.pop(name, None)
        self._answer(404 if found is None else 202 if is_azure else 204, b"" if found else b"<Error/>")

    def _remove_all(self, requests: str) -> None:
        answers = []
        for number, path in enumerate(re.findall(r"^DELETE (\S+) HTTP", requests, re.MULTILINE)):
            is_there = self.server.objects.pop(unquote(urlsplit(path).path).split("/", 3)[3], None) is not None
            status = "202 Accepted" if is_there else "404 Not Found\r\nx-ms-error-code: BlobNotFound"
            part = f"Content-Type: application/http\r\nContent-ID: {number}\r\n\r\nHTTP/1.1 {status}\r\n\r\n"
            answers.append(f"--answers\r\n{part}\r\n")
        self._answer(202, f"{''.join(answers)}--answers--\r\n".encode(), Content_Type="multipart/mixed; boundary=answers")

    def _list(self, prefix: str, *, is_azure: bool) -> None:
        found = [(escape(name), len(c), n) for name, (c, n) in sorted(self.server.objects.items()) if name.startswith(prefix)]
        if is_azure:
            properties = "<Last-Modified>{}</Last-Modified><Content-Length>{}</Content-Length><Content-Type>x</Content-Type>"
            blobs = "".join(
                f"<Blob><Name>{name}</Name><Properties>{properties.format(formatdate(usegmt=True), size)}<Etag>{number}</Etag>"
                f"</Properties></Blob>"
                for name, size, number in found
            )
            xml = f"<EnumerationResults><Blobs>{blobs}</Blobs><NextMarker/></EnumerationResults>"
        else:
            listed = "".join(
                f"<Contents><Key>{name}</Key><Size>{size}</Size><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
                f"<ETag>{number}</ETag></Contents>"
                for name, size, number in found
            )
            xml = f"<ListBucketResult>{listed}<IsTruncated>false</IsTruncated></ListBucketResult>"
        self._answer(200, xml.encode())
