"""The life of a model server: mostly with a scripted child in vLLM's place, and last with vLLM itself."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import tomllib
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from kit.errors import DataError, ParameterError, ServerError
from kit.interface import cli
from kit.serving import guard, launch, logs, server
from kit.serving.server import at, running, serve
from kit.trust.check import Card

ROOT = Path(__file__).parents[1]
# What a start looks like from outside: log lines, a listener, and a process of its own for the computation.
CHILD = '''
import http.server, json, os, signal, subprocess, sys, time
mode, port = sys.argv[1], int(sys.argv[2])
def say(line):
    sys.stderr.write(line + "\\n")
    sys.stderr.flush()
say("(APIServer pid=1) INFO 11-22 02:24:39 [model.py:733] Resolved architecture: LlamaForCausalLM")
if mode == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
engine = subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"
                           if mode == "deaf" else "import time; time.sleep(600)"])
say("(Worker pid=3) INFO 11-22 02:24:53 [cpu_model_runner.py:68] Starting to load model /m...")
say("Loading safetensors checkpoint shards:  50% Completed | 1/2 [00:00<00:00, 248.01it/s]")
time.sleep(0.5)
if mode == "oom":
    say("(Worker pid=3) WARNING 11-22 02:24:53 [x.py:1] errors like `OSError: [Errno 24] Too many open files`")
    say("(EngineCore pid=2) ERROR 11-22 02:24:54 [core.py:9] torch.OutOfMemoryError: CUDA out of memory. Tried 2 GiB")
    for number in range(30):
        say(f"(APIServer pid=1)   File \\"x.py\\", line {number}")
    say("(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above.")
    sys.exit(1)
if mode == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if mode == "hang":
    time.sleep(600)
class Handler(http.server.BaseHTTPRequestHandler):
    asked = 0
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = 401 if self.headers["Authorization"] != "Bearer " + os.environ["VLLM_API_KEY"] else 200
        if mode == "base":
            status = 400
        Handler.asked += 1
        if mode == "dies" and Handler.asked == 2:
            say("(APIServer pid=1) vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue.")
            os._exit(3)
        say("asked " + json.dumps({name: body[name] for name in body if name not in ("messages", "model")}))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(b'{"error": {"message": "no chat template is defined"}}' if status == 400 else b"{}")
    def log_message(self, *_):
        pass
say("INFO:     Application startup complete.")
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
'''


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Where this test's servers leave their state; whatever is still running there is ended."""
    monkeypatch.setenv("KIT_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(server, "PATIENCE_S", 2.0)
    yield tmp_path / "runs" / "servers"
    if left := server._read(tmp_path / "runs" / "servers" / "server.json"):
        left.stop()
        pytest.fail(f"{left} was left behind")


@pytest.fixture
def scripted_vllm(home, monkeypatch):
    """Put the scripted child in vLLM's place; the test says how it behaves."""
    monkeypatch.setattr(launch, "installed", lambda here: (Path(sys.executable).parent, None))

    def choose(mode):
        def command(programs, card, folder, port, options):
            return [sys.executable, "-c", CHILD, mode, str(port), *options]

        monkeypatch.setattr(launch, "command", command)

    choose("works")
    return choose


def group(pid):
    """Living processes of a group, by ps."""
    listed = subprocess.run(["ps", "-eo", "pgid=,pid=,stat="], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in listed.splitlines()]
    return [int(pid_) for group_, pid_, state in rows if int(group_) == pid and state[0] != "Z"]


def listeners(pids):
    """Addresses that these processes listen on, by ss."""
    listed = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True, check=True).stdout
    return [line.split()[3] for line in listed.splitlines() if set(map(int, re.findall(r"pid=(\d+)", line))) & set(pids)]


def in_a_new_process(script, home):
    """Run Python with the kit and these runs; return what it prints."""
    environment = os.environ | {"KIT_RUNS": str(home.parent), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# --- start and stop, scripted


def test_a_start_tells_its_phases_and_a_stop_leaves_nothing(plain_model, home, scripted_vllm):
    said = []
    with serve(plain_model, progress=said.append) as started:
        assert started.model == "plain" and started.url.endswith("/v1") and not started.found
        assert len(group(started.pid)) == 2 and listeners(group(started.pid)) == [started.url[7:-3]]
        state = home / "server.json"
        assert stat.S_IMODE(state.stat().st_mode) == stat.S_IMODE(started.log.stat().st_mode) == 0o600
        assert stat.S_IMODE(home.stat().st_mode) == stat.S_IMODE(started.scratch.stat().st_mode) == 0o700
        assert started.failure() is None and "稼働中" in started._repr_html_()
    assert group(started.pid) == [] and not state.exists() and not started.scratch.exists()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(started.url[:-3].rpartition(":")[2]))) != 0
    started.stop()  # again
    weights = said.index("重みを読み込んでいます（50%）")
    assert said[0].startswith("モデルのファイル") and said[-1] == "起動しました"
    assert weights < said.index("確率の出力を試しています") < said.index("JSON の出力を試しています")
    asked = [json.loads(line[6:]) for line in started.log.read_text().splitlines() if line.startswith("asked")]
    assert asked[0]["max_tokens"] == 1 and asked[1]["logprobs"] is True and "structured_outputs" in asked[2]


def test_the_key_is_nowhere_but_in_the_state(plain_model, home, scripted_vllm):
    with serve(plain_model) as started:
        assert len(started.key) >= 32 and started.key in (home / "server.json").read_text()
        for pid in group(started.pid):
            assert started.key not in Path(f"/proc/{pid}/cmdline").read_text()
        assert started.key not in started.log.read_text() + repr(started) + started._repr_html_()
        for same in (started.url, started.url.replace("127.0.0.1", "localhost") + "/", started.url.removesuffix("/v1")):
            assert at(same).key == started.key
        for other in ("http://127.0.0.1:1/v1", started.url.replace("127.0.0.1", "192.168.0.1"), "https" + started.url[4:], ""):
            assert at(other) is None
    assert at(started.url) is None


def test_what_runs_is_known_by_the_hash_of_its_files(plain_model, home, scripted_vllm):
    with serve(plain_model) as started:
        assert len(started.sha256) == 64 and at(started.url).sha256 == started.sha256 and at("http://127.0.0.1:1") is None
    (plain_model / "LICENSE").write_text("MIT", encoding="utf-8")
    next((home / "manifests").iterdir()).unlink()  # as its owner may, who means the change
    with serve(plain_model) as again:
        assert again.sha256 != started.sha256


@pytest.mark.parametrize(("sign", "cause"), [(signal.SIGKILL, "強制終了"), (signal.SIGTERM, "外から止められました")])
def test_an_end_from_outside_is_told_by_its_status_alone(plain_model, home, scripted_vllm, sign, cause):
    with serve(plain_model) as started:
        os.kill(started.pid, sign)
        while not (failure := started.failure()):
            time.sleep(0.01)
    assert failure.what.splitlines() == ["モデルサーバーが終了しました。", f"exit status -{sign:d}"] and cause in failure.cause


def test_what_the_server_is_given(plain_model, home, scripted_vllm, monkeypatch):
    for name in launch.WITHHELD:
        monkeypatch.setenv(name, "1")
    with serve(plain_model, context=20_000) as started:
        environment = Path(f"/proc/{started.pid}/environ").read_bytes().decode().split("\0")
        given = dict(entry.split("=", 1) for entry in environment if "=" in entry)
        arguments = Path(f"/proc/{started.pid}/cmdline").read_bytes().decode().split("\0")
    assert set(launch.WITHHELD) & set(given) == {"PYTHONPATH"} and given["PYTHONPATH"] == str(started.scratch)
    assert arguments[arguments.index("--middleware") + 1] == "kit_guard.Guard"
    assert (given["HF_HUB_OFFLINE"], given["VLLM_NO_USAGE_STATS"], given["DO_NOT_TRACK"]) == ("1", "1", "1")
    assert given["VLLM_HOST_IP"] == "127.0.0.1" and given["VLLM_CPU_KVCACHE_SPACE"] == "1"
    assert arguments[arguments.index("--max-model-len") + 1] == "8192" == str(started.context)
    assert arguments[arguments.index("--dtype") + 1] == "float32" and "--enable-lora" not in arguments


@pytest.mark.parametrize("card", [None, Card("H100", 80)])
def test_what_only_one_build_is_given(plain_model, tmp_path, card):
    plan = {"folder": plain_model, "context": 512, "users": 1, "gpu_fraction": 0.5, "adapters": True}
    given = launch.environment(plan, Path("/x/bin"), card, tmp_path / "home", tmp_path, "secret", 3)
    assert ("TORCHDYNAMO_DISABLE" in given, "VLLM_CPU_KVCACHE_SPACE" in given) == (card is None, card is None)
    assert given["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1" and given["PATH"].startswith("/x/bin:")
    assert (tmp_path / "kit_guard.py").read_bytes() == Path(guard.__file__).read_bytes()
    options = launch.arguments(plan, card)
    assert ("--enforce-eager" in options, "--gpu-memory-utilization" in options) == (card is None, card is not None)
    assert "secret" not in options


def test_the_command_of_each_build(tmp_path):
    programs = Path("/x/.venv-server/bin")
    on_gpu = launch.command(programs, Card("H100", 80), tmp_path, 8001, ["--a"])
    on_cpu = launch.command(programs, None, tmp_path, 8001, ["--a"])
    assert on_gpu[:3] == ["/x/.venv-server/bin/vllm", "serve", str(tmp_path)]
    assert on_cpu[:2] == ["/x/.venv-server/bin/python", "-m"] and on_cpu[3:5] == ["--model", str(tmp_path)]
    assert on_gpu[3:] == on_cpu[5:] == ["--host", "127.0.0.1", "--port", "8001", "--a"]


@pytest.mark.parametrize("wrong", [{"context": 0}, {"users": 0}, {"gpu_fraction": 1.1}, {"gpu_fraction": 0}, {"port": 65_536}])
def test_numbers_out_of_range(plain_model, home, wrong):
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        serve(plain_model, **wrong)


def test_adapters_are_allowed_only_when_asked_for(plain_model, home, scripted_vllm):
    with serve(plain_model, adapters=True) as started:
        assert b"VLLM_ALLOW_RUNTIME_LORA_UPDATING=1" in Path(f"/proc/{started.pid}/environ").read_bytes()
        assert b"--enable-lora" in Path(f"/proc/{started.pid}/cmdline").read_bytes()
        assert f"PYTHONPATH={started.scratch}".encode() in Path(f"/proc/{started.pid}/environ").read_bytes()
        assert (started.scratch / "kit_guard.py").is_file()


def test_a_context_too_long_is_lowered_and_said(plain_model, home, scripted_vllm):
    said = []
    with serve(plain_model, context=20_000, progress=said.append) as started:
        assert started.context == 8192
    assert any("8,192" in line and "20,000" in line for line in said)


def test_a_server_that_is_deaf_is_killed_with_its_children(plain_model, home, scripted_vllm):
    scripted_vllm("deaf")
    started = serve(plain_model)
    pids = group(started.pid)
    assert len(pids) == 2
    started.stop()
    assert group(started.pid) == [] and running() is None


def test_children_that_outlive_the_server_are_ended(plain_model, home, scripted_vllm):
    started = serve(plain_model)
    os.kill(started.pid, signal.SIGKILL)
    while started.failure() is None:
        time.sleep(0.05)
    assert len(group(started.pid)) == 1
    assert running() is None  # finds the dead one and cleans up
    assert group(started.pid) == [] and not (home / "server.json").exists() and not started.scratch.exists()


# --- found again


def test_it_is_found_and_stopped_from_a_new_process(plain_model, home, scripted_vllm):
    started = serve(plain_model)
    script = "from kit.serving.server import running, at; s = running(); print(s.pid, s.url, s.found, at(s.url).key)"
    assert in_a_new_process(script, home) == f"{started.pid} {started.url} True {started.key}"
    in_a_new_process("from kit.serving.server import running; running().stop()", home)
    assert group(started.pid) == [] and running() is None


def test_it_outlives_the_process_that_started_it(plain_model, home, scripted_vllm, tmp_path):
    script = (
        "import sys; from pathlib import Path; from kit.serving import launch, server\n"
        "launch.installed = lambda here: (Path(sys.executable).parent, None)\n"
        f"launch.command = lambda p, g, f, port, o: [sys.executable, '-c', {CHILD!r}, 'works', str(port)]\n"
        f"print(server.serve({str(plain_model)!r}).pid)"
    )
    pid = int(in_a_new_process(script, home))
    found = running()
    assert found.pid == pid and found.found and not found.own and len(group(pid)) == 2
    with found:
        pass
    assert running() is not None  # a block ends only what it began
    found.stop()
    assert group(pid) == []


def test_the_same_is_shared_and_another_is_refused(plain_model, home, scripted_vllm):
    with serve(plain_model, users=2) as started:
        again = serve(str(plain_model), users=2)
        assert (again.pid, again.found) == (started.pid, True)
        assert started.own and again.own and running().own  # found again, and still this process's to stop
        with pytest.raises(ServerError, match="plain") as caught:
            serve(plain_model, users=3)
        assert "kit stop" in caught.value.remedy
        with pytest.raises(ServerError, match="plain"):
            serve(plain_model, users=2, port=1)


def test_two_at_once_start_one(plain_model, home, scripted_vllm):
    found, said = [], []
    threads = [threading.Thread(target=lambda: found.append(serve(plain_model, progress=said.append))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0].pid == found[1].pid and sorted(server.found for server in found) == [False, True]
    assert any("待っています" in line for line in said)
    found[0].stop()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}', "{}"])
def test_a_state_that_cannot_be_read_counts_as_none(home, content):
    home.mkdir(parents=True)
    (home / "server.json").write_text(content)
    assert running() is None
    (home / "server.json").unlink()


def test_a_number_that_belongs_to_somebody_else_is_left_alone(plain_model, home, scripted_vllm):
    started = serve(plain_model)
    started.stop()
    stranger = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        facts = {"pid": stranger.pid, "started": server._stat(Path(f"/proc/{stranger.pid}"))[2] - 1, "ready": True}
        server._write(server.replace(started, **facts))
        assert running() is None and stranger.poll() is None
        assert not (home / "server.json").exists()
    finally:
        stranger.kill()
        stranger.wait()


def test_a_start_whose_starter_was_killed_is_cleared_away(plain_model, home, scripted_vllm):
    scripted_vllm("hang")
    script = (
        "import os, sys; from pathlib import Path; from kit.serving import launch, server\n"
        "launch.installed = lambda here: (Path(sys.executable).parent, None)\n"
        f"launch.command = lambda p, g, f, port, o: [sys.executable, '-c', {CHILD!r}, 'hang', str(port)]\n"
        f"server.serve({str(plain_model)!r}, progress=lambda line: os._exit(9) if '重み' in line else 0)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", script], env=environment, check=False).returncode == 9
    left = server._read(home / "server.json")
    assert len(group(left.pid)) == 2 and running() is None
    scripted_vllm("works")
    with serve(plain_model) as started:
        assert started.pid != left.pid and group(left.pid) == []


@pytest.mark.parametrize("stopped_by", [lambda: server.stop(), lambda: cli.main(["stop"])])
def test_a_start_whose_starter_was_killed_can_be_stopped(plain_model, home, scripted_vllm, stopped_by):
    with serve(plain_model) as started:
        server._write(server.replace(started, ready=False))  # as the killed starter left it
        assert running() is None and stopped_by() in (0, server.replace(started, ready=False))
        assert group(started.pid) == [] and not (home / "server.json").exists()
    assert server.stop() is None


def test_a_second_ctrl_c_ends_the_patience_and_nothing_is_left(plain_model, home, scripted_vllm, monkeypatch):
    monkeypatch.setattr(server, "PATIENCE_S", 30.0)
    scripted_vllm("deaf")
    started = serve(plain_model)
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    begun = time.monotonic()
    started.stop()
    timer.join()
    assert group(started.pid) == [] and time.monotonic() - begun < 20


# --- used by several


USER = (
    "import sys, time; from pathlib import Path; from kit.serving.server import serve\n"
    "with serve(sys.argv[1]) as used:\n"
    "    print(used.found, flush=True); sys.stdin.readline()"
)


def user(model, home):
    """Another process in a block around the server, until it is told to go on."""
    environment = os.environ | {"KIT_RUNS": str(home.parent), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", USER, model], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )


def test_a_temporary_server_is_stopped_by_whoever_uses_it_last(plain_model, home, scripted_vllm):
    with serve(plain_model) as started:
        other = user(plain_model, home)
        assert other.stdout.readline() == "True\n"
    assert running().pid == started.pid, "the other one still uses it"
    other.communicate("\n", timeout=60)
    assert (other.returncode, running(), group(started.pid)) == (0, None, [])


def test_a_temporary_server_whose_starter_was_killed_ends_with_its_next_use(plain_model, home, scripted_vllm):
    started = serve(plain_model)
    started.__enter__()
    server._HELD[started.pid].pop().close()  # what the kernel does for a process that was killed
    with serve(plain_model) as again:
        assert again.found and again.pid == started.pid
    assert running() is None and group(started.pid) == []


def test_a_server_that_was_left_running_on_purpose_stays(plain_model, home, scripted_vllm):
    started = serve(plain_model)
    with serve(plain_model) as again:
        assert again.found
    assert running().pid == started.pid
    started.stop()


# --- starts that fail


@pytest.mark.parametrize(
    ("mode", "shown", "cause"),
    [
        ("oom", "CUDA out of memory. Tried 2 GiB", "GPU のメモリー"),
        ("killed", "終了コード -9", "主記憶"),
        ("base", "no chat template", "ひな形"),
        ("dies", "EngineDeadError", "EngineCore"),
    ],
)
def test_an_early_death_is_explained(plain_model, home, scripted_vllm, mode, shown, cause):
    scripted_vllm(mode)
    begun = time.monotonic()
    with pytest.raises(ServerError) as caught:
        serve(plain_model)
    assert shown in caught.value.what and cause in caught.value.cause and caught.value.remedy
    assert "INFO" not in caught.value.what and len(caught.value.what.splitlines()) <= 10
    assert time.monotonic() - begun < 15
    assert running() is None and not (home / "server.json").exists()
    assert list(home.parent.glob("servers/server.log"))  # the log stays


def test_a_start_that_stands_still_is_given_up(plain_model, home, scripted_vllm, monkeypatch):
    monkeypatch.setattr(server, "SILENCE_S", 1.0)
    scripted_vllm("hang")
    with pytest.raises(ServerError, match="進みませんでした"):
        serve(plain_model)
    assert running() is None


def test_ctrl_c_during_the_start_stops_the_child(plain_model, home, scripted_vllm):
    scripted_vllm("hang")
    pids = []

    def press(line):
        if "重み" in line:
            pids.append(server._read(home / "server.json").pid)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        serve(plain_model, progress=press)
    assert group(pids[0]) == [] and not (home / "server.json").exists()


def test_a_taken_port_is_refused(plain_model, home, scripted_vllm):
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ServerError, match="ポート"):
        serve(plain_model, port=taken.getsockname()[1])
    assert not (home / "server.json").exists()


def test_a_refused_model_is_never_started(plain_model, home, scripted_vllm, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", None)
    (plain_model / "pytorch_model.bin").touch()
    with pytest.raises(DataError, match=r"pytorch_model\.bin"):
        serve(plain_model)


def test_tampered_weights_are_refused_at_the_second_start(plain_model, home, scripted_vllm):
    serve(plain_model).stop()
    weights = plain_model / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-3] ^= 1
    weights.write_bytes(content)
    with pytest.raises(DataError, match=r"model\.safetensors"):
        serve(plain_model)
    assert running() is None


def test_without_the_server_environment(plain_model, home, tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "__file__", str(tmp_path / "a" / "b" / "c.py"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ServerError, match=r"\.venv-server") as caught:
        serve(plain_model)
    assert "make server" in caught.value.remedy


@pytest.mark.parametrize(("build", "card"), [("cpu", None), ("gpu", "H100"), ("", "H100"), ("", None)])
def test_the_build_decides_about_the_card(tmp_path, monkeypatch, build, card):
    (tmp_path / "kit.toml").touch()
    (tmp_path / ".venv-server" / "bin").mkdir(parents=True)
    (tmp_path / ".venv-server" / "bin" / ("vllm" if card else "python")).touch()
    if build:
        (tmp_path / ".venv-server" / ".build").write_text(build + "\n")
    found = ("H100",) if build == "cpu" or card else ()  # the CPU build can use no card
    monkeypatch.setattr(launch, "cards", lambda: found)
    assert launch.installed(server.settings.load(tmp_path)) == (tmp_path / ".venv-server" / "bin", card)


def test_a_program_that_cannot_be_run_leaves_nothing(plain_model, home, scripted_vllm, monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(launch, "command", lambda *_: [str(plain_model / "config.json")])
    with pytest.raises(ServerError, match=r"config\.json を実行できません") as caught:
        serve(plain_model)
    assert "make server" in caught.value.remedy and not list(tmp_path.glob("kit-*"))


def test_a_home_that_cannot_be_written(plain_model, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("KIT_RUNS", str(tmp_path / "file"))
    with pytest.raises(ServerError, match="書き込めません"):
        serve(plain_model)
    assert running() is None


# --- the causes


SAID = {
    "RuntimeError: Unsupported CPU attention configuration: head_dim=16": "head_dim",
    "ValueError: Model architectures ['XForCausalLM'] are not supported for now. Supported architectures: []": "architectures",
    "ValueError: User-specified max_model_len (9) is greater than the derived max_model_len (x=8)": "context",
    "ValueError: To serve at least one request with the model's max seq len (8192), (4.0 GiB KV cache is needed, which is "
    "larger than the available KV cache memory (1.0 GiB).": "KVキャッシュ",
    "ValueError: Free memory on device cuda:0 (1.0/80.0 GiB) on startup is less than desired GPU memory utilization": "ほか",
    "RuntimeError: The NVIDIA driver on your system is too old (found version 11040).": "ドライバー",
    "RuntimeError: Failed to infer device type, please set": "種類",
    "OSError: [Errno 98] Address already in use": "ポート",
    "FileNotFoundError: [Errno 2] No such file or directory: '/m/tokenizer.json'": "足りません",
    "ValueError: Couldn't instantiate the backend tokenizer from one of:": "足りません",
    "torch._inductor.exc.InvalidCxxCompiler: No working C++ compiler found": "C++",
    "subprocess.CalledProcessError: Command 'lscpu --json' returned non-zero exit status 127.": "lscpu",
    "OSError: [Errno 28] No space left on device": "空き",
    "ModuleNotFoundError: No module named 'vllm'": ".venv-server",
    "safetensors._safetensors_rust.SafetensorError: Error while deserializing header": "壊れて",
}


@pytest.mark.parametrize("line", SAID, ids=SAID.values())
def test_causes(tmp_path, line):
    log = tmp_path / "server.log"
    log.write_text(f"(EngineCore pid=7) ERROR 11-22 02:24:46 [core.py:1] {line}\n(APIServer pid=1) RuntimeError: see above\n")
    error = logs.explain(log, "終了しました。", "exit status 1")
    assert SAID[line] in error.cause and line[:250] in error.what and "[core.py:1]" not in error.what
    assert "RuntimeError: see above" in error.what and not error.what.endswith("exit status 1")


def test_an_unknown_cause_shows_the_log(tmp_path):
    log = tmp_path / "server.log"
    log.write_text("odd.OddError: the root\n" + "".join(f"strange {number}\n" for number in range(40)))
    error = logs.explain(log, "終了しました。")
    assert "the root" in error.what and "strange 39" in error.what and "strange 3\n" not in error.what and str(log) in error.remedy
    assert logs.explain(tmp_path / "none.log", "終了しました。").what.startswith("終了しました。")


def test_a_log_without_trouble_is_not_taken_for_the_cause(tmp_path):
    log = tmp_path / "server.log"
    log.write_text("W1122 03:04:05.6 7 torch/x.py:1] No NUMA\n[W1122 03:04:05.6 x.cpp:1] Warning: no card\nINFO 11-22 ready\n")
    error = logs.explain(log, "終了しました。")
    assert (error.what, "外から" in error.cause, str(log) in error.remedy) == ("終了しました。", True, True)


def test_every_cause_has_a_remedy():
    failures = tomllib.loads((ROOT / "kit" / "serving" / "failures.toml").read_text(encoding="utf-8"))["failure"]
    assert len(failures) >= 20
    for failure in failures:
        re.compile(failure["pattern"])
        assert set(failure) == {"pattern", "cause", "remedy"} and failure["cause"].endswith("。") and failure["remedy"]


# --- vLLM itself


def ask(started, key, path="/models"):
    request = urllib.request.Request(started.url + path, headers={"Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


@pytest.mark.server
def test_vllm_is_protected_and_on_this_machine_only(vllm_server):
    assert ask(vllm_server, vllm_server.key)["data"][0]["id"] == "tiny"
    for key in ("", "wrong"):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            ask(vllm_server, key)
    pids = group(vllm_server.pid)
    addresses = listeners(pids)
    assert vllm_server.url[7:-3] in addresses and all(address.startswith("127.0.0.1:") for address in addresses)
    for pid in pids:
        assert vllm_server.key not in Path(f"/proc/{pid}/cmdline").read_text()
    assert vllm_server.key not in vllm_server.log.read_text()


@pytest.mark.server
def test_vllm_is_found_again_and_stopped_without_a_trace(vllm_python, tiny_model, home, tmp_path):
    said = []
    started = serve(tiny_model, context=99_999, progress=said.append)
    assert started.context == 8192 and "エンジンを用意しています" in said and "JSON の出力を試しています" in said
    assert serve(tiny_model, context=8192).pid == started.pid
    script = "from kit import connect; print(connect().ask('はい', max_tokens=1).model)"
    assert in_a_new_process(script, home) == "tiny"  # by the state alone: no address, no key
    in_a_new_process("from kit.serving.server import running; running().stop()", home)
    assert group(started.pid) == listeners([started.pid]) == [] and not started.scratch.exists()
    assert sorted(path.name for path in home.iterdir()) == ["cache", "lock", "manifests", "server.log"]
    with pytest.raises(OSError, match="refused"):
        ask(started, started.key)


@pytest.mark.server
def test_a_killed_engine_is_reported(vllm_python, tiny_model, home):
    started = serve(tiny_model, context=2048)
    names = {pid: Path(f"/proc/{pid}/comm").read_text() for pid in group(started.pid)}
    os.kill(next(pid for pid, name in names.items() if "Engine" in name), signal.SIGKILL)
    deadline = time.monotonic() + 60
    while (failure := started.failure()) is None and time.monotonic() < deadline:
        time.sleep(0.2)
    assert failure is not None and "EngineCore" in failure.cause
    assert running() is None and group(started.pid) == [] and not (home / "server.json").exists()
