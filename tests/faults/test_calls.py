"""strace sees no call on the folder of a run that `watched` misses. Without strace the test is skipped."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
NAMES = {
    **{"open": "open", "openat": "open", "creat": "open", "write": "write", "ftruncate": "truncate", "fsync": "fsync"},
    **{"rename": "replace", "renameat": "replace", "renameat2": "replace", "unlink": "unlink", "unlinkat": "unlink"},
    **{"mkdir": "mkdir", "mkdirat": "mkdir"},
}
"""System call -> the name that `watched` gives it."""
OTHERS = (
    *("openat2", "writev", "pwrite64", "pwritev", "pwritev2", "sendfile", "copy_file_range", "splice", "truncate"),
    *(
        "fallocate",
        "fdatasync",
        "sync_file_range",
        "rmdir",
        "link",
        "linkat",
        "symlink",
        "symlinkat",
        "mknod",
        "mknodat",
    ),
    *("chmod", "fchmod", "fchmodat", "utimensat", "setxattr", "fsetxattr"),
)
"""Others that change a file or a folder. On the folder of a run they keep their names, and fail the test."""

DRIVER = """
import json, os, sys
from pathlib import Path
from unittest import mock
from faults.calls import ignore, watched
from faults.crash import Place
from faults.kinds import BY_NAME, tiny
seen, fsync = [], os.fsync
for name in ("local plugin", "sweep of two", "keep best, stop after", "data in memory", "diverges"):
    root = Path(sys.argv[1]) / name.replace(" ", "-")
    with tiny(), mock.patch.object(os, "fsync", fsync):
        place = Place(BY_NAME[name], root)
        with watched(place.root, ignore, seen.append):
            ended = place.run()
        assert ended.code == BY_NAME[name].code, ended.message
print(json.dumps([(call.name, str(call.path)) for call in seen]))
"""


def traced(log, root):
    """The calls that changed something below the folders of runs, as `watched` names them."""
    found = []
    for line in log.read_text("utf-8", "replace").splitlines():
        match = re.match(r"(?:\d+ +)?(\w+)\((.*)\) += (\d+)", line)
        if not match:  # it failed, or another thread came in between
            continue
        name, arguments, _ = match.groups()
        if name.startswith("open") and not re.search(r"O_(CREAT|TRUNC)", arguments):
            continue
        # Of the folder of runs itself, which is there before, only that its new names are synced.
        inside = "/runs/" if name != "fsync" else "/runs"
        paths = [path for path in re.findall(r'[<"]([^>"]*)[>"]', arguments) if f"{root}/" in path and inside in path]
        if paths:
            found.append((NAMES.get(name, name), paths[-1]))  # of a rename, the new name
    return found


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_strace_sees_the_same_calls(tmp_path):
    log, root = tmp_path / "log", tmp_path / "place"
    trace = ["strace", "-f", "-qq", "-y", "-s", "0", "-o", log, "-e", f"trace={','.join([*NAMES, *OTHERS])}"]
    done = subprocess.run(
        [*map(str, trace), sys.executable, "-c", DRIVER, root],
        env=os.environ | {"PYTHONPATH": str(TESTS), "JAX_NUM_CPU_DEVICES": "1"},
        **{"capture_output": True, "text": True, "timeout": 900},
    )
    if "ptrace" in done.stderr and "not permitted" in done.stderr:
        pytest.skip("strace may not trace here")
    assert done.returncode == 0, done.stderr
    seen = [(name, path) for name, path in json.loads(done.stdout.splitlines()[-1])]
    assert len(seen) > 300
    assert traced(log, root) == seen
