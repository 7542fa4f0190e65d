"""Texts in mapped files, compared with the same texts in memory."""

import importlib
import json
import sys
import tracemalloc

import numpy as np
import pytest
from support.crash import NoFigure, crash_after

from seqjax import Error, Experiment, Run, Text, user_cache
from seqjax.data import MappedText, Vocab, id_files, make_piece, mapped_text
from seqjax.data.preparing import fit, make_stream, spec_of
from seqjax.datasets import HFDataset, TextFile
from seqjax.models import RNN
from seqjax.samplers import Random, Sequential
from seqjax.tokenizers import BPE, Char, Word
from seqjax.training import feed
from seqjax.user_cache import hash_of, remembered

WORDS = "the cat sat 東京 on the mat, 😀 déjà vu\n"
DOCUMENTS = [WORDS * 3, "", "x", WORDS[5:], "é", "", WORDS * 2, "ab"]


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    """Small blocks, so that characters lie at their edges; and a cache of one test."""
    monkeypatch.setattr(mapped_text, "BLOCK", 7)
    monkeypatch.setattr(mapped_text, "MAPPED_BYTES", 1)
    monkeypatch.setattr(id_files, "GROUP", 50)
    for module in (user_cache, id_files):
        monkeypatch.setattr(module, "cache_folder", lambda name: tmp_path / name)


def mapped(documents, per_piece):
    """The documents as a text of pieces."""
    pieces = []
    for first in range(0, len(documents), per_piece):
        encoded = [document.encode() for document in documents[first : first + per_piece]]
        data = np.frombuffer(b"".join(encoded), np.uint8)
        pieces.append(make_piece(data, np.cumsum([0, *map(len, encoded)])))
    return MappedText(pieces, "here", hash_of(documents))


def in_memory(documents):
    return Text("".join(documents), "here", np.cumsum([0, *map(len, documents)]))


@pytest.mark.parametrize("per_piece", [1, 3, 8])
def test_it_is_the_text_of_its_characters(per_piece):
    got, want = mapped(DOCUMENTS, per_piece), in_memory(DOCUMENTS)
    assert len(got) == len(want)
    assert got.text == want.text
    assert got.bounds.tolist() == want.bounds.tolist()
    assert list(got.documents) == DOCUMENTS
    assert got.documents[2:4] == DOCUMENTS[2:4]
    assert got.sha256 == want.sha256
    assert list(got.character_counts().items()) == list(want.character_counts().items())
    assert {name: a.tolist() for name, a in got.arrays.items()} == {name: a.tolist() for name, a in want.arrays.items()}


@pytest.mark.parametrize("per_piece", [1, 8])
def test_every_slice_is_that_of_the_text(per_piece):
    got, want = mapped(DOCUMENTS, per_piece), in_memory(DOCUMENTS)
    for first in range(0, len(want), 5):
        for last in range(first, len(want) + 1, 7):
            part, expected = got[first:last], want[first:last]
            assert part.text == expected.text
            assert [d for d in part.documents if d] == [d for d in expected.documents if d]
    assert got[20:90][10:30].text == want[30:50].text


@pytest.mark.parametrize("documents", [DOCUMENTS, [WORDS * 5], ["a"], ["ab", "c"]], ids=["many", "one", "a", "short"])
@pytest.mark.parametrize("tokenizer", [Char(), Word(), BPE(vocab_size=270)], ids=["char", "word", "bpe"])
def test_its_stream_is_that_of_the_text(tokenizer, documents):
    got, want = mapped(documents, 3), in_memory(documents)
    codec, expected_codec = (fit(tokenizer, text) for text in (got, want))
    assert codec.to_dict() == expected_codec.to_dict()
    spec = spec_of(want, codec)
    for _ in range(2):  # the second time from the files
        stream, expected = (make_stream(text, codec, spec) for text in (got, want))
        assert stream.bounds.tolist() == expected.bounds.tolist()
        assert stream.inputs.tolist() == expected.inputs.tolist()
        assert stream.targets.tolist() == expected.targets.tolist()
        assert stream.inputs.dtype == np.min_scalar_type(len(codec) - 1)


def test_ids_of_another_split_with_the_same_vocabulary_are_not_used():
    """Both tokenizers know the words of the training part; only one of them reads capitals as these words."""
    text = mapped(["The cat"], 1)
    found = []
    for tokenizer in (Word(normalize=True), Word(normalize=False)):
        vocab = Vocab.from_tokens(["the", "cat"], tokenizer=tokenizer)
        found.append(vocab.to_tokens(id_files.id_stream(text, vocab).inputs))
    assert found == [["the"], ["<unk>"]]


def test_files_that_are_not_utf8_are_named_with_the_byte(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"good text " * 3 + b"\xff" + b"more")
    with pytest.raises(Error, match=r"dataset text-file: .*a.txt is not UTF-8: byte 0xff at offset 30\nConvert"):
        TextFile(str(tmp_path / "a.txt")).load()


def test_a_file_is_hashed_again_only_if_it_has_changed(tmp_path, monkeypatch):
    file, made = tmp_path / "a.txt", []
    monkeypatch.setattr(mapped_text, "make_piece", lambda *a, **k: made.append(a) or make_piece(*a, **k))
    file.write_text(WORDS)
    texts = [TextFile(str(file)).load() for _ in range(2)]
    assert [type(text) for text in texts] == [MappedText, MappedText]
    assert texts[0].sha256 == texts[1].sha256 == Text(WORDS).sha256
    assert len(made) == 1
    file.write_text(WORDS + "!")
    assert TextFile(str(file)).load().sha256 == Text(WORDS + "!").sha256
    assert len(made) == 2


def test_what_is_remembered_is_computed_again_if_its_file_is_damaged(tmp_path):
    calls = []
    make = lambda: calls.append(1) or [1, "a"]
    assert [remembered("texts", "key", make) for _ in range(2)] == [[1, "a"]] * 2
    assert len(calls) == 1
    file = tmp_path / "texts" / "key.json"
    good = file.read_text()
    foreign = ("[1,", "[]", "null", "{}", '{"key": "other", "value": [1, "a"]}', '{"value": 1}')
    for n, text in enumerate(foreign, 2):
        file.write_text(text)
        assert remembered("texts", "key", make) == [1, "a"]
        assert json.loads(file.read_text()) == json.loads(good)
        assert len(calls) == n


@pytest.mark.parametrize("documents", [[WORDS * 3], DOCUMENTS], ids=["one", "many"])
def test_id_files_that_are_gone_or_cut_are_written_again(tmp_path, documents):
    text, codec = mapped(documents, 3), Char().fit(in_memory(documents))
    want = id_files.id_stream(text, codec)
    inputs, targets = want.inputs.tolist(), want.targets.tolist()
    files = sorted((tmp_path / "texts").iterdir())
    assert len(files) == (2 if len(documents) == 1 else 3), "the bounds, the inputs, and targets if they differ"
    for file in files:
        good = file.read_bytes()
        for damaged in (None, good[:-1], b""):
            file.unlink()
            if damaged is not None:
                file.write_bytes(damaged)
            found = id_files.id_stream(text, codec)
            assert (found.inputs.tolist(), found.targets.tolist()) == (inputs, targets)
            assert file.read_bytes() == good


def test_ids_of_a_tokenizer_whose_helper_has_changed_are_not_used(tmp_path, monkeypatch):
    (tmp_path / "cuts_own.py").write_text("def cut(text):\n    return text.split()\n")
    (tmp_path / "splits_own.py").write_text(
        "from cuts_own import cut\nfrom seqjax.data import Tokenizer\n\n\n"
        "class Split(Tokenizer):\n    def split(self, text):\n        return cut(text)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    text, found = mapped(["the cat"], 1), []
    for code in ("text.split()", "text.split()[::-1]"):
        (tmp_path / "cuts_own.py").write_text(f"def cut(text):\n    return {code}\n")
        for name in ("cuts_own", "splits_own"):
            sys.modules.pop(name, None)
        tokenizer = importlib.import_module("splits_own").Split()
        vocab = Vocab.from_tokens(["the", "cat"], tokenizer=tokenizer)
        found.append(vocab.to_tokens(id_files.id_stream(text, vocab).inputs))
    assert found == [["the"], ["cat"]]


def test_bytes_that_begin_no_character_are_an_error():
    with pytest.raises(Error, match="silence is not UTF-8: byte 0x80 at offset 0"):
        make_piece(np.full(30, 0x80, np.uint8), name="silence")


def test_a_process_that_is_killed_leaves_no_half_written_ids(tmp_path, monkeypatch):
    monkeypatch.setattr(id_files.np, "save", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        id_files.id_stream(mapped([WORDS], 1), Char().fit(in_memory([WORDS])))
    assert list((tmp_path / "texts").iterdir()) == []


def test_a_large_hugging_face_dataset_stays_in_its_arrow_files(tmp_path):
    import datasets

    saved = datasets.Dataset.from_dict({"text": DOCUMENTS, "n": list(range(8))})
    saved.save_to_disk(tmp_path / "saved")
    got = HFDataset(str(tmp_path / "saved")).load()
    assert isinstance(got, MappedText)
    assert list(got.documents) == DOCUMENTS
    assert got.sha256 == in_memory(DOCUMENTS).sha256
    assert got.bounds.tolist() == in_memory(DOCUMENTS).bounds.tolist()


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    """A function that makes an experiment of a text in a file, whose epochs have 20 batches for each of 3 shards."""
    monkeypatch.setattr(feed, "CHUNK_STEPS", 100)
    monkeypatch.setattr("seqjax.data.sampler.SHARD", 411)
    (tmp_path / "a.txt").write_text((WORDS * 40)[:1231])
    dataset, model = TextFile(str(tmp_path / "a.txt")), RNN(hidden=4)
    return lambda sampler: Experiment(dataset=dataset, model=model, sampler=sampler, epochs=2, train=1.0, heldout=0)


@pytest.mark.parametrize("sampler", [Sequential(4, 5), Random(4, 5)], ids=["sequential", "random"])
def test_training_from_a_file_has_the_bits_of_training_in_memory(monkeypatch, experiment, sampler):
    """Streamed chunk by chunk, or on the device."""
    found = []
    for device_bytes, mapped_bytes in ((2**40, 2**40), (0, 1), (2**40, 1)):
        monkeypatch.setattr(feed, "DEVICE_BYTES", device_bytes)
        monkeypatch.setattr(mapped_text, "MAPPED_BYTES", mapped_bytes)
        run = experiment(sampler).run()
        assert isinstance(run.data, MappedText) == (mapped_bytes == 1)
        found.append((run.metric("train_loss").tolist(), np.asarray(run.params["W_hq"]).tolist()))
    assert found[1:] == found[:1] * 2


def test_an_interrupted_epoch_of_a_file_goes_on_to_the_same_bits(tmp_path, monkeypatch, experiment):
    monkeypatch.setattr(feed, "DEVICE_BYTES", 0)
    monkeypatch.setattr(Run, "plot", NoFigure)
    trained = experiment(Sequential(4, 5))
    want = trained.run()
    with crash_after(monkeypatch, 5):
        trained.run(tmp_path / "run", checkpoint_seconds=0)
    got = trained.run(tmp_path / "run")
    assert got.metric("train_loss").tolist() == want.metric("train_loss").tolist()
    assert (np.asarray(got.params["W_hq"]) == np.asarray(want.params["W_hq"])).all()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_text(tmp_path, monkeypatch):
    """Of a text of 64 MB, fitting and encoding hold a few blocks at a time."""
    monkeypatch.setattr(mapped_text, "BLOCK", 2**18)
    (tmp_path / "a.txt").write_text(WORDS * 1_400_000)
    tracemalloc.start()
    text = TextFile(str(tmp_path / "a.txt")).load()
    codec = Char().fit(text[: len(text) - 1000])
    stream = id_files.id_stream(text[: len(text) - 1000], codec)
    assert len(stream.inputs) == len(text) - 1001
    assert tracemalloc.get_traced_memory()[1] < 30e6
    tracemalloc.stop()


def test_shards_cover_a_stream_without_gaps(monkeypatch):
    """Each target is scored once; no window crosses an edge of shards, or a bound of documents."""
    from seqjax.data.sampler import draw_plan, shard_edges

    bounds = np.array([0, 100, 100, 450, 1000])
    monkeypatch.setattr("seqjax.data.sampler.SHARD", 170)
    edges = shard_edges(bounds)
    assert edges.tolist() == [0, 166, 333, 500, 666, 833, 1000]
    scored, cuts = np.zeros(1000, int), [*edges, *bounds]
    for shard in range(6):
        plan = draw_plan(Sequential(1, 7), bounds, 0, 0, shard)
        for start, (first, last) in zip(plan.starts.ravel(), plan.scored.reshape(-1, 2), strict=True):
            scored[start + first : start + last] += 1
            assert not any(start < cut < start + last for cut in cuts)
    assert scored.max() == 1
    assert scored.sum() > 900
