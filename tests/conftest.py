"""Dtypes are never promoted silently, and warnings are errors."""

import os
import shutil
import signal
import sys
from pathlib import Path

COMPILED = Path(__file__).parents[1] / ".pytest_cache" / "compiled"
"""Compiled programs, which all tests, their child processes and later sessions share. `make clean` deletes them."""
MOST_BYTES = 2_000_000_000
"""The size of this folder with which a session deletes it."""

os.environ |= {
    "PATH": os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]]),
    "XDG_CACHE_HOME": str(COMPILED.parent / "user"),
    "JAX_COMPILATION_CACHE_DIR": str(COMPILED),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}
pytest_plugins = ["costs"]

import jax  # noqa: E402
import pytest  # noqa: E402


def set_optimizations(*, disabled):
    """Of LLVM: most programs here are so small that compiling them is all their cost, and half of it is these."""
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = str(disabled)
    jax.config.update("jax_disable_most_optimizations", disabled)
    jax.clear_caches()  # what was compiled otherwise has other last bits


def pytest_configure(config):
    # A background job ignores Ctrl-C, and one under nohup the end of the terminal; child processes would ignore both.
    for number, handler in {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}.items():
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)
    is_first = not hasattr(config, "workerinput")
    if is_first and sum(file.stat().st_size for file in COMPILED.glob("*")) > MOST_BYTES:
        shutil.rmtree(COMPILED)


MOST_MAPS = 25_000
"""The number of memory maps with which a process starts another module of tests."""

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_dtype_promotion", "strict")
set_optimizations(disabled=True)


@pytest.fixture(scope="module", autouse=True)
def few_programs():
    """Forgets compiled programs when there are many: each has memory maps, of which Linux allows a process 65,530."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MOST_MAPS:
        jax.clear_caches()


@pytest.fixture(scope="session", autouse=True)
def trackio_folder(tmp_path_factory):
    """Runs of the tests stay out of the database of the user. Trackio reads the variable when it is imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRACKIO_DIR", str(tmp_path_factory.mktemp("trackio")))
        yield


@pytest.fixture
def x64():
    """Float64 for one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def optimized():
    """Compiled as a user's programs are, here and in child processes: for what has to be equal to the last bit."""
    set_optimizations(disabled=False)
    yield
    set_optimizations(disabled=True)


@pytest.fixture
def forget_local_plugins():
    """After the test, the plugins that it has registered are unknown again; built-in ones stay, once imported."""
    from seqjax.plugin import registry

    before = set(registry._registered)
    yield
    for key in set(registry._registered) - before:
        if registry._registered[key][0].distribution == registry.LOCAL:
            del registry._registered[key]


@pytest.fixture(scope="session")
def time_machine_file():
    """The dataset of the chapter, where it is."""
    file = Path(os.environ.get("SEQJAX_DATA", ""), "timemachine.txt")
    if "SEQJAX_DATA" not in os.environ or not file.is_file():
        pytest.skip("SEQJAX_DATA does not name a folder with timemachine.txt")
    return file
