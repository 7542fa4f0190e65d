import hashlib
import os
import shutil
import socket

import pytest

from seqjax import Error
from seqjax.datasets import PythonDocs, TextFile, TimeMachine
from seqjax_datasets.time_machine import SHA1


@pytest.fixture
def no_network(monkeypatch):
    """Lets every look-up of a host fail, and records the hosts."""
    asked = []

    def refuse(host, *args, **kwargs):
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "no network in tests")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return asked


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty folder for downloads."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "cache" / "seqjax"
    folder.mkdir(parents=True)
    return folder


def wrong_file(folder):
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "timemachine.txt"
    file.write_text("The Time Machine, by somebody else")
    return file


def test_time_machine_is_the_chapters(time_machine_file):
    text = TimeMachine(path=str(time_machine_file)).load()
    assert len(text) == 170_580
    assert hashlib.sha1(text.text.encode()).hexdigest() == "7f4f69ca0213ddde2efcf59a4743a8bf0709e1ae"
    assert hashlib.sha1(text.text[:10_000].encode()).hexdigest() == "0f68c0288d50ed028c733696a3e348eb98178344"
    assert text[:10_000].text == text.text[:10_000]
    assert text.source == "time-machine"
    assert text.bounds.tolist() == [0, 170_580]


def test_time_machine_by_lines_is_the_chapters(time_machine_file):
    text = TimeMachine(path=str(time_machine_file), form="lines").load()
    lines = text.text.split("\n")
    assert len(lines) == 3221
    assert sum(map(bool, lines)) == 2848
    assert lines[0] == "the time machine by h g wells"
    assert lines[10] == "twinkled and his usually pale face was flushed and animated the"
    assert "".join(lines) == TimeMachine(path=str(time_machine_file)).load().text


def test_time_machine_is_looked_for_at_the_path_then_in_the_folder_then_in_the_cache(
    time_machine_file, tmp_path, cache, no_network, monkeypatch
):
    shutil.copy(time_machine_file, cache / "timemachine.txt")
    monkeypatch.delenv("SEQJAX_DATA")
    assert len(TimeMachine().load()) == 170_580, "from the cache"
    monkeypatch.setenv("SEQJAX_DATA", str(tmp_path / "empty"))
    assert len(TimeMachine().load()) == 170_580, "a folder without the file is passed over"
    wrong = wrong_file(tmp_path / "data")
    monkeypatch.setenv("SEQJAX_DATA", str(wrong.parent))
    with pytest.raises(Error, match="it is another file, or it is damaged") as caught:
        TimeMachine().load()
    assert str(wrong) in str(caught.value), "the folder goes before the cache"
    assert len(TimeMachine(path=str(time_machine_file)).load()) == 170_580, "the path goes before the folder"
    assert no_network == []


def test_a_wrong_hash_is_an_integrity_error_that_names_file_and_hashes(tmp_path):
    wrong = wrong_file(tmp_path)
    with pytest.raises(Error) as caught:
        TimeMachine(path=str(wrong)).load()
    assert caught.value.exit_code == 4
    found = hashlib.sha1(wrong.read_bytes()).hexdigest()
    assert all(part in str(caught.value) for part in (str(wrong), SHA1, found))


def test_a_missing_path_is_not_replaced_by_a_download(tmp_path, no_network):
    with pytest.raises(Error, match="no such file") as caught:
        TimeMachine(path=str(tmp_path / "timemachine.txt")).load()
    assert caught.value.exit_code == 2
    assert no_network == []


def test_without_file_and_network_the_error_says_how_to_get_it(cache, no_network, monkeypatch):
    monkeypatch.delenv("SEQJAX_DATA", raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with pytest.raises(Error) as caught:
        TimeMachine().load()
    assert caught.value.exit_code == 2
    assert all(part in str(caught.value) for part in ("timemachine.txt", "--dataset.path", "SEQJAX_DATA"))
    assert len(set(no_network)) == 1
    assert list(cache.iterdir()) == []


def test_python_docs_is_one_long_document():
    """test_bpe.py compares it with that of another process."""
    text = PythonDocs().load()
    assert len(text) > 400_000
    assert text.bounds.tolist() == [0, len(text)]


@pytest.mark.parametrize(
    ("name", "say"),
    [
        ("missing.txt", "No such file"),
        ("folder", r"no file \*\.txt is in this folder"),
        ("*.rst", "no file has a path"),
        ("cut.txt", "byte 0xf0 at offset 6"),
        ("nul\0.txt", "null byte|null character"),
    ],
)
def test_a_file_that_cannot_be_read_is_an_error(tmp_path, name, say):
    (tmp_path / "folder").mkdir()
    (tmp_path / "cut.txt").write_bytes("smile \U0001f600".encode()[:-1])
    with pytest.raises(Error, match=say) as caught:
        TextFile(path=str(tmp_path / name)).load()
    assert caught.value.exit_code == 2
    assert name.split("\0")[0] in str(caught.value)
    assert str(caught.value).isprintable() or "\n" in str(caught.value)


def test_a_file_that_may_not_be_read_is_exit_6(tmp_path):
    file = tmp_path / "secret.txt"
    file.write_text("secret")
    file.chmod(0)
    if os.access(file, os.R_OK):
        pytest.skip("this user, root, may read every file")
    with pytest.raises(Error, match="may not be read") as caught:
        TextFile(path=str(file)).load()
    assert caught.value.exit_code == 6


def test_bytes_that_are_not_utf_8_are_replaced_on_request(tmp_path):
    file = tmp_path / "latin.txt"
    file.write_bytes(b"caf\xe9 \xff")
    assert TextFile(path=str(file), errors="replace").load().text == "caf\ufffd \ufffd"
