"""LoRA adapters at run time: names, copies and refusals without a server, then all of it with vLLM and peft's own texts."""

import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy
import pytest
from safetensors.numpy import load_file, save_file

from kit.answering.llm import LLMReader
from kit.errors import DataError, ServerError, SwappedError
from kit.serving import lora, preflight
from kit.serving.chat import ChatError, connect
from kit.serving.server import Server, running, serve

ROOT = Path(__file__).parents[1]
Q, O = "model.layers.{}.self_attn.q_proj", "model.layers.{}.self_attn.o_proj"  # noqa: E741


def write_base(folder, dtype="float32"):
    """Two layers of two matrices: q 8×4, o 4×8."""
    folder.mkdir(parents=True)
    weights = {f"{Q.format(n)}.weight": numpy.ones((8, 4), dtype) for n in (0, 1)}
    weights |= {f"{O.format(n)}.weight": numpy.ones((4, 8), dtype) for n in (0, 1)}
    save_file({**weights, "model.embed_tokens.weight": numpy.ones((16, 4), dtype)}, folder / "model.safetensors")
    return folder


def write_adapter(folder, *, scale=1.0, rank=2, layers=(0, 1), module=Q, sizes=(4, 8), **config):
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for layer in layers:
        place = f"base_model.model.{module.format(layer)}"
        tensors[f"{place}.lora_A.weight"] = numpy.full((rank, sizes[0]), scale, "float32")
        tensors[f"{place}.lora_B.weight"] = numpy.full((sizes[1], rank), scale, "float32")
    save_file(tensors, folder / "adapter_model.safetensors")
    facts = {"peft_type": "LORA", "r": rank, "lora_alpha": 4, "target_modules": ["q_proj"], "base_model_name_or_path": "org/base"}
    (folder / "adapter_config.json").write_text(json.dumps(facts | config), encoding="utf-8")
    return folder


class FakeVllm:
    """Its three routes, and what it says when it refuses."""

    def __init__(self):
        self.loaded, self.asked, self.refusal = {}, [], None

    def __call__(self, server, path, body=None):
        self.asked.append(path)
        if path == "/models":
            entries = [{"id": name, "parent": "base"} for name in self.loaded]
            return 200, json.dumps({"data": [{"id": "base", "parent": None}, *entries]})
        if self.refusal:
            return self.refusal
        if path == "/load_lora_adapter":
            self.loaded[body["lora_name"]] = Path(body["lora_path"])
        else:
            del self.loaded[body["lora_name"]]
        return 200, "Success"


def refused(message, code=500):
    return code, json.dumps({"error": {"message": message}})


@pytest.fixture
def vllm(monkeypatch):
    fake = FakeVllm()
    monkeypatch.setattr(Server, "_call", lambda server, path, body=None: fake(server, path, body))
    monkeypatch.setattr(Server, "_alive", lambda server: True)
    return fake


@pytest.fixture
def base(tmp_path):
    return write_base(tmp_path / "models" / "base")


@pytest.fixture
def server(tmp_path, base):
    home = tmp_path / "runs" / "servers"
    home.mkdir(parents=True)
    plan = {"context": 100, "users": 1, "gpu_fraction": 0.9, "adapters": True}
    facts = {"pid": 1, "sha256": "0" * 64, "log": home / "server.log", "started": 7, "key": "k", "scratch": tmp_path}
    return Server("http://127.0.0.1:1/v1", "base", base, **plan, **facts)


# --- names and copies


def test_a_name_says_what_is_in_it_and_the_copy_is_what_is_loaded(server, vllm, tmp_path):
    folder = write_adapter(tmp_path / "経理 ＦＡＱ v2")
    name = server.load_adapter(folder)
    assert name.startswith("FAQ-v2-") and len(name) == len("FAQ-v2-") + 12 and server.adapter_names() == (name,)
    copy = vllm.loaded[name]
    assert copy == server.log.with_name("adapters") / name and copy.is_relative_to(server.log.parent)
    assert sorted(path.name for path in copy.iterdir()) == sorted(preflight.ADAPTER_FILES)
    for file in preflight.ADAPTER_FILES:
        assert (copy / file).read_bytes() == (folder / file).read_bytes() and (copy / file).stat().st_mode & 0o777 == 0o400
    assert not (copy.parent / ".new").exists()


def test_the_same_content_has_one_name_and_other_content_another(server, vllm, tmp_path):
    one = server.load_adapter(write_adapter(tmp_path / "one"))
    assert server.load_adapter(tmp_path / "one") == one and vllm.asked.count("/load_lora_adapter") == 1
    (tmp_path / "one" / "README.md").write_text("not part of it")
    assert server.load_adapter(shutil.copytree(tmp_path / "one", tmp_path / "again")) == one
    write_adapter(tmp_path / "one", scale=2.0)
    other = server.load_adapter(tmp_path / "one")
    write_adapter(tmp_path / "one", lora_alpha=8)
    assert len({one, other, server.load_adapter(tmp_path / "one")}) == 3 == len(server.adapter_names())


def test_a_folder_without_a_latin_name(server, vllm, tmp_path):
    assert server.load_adapter(write_adapter(tmp_path / "経理")).startswith("adapter-")


@pytest.mark.parametrize("file", preflight.ADAPTER_FILES)
def test_a_copy_that_was_changed_is_refused_and_can_be_made_anew(server, vllm, tmp_path, file):
    name = server.load_adapter(write_adapter(tmp_path / "one"))
    server.unload_adapter(name)
    copy = server.log.with_name("adapters") / name
    (copy / file).chmod(0o600)
    (copy / file).write_bytes((copy / file).read_bytes() + b" ")
    with pytest.raises(DataError, match=name) as caught:
        server.load_adapter(tmp_path / "one")
    assert vllm.loaded == {} and f"rm -rf '{copy}'" in caught.value.remedy
    shutil.rmtree(copy)
    assert server.load_adapter(tmp_path / "one") == name


def test_a_folder_that_changes_while_it_is_read_is_checked_as_it_was_copied(server, vllm, tmp_path, monkeypatch):
    folder, copying = write_adapter(tmp_path / "one"), shutil.copyfile

    def swapping(source, target):
        if source.name == "adapter_config.json":
            write_adapter(folder, rank=65)
        return copying(source, target)

    monkeypatch.setattr(shutil, "copyfile", swapping)
    with pytest.raises(DataError, match="65"):
        server.load_adapter(folder)
    assert vllm.loaded == {} and [path.name for path in server.log.with_name("adapters").iterdir()] == ["loads.jsonl"]


def test_what_was_loaded_is_on_record(server, vllm, tmp_path):
    name = server.load_adapter(write_adapter(tmp_path / "one"))
    (line,) = (server.log.with_name("adapters") / "loads.jsonl").read_text().splitlines()
    record = json.loads(line)
    assert record["name"] == name and record["folder"] == str(tmp_path / "one")
    assert name.endswith(record["sha256"][:12]) and (record["pid"], record["started"]) == (1, 7)


def test_no_more_loads_than_there_are_places_for(server, vllm, tmp_path, monkeypatch):
    monkeypatch.setattr(lora, "LOADS", 2)
    for scale in (1.0, 2.0):
        name = server.load_adapter(write_adapter(tmp_path / "one", scale=scale))
        server.unload_adapter(name)  # vLLM keeps it all the same
    with pytest.raises(ServerError, match="2 回") as caught:
        server.load_adapter(write_adapter(tmp_path / "one", scale=3.0))
    assert "kit stop" in caught.value.remedy and vllm.loaded == {}
    monkeypatch.setattr(lora, "LOADS", 3)
    assert server.load_adapter(tmp_path / "one")


def test_a_full_disk_is_told(server, vllm, tmp_path, monkeypatch):
    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(DataError, match="ディスクの空きがありません"):
        server.load_adapter(write_adapter(tmp_path / "one"))


# --- refusals


def test_a_server_without_adapters_says_how_to_start_one(server, vllm, tmp_path):
    plain = Server(**{name: getattr(server, name) for name in Server.__slots__} | {"adapters": False})
    with pytest.raises(ServerError, match="アダプター") as caught:
        plain.load_adapter(write_adapter(tmp_path / "one"))
    assert "adapters=True" in caught.value.remedy and str(server.folder) in caught.value.remedy
    assert vllm.asked == []


def test_an_unknown_name_is_not_unloaded(server, vllm, tmp_path):
    name = server.load_adapter(write_adapter(tmp_path / "one"))
    with pytest.raises(ServerError, match="「one」") as caught:
        server.unload_adapter("one")
    assert name in caught.value.remedy and "/unload_lora_adapter" not in vllm.asked
    server.unload_adapter(name)
    with pytest.raises(ServerError, match=name) as caught:
        server.unload_adapter(name)
    assert "なし" in caught.value.remedy


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        (refused("Worker failed with error 'vLLM does not yet support DoRA.'"), "merge_and_unload"),
        (refused("expected target modules in {'q_proj'} but received ['x']"), "学習に使ったモデル"),
        (refused("something new"), "server.log"),
        ((0, "ConnectionRefusedError: [Errno 111] Connection refused"), "server.log"),
    ],
)
def test_vllms_own_refusal_is_translated(server, vllm, tmp_path, trouble, told):
    vllm.refusal = trouble
    with pytest.raises(ServerError, match="断りました") as caught:
        server.load_adapter(write_adapter(tmp_path / "one"))
    assert told in caught.value.remedy


def test_a_server_that_died_says_why(server, vllm, tmp_path, monkeypatch):
    server.log.write_text("(EngineCore pid=2) vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue.\n")
    monkeypatch.setattr(Server, "_alive", lambda server: False)
    vllm.refusal = 0, "ConnectionRefusedError: [Errno 111] Connection refused"
    with pytest.raises(ServerError, match="EngineDeadError"):
        server.load_adapter(write_adapter(tmp_path / "one"))


@pytest.mark.parametrize("name", ["adapter_model.bin", "training_args.bin", "modeling.py", "optimizer.pt"])
def test_other_kinds_of_files_are_refused(base, tmp_path, name):
    folder = write_adapter(tmp_path / "one")
    (folder / name).write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(DataError, match=f"one の中の {name}"):
        preflight.check_adapter(folder, base)


@pytest.mark.parametrize("file", preflight.ADAPTER_FILES)
def test_missing_damaged_and_linked_files_are_refused(base, tmp_path, file):
    folder = write_adapter(tmp_path / "one")
    whole = (folder / file).read_bytes()
    (folder / file).write_bytes(whole[:-3])
    with pytest.raises(DataError, match=file):
        preflight.check_adapter(folder, base)
    (folder / file).unlink()
    with pytest.raises(DataError, match=f"one.*{file}"):
        preflight.check_adapter(folder, base)
    (tmp_path / file).write_bytes(whole)
    (folder / file).symlink_to(tmp_path / file)
    with pytest.raises(DataError, match="フォルダの外"):
        preflight.check_adapter(folder, base)


@pytest.mark.parametrize(
    "config",
    [{"peft_type": "LOHA"}, {"r": 65}, {"r": 0}, {"r": "2"}, {"r": True}, {"r": None}, {"rank_pattern": {"q_proj": 128}},
     {"rank_pattern": ["q_proj"]}, {"auto_map": {"x": "y.Z"}}],
)  # fmt: skip
def test_a_config_that_cannot_be_served_is_refused(base, tmp_path, config):
    with pytest.raises(DataError, match=r"種類|auto_map"):
        preflight.check_adapter(write_adapter(tmp_path / "one", **config), base)


def test_a_config_that_is_no_table(base, tmp_path):
    folder = write_adapter(tmp_path / "one")
    (folder / "adapter_config.json").write_text("[]")
    with pytest.raises(DataError, match="種類 不明"):
        preflight.check_adapter(folder, base)


@pytest.mark.parametrize(
    ("made", "wrong"),
    [
        ({"sizes": (6, 8)}, "大きさが 6、モデルでは 4"),
        ({"sizes": (4, 16)}, "大きさが 16、モデルでは 8"),
        ({"layers": (0, 1, 2)}, r"layers\.2\.self_attn\.q_proj がモデルにありません"),
        ({"module": "transformer.h.{}.attn.c_attn"}, "1つもありません"),
        ({"rank": 2, "r": 4}, r"lora_A.weight のランクが 2、adapter_config.json では 4"),
    ],
)
def test_an_adapter_of_another_model_is_refused(base, tmp_path, made, wrong):
    with pytest.raises(DataError, match=wrong) as caught:
        preflight.check_adapter(write_adapter(tmp_path / "one", **made), base)
    assert "base" in caught.value.what and "org/base" in caught.value.cause


@pytest.mark.parametrize(
    "made",
    [
        {},
        {"layers": (1,)},
        {"rank": 64},
        {"module": O, "sizes": (8, 4)},
        {"sizes": (8, 4), "fan_in_fan_out": True},
        {"rank": 4, "r": 2, "rank_pattern": {"q_proj": 4}},
        {"module": "language_model.layers.{}.self_attn.q_proj", "sizes": (6, 6)},  # named otherwise: not compared
        {"module": "lm_head", "layers": (0,), "sizes": (4, 16)},
    ],
)
def test_what_may_fit_passes(base, tmp_path, made):
    preflight.check_adapter(write_adapter(tmp_path / "one", **made), base)


def test_packed_weights_are_not_compared(tmp_path):
    base = write_base(tmp_path / "base", dtype="uint8")
    preflight.check_adapter(write_adapter(tmp_path / "one", sizes=(40, 80)), base)
    with pytest.raises(DataError, match=r"layers\.9"):
        preflight.check_adapter(write_adapter(tmp_path / "one", layers=(0, 9)), base)


def test_an_adapter_of_the_embedding_passes(base, tmp_path):
    folder, place = write_adapter(tmp_path / "one"), "base_model.model.model.embed_tokens.lora_embedding_"
    save_file({f"{place}A": numpy.ones((2, 16), "f"), f"{place}B": numpy.ones((4, 2), "f")}, folder / "adapter_model.safetensors")
    preflight.check_adapter(folder, base)


def test_one_place_more_than_loads_where_the_last_is_mixed_in():
    for on_card, places in ((False, "8"), (True, "2")):
        options = lora.options(on_card=on_card)
        given = dict(zip(options[1::2], options[2::2], strict=True))
        assert (given["--max-loras"], given["--max-cpu-loras"], given["--max-lora-rank"]) == (places, "8", "64")


# --- asked by name, against a scripted server


def test_a_question_to_an_adapter_is_checked_by_its_name(scripted):
    with connect(scripted.url) as chat:

        async def echo(request):
            return scripted.completion("はい", model=(await request.json())["model"])

        scripted.actions = [echo]
        assert chat.ask("?", adapter="faq-1").model == "faq-1" and chat.ask("?").model == "tiny"
        assert [seen["model"] for seen in scripted.seen] == ["faq-1", "tiny"] and "adapter" not in scripted.seen[0]
        scripted.actions = ["はい"]  # the bare model answers in the adapter's place
        with pytest.raises(SwappedError, match=r"faq-1.*tiny"):
            chat.ask("?", adapter="faq-1")


# --- with vLLM and peft


QUESTION = "日当は"


@pytest.fixture(scope="module")
def peft_made(tiny_model, tmp_path_factory):
    """Adapters as peft saves them, and what peft itself answers with each: name → (folder, text)."""
    home, made = tmp_path_factory.mktemp("adapters"), {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch
        from peft import LoraConfig, get_peft_model
        from transformers import AutoTokenizer, LlamaForCausalLM

        tokenizer = AutoTokenizer.from_pretrained(tiny_model)
        messages = [{"role": "user", "content": QUESTION}]
        asked = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)

        def answer(model):
            written = model.generate(**asked, max_new_tokens=8, do_sample=False)[0][asked["input_ids"].shape[1] :]
            return tokenizer.decode(written, skip_special_tokens=True)

        made[""] = None, answer(LlamaForCausalLM.from_pretrained(tiny_model))
        linear = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
        kinds = {"faq": {}, "minutes": {"r": 64}, "head": {"target_modules": ["q_proj", "lm_head"]}, "dora": {"use_dora": True}}
        for seed, (name, options) in enumerate(kinds.items()):
            facts = {"r": 8, "lora_alpha": 16, "target_modules": linear, "task_type": "CAUSAL_LM"} | options
            model = get_peft_model(LlamaForCausalLM.from_pretrained(tiny_model), LoraConfig(**facts))
            torch.manual_seed(seed)
            with torch.no_grad():
                for parameter in (p for key, p in model.named_parameters() if "lora_" in key):
                    parameter.normal_(0, 0.3)
            model.save_pretrained(home / name)
            made[name] = home / name, answer(model)
    return made


@pytest.fixture(scope="module")
def adapting(vllm_python, tiny_model, tmp_path_factory):
    """A server of its own: what takes adapters has other flags, fewer routes and a slower CPU path than the session's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KIT_RUNS", str(tmp_path_factory.mktemp("adapting")))
        with serve(tiny_model, context=2048, adapters=True) as started:
            yield started


@pytest.fixture
def here(adapting, monkeypatch):
    """The runs of that server, so that it is found."""
    monkeypatch.setenv("KIT_RUNS", str(adapting.log.parents[1]))
    return adapting


def text(chat, **options):
    return chat.ask(QUESTION, max_tokens=8, **options).text


@pytest.mark.server
def test_base_and_adapters_answer_as_they_do_in_peft(here, peft_made):
    names = {name: here.load_adapter(peft_made[name][0]) for name in ("faq", "minutes", "head")}
    assert here.adapter_names() == tuple(names.values()) and here.load_adapter(peft_made["faq"][0]) == names["faq"]
    with connect() as chat, connect(here.url) as by_address, connect(model=names["faq"]) as arm:
        assert chat.model == by_address.model == "tiny" and arm.model == names["faq"]
        said = {"": text(chat), **{name: text(chat, adapter=full) for name, full in names.items()}}
        # vLLM holds back the bytes of a letter that was cut off, transformers shows a mark for them.
        assert said == {name: peft_made[name][1].rstrip("\ufffd") for name in said} and len(set(said.values())) == 4
        assert text(arm) == said["faq"] and "".join(chat.stream(QUESTION, max_tokens=8, adapter=names["head"])) == said["head"]
        assert LLMReader(arm).identity != LLMReader(chat).identity  # two arms of an evaluation
        reply = chat.ask(QUESTION, max_tokens=8, adapter=names["faq"], choice=["はい", "いいえ"], logprobs=2)
        assert reply.text in ("はい", "いいえ") and reply.model == names["faq"] and reply.logprobs


@pytest.mark.server
def test_arms_that_are_asked_at_once_do_not_mix(here, peft_made):
    """vLLM 0.32's CPU build adds the adapter in the last place to what the base model computes beside it."""
    names = ["", *(here.load_adapter(peft_made[name][0]) for name in ("faq", "minutes", "head"))]
    with connect() as chat, ThreadPoolExecutor(24) as pool:

        def ask(case):
            number, name = case
            return chat.ask(f"{number}日目の日当は", max_tokens=12, adapter=name).text

        alone = {name: list(pool.map(ask, [(number, name) for number in range(6)])) for name in names}
        mixed = list(pool.map(ask, [(number, name) for number in range(6) for name in names]))
    assert {name: mixed[place::4] for place, name in enumerate(names)} == alone


@pytest.mark.server
def test_what_is_unloaded_is_unknown_until_it_is_loaded_again(here, peft_made):
    name = here.load_adapter(peft_made["faq"][0])
    here.unload_adapter(name)
    assert name not in here.adapter_names()
    with connect() as chat:
        with pytest.raises(ChatError, match=name) as caught:
            text(chat, adapter=name)
        assert "公開されていません" in caught.value.cause and caught.value.state == "infrastructure_error"
        with pytest.raises(ServerError, match=name):
            connect(model=name)
        copy = here.log.with_name("adapters") / name / "adapter_model.safetensors"
        whole = copy.read_bytes()
        copy.chmod(0o600)
        save_file({key: value * 2 for key, value in load_file(copy).items()}, copy)
        with pytest.raises(DataError, match=name):
            here.load_adapter(peft_made["faq"][0])
        assert name not in here.adapter_names()
        copy.write_bytes(whole)
        assert here.load_adapter(peft_made["faq"][0]) == name and text(chat, adapter=name) == peft_made["faq"][1].rstrip("\ufffd")


@pytest.mark.server
def test_what_vllm_refuses_leaves_it_running(here, peft_made):
    before = here.adapter_names()
    with pytest.raises(ServerError, match="DoRA") as caught:
        here.load_adapter(peft_made["dora"][0])
    assert "merge_and_unload" in caught.value.remedy and here.adapter_names() == before and here.failure() is None


@pytest.mark.server
def test_another_process_finds_the_server_and_loads(here, peft_made, tmp_path):
    folder = shutil.copytree(peft_made["faq"][0], tmp_path / "later")
    tensors = load_file(folder / "adapter_model.safetensors")
    save_file({name: value / 2 for name, value in tensors.items()}, folder / "adapter_model.safetensors")
    script = f"import kit; print(kit.running().load_adapter({str(folder)!r}))"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    name = done.stdout.strip()
    assert name.startswith("later-") and name in running().adapter_names()
    with connect() as chat:
        assert chat.ask(QUESTION, max_tokens=1, adapter=name).model == name


@pytest.mark.server
@pytest.mark.parametrize(
    ("path", "status"),
    [("/adapters", 404), ("/invocations", 404), ("/tokenize", 404), ("/v1/load_lora_adapter", 401), ("/v1/models", 401),
     ("/health", 200)],
)  # fmt: skip
def test_without_the_key_no_adapter_comes_in(here, peft_made, path, status):
    body = {"name": "evil", "src": str(peft_made["faq"][0]), "lora_name": "evil", "lora_path": str(peft_made["faq"][0])}
    content = None if status == 200 or path == "/v1/models" else json.dumps(body).encode()
    request = urllib.request.Request(here.url.removesuffix("/v1") + path, content, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request) as response:
            answered = response.status
    except urllib.error.HTTPError as error:
        with error:
            answered = error.code
    assert answered == status and "evil" not in here.adapter_names()
