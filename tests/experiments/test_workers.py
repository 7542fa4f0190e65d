"""The processes that compute the stages of the referee."""

import subprocess
import sys
from pathlib import Path

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
WORKER = """
import time
from protocol import workers

def compute(number):
    print("begun", number, flush=True)
    if number:
        time.sleep(100)

workers.serve_stages((workers.cores() or [0])[0], compute)
"""


def test_a_worker_answers_and_stops_in_the_middle_of_a_stage_when_its_input_ends():
    command = [sys.executable, "-c", WORKER]
    with subprocess.Popen(command, cwd=EXPERIMENTS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
        print(0, file=worker.stdin, flush=True)
        assert [worker.stdout.readline() for _ in range(2)] == ["begun 0\n", "0\n"]
        print(1, file=worker.stdin, flush=True)
        assert worker.stdout.readline() == "begun 1\n"
        worker.stdin.close()
        assert worker.wait(timeout=30) == 0
