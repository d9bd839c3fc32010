"""Start JupyterLab on loopback with the hardened configuration, and print the ssh line to paste."""

import getpass
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path


def main() -> None:
    """Replace this process by JupyterLab, opened at the notebooks."""
    from kit import settings

    root = settings.load().root
    port = _free_port()
    print(f"JupyterLab を http://127.0.0.1:{port}/ で起動します（この端末からだけ見えます。終了は Ctrl-C を2回）。")  # noqa: T201
    print("手元のPCから使うときは、手元で次を実行してから、このあと表示される http://127.0.0.1… を開いてください:")  # noqa: T201
    print(f"  ssh -L {port}:127.0.0.1:{port} {getpass.getuser()}@{socket.gethostname()}", flush=True)  # noqa: T201
    config = Path(__file__).with_name("jupyter_server_config.py")
    arguments = ["--no-browser", f"--config={config}", f"--ServerApp.port={port}", f"--ServerApp.root_dir={root}"]
    tree = "--LabApp.default_url=/lab/tree/notebooks/00_check.ipynb"
    os.execv(sys.executable, [sys.executable, "-m", "jupyterlab", *arguments, tree, *sys.argv[1:]])


def _free_port(first: int = 8888) -> int:
    for port in range(first, first + 50):
        with suppress(OSError):
            socket.create_server(("127.0.0.1", port)).close()
            return port
    return first


if __name__ == "__main__":
    main()
