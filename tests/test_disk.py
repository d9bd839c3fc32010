import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from kit.errors import StoreError
from kit.knowledge import disk


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "9p"])
def test_a_network_file_system_is_refused(tmp_path, monkeypatch, kind):
    device = tmp_path.stat().st_dev
    mounts = f"36 25 {os.major(device)}:{os.minor(device)} / {tmp_path} rw shared:1 - {kind} server:/share rw\n"
    monkeypatch.setattr(disk.Path, "read_text", lambda self, **_: mounts)
    with pytest.raises(StoreError) as caught:
        disk.refuse_network(tmp_path)
    assert kind in caught.value.cause and "network=True" in caught.value.remedy


def test_a_local_disk_is_not_refused(tmp_path):
    assert disk.refuse_network(tmp_path) is None


def test_the_lock_is_held_by_one(tmp_path):
    with disk.locked(tmp_path) as first, disk.locked(tmp_path, patient=False) as second:
        assert (first, second) == (True, False)
    with disk.locked(tmp_path, patient=False) as again:
        assert again


def test_ctrl_c_waits_and_is_not_lost():
    done = []

    def press():
        with disk.uninterrupted():
            signal.raise_signal(signal.SIGINT)
            with disk.uninterrupted():
                signal.raise_signal(signal.SIGINT)
            done.append("all of it")

    with pytest.raises(KeyboardInterrupt):
        press()
    assert done == ["all of it"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with ThreadPoolExecutor() as pool:  # where no handler can be set
        pool.submit(disk.uninterrupted()(done.clear)).result()
    assert done == []


def test_a_full_disk_and_a_broken_file_are_told_apart(tmp_path):
    for error, word in ((OSError(28, "x"), "空き"), (RuntimeError("LanceError: No space left"), "空き"), (ValueError("x"), "壊れ")):
        with pytest.raises(StoreError) as caught, disk.store_errors(tmp_path):
            raise error
        assert word in caught.value.cause
    with pytest.raises(TypeError), disk.store_errors(tmp_path):
        raise TypeError("a mistake of ours")
