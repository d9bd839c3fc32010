"""What ``make lab`` would start: where it listens, which configuration it takes, and what it tells the user."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from kit.interface import lab

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "kit" / "interface" / "jupyter_server_config.py"


class Started(Exception):
    """Stands for the process that is replaced."""


@pytest.fixture
def start(monkeypatch, capsys):
    """Call ``main`` with arguments; return (argument vector of JupyterLab, what was printed)."""

    def call(*arguments):
        replaced = []

        def execv(program, vector):
            replaced.append((program, vector))
            raise Started

        monkeypatch.setattr(os, "execv", execv)
        monkeypatch.setattr(sys, "argv", ["kit.interface.lab", *arguments])
        with pytest.raises(Started):
            lab.main()
        ((program, vector),) = replaced
        assert program == vector[0] == sys.executable
        return vector, capsys.readouterr().out

    return call


@pytest.fixture
def taken():
    """The first port, taken by somebody else, wherever it was free."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", 8888))
            listener.listen()
        except OSError:
            pass
        yield 8888


def value(vector, option):
    (found,) = [part.split("=", 1)[1] for part in vector if part.startswith(f"--{option}=")]
    return found


def test_the_hardened_configuration_is_started_on_the_notebooks(start, monkeypatch):
    monkeypatch.chdir(ROOT / "notebooks")
    vector, _ = start("--allow-root")
    assert vector[1:4] == ["-m", "jupyterlab", "--no-browser"]
    assert value(vector, "config") == str(CONFIG)
    assert value(vector, "ServerApp.root_dir") == str(ROOT)
    opened = value(vector, "LabApp.default_url").removeprefix("/lab/tree/")
    assert (ROOT / opened).is_file()
    assert vector[-1] == "--allow-root"
    assert not re.search(r"token|password|0\.0\.0\.0", " ".join(vector))


def test_the_ssh_line_names_the_port_that_is_used(start):
    vector, shown = start()
    port = value(vector, "ServerApp.port")
    (line,) = [line for line in shown.splitlines() if line.startswith("  ssh ")]
    assert re.fullmatch(rf"  ssh -L {port}:127\.0\.0\.1:{port} \S+@\S+", line)
    assert f"http://127.0.0.1:{port}/" in shown.splitlines()[0]
    assert len(shown.splitlines()) == 3


def test_a_port_in_use_is_passed_over(start, taken):
    vector, _ = start()
    port = int(value(vector, "ServerApp.port"))
    assert taken < port < taken + 50
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", port))


def test_where_no_port_is_free_jupyter_looks_for_one_itself(monkeypatch):
    def refuse(self, address):
        raise OSError

    monkeypatch.setattr(socket.socket, "bind", refuse)
    assert lab._free_port() == 8888


def test_what_lab_would_start_resolves_to_a_closed_server(start, tmp_path):
    vector, _ = start("--show-config-json")
    environment = os.environ | {"JUPYTER_RUNTIME_DIR": str(tmp_path / "r"), "JUPYTER_CONFIG_DIR": str(tmp_path / "c")}
    done = subprocess.run(vector, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    config = json.loads(done.stdout[done.stdout.index("{") :])
    server, frontend = config["ServerApp"], config["LabApp"]
    closed = {
        "ip": "127.0.0.1", "allow_root": False, "allow_remote_access": False, "allow_unauthenticated_access": False,
        "allow_origin": "", "disable_check_xsrf": False, "terminals_enabled": False, "open_browser": False,
    }  # fmt: skip
    assert {name: server[name] for name in closed} == closed
    assert "token" not in server and "IdentityProvider" not in config, "Jupyter makes a new one at each start"
    assert frontend["news_url"] is None
    assert frontend["extension_manager"] == "readonly"
    assert frontend["check_for_updates_class"].endswith("NeverCheckForUpdate")
    assert config["KernelManager"]["transport"] in ("ipc", "tcp")


@pytest.mark.parametrize(("letters", "transport"), [(10, "ipc"), (90, "tcp")])
def test_kernels_are_reached_through_files_where_their_names_fit(tmp_path_factory, monkeypatch, letters, transport):
    from kit.interface.notebooks import kernel_transport

    folder = tmp_path_factory.getbasetemp().parent / ("r" * letters)
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(folder))
    assert kernel_transport() == transport
    assert folder.stat().st_mode & 0o077 == 0
    folder.rmdir()
