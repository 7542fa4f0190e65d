import contextlib
import gc
import gzip
import hashlib
import http.server
import socket
import sys
import threading
from pathlib import Path

import pytest
from support.tiny import refused

from seqjax.data.downloading import LIMIT, check_file, download

BODY = b"It was the best of times, it was the worst of times.\n" * 100
MANY = 2_000_000
"""The bytes of a body that is larger than the server says."""
HASH = f"sha1:{hashlib.sha1(BODY).hexdigest()}"


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers as the path says, and records the paths that were requested."""

    def do_GET(self):
        self.server.asked.append(self.path)
        kind, _, rest = self.path.strip("/").partition("/")
        getattr(self, kind)(rest)

    def reply(self, body, status=200, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body)

    def good(self, _):
        self.reply(BODY, Content_Length=len(BODY))

    def other(self, _):
        self.reply(BODY[::-1], Content_Length=len(BODY))

    def broken(self, _):
        self.reply(BODY[:1000], Content_Length=len(BODY))

    def unsized(self, _):
        self.reply(BODY)

    def huge(self, _):
        self.reply(BODY, Content_Length=LIMIT + 1)

    def bomb(self, _):
        self.reply(gzip.compress(bytes(MANY)), Content_Encoding="gzip", Content_Length=len(gzip.compress(bytes(MANY))))

    def chunks(self, _):
        """A false length beside chunks, which have more bytes."""
        self.send_response(200)
        self.send_header("Content-Length", "10")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # the client has seen enough
            for _ in range(0, MANY, 1000):
                self.wfile.write(b"3e8\r\n" + bytes(1000) + b"\r\n")
            self.wfile.write(b"0\r\n\r\n")

    def gone(self, _):
        self.reply(b"", 404, Content_Length=0)

    def hop(self, target):
        self.reply(b"", 302, Location=target, Content_Length=0)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.asked = []
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()
    gc.collect()  # a connection that was left open is the fault of this module, not of a later one


@pytest.fixture
def hosts(monkeypatch):
    """Records the hosts that are looked up. Only this machine is found, so that no test uses the network."""
    seen, real = [], socket.getaddrinfo

    def lookup(host, *args, **kwargs):
        seen.append(host)
        if host not in ("127.0.0.1", "localhost"):
            raise socket.gaierror(socket.EAI_NONAME, "no network in tests")
        return real(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return seen


@pytest.fixture
def get(server, hosts, tmp_path):
    """Downloads a path of the server into an empty cache, the folder of the test."""
    server.asked.clear()
    return lambda path, hash_=HASH: download(f"http://127.0.0.1:{server.server_port}/{path}", hash_, tmp_path)


def test_a_good_file_is_fetched_once(get, tmp_path, server):
    file = get("good/book.txt")
    assert file == tmp_path / "book.txt"
    assert file.read_bytes() == BODY
    assert get("other/book.txt") == file
    assert server.asked == ["/good/book.txt"], "the second time it comes from the cache"
    file.write_bytes(b"damaged")
    assert get("good/book.txt").read_bytes() == BODY
    assert list(tmp_path.iterdir()) == [file]


REFUSED = {
    "other/book.txt": (HASH.partition(":")[2], 4),
    "broken/book.txt": ("broke off", 4),
    "unsized/book.txt": ("size", 4),
    "huge/book.txt": (f"{LIMIT:,}", 4),
    "gone/book.txt": ("404", 2),
    "hop/http://example.invalid/book.txt": ("refused", 4),
    "hop///example.invalid/book.txt": ("refused", 4),
}
"""Path -> what the error says, and its exit code. A redirect without https is not followed."""


@pytest.mark.parametrize("path", REFUSED)
def test_a_wrong_answer_is_refused_and_nothing_is_left(get, hosts, path, tmp_path):
    with refused(*REFUSED[path]) as caught:
        get(path)
    assert path.removeprefix("hop/") in str(caught.value)
    assert set(hosts) == {"127.0.0.1"}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["bomb", "chunks"])
def test_no_more_bytes_are_kept_than_the_limit_whatever_the_server_says(get, kind, monkeypatch, tmp_path):
    monkeypatch.setattr(sys.modules[download.__module__], "LIMIT", MANY // 2)
    hash_ = f"sha1:{hashlib.sha1(bytes(MANY)).hexdigest()}"
    with refused(f"more than {MANY // 2:,} bytes"):
        get(f"{kind}/book.txt", hash_)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(sys.modules[download.__module__], "LIMIT", MANY)
    assert get(f"{kind}/book.txt", hash_).read_bytes() == bytes(MANY)


def test_a_redirect_on_this_machine_is_followed(get, server):
    assert get(f"hop/http://127.0.0.1:{server.server_port}/good/book.txt").read_bytes() == BODY


def test_an_address_without_https_is_refused_and_not_requested(get, hosts, tmp_path):
    with refused("refused"):
        download("http://example.invalid/book.txt", HASH, tmp_path)
    assert hosts == []


def test_without_a_connection_the_error_says_what_to_do(hosts, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    for url in (f"http://127.0.0.1:{port}/book.txt", "https://example.invalid/book.txt"):
        with refused("--dataset.path", exit_code=2) as caught:
            download(url, HASH, tmp_path)
        assert all(part in str(caught.value) for part in (url, "SEQJAX_DATA"))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "book.txt").write_bytes(b"damaged")
    with refused(f"{tmp_path / 'book.txt'}, is damaged", exit_code=2) as caught:
        download("https://example.invalid/book.txt", HASH, tmp_path)
    assert "--dataset.path" in str(caught.value)
    assert (tmp_path / "book.txt").read_bytes() == b"damaged"


def test_a_cache_that_cannot_be_used_is_an_error_that_names_it(get, tmp_path):
    (tmp_path / "book.txt").mkdir()
    with refused(f"^{tmp_path / 'book.txt'}: Is a directory\n"):
        get("good/book.txt")
    (tmp_path / "file").write_bytes(b"")
    with refused("cache: Not a directory\n", exit_code=6):
        download("https://example.invalid/book.txt", HASH, tmp_path / "file" / "cache")


def test_check_file_compares_hashes(tmp_path):
    file = tmp_path / "book.txt"
    with refused("no such file", exit_code=2):
        check_file(file, HASH)
    file.write_bytes(BODY)
    assert check_file(file, HASH) == file
    assert check_file(file, f"sha256:{hashlib.sha256(BODY).hexdigest()}") == file
    file.write_bytes(BODY + b"\n")
    with refused("it is another file, or it is damaged"):
        check_file(file, HASH)


def test_a_file_that_may_not_be_read_is_an_error():
    """Of root's own files, only those of the kernel may refuse to be read."""
    if not Path("/proc/self/mem").is_file():
        pytest.skip("no /proc")
    with refused("/proc/self/mem: Input/output error\n", exit_code=6):
        check_file(Path("/proc/self/mem"), HASH)
