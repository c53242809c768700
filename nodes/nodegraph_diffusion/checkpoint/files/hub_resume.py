"""Large files of the hub, downloaded so that the next run continues where this one broke off.

The hub's library continues a download after a lost connection, but at its end it removes what it has. So we put large files into
its cache ourselves, under the names that it gives them; it then finds them there and links them.
"""

from __future__ import annotations

from pathlib import Path

LARGE = 1 << 20
"""Bytes: smaller files are left to the hub's library."""

_PARTIAL = ".nodegraph-partial"


def download_resumably(repo: str, file: str, *, revision: str, cache: Path, endpoint: str) -> None:
    """Download a large file of the hub into its library's cache, unless it is there. Raises the errors of the library.

    Until the file is complete, its bytes are in another file, which stays if the download breaks off.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils._fixes import WeakFileLock
    from huggingface_hub.utils._headers import build_hf_headers

    url = hf_hub_url(repo, file, revision=revision, endpoint=endpoint)
    found = get_hf_file_metadata(url, endpoint=endpoint)
    if found.etag is None or found.size is None or found.size < LARGE:
        return
    folder = cache / f"models--{repo.replace('/', '--')}" / "blobs"
    blob, partial = folder / found.etag, folder / f"{found.etag}{_PARTIAL}"
    if blob.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(folder / f"{found.etag}{_PARTIAL}.lock"):
        if blob.exists():  # another process was faster
            return
        partial.touch()
        with partial.open("r+b") as stream:
            start = stream.seek(0, 2)
            if start > found.size:
                stream.truncate(0)
                start = stream.seek(0)
            http_get(found.location, stream, resume_size=start, headers=build_hf_headers(), expected_size=found.size)
        partial.replace(blob)
