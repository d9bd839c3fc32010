"""What vLLM is started with: which build, which arguments, which environment. Names and traps of vLLM 0.32 stand here."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kit import settings
from kit.errors import ServerError
from kit.serving import lora, preflight
from kit.trust.check import Card, cards

# Not handed to the server: other people's secrets, what would change its Python, and routes that only tests may open.
WITHHELD = {"KIT_LLM_API_KEY", "HF_TOKEN", "PYTHONPATH", "PYTHONHOME", "VLLM_SERVER_DEV_MODE"}
WITHHELD |= {"VLLM_ALLOW_RUNTIME_LORA_UPDATING"}


def installed(here: settings.Settings) -> tuple[Path, Card | None]:
    """Return the folder of the server environment's programs, and the card that its build can use.

    Raises:
        ServerError: There is no server environment.
    """
    places = [root / ".venv-server" for root in (here.root, Path(__file__).parents[2])]
    for place in places:
        build = place / ".build"
        on_cpu = build.exists() and build.read_text(encoding="utf-8").strip() == "cpu"
        card = None if on_cpu else next(iter(cards()), None)
        if (place / "bin" / ("vllm" if card else "python")).exists():
            return place / "bin", card
    raise ServerError(
        f"サーバー用の環境 {places[0]} がありません。", "vLLM がまだ導入されていません。", "導入してください: make server"
    )


def command(programs: Path, card: Card | None, folder: Path, port: int, options: list[str]) -> list[str]:
    """Return the command line: the CPU build's package has no ``vllm`` command."""
    module = [str(programs / "python"), "-m", "vllm.entrypoints.launchers.api_server.entry", "--model"]
    form = [str(programs / "vllm"), "serve"] if card else module
    return [*form, str(folder), "--host", "127.0.0.1", "--port", str(port), *options]


def arguments(plan: Mapping[str, Any], card: Card | None) -> list[str]:
    """Return the options for a plan: folder, context, users, gpu_fraction and adapters, as in ``Server``."""
    folder = plan["folder"]
    options = ["--served-model-name", folder.name, "--max-model-len", str(plan["context"]), "--load-format", "safetensors"]
    options += ["--generation-config", "vllm", "--disable-fastapi-docs", "--disable-uvicorn-access-log"]
    options += ["--middleware", "kit_guard.Guard"]
    # Without the flag a model may write blanks without end; it works only with a backend that is named.
    options += ["--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}']
    if plan["adapters"]:
        options += lora.options(on_card=bool(card))
    if card:
        return [*options, "--gpu-memory-utilization", str(plan["gpu_fraction"])]
    # Compiling made no reply faster on CPU and each start slower by 20 s; and it needs a C++ compiler.
    return [*options, "--enforce-eager", "--dtype", "float32" if preflight.own_precision(folder) == "float32" else "auto"]


def environment(
    plan: Mapping[str, Any], programs: Path, card: Card | None, home: Path, scratch: Path, key: str, cache_gib: int
) -> dict[str, str]:
    """Return all variables of the server, and put the guard where it imports from.

    Args:
        plan: As for ``arguments``.
        programs: The folder of the server environment's programs.
        card: What computes; None for the processor.
        home: Where caches stay from start to start.
        scratch: The server's own temporary folder.
        key: The key that it shall ask for: not in the arguments, where everybody could read it.
        cache_gib: Main memory for the cache of the CPU build.
    """
    shutil.copy(Path(__file__).with_name("guard.py"), scratch / "kit_guard.py")
    variables = {name: value for name, value in os.environ.items() if name not in WITHHELD} | settings.OFFLINE_SWITCHES
    variables |= {"VLLM_HOST_IP": "127.0.0.1", "VLLM_MAX_N_SEQUENCES": "64", "VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0"}
    variables |= {"VLLM_API_KEY": key, "TMPDIR": str(scratch), "PYTHONPATH": str(scratch)}
    variables |= {"VLLM_CACHE_ROOT": str(home / "cache"), "TORCHINDUCTOR_CACHE_DIR": str(home / "cache" / "inductor")}
    variables |= {"PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}  # ninja, for GPU kernels
    if plan["adapters"]:
        variables |= {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}
    if not card:
        variables |= {"VLLM_CPU_KVCACHE_SPACE": str(cache_gib), "TORCHDYNAMO_DISABLE": "1"}
    return variables
