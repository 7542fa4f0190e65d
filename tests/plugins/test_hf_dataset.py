"""Local files and folders, and what the library is asked for."""

import json
import os
import subprocess
import sys

os.environ["HF_HUB_OFFLINE"] = "1"  # is read when the library is imported

import pytest

from seqjax import Error
from seqjax_datasets import HFDataset

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
from seqjax_datasets import HFDataset
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


def test_a_name_on_the_hub_is_asked_for_with_all_fields(monkeypatch):
    """The library in place of the hub: there is no network in tests."""
    import datasets

    asked = []

    def load_dataset(*args, **options):
        asked.append((args, options))
        return dataset()

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert HFDataset(path="user/name", config="en", split="test", revision="v1").load().documents == RECORDS
    assert asked == [(("user/name", "en"), {"split": "test", "revision": "v1"})]


@pytest.mark.parametrize("state", ["{}", '{"_data_files": [3]}'])
def test_a_folder_without_data_is_an_error_with_the_reason(tmp_path, state):
    (tmp_path / "dataset_info.json").write_text("{}")
    (tmp_path / "state.json").write_text(state)
    with pytest.raises(Error, match="cannot be read"):
        HFDataset(str(tmp_path)).load()
