"""A fetch asks, is logged, takes no code and no pickle, and leaves this process offline; the hub is a server of our own."""

import hashlib
import http.server
import json
import os
import threading
import time

import pytest

from kit.errors import DataError, RunError
from kit.serving.fetch import PATTERNS, fetch, question
from kit.trust import ledger

SHA = "1" * 40
FILES = {
    "config.json": b'{"model_type": "llama"}',
    "model.safetensors": b"\x02\0\0\0\0\0\0\0{}",
    "1_Pooling/config.json": b"{}",
    "tokenizer.model": b"pieces",
    "LICENSE": b"MIT",
    "modeling_evil.py": b"raise SystemExit",
    "pytorch_model.bin": b"pickle",
    "original/model.safetensors": b"again",
}


class Hub:
    """As much of a model hub as huggingface_hub asks for; ``refuse`` names the error of every request."""

    def __init__(self, files):
        hub, self.files, self.refuse, self.seen, self.tokens = self, files, "", [], []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                path = self.path.split("?")[0]
                hub.seen.append(path)
                hub.tokens.append(self.headers.get("Authorization", ""))
                if hub.refuse:
                    self.reply(401 if hub.refuse == "GatedRepo" else 404, b"{}", {"X-Error-Code": hub.refuse})
                elif "/resolve/" in path:
                    body = hub.files[path.split(f"/resolve/{SHA}/")[1]]
                    self.reply(200, body, {"ETag": f'"{hashlib.sha1(body).hexdigest()}"', "X-Repo-Commit": SHA})
                elif "/tree/" in path:
                    tree = [{"type": "file", "path": p, "size": len(b), "oid": hashlib.sha1(b).hexdigest()} for p, b in hub.files.items()]
                    self.reply(200, json.dumps(tree).encode())
                else:
                    self.reply(200, json.dumps({"id": "org/model", "sha": SHA, "siblings": []}).encode())

            do_HEAD = do_GET

            def reply(self, status, body, headers=()):
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), "Content-Type": "application/json", **dict(headers)}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture(autouse=True)
def _project(tmp_path, monkeypatch):
    (tmp_path / "kit.toml").write_text("", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for name in ("HF_TOKEN", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def hub(monkeypatch):
    hub = Hub(dict(FILES))
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    yield hub
    hub.close()


def yes(question):
    """The user's consent to whatever is asked."""
    return bool(question)


def entries(tmp_path):
    return [(entry.kind, entry.content) for entry in ledger.entries(tmp_path / "runs" / ledger.NAME)]


def test_weights_and_tokenizer_come_and_code_and_pickles_do_not(hub, tmp_path):
    folder = fetch("org/model", tmp_path / "models", agrees=yes)
    came = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    unwanted = {"modeling_evil.py", "pytorch_model.bin", "original/model.safetensors"}
    assert came == {name: body for name, body in FILES.items() if name not in unwanted}
    assert not any(name in path for path in hub.seen for name in unwanted)  # not even asked for
    assert folder == tmp_path / "models" / "model" and [path.name for path in folder.parent.iterdir()] == ["model"]


def test_the_request_and_what_came_stand_in_the_ledger(hub, tmp_path):
    fetch("org/model", tmp_path / "m", agrees=yes)
    (asked, request), (came, result) = entries(tmp_path)
    facts = {"model": "org/model", "host": "127.0.0.1", "folder": "model"}
    assert (asked, request) == ("fetch", facts)
    size = sum(len(FILES[name]) for name in ("config.json", "model.safetensors", "1_Pooling/config.json", "tokenizer.model", "LICENSE"))
    assert (came, result) == ("fetched", facts | {"revision": SHA, "files": 5, "bytes": size})


def test_the_switches_are_lifted_in_the_child_only(hub, tmp_path):
    before = dict(os.environ)
    fetch("org/model", tmp_path / "m", agrees=yes)
    assert hub.seen and dict(os.environ) == before and before["HF_HUB_OFFLINE"] == "1"


def test_nothing_is_sent_or_written_without_consent(hub, tmp_path):
    asked = []
    with pytest.raises(RunError, match="同意していません"):
        fetch("org/model", tmp_path / "m", agrees=asked.append)
    assert asked == [question("org/model", tmp_path / "m")]
    assert hub.seen == [] and not (tmp_path / "runs").exists() and not (tmp_path / "m" / "model").exists()
    assert "127.0.0.1 に接続して org/model" in question("org/model", tmp_path / "m")


def test_no_network_is_told_in_three_lines(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(RunError) as caught:
        fetch("org/model", tmp_path / "m", agrees=yes)
    what, cause, remedy = str(caught.value).split("\n")
    assert "127.0.0.1 から取得できませんでした" in what and "届かない" in cause and "HF_ENDPOINT" in remedy and f"{tmp_path}/m/model" in remedy
    assert [kind for kind, _ in entries(tmp_path)] == ["fetch"]  # the attempt is logged
    assert not (tmp_path / "m" / "model").exists()


def test_an_interrupted_fetch_goes_on_and_repeats_no_finished_file(hub, tmp_path):
    class Torn(dict):
        def __getitem__(self, name):
            if name == "model.safetensors":
                time.sleep(0.5)  # the small files are through by then
                raise ConnectionResetError
            return super().__getitem__(name)

    hub.files = Torn(FILES)
    with pytest.raises(RunError, match="届かない"):
        fetch("org/model", tmp_path / "m", agrees=yes)
    assert not (tmp_path / "m" / "model").exists() and any("/config.json" in path for path in hub.seen)
    hub.files = dict(FILES)
    hub.seen.clear()
    assert (fetch("org/model", tmp_path / "m", agrees=yes) / "config.json").read_bytes() == FILES["config.json"]
    assert {path.split("/")[-1] for path in hub.seen if "/resolve/" in path} == {"model.safetensors"}


def test_a_folder_that_cannot_be_made_is_told_before_anything_is_sent(hub, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(RunError, match="作れません"):
        fetch("org/model", tmp_path / "file" / "m", agrees=yes)
    assert hub.seen == [] and not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("code", "word"), [("RepoNotFound", "書き間違い"), ("GatedRepo", "利用規約")])
def test_a_refusal_of_the_hub_names_its_cause(hub, tmp_path, code, word):
    hub.refuse = code
    with pytest.raises(RunError, match=word):
        fetch("org/model", tmp_path / "m", agrees=yes)


def test_a_token_goes_to_the_hub_only_when_it_is_given_and_into_no_record(hub, tmp_path, monkeypatch):
    fetch("org/model", tmp_path / "a", agrees=yes)
    assert set(hub.tokens) == {""}
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    fetch("org/model", tmp_path / "b", agrees=yes)
    assert "Bearer hf_secret" in hub.tokens
    assert "hf_secret" not in (tmp_path / "runs" / ledger.NAME).read_text(encoding="utf-8")


def test_a_model_without_safetensors_is_refused(hub, tmp_path):
    del hub.files["model.safetensors"], hub.files["original/model.safetensors"]
    with pytest.raises(DataError, match="safetensors"):
        fetch("org/model", tmp_path / "m", agrees=yes)
    assert not (tmp_path / "m" / "model").exists() and [kind for kind, _ in entries(tmp_path)] == ["fetch"]


def test_a_model_that_asks_for_code_is_refused_as_soon_as_it_is_here(hub, tmp_path):
    hub.files["tokenizer_config.json"] = b'{"auto_map": {"AutoTokenizer": "evil.Tokenizer"}}'
    with pytest.raises(DataError, match="auto_map"):
        fetch("org/model", tmp_path / "m", agrees=yes)
    assert not (tmp_path / "m" / "model").exists()


@pytest.mark.parametrize("name", ["model", "../model", "org/model/x", "org/mo del", "https://h/org", "-x/model", "org/モデル", ""])
def test_a_name_that_is_none_is_refused(name, tmp_path):
    with pytest.raises(DataError, match="使えません"):
        fetch(name, tmp_path / "m", agrees=lambda question: pytest.fail("asked for nothing"))


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "m" / "model").mkdir(parents=True)
    (tmp_path / "m" / "model" / "mine.txt").write_text("私の", encoding="utf-8")
    with pytest.raises(DataError, match="空ではありません"):
        fetch("org/model", tmp_path / "m", agrees=yes)


def test_a_password_in_the_mirrors_address_is_not_shown(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_ENDPOINT", "http://me:secret@127.0.0.1:9")
    with pytest.raises(RunError) as caught:
        fetch("org/model", tmp_path / "m", agrees=yes)
    assert "secret" not in str(caught.value) + (tmp_path / "runs" / ledger.NAME).read_text(encoding="utf-8")
    monkeypatch.setenv("HF_ENDPOINT", "https://me:secret@mirror.example/hub")
    assert "secret" not in question("org/model", tmp_path) and "mirror.example" in question("org/model", tmp_path)


def test_no_pattern_lets_code_or_pickles_in():
    from fnmatch import fnmatch

    bad = ("a.py", "a.bin", "a.pt", "a.pth", "a.pkl", "a.ckpt", "a.gguf", "a.so", "a.sh", "x/a.py", "a.ipynb")
    assert not [name for name in bad for pattern in PATTERNS if fnmatch(name, pattern)]
