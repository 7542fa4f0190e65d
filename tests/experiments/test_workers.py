"""The processes that compute the stages of the referee."""

import socket
import subprocess
import sys
from pathlib import Path

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
WORKER = """
import sys, time
from protocol import workers

def compute(number):
    print(f"begun {number}, read {sys.stdin.read()!r}", flush=True)
    if number:
        time.sleep(100)

workers.serve_stages((workers.cores() or [0])[0], compute)
"""


def test_a_worker_answers_whatever_is_printed_and_stops_in_the_middle_of_a_stage_when_its_input_ends():
    command, (ours, theirs) = [sys.executable, "-c", WORKER], socket.socketpair()
    ours.settimeout(60)
    with subprocess.Popen(command, cwd=EXPERIMENTS, stdin=theirs, stdout=subprocess.PIPE, text=True) as worker:
        theirs.close()
        with ours, ours.makefile() as answers:
            ours.sendall(b"0\n")
            assert answers.readline() == "0\n"
            ours.sendall(b"1\n")
            assert [worker.stdout.readline() for _ in range(2)] == ["begun 0, read ''\n", "begun 1, read ''\n"]
        assert worker.wait(timeout=30) == 0
