import pytest

from seqjax import Error, memory
from seqjax.memory import check_memory, memory_bytes


def test_the_memory_is_that_of_the_machine_or_of_its_container(monkeypatch, tmp_path):
    with open("/proc/meminfo") as file:
        total = 1024 * int(next(line.split()[1] for line in file if line.startswith("MemTotal")))
    (tmp_path / "max").write_text("max\n")
    monkeypatch.setattr(memory, "_LIMIT_OF_GROUP", tmp_path / "max")
    assert memory_bytes() == total
    (tmp_path / "max").write_text("123456\n")
    assert memory_bytes() == 123456


def test_what_cannot_fit_is_exit_6_with_both_sizes():
    check_memory("it", memory_bytes(), "")
    with pytest.raises(
        Error, match=r"they take 4,000,000,000\.5 GB, and this machine has [\d.]+ GB.*\ndo less"
    ) as caught:
        check_memory("they", 4 * 10**18 + 5 * 10**8, "do less")
    assert caught.value.exit_code == 6
