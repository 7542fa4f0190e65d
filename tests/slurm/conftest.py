"""A real Slurm for the tests of this folder. `make slurm` starts one and runs them; elsewhere they are skipped."""

import os
from pathlib import Path

import pytest
from support.shell import run

START = "`make slurm` starts one as root, where apt-get can install it, and runs this test"


@pytest.fixture(scope="session", autouse=True)
def slurm():
    """The Slurm of `tests/slurm/start`; jobs of tests do not belong on a cluster that others use."""
    conf = Path(os.environ.get("SLURM_CONF", ""))
    if not conf.is_file() or "ClusterName=seqjax-tests\n" not in conf.read_text("utf-8"):
        pytest.skip(f"SLURM_CONF does not name the slurm.conf of a Slurm for tests; {START}")
    if run(["scontrol", "ping"]).returncode:
        pytest.skip(f"the Slurm of {conf} does not answer; {START}")
