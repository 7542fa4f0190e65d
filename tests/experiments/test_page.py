"""The folder of the page of the referee is looked at before the work."""

import pytest
import referee
from protocol.page import check_folder

import seqjax


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"scores.csv": "mine"}, "has files that the report could replace, .*: scores.csv. Nothing was computed"),
        ({"b.png": "", "notes.txt": "", "a.md": ""}, ": a.md, b.png. "),
        ({"notes.txt": "mine"}, None),
        ({"data/losses.csv": ""}, None),  # of a command that was killed before it wrote the page
        ({"scores.csv": "", "data/losses.csv": ""}, None),
        ({}, None),
    ],
)
def test_files_that_no_report_has_written_are_named_and_nothing_is_computed(tmp_path, files, words):
    out, work = tmp_path / "out", tmp_path / "work"
    out.mkdir()
    for name, text in files.items():
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text(text)
    if words is None:
        check_folder(out)
    else:
        with pytest.raises(seqjax.Error, match=words):
            referee.main(tasks=("iid",), folder=str(work), out=str(out))
    assert not work.exists()
    found = {path.relative_to(out).as_posix(): path.read_text() for path in out.rglob("*") if path.is_file()}
    assert found == files
