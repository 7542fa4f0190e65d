"""Local files and folders; one test has its own hub on this machine."""

import http.server
import json
import os
import subprocess
import sys
import threading

os.environ["HF_HUB_OFFLINE"] = "1"  # is read when the library is imported

import pytest

from seqjax import Error
from seqjax.datasets import HFDataset

RECORDS = ["One.", "", 'two, 2 "é😀"\nlines', " three"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty working folder, with the library's cache inside."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def dataset(**columns):
    import datasets

    return datasets.Dataset.from_dict(
        {"text": RECORDS, "n": [1, 2, 3, 4], "v": [[1.0]] * 4, "title": list("abcd")} | columns
    )


def write(name, dataset):
    kind = name.rpartition(".")[2].replace("jsonl", "json")
    with open(name, "wb") as file:
        getattr(dataset, f"to_{kind}")(file)


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.jsonl", "b.json", "a.PARQUET"])
def test_each_record_of_a_file_is_a_document(name):
    write(name.lower(), dataset(text=["One.", "x", RECORDS[2], " three"]))
    os.rename(name.lower(), name)
    text = HFDataset(path=name).load()
    assert text.documents == ["One.", "x", RECORDS[2], " three"]
    assert text.source == name
    assert HFDataset(path=name, column="title", split="train[1:3]").load().documents == ["b", "c"]


def test_a_json_file_may_be_one_list():
    with open("a.json", "w", encoding="utf-8") as file:
        json.dump([{"text": "one"}, {"text": "two"}], file)
    assert HFDataset(path="a.json").load().documents == ["one", "two"]


def test_each_line_of_a_text_file_is_a_document_with_its_end(folder):
    (folder / "a.txt").write_text("one\n\n two", encoding="utf-8")
    assert HFDataset(path="a.txt").load().documents == ["one\n", "\n", " two"]


def test_a_changed_file_is_read_again(folder):
    for text in ("one", "two"):
        (folder / "a.txt").write_text(text)
        assert HFDataset(path="a.txt").load().text == text


def test_a_saved_folder_of_one_split_or_several():
    import datasets

    whole = dataset()
    whole.save_to_disk("one")
    datasets.DatasetDict(train=whole, test=whole.select([3])).save_to_disk("several")
    assert HFDataset(path="one").load().documents == RECORDS
    assert HFDataset(path="several").load().documents == RECORDS, "an empty record is an empty document"
    assert HFDataset(path="several", split="test").load().documents == [" three"]
    for path, splits in [("one", r"\['train'\]"), ("several", r"\['test', 'train'\]")]:
        with pytest.raises(Error, match=f"no split 'tests'.*{splits}") as caught:
            HFDataset(path=path, split="tests").load()
        assert "--dataset.split" in str(caught.value)


@pytest.mark.parametrize(
    ("column", "say"),
    [("txt", "no column 'txt'; did you mean 'text'"), ("n", "column 'n' is not text"), ("v", "column 'v' is not text")],
)
def test_a_column_that_is_not_text_is_an_error_with_the_columns(column, say):
    write("a.parquet", dataset())
    with pytest.raises(Error, match=say) as caught:
        HFDataset(path="a.parquet", column=column).load()
    assert "text (string), n (int64), v (" in str(caught.value)
    assert "--dataset.column" in str(caught.value)


def test_a_missing_record_is_an_error_with_its_number():
    write("a.csv", dataset())  # a CSV file has no empty strings
    with pytest.raises(Error, match=r"a.csv: record 1 of column 'text' is missing"):
        HFDataset(path="a.csv").load()


def test_an_empty_column_is_an_error():
    write("a.parquet", dataset(text=[""] * 4))
    with pytest.raises(Error, match=r"column 'text' of a.parquet is empty"):
        HFDataset(path="a.parquet").load()


@pytest.mark.parametrize(
    ("name", "content", "say"),
    [
        ("a.json", b"no json", "a.json.* cannot be read: .*JSON"),
        ("a.parquet", b"no parquet", "[Pp]arquet"),
        ("a.txt", b"caf\xe9", "utf-8"),
        ("a.md", b"text", r"must end in one of .txt, .csv"),
        ("folder", None, "folder.* cannot be read"),
    ],
)
def test_a_path_that_is_not_a_data_set_is_an_error_with_the_reason(folder, name, content, say, capfd):
    if content is None:
        (folder / name).mkdir()
    else:
        (folder / name).write_bytes(content)
    with pytest.raises(Error, match=say) as caught:
        HFDataset(path=name).load()
    assert caught.value.exit_code == 2
    assert "--dataset.path" in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("path", ["user/name", "no-such.csv", "../no-such"])
def test_an_unreachable_data_set_is_an_error_that_says_how_to_get_it(path, folder):
    with pytest.raises(Error, match=f"'{path}' cannot be read") as caught:
        HFDataset(path=path).load()
    message, name = str(caught.value), path.rpartition("/")[2]
    assert str(folder) in message
    assert f"python -c \"import datasets; datasets.load_dataset('{path}').save_to_disk('{name}')\"" in message
    assert f"--dataset hf-dataset --dataset.path {name}" in message


def test_the_library_is_loaded_late_and_prints_nothing(folder):
    """In a new process, with the default messages and progress bars of the library."""
    (folder / "a.txt").write_text("one\ntwo\n")
    (folder / "bad.json").write_text("no json")
    code = """
import sys, warnings
warnings.simplefilter("error")
from seqjax.datasets import HFDataset
dataset = HFDataset(path="a.txt")
assert "datasets" not in sys.modules
import datasets
datasets.enable_progress_bars()
level = datasets.logging.get_verbosity()
print(dataset.load().documents)
try:
    HFDataset(path="bad.json").load()
except ValueError as error:
    assert "JSON" in str(error)
assert datasets.is_progress_bar_enabled() and datasets.logging.get_verbosity() == level
"""
    env = {**os.environ, "HF_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False)
    assert (done.stdout, done.stderr) == ("['one\\n', 'two\\n']\n", "")


class Hub(http.server.BaseHTTPRequestHandler):
    """A hub with one data set, `user/name`, of one CSV file at one commit."""

    commit, content = "0123456789abcdef" * 2 + "01234567", b"text\nfrom the hub\nsecond\n"

    def do_GET(self):
        path, body = self.path.partition("?")[0], None
        if path == f"/datasets/user/name/resolve/{self.commit}/train.csv":
            body = self.content
        elif path.startswith("/api/datasets/user/name/tree/") and path.endswith(self.commit):
            body = [{"type": "file", "path": "train.csv", "size": len(self.content), "oid": "abc"}]
        elif path == "/api/datasets/user/name" or path.startswith("/api/datasets/user/name/revision/"):
            body = {"id": "user/name", "sha": self.commit, "siblings": [{"rfilename": "train.csv"}], "tags": []}
        code = "EntryNotFound" if "/user/name/" in path else "RepoNotFound"
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(404 if body is None else 200)
        headers = {"X-Repo-Commit": self.commit, "ETag": '"abc"', "Content-Length": str(len(sent))}
        for name, value in headers.items() if body is not None else [("X-Error-Code", code), ("Content-Length", "0")]:
            self.send_header(name, value)
        self.end_headers()
        if body is not None and self.command != "HEAD":
            self.wfile.write(sent)

    do_HEAD = do_GET

    def log_message(self, *args):
        pass


@pytest.mark.slow
def test_a_data_set_comes_from_the_hub_and_then_from_the_cache(folder):
    """From a hub on this machine, and then without it."""
    code = "import sys, seqjax_datasets as c; print(c.HFDataset(path=sys.argv[1]).load().documents)"
    env = {**os.environ, "HF_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1"}
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    env["HF_ENDPOINT"] = f"http://127.0.0.1:{server.server_address[1]}"

    def run(path, **more):
        command = [sys.executable, "-W", "error", "-c", code, path]
        return subprocess.run(command, capture_output=True, text=True, env=env | more, check=False)

    threading.Thread(target=server.serve_forever).start()
    try:
        done = run("user/name")
        missing = run("user/other")
    finally:
        server.shutdown()
        server.server_close()
    assert (done.stdout, done.stderr) == ("['from the hub', 'second']\n", "")
    assert "'user/other' cannot be read: Dataset 'user/other' doesn't exist on the Hub" in missing.stderr
    assert run("user/name", HF_HUB_OFFLINE="1").stdout == done.stdout


@pytest.mark.parametrize("state", ["{}", '{"_data_files": [3]}'])
def test_a_folder_without_data_is_an_error_with_the_reason(tmp_path, state):
    (tmp_path / "dataset_info.json").write_text("{}")
    (tmp_path / "state.json").write_text(state)
    with pytest.raises(Error, match="cannot be read"):
        HFDataset(str(tmp_path)).load()
