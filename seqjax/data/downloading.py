"""Downloads a file once, over https, and checks its hash."""

import hashlib
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from seqjax.errors import Error
from seqjax.extras import needing

LIMIT = 1 << 30
"""The largest size of a file that is downloaded, in bytes."""


def download(url: str, known_hash: str, folder: str | Path | None = None) -> Path:
    """The path of a file in the cache, which is downloaded if it is not there.

    Args:
        url: its address. This address and all redirects must be https; http is allowed for this machine alone.
        known_hash: the algorithm and the hash, such as `"sha1:090b..."`.
        folder: the cache; None: the user's cache folder.

    Raises:
        Error: there is no connection (exit code 2); a redirect to http; a file that is too large, is incomplete,
            or has another hash (exit code 4); the cache has a folder of this name (4), or cannot be read or written
            (6). Nothing is left behind, and a good copy in the cache is kept.
    """
    with needing("data", f"download {url}"):
        import pooch
        import requests

    def check_response(response, **_):
        if not response.ok:
            response.close()
        try:
            if response.is_redirect:
                _require_https(url, urljoin(response.url, response.headers["Location"]))
            elif response.ok and not 0 <= int(response.headers.get("Content-Length", -1)) <= LIMIT:
                raise Error(f"download {url}: refused: its size is unknown, or over {LIMIT:,} bytes", exit_code=4)
        except Error:
            response.close()
            raise

    _require_https(url, url)

    def save(url, output_file, _):
        # Bytes are counted when they arrive, after decoding: the size in the header may be false, and gzip files
        # expand.
        size, hooks = 0, {"response": check_response}
        with requests.get(url, stream=True, timeout=30, headers={"Accept-Encoding": "identity"}, hooks=hooks) as answer:
            answer.raise_for_status()
            with open(output_file, "wb") as file:
                for chunk in answer.iter_content(2**16):
                    size += len(chunk)
                    if size > LIMIT:
                        raise Error(f"download {url}: refused: it has more than {LIMIT:,} bytes", exit_code=4)
                    file.write(chunk)

    pooch.get_logger().setLevel("WARNING")
    cached = Path(folder or pooch.os_cache("seqjax")) / url.rpartition("/")[2]
    try:
        file = pooch.retrieve(url, known_hash=known_hash, fname=cached.name, path=cached.parent, downloader=save)
    except requests.exceptions.ChunkedEncodingError as fault:
        raise Error(f"download {url}: the connection broke off; nothing was kept. Try again", exit_code=4) from fault
    except requests.exceptions.RequestException as fault:
        reason = fault if fault.response is not None else type(fault).__name__
        # A copy is downloaded again only if its hash is another one.
        damaged = f"\nThe copy in the cache, {cached}, is damaged" if cached.exists() else ""
        raise Error(
            f"download {url}: {reason}{damaged}\nWithout a connection, copy the file to this machine and give its path "
            "with --dataset.path, or put it into the folder that SEQJAX_DATA names"
        ) from fault
    except Error:
        raise
    except ValueError as fault:
        raise Error(f"download {url}: {fault}", exit_code=4) from fault
    except OSError as fault:
        raise _unusable(fault, cached, "Mend this or remove it, and type the same command again") from fault
    return Path(file)


def _unusable(fault: OSError, file: Path, advice: str) -> Error:
    """The error about a file that cannot be read or written."""
    code = 4 if isinstance(fault, IsADirectoryError) else 6
    return Error(f"{fault.filename or file}: {fault.strerror or fault}\n{advice}", exit_code=code)


def _require_https(url: str, address: str) -> None:
    parts = urlsplit(address)
    if parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
        raise Error(f"download {url}: refused: {address} is not https", exit_code=4)


def check_file(file: Path, known_hash: str) -> Path:
    """Checks the hash of a file, and returns its path.

    Args:
        file: the path.
        known_hash: the algorithm and the hash, such as `"sha1:090b..."`.

    Raises:
        Error: there is no such file (exit code 2); it has another hash (4); it may not be read (6).
    """
    algorithm, _, expected = known_hash.partition(":")
    if not file.is_file():
        raise Error(f"{file}: no such file")
    try:
        with open(file, "rb") as opened:
            actual = hashlib.file_digest(opened, algorithm).hexdigest()
    except OSError as fault:
        raise _unusable(fault, file, "Mend this, or name another file") from fault
    if actual != expected:
        raise Error(
            f"{file}: its {algorithm} is {actual}, not {expected}: it is another file, or it is damaged", exit_code=4
        )
    return file
