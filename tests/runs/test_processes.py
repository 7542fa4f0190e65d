"""Two processes train one run: it has one writer, comes back after every ending, and ends with any of its processes."""

import contextlib
import json
import signal
import socket

import pytest
from support.crash import TEXT, results
from support.together import DRIVER, by_hand, by_srun, finish, sends, start

from seqjax.cli import main
from seqjax.runs import Run
from seqjax.runs.files import folder

FLAGS = (
    *("--dataset", "text-file", "--dataset.path", "book.txt", "--train", "0.8", "--heldout", "0.2"),
    *("--model", "lstm", "--model.hidden", "4", "--model.dropout", "0.3", "--optimizer", "adam"),
    *("--gradient", "randomized", "--gradient.keep-prob", "0.8", "--sampler", "sequential"),
    *("--sampler.batch-size", "4", "--sampler.num-steps", "5", "--evaluate-every", "2"),
    *("--checkpoint-seconds", "0"),
)
"""A run with 3 chunks an epoch, whose carry and draws belong to the rows."""
SIGKILL, SIGTERM = signal.SIGKILL, signal.SIGTERM


@pytest.fixture
def places(tmp_path):
    """The working folders of two processes, which share no file."""
    return make_places(tmp_path)


def make_places(root):
    found = [root / "first", root / "second"]
    for place in found:
        place.mkdir()
        (place / "book.txt").write_text(TEXT * 5)
    return found


def train(places, *flags, epochs=3, **arguments):
    """Trains in two processes. Returns the exit code, stdout and stderr of each."""
    command = ["-c", DRIVER, "run", *FLAGS, "--epochs", epochs, "--out", "run", *flags]
    return finish(start(command, places, **arguments))


def codes(ended):
    return [code for code, _, _ in ended]


def comes_back(places, whole):
    """Whether the same command continues the run, to the results of one without an interruption."""
    return codes(train(places)) == [0, 0] and results(places[0] / "run") == whole


def files(place):
    return sorted(file.name for file in place.iterdir())


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The places and the endings of two processes that nothing interrupts. The first one decides on checkpoints."""
    places = make_places(tmp_path_factory.mktemp("whole"))
    return places, train(places, shares={1: (["--checkpoint-seconds", "1e9"], {})})


@pytest.fixture(scope="module")
def whole(uninterrupted):
    """The results of an uninterrupted run."""
    return results(uninterrupted[0][0] / "run")


@pytest.mark.slow
def test_the_first_process_alone_writes_and_prints(uninterrupted):
    (first, second), ended = uninterrupted
    assert codes(ended) == [0, 0], ended
    assert "2 processes" in ended[0][1]
    assert [text for _, _, text in ended] == ["", ""]
    assert (ended[1][1], files(second)) == ("", ["book.txt"])
    assert json.loads((first / "run" / "environment.json").read_text())["processes"] == 2


@pytest.mark.slow
def test_killed_together_a_run_comes_back_with_the_same_bits(places, whole):
    ended = train(places, shares={n: sends(SIGKILL, 5) for n in (0, 1)})
    assert set(codes(ended)) <= {-SIGKILL, 7}
    assert -SIGKILL in codes(ended)
    assert not (places[0] / "run" / "params.safetensors").exists()
    assert list((places[0] / "run" / "checkpoints").iterdir())
    assert comes_back(places, whole)


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_one_killed_ends_the_other_with_a_message(places, whole, killed):
    ended = train(places, shares={killed: sends(SIGKILL, 6)})
    other = 1 - killed
    assert codes(ended)[killed] == -SIGKILL
    code, _, errors = ended[other]
    assert code == 7
    assert "another process of this run has ended" in errors
    assert "the same command in all processes resumes it" in errors
    assert "Traceback" not in errors
    assert comes_back(places, whole)


@pytest.mark.slow
@pytest.mark.parametrize("process", [0, 1])
def test_sigterm_to_one_saves_and_ends_both(places, whole, process):
    ended = train(places, "--checkpoint-seconds", "1e9", shares={process: sends(SIGTERM, 6)})
    assert codes(ended) == [128 + SIGTERM] * 2, ended
    assert all("saved in run" in errors for _, _, errors in ended)
    assert len(list((places[0] / "run" / "checkpoints").iterdir())) == 1
    assert comes_back(places, whole)


def refused(places, exit_code, *words, **arguments):
    """Checks that both processes end with an error of these words, and that nothing is written."""
    before = [files(place) for place in places]
    ended = train(places, **arguments)
    assert codes(ended) == [exit_code] * 2, ended
    for _, _, errors in ended:
        assert "Traceback" not in errors
        for word in words:
            assert word in errors
    assert [files(place) for place in places] == before


def test_another_dataset_in_one_process_is_exit_4(places):
    """Found by processes that Slurm has started."""
    (places[1] / "book.txt").write_text(TEXT.replace("cat", "rat") * 5)
    refused(
        places, 4, "dataset: sha256", "in process 0 on", "in process 1 on", "nothing was written", variables=by_srun
    )


@pytest.mark.slow
def test_another_experiment_heldout_dataset_or_precision_in_one_process_is_an_error(places):
    refused(places, 2, "seed: 1 in process 1 on", "the same command", shares={1: (["--seed", "1"], {})})
    refused(places, 4, "enable_x64: then False, now True", shares={1: ([], {"JAX_ENABLE_X64": "1"})})
    for n, place in enumerate(places):
        (place / "other.txt").write_text(TEXT * (n + 1))
    flags = ["--heldout", "text-file:path=other.txt"]
    refused(places, 4, "heldout: sha256", "process 1 on", shares={n: (flags, {}) for n in (0, 1)})


@pytest.mark.slow
def test_a_fault_of_one_process_ends_both(places):
    """Its dataset is missing, or the folder cannot be used: each is seen by one process only."""
    (places[1] / "book.txt").unlink()
    refused(places, 2, "book.txt")
    (places[1] / "book.txt").write_text(TEXT * 5)
    (places[0] / "run").mkdir()
    with folder.lock(places[0] / "run"):
        refused(places, 5, "run is in use by process")
    (places[0] / "run" / "letter.txt").touch()
    refused(places, 2, "run holds no run, but letter.txt")


@pytest.mark.slow
def test_a_finished_run_is_opened_or_goes_on(places, whole):
    assert codes(train(places, epochs=2)) == [0, 0]
    params = places[0] / "run" / "params.safetensors"
    before = params.stat().st_mtime_ns
    opened = train(places, epochs=2)
    assert codes(opened) == [0, 0]
    assert "was not trained again" in opened[0][1]
    assert params.stat().st_mtime_ns == before
    assert comes_back(places, whole)


@pytest.mark.slow
def test_the_best_epoch_is_kept_and_training_stops_early(places):
    """After a kill, both processes know the rows before it, on which the ending depends."""
    flags = ["--evaluate-every", "1", "--keep", "best", "--stop-after", "2", "--optimizer.learning-rate", "0.3"]
    assert codes(train(places, *flags, epochs=50)) == [0, 0]
    whole = (places[0] / "run").rename(places[0] / "whole")
    assert "lowest" in Run.open(whole, which="best").ending
    last = 3 * len(Run.open(whole).metrics) - 2  # the first chunk of the last epoch
    assert -SIGKILL in codes(train(places, *flags, epochs=50, shares={n: sends(SIGKILL, last) for n in (0, 1)}))
    assert codes(train(places, *flags, epochs=50)) == [0, 0]
    assert results(places[0] / "run") == results(whole)
    assert (places[0] / "run" / "best.safetensors").read_bytes() == (whole / "best.safetensors").read_bytes()


@pytest.mark.slow
def test_a_run_goes_on_in_as_many_processes_only(places, monkeypatch, capsys):
    assert -SIGKILL in codes(train(places, shares={n: sends(SIGKILL, 5) for n in (0, 1)}))
    monkeypatch.chdir(places[0])
    assert main(["run", *FLAGS, "--epochs", "3", "--out", "run", "--devices", "2"]) == 4
    assert "processes: then 2, now 1" in capsys.readouterr().err


@pytest.mark.slow
def test_a_process_without_the_others_says_so(places):
    for n in (0, 1):
        command = ["-c", DRIVER, "run", *FLAGS, "--out", "run"]
        lonely = start(command, places, JOIN_SECONDS="3", shares={1 - n: ([], {"JAX_NUM_PROCESSES": "1"})})
        lonely[1 - n].kill()
        code, _, errors = finish(lonely)[n]
        assert code == 7
        assert f"did not find each other within 3 seconds; this is process {n}" in errors
    assert [files(place) for place in places] == [["book.txt"]] * 2


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_wait_for_the_others(places, number):
    """JAX waits in C, where no handler of Python is called."""
    ports = []
    alone = lambda n, count, port: (ports.append(port), by_hand(n, 2, port))[1]
    (waits,) = start(["-c", DRIVER, "run", *FLAGS, "--out", "run"], places[:1], variables=alone)
    while waits.poll() is None:
        with contextlib.suppress(ConnectionError), socket.create_connection(("localhost", ports[0])):
            break
    waits.send_signal(number)
    ((code, _, errors),) = finish([waits])
    assert code == 128 + number, errors
    assert files(places[0]) == ["book.txt"]


def test_a_sweep_is_for_one_process(monkeypatch, capsys):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    monkeypatch.setenv("SLURM_PROCID", "1")
    assert main(["sweep", "--seeds", "0,1"]) == 2
    assert "seqjax sweep is for one process, but 2 were started together" in capsys.readouterr().err
