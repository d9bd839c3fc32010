"""The vLLM process: start it, wait until it really answers, find it again, stop it without a trace.

A server outlives the notebook that started it. What is needed to find it stands in ``runs/servers/server.json``, which
only its owner can read: the key is in there, and nowhere else (vLLM takes it from its environment).
"""

import atexit
import fcntl
import http.client
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from kit import settings, views
from kit.errors import ParameterError, ServerError, reason
from kit.serving import launch, logs, lora, preflight
from kit.trust import durable

_STATE = "server.json"
Say = Callable[[str], object]

_SCHEMA = {"type": "object", "properties": {"found": {"type": "boolean"}}, "required": ["found"]}
# The first answer makes the server "ready"; the others are slow only once, and nobody's measurement shall pay for it.
_TRIALS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("", {}),
    ("確率の出力を試しています", {"logprobs": True, "top_logprobs": 1}),
    ("JSON の出力を試しています", {"max_tokens": 16, "structured_outputs": {"json": _SCHEMA}}),
)
SILENCE_S = 900.0
"""A start whose log stands still for so long has hung (weights on slow disks come in shards, each with a line)."""
_CALL_S = 300.0
PATIENCE_S = 20.0
"""How long a server may take to end by itself before it is killed."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running vLLM server. A ``with`` block around a start makes it temporary: whoever uses it last stops it.

    Attributes:
        url: OpenAI-compatible address, ending in ``/v1``; only this machine reaches it.
        model: Name to ask for: the name of the model's folder.
        folder: The model's folder.
        context: Longest conversation, in tokens; less than asked for where the model cannot do more.
        users: Conversations at the same time that the memory was planned for.
        gpu_fraction: Share of the card that it may take.
        adapters: Whether LoRA adapters can be loaded while it runs.
        pid: Number of its process, which is also that of its process group.
        log: What it writes.
        sha256: Hash over all files of the model, as they were when it started.
        found: Whether it was running already.
        temporary: Whether it is stopped when the last ``with`` block around it ends, in whatever process.
    """

    url: str
    model: str
    folder: Path
    context: int
    users: int
    gpu_fraction: float
    adapters: bool
    pid: int
    log: Path
    sha256: str = field(repr=False)
    started: int = field(repr=False)
    key: str = field(repr=False)
    scratch: Path = field(repr=False)
    ready: bool = field(default=False, repr=False)
    found: bool = False
    temporary: bool = field(default=False, repr=False)

    @property
    def own(self) -> bool:
        """Whether this very process started it: only such a server is a notebook's to stop."""
        return self.pid in _CHILDREN

    def stop(self) -> None:
        """End all its processes and remove its state; safe to call again, and from another process.

        Raises:
            ServerError: A process does not end even when it is killed.
        """
        # vLLM does not listen while it starts. A killed process always ends, but on a busy machine not at once.
        for sign, patience in ((signal.SIGTERM, PATIENCE_S if self.ready else 2.0), (signal.SIGKILL, 3 * PATIENCE_S)):
            deadline = time.monotonic() + patience
            with suppress(ProcessLookupError, KeyboardInterrupt):  # who presses Ctrl-C again wants no more patience
                if self._processes():
                    os.killpg(self.pid, sign)
                while self._processes() and time.monotonic() < deadline:
                    time.sleep(0.05)
        if left := self._processes():
            raise ServerError(
                f"モデルサーバーのプロセス {left} が終了しません。", "マシンが混み合っているか、GPU のドライバーが応答していません。",
                "1分ほど待って、もう一度止めてください: kit stop（それでも残るなら、マシンを再起動してください）",
            )
        if child := _CHILDREN.pop(self.pid, None):
            child.wait()  # it has ended; this clears it from the process table
        shutil.rmtree(self.scratch, ignore_errors=True)
        state = self.log.with_name(_STATE)
        if (current := _read(state)) and (current.pid, current.started) == (self.pid, self.started):
            state.unlink(missing_ok=True)

    def load_adapter(self, folder: str | Path) -> str:
        """Load a LoRA adapter (see ``lora.load``); its name is what ``ask(adapter=)`` and ``connect(model=)`` take."""
        return lora.load(self, folder)

    def unload_adapter(self, name: str) -> None:
        """Take an adapter out (see ``lora.unload``)."""
        lora.unload(self, name)

    def adapter_names(self) -> tuple[str, ...]:
        """Return the names of the adapters that are loaded."""
        return lora.names(self)

    def failure(self) -> ServerError | None:
        """Return why the server ended: the last lines of its log and the likely cause; None while it runs."""
        if self._alive():
            return None
        child = _CHILDREN.get(self.pid)  # only its parent learns how it ended
        return logs.explain(self.log, "モデルサーバーが終了しました。", f"exit status {child.wait()}" if child else "")

    def _call(self, path: str, body: dict[str, Any] | None = None) -> tuple[int, str]:
        """Ask the server past the chat client; return its HTTP status and words, 0 and why where it has none."""
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.key}"}
        place, slash, base = self.url.removeprefix("http://").partition("/")
        try:
            with closing(http.client.HTTPConnection(place, timeout=_CALL_S)) as line:
                line.request("POST" if body else "GET", slash + base + path, json.dumps(body) if body else None, headers)
                reply = line.getresponse()
                return reply.status, reply.read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            return 0, f"{type(error).__name__}: {error}"

    def _alive(self) -> bool:
        """Whether its own process lives; takes 40 µs."""
        if child := _CHILDREN.get(self.pid):
            child.poll()  # a child that ended stays in the table until it is asked for
        state, _, started = _stat(Path(f"/proc/{self.pid}"))
        return state not in "ZX" and started == self.started

    def _processes(self) -> list[int]:
        """The living processes of the group; none where the number belongs to somebody else by now."""
        self._alive()
        found = {int(entry.name): _stat(entry) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
        if self.pid in found and found[self.pid][2] != self.started:
            return []
        return [pid for pid, (state, group, _) in found.items() if group == self.pid and state not in "ZX"]

    def __enter__(self) -> "Server":
        _HELD.setdefault(self.pid, []).append(use := self.log.with_name("in-use").open("a"))
        fcntl.flock(use, fcntl.LOCK_SH)
        if not self.found:
            _write(replace(self, temporary=True))
        return self

    def __exit__(self, *_: object) -> None:
        _HELD[self.pid].pop().close()
        current = _read(self.log.with_name(_STATE))
        if current and current.pid == self.pid and not current.temporary:
            return
        with self.log.with_name("in-use").open("a") as use, suppress(BlockingIOError):  # somebody else still uses it
            fcntl.flock(use, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.stop()

    def _repr_html_(self) -> str:
        room = f"{self.users} 人分、1人 {self.context:,} トークン"
        caption = "稼働中のモデルサーバー" if self._alive() else "終了したモデルサーバー"
        rows = [("アドレス", self.url), ("モデル", self.model), ("文脈", room), ("ログ", self.log)]
        return views.table(("項目", "値"), rows, f"{caption}（プロセス {self.pid}）")


_HELD: dict[int, list[IO[str]]] = {}
"""Locks that say to other processes that a server is in use, by the server's number."""
_CHILDREN: dict[int, subprocess.Popen[bytes]] = {}
"""Servers that this very process started: only their parent can clear them from the process table."""


@atexit.register
def _let_go() -> None:
    """A server outlives its starter on purpose; Python would warn of a child that was not waited for."""
    for child in _CHILDREN.values():
        if child.poll() is None:
            child.returncode = 0


def serve(
    model: str | Path,
    *,
    context: int = 8192,
    users: int = 4,
    gpu_fraction: float = 0.9,
    port: int = 0,
    adapters: bool = False,
    progress: Say | None = None,
) -> Server:
    """Start a vLLM server for a local model and wait until it answers; or return the one that runs already.

    Args:
        model: The model's folder, relative to the working folder or to that of kit.toml.
        context: Longest conversation (question, documents and answer), in tokens.
        users: Conversations at the same time that the memory is planned for; more than that wait for their turn.
        gpu_fraction: Share of the card's memory to take, 0–1.
        port: Port on 127.0.0.1; 0 takes a free one.
        adapters: Allow LoRA adapters to be loaded while it runs.
        progress: Takes one Japanese line per phase of the start.

    Raises:
        ParameterError: A number is out of range.
        DataError: The model is refused (see ``preflight``).
        ServerError: It cannot start, ended early, or a server with other settings is running.
    """
    if not (context > 0 < users and 0 < gpu_fraction <= 1 and 0 <= port < 65_536):
        raise ParameterError(
            f"context={context}、users={users}、gpu_fraction={gpu_fraction}、port={port} では起動できません。",
            "context と users は1以上、gpu_fraction は0より大きく1以下、port は0〜65535です。", "値を直してください。",
        )
    say, here = progress or str, settings.load()
    folder, home = preflight.folder_of(model, here.root), here.runs / "servers"
    with _alone(home, say):
        say("モデルのファイルを検査しています")
        preflight.check_model(folder)
        longest = preflight.own_context(folder)
        if 0 < longest < context:
            say(f"文脈を {longest:,} トークンに下げました（このモデルの上限。指定は {context:,}）")
        plan = {"folder": folder, "context": min(context, longest or context), "users": users}
        plan |= {"gpu_fraction": gpu_fraction, "adapters": adapters}
        if current := _read(home / _STATE):
            if current.ready and current._alive():
                return _same(current, plan, port)
            current.stop()  # dead, or left half started by a process that was killed
        say("モデルのファイルを前回と照合しています")
        plan["sha256"] = preflight.check_unchanged(folder, home / "manifests")
        server = _start(here, plan, port, say)
        try:
            _write(server)  # at once: whoever comes after a killed starter finds the child by it
            _wait(server, say)
            _write(server := replace(server, ready=True))
        except BaseException:
            server.stop()
            raise
    say("起動しました")
    return server


def stop() -> Server | None:
    """Stop the server that was started here, be it in the middle of its start; return it, or None where there is none."""
    server = _read(settings.load().runs / "servers" / _STATE)
    alive = bool(server and server._processes())
    if server:
        server.stop()
    return server if alive else None


def running() -> Server | None:
    """Return the server that ``serve`` started here, in this process or another; clean up after a dead one."""
    server = _read(settings.load().runs / "servers" / _STATE)
    if server and not server._alive():
        server.stop()
    return replace(server, found=True) if server and server.ready and server._alive() else None


def at(url: str) -> Server | None:
    """Return the server that ``serve`` started here if its address is this one; None for any other address."""
    server = running()
    place = re.sub(r"^http://localhost\b", "http://127.0.0.1", url.strip().rstrip("/").removesuffix("/v1"))
    return server if server and place == server.url.removesuffix("/v1") else None


def _start(here: settings.Settings, plan: dict[str, Any], port: int, say: Say) -> Server:
    """Start the process of what was planned; nothing is waited for."""
    folder, home = plan["folder"], here.runs / "servers"
    programs, card = launch.installed(here)
    cache_gib, note = preflight.check_memory(folder, plan["context"], plan["users"], plan["gpu_fraction"], card)
    if note:
        say(note)
    port = preflight.free_port(port)
    key, scratch = secrets.token_urlsafe(32), Path(tempfile.mkdtemp(prefix="kit-"))  # short: sockets are made in it
    command = launch.command(programs, card, folder, port, launch.arguments(plan, card))
    environment = launch.environment(plan, programs, card, home, scratch, key, cache_gib)
    log = home / "server.log"
    log.unlink(missing_ok=True)
    log.touch(mode=0o600)
    try:
        with log.open("ab") as output:
            child = subprocess.Popen(
                command, env=environment, cwd=scratch, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
    except OSError as error:
        shutil.rmtree(scratch)
        cause, remedy = "サーバー用の環境が壊れているか、実行する権限がありません。", "導入し直してください: make server"
        raise ServerError(f"{command[0]} を実行できません（{reason(error)}）。", cause, remedy) from error
    _CHILDREN[child.pid] = child
    started = _stat(Path(f"/proc/{child.pid}"))[2]
    facts: dict[str, Any] = {"pid": child.pid, "started": started, "key": key, "scratch": scratch}
    return Server(f"http://127.0.0.1:{port}/v1", folder.name, **plan, log=log, **facts)


def _wait(server: Server, say: Say) -> None:
    """Wait until the server has really answered; pass on its phases, report its death."""
    said, size, moved = "", 0, time.monotonic()
    for trial, body in _TRIALS:
        if trial:
            say(trial)
        while not _answers(server, body):
            if not server._alive():
                code = _CHILDREN[server.pid].wait()
                what = f"モデルサーバーが起動の途中で終了しました（終了コード {code}）。"
                raise logs.explain(server.log, what, f"exit status {code}")
            if (written := server.log.stat().st_size) != size:
                size, moved = written, time.monotonic()
            elif time.monotonic() - moved > SILENCE_S:
                what = f"モデルサーバーの起動が {SILENCE_S:.0f} 秒のあいだ進みませんでした。"
                raise logs.explain(server.log, what, "（ログはここで止まっています）")
            if not trial and (phase := logs.phase(server.log)) != said:
                say(said := phase)
            time.sleep(0.3)


def _answers(server: Server, body: dict[str, Any]) -> bool:
    """Whether a real chat completion comes back; what it says does not matter."""
    messages = [{"role": "user", "content": "はい"}]
    question = {"model": server.model, "messages": messages, "max_tokens": 1, "temperature": 0} | body
    status, said = server._call("/chat/completions", question)
    if 300 <= status < 500:  # above, it is about to end, and says why in its log
        raise logs.explain(server.log, "モデルサーバーが試しの質問を断りました。", said[:1000])
    return status == 200


def _same(current: Server, plan: dict[str, Any], port: int) -> Server:
    same = all(getattr(current, name) == value for name, value in plan.items())
    if same and (not port or current.url.endswith(f":{port}/v1")):
        return replace(current, found=True)
    raise ServerError(
        f"別の設定のモデルサーバーが動いています（{current.model}、文脈 {current.context:,} トークン、{current.url}）。",
        "kit が一度に起動するサーバーは1つです。", "それを使うなら kit.connect()、替えるなら先に止めてください: kit stop",
    )


@contextmanager
def _alone(home: Path, say: Say) -> Iterator[None]:
    """Let one start at a time go on; the next waits and finds its server."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        home.chmod(0o700)
        file = (home / "lock").open("a")
    except OSError as error:
        raise ServerError(
            f"{home} に書き込めません（{reason(error)}）。", "フォルダの権限がないか、別の利用者のものです。",
            "自分の置き場所を指定してください。例: export KIT_RUNS=~/kit-runs",
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("別の画面で始まった起動が終わるのを待っています")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _stat(process: Path) -> tuple[str, int, int]:
    """State letter, process group and start time (ticks since boot) of a folder of /proc; see proc(5)."""
    with suppress(OSError):
        fields = (process / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return fields[0], int(fields[2]), int(fields[19])
    return "X", 0, 0


def _write(server: Server) -> None:
    state = server.log.with_name(_STATE)
    durable.write_atomically(state, durable.canonical(durable.to_json(server)))
    state.chmod(0o600)


def _read(state: Path) -> Server | None:
    with suppress(OSError, ValueError, LookupError, TypeError):  # none, somebody else's, or torn
        facts = json.loads(state.read_bytes())
        return Server(**facts | {name: Path(facts[name]) for name in ("folder", "log", "scratch")})
    return None
