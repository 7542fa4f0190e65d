"""Files from elsewhere: fetched once, over https, and checked against a hash."""

from pathlib import Path
from urllib.parse import urljoin, urlsplit

from seqjax.errors import Error

LIMIT = 1 << 30
"""Largest file that is downloaded, in bytes."""


def download(url: str, known_hash: str, folder: str | Path | None = None) -> Path:
    """A file from the cache, or else from its address.

    Args:
        url: https on every hop; plain http only to this machine itself.
        known_hash: such as `"sha1:090b..."`.
        folder: the cache; None: the user's cache folder.

    Raises:
        Error: no connection (exit code 2), a redirect to http, a file too large, broken off or with another hash (exit
            code 4). Nothing is left behind, and a good copy in the cache is kept.
    """
    import pooch
    import requests

    def check_response(response, **_):
        if not response.ok:
            response.close()
        try:
            if response.is_redirect:
                _require_https(url, urljoin(response.url, response.headers["Location"]))
            elif response.ok and not 0 <= int(response.headers.get("Content-Length", -1)) <= LIMIT:
                raise Error(f"download {url}: refused: its size is not given, or over {LIMIT:,} bytes", exit_code=4)
        except Error:
            response.close()
            raise

    _require_https(url, url)
    pooch.get_logger().setLevel("WARNING")
    try:
        file = pooch.retrieve(
            url,
            known_hash=known_hash,
            fname=url.rpartition("/")[2],
            path=folder or pooch.os_cache("seqjax"),
            downloader=pooch.HTTPDownloader(timeout=30, hooks={"response": check_response}),
        )
    except requests.exceptions.ChunkedEncodingError as fault:
        raise Error(f"download {url}: broken off; nothing was kept. Try again", exit_code=4) from fault
    except requests.exceptions.RequestException as fault:
        reason = fault if fault.response is not None else type(fault).__name__
        raise Error(
            f"download {url}: {reason}\nWithout a connection, get the file by other means and name it with "
            "--dataset.path, or put it into a folder that SEQJAX_DATA names"
        ) from fault
    except ValueError as fault:
        raise fault if isinstance(fault, Error) else Error(f"download {url}: {fault}", exit_code=4) from fault
    return Path(file)


def _require_https(url: str, address: str) -> None:
    parts = urlsplit(address)
    if parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
        raise Error(f"download {url}: refused: {address} is not https", exit_code=4)


def check_file(file: Path, known_hash: str) -> Path:
    """The same file, if it has this hash."""
    import pooch

    algorithm, _, expected = known_hash.partition(":")
    if not file.is_file():
        raise Error(f"{file}: no such file")
    found = pooch.file_hash(str(file), alg=algorithm)
    if found != expected:
        raise Error(f"{file}: its {algorithm} is {found}, not {expected}: another or a damaged file", exit_code=4)
    return file
