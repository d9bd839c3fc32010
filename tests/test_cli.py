"""The command line as a user meets it: Japanese help, exit codes, JSON, errors of three lines, and a small PoC."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest

from kit import settings
from kit.evaluation.arms import arms
from kit.evaluation.criteria import read_criteria
from kit.evaluation.decide import decide
from kit.evaluation.evaluate import evaluate
from kit.evaluation.runs import new_run
from kit.interface import cli
from kit.interface.poc import _heartbeat
from kit.interface.project import find_project
from kit.interface.steps import about
from kit.interface.stores import build_store
from kit.reporting import export
from kit.serving import server
from kit.serving.chat import connect
from kit.trust.durable import JsonLines
from kit.trust.seal import seal
from tests.projects import DOCUMENTS, small_project

VERBS = [
    "init", "check", "run", "poc", "ask", "store", "serve", "stop", "gateway", "models", "plan", "seal", "score", "decide", "summary",
    "audit", "evidence", "schedule",
]  # fmt: skip
JAPANESE = re.compile(r"[ぁ-んァ-ヶ一-龠]")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A working folder without kit.toml, and runs in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KIT_RUNS", raising=False)
    return tmp_path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small project with its store built and one run decided, in a folder of their own; tests copy it."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("KIT_RUNS", raising=False)
        project = find_project(small_project(folder / "総務 PoC"))
        store, _ = build_store(project)
        sealed = seal(read_criteria(project.criteria))
        systems = arms(store, project.development())
        run = new_run(settings.load().runs, project.name)
        decide(evaluate(systems, project.cases(), seal=sealed, run=run, about=about(project, store, systems)))
    return folder


@pytest.fixture
def project(made, here):
    shutil.copytree(made, here, dirs_exist_ok=True)
    return here / "総務 PoC"


@pytest.fixture
def run(project, here):
    (folder,) = (path for path in (here / "runs").glob("*-*") if path.is_dir())
    return folder


@pytest.fixture
def kit(capfd):
    """Call the command line; return (exit code, stdout, stderr)."""

    def call(*arguments):
        try:
            code = cli.main([str(argument) for argument in arguments])
        except SystemExit as stopped:
            code = stopped.code
        return code, *capfd.readouterr()

    return call


def assert_refused(result, code=1):
    """The error's what, cause and remedy, after checking that nothing else was said."""
    given, shown, told = result
    assert (given, shown) == (code, ""), told
    lines = told.split("\n")
    assert len(lines) == 4 and lines[3] == "", told
    for line, label in zip(lines, ("エラー: ", "考えられる原因: ", "次にすること: "), strict=False):
        assert line.startswith(label) and line.removeprefix(label).strip(), told
        assert JAPANESE.search(line)
    return [line.partition(": ")[2] for line in lines[:3]]


# --- help and usage


def test_the_verbs_are_listed_in_japanese(kit):
    code, shown, told = kit("--help")
    assert (code, told) == (0, "")
    assert re.findall(r"^    (\w+) ", shown, re.MULTILINE) == VERBS
    assert "はじめに" in shown


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself_with_an_example(kit, verb):
    code, shown, told = kit(verb, "--help")
    assert (code, told) == (0, "")
    assert re.search(rf"^例: kit {verb}\b", shown, re.MULTILINE)
    assert "使い方: kit " in shown
    assert not re.search(r"usage:|positional|optional|show this", shown)
    assert JAPANESE.search(shown.split("\n\n")[1])
    options = re.findall(r"^  (?:-\w, )?--?\w[^\n]*?(?:  |\n {8,})(.+)$", shown, re.MULTILINE)
    assert options and all(JAPANESE.search(text) for text in options)


@pytest.mark.parametrize("verb", VERBS)
def test_the_example_is_accepted_as_it_is_written(kit, verb):
    _, shown, _ = kit(verb, "--help")
    command = re.search(r"^例: (.+)$", shown, re.MULTILINE)[1]
    parsed = subprocess.run(["bash", "-c", f'printf "%s\\n" {command}'], capture_output=True, text=True, check=True)
    assert cli._parser().parse_args(parsed.stdout.splitlines()[1:])


@pytest.mark.parametrize(
    "arguments",
    [[], ["posc"], ["poc"], ["poc", "a", "b"], ["ask", "a"], ["run", "05", "-p", "x"], ["summary", "a", "--lang", "fr"],
     ["poc", "a", "--urll", "x"], ["--jsn"]],
)  # fmt: skip
def test_wrong_usage_ends_with_2(kit, arguments):
    _, _, remedy = assert_refused(kit(*arguments), 2)
    assert "--help" in remedy


# --- each verb


def test_init_makes_a_folder_and_keeps_what_is_there(kit, here):
    code, shown, told = kit("init", "私のPoC")
    assert (code, told) == (0, "")
    assert "kit poc 私のPoC" in shown
    (here / "私のPoC" / "criteria.yaml").write_text("title: 書きかけ\ncases: 質問表.xlsx\n", encoding="utf-8")
    assert kit("init", "私のPoC")[0] == 0
    assert (here / "私のPoC" / "criteria.yaml").read_text(encoding="utf-8").startswith("title: 書きかけ")


def test_check_lists_and_changes_nothing(kit, here):
    code, shown, told = kit("check")
    assert (code, told) == (0, "")
    assert len(shown.splitlines()) >= 8
    assert all(line[0] in "○×－ " for line in shown.splitlines())
    assert list(here.iterdir()) == []


def test_check_shows_a_wrong_setting(kit, here):
    (here / "kit.toml").write_text("lm_url = 1\n", encoding="utf-8")
    _, shown, _ = kit("check")
    assert "×" in shown and "lm_url" in shown


def test_store_counts_what_it_did(kit, project):
    code, shown, told = kit("store", project)
    assert (code, told) == (0, "")
    assert re.fullmatch(r"登録 0、更新 0、変更なし 5、読めず 0\nRAGストア: 5 文書、\d+ 断片\n", shown)
    (project / "documents" / "内線表.csv").unlink()
    (project / "documents" / "壊.pdf").write_bytes(b"%PDF-1.7 broken")
    (project / "documents" / "就業規則.txt").write_text("始業時刻は午前9時とする。", encoding="utf-8")
    code, shown, told = kit("store", project)
    assert (code, told) == (0, "")
    first, unread, last = shown.splitlines()
    assert first == "登録 0、更新 1、変更なし 3、読めず 1、削除 1"
    assert unread.startswith("× 壊.pdf: ") and JAPANESE.search(unread.split(": ")[1])
    assert last.startswith("RAGストア: 4 文書")
    assert "9時" in kit("ask", project, "始業時刻は何時ですか")[1]


def test_ask_shows_answer_source_and_confidence(kit, project):
    code, shown, told = kit("ask", project, "国内出張の日当はいくらですか")
    assert (code, told) == (0, "")
    assert "3,000円" in shown
    assert re.search(r"^出典: 旅費規程 .*第5条.*（旅費規程\.md）$", shown, re.MULTILINE)
    assert re.search(r"^確信度 \d\.\d\d（抽出型）$", shown.splitlines()[-1])


def test_ask_abstains_without_a_source(kit, project):
    code, shown, _ = kit("ask", project, "社長の好きな音楽は何ですか")
    assert code == 0
    assert shown.startswith("資料に見当たりません。")
    assert "出典" not in shown


def test_a_restricted_document_is_seen_by_its_readers_only(kit, project):
    question = "常勤役員の報酬月額はいくらですか"
    for user in ([], ["--user", "everyone"], ["--user", "hr"], ["--user", "executive"]):
        code, shown, _ = kit("ask", project, question, *user)
        assert code == 0
        assert "120万円" not in shown and "役員報酬" not in shown
    assert "120万円" in kit("ask", project, question, "--user", "executives")[1]
    hidden = kit("ask", project, question, "--json")[1]
    assert "120万円" not in hidden and "役員報酬.md" not in hidden


def test_ask_uses_the_model_server_that_the_settings_name(kit, project, scripted, monkeypatch):
    reply = {"found": True, "answer": "3,000円です。", "sources": [{"number": 1, "quote": "国内出張の日当は1日3,000円とする。"}]}
    scripted.actions = [json.dumps(reply, ensure_ascii=False)]
    monkeypatch.setenv("KIT_LLM_URL", scripted.url)
    code, shown, told = kit("ask", project, "国内出張の日当はいくらですか")
    assert (code, told) == (0, "")
    assert shown.startswith("3,000円です。\n出典: 旅費規程")
    assert len(scripted.seen) == 1


def test_seal_twice_is_one_line_in_the_ledger(kit, project, here):
    before = (here / "runs" / "ledger.jsonl").read_bytes()
    code, shown, told = kit("seal", project)
    assert (code, told) == (0, "")
    assert re.match(r"封印しました（台帳 1 行目、.+）\nSHA-256: [0-9a-f]{64}\n判定基準書（", shown)
    assert [(here / line).stat().st_size > 5000 for line in shown.splitlines()[-2:]] == [True, True]
    assert (here / "runs" / "ledger.jsonl").read_bytes() == before
    criteria = project / "criteria.yaml"
    criteria.write_text(criteria.read_text(encoding="utf-8").replace("0.30", "0.40"), encoding="utf-8")
    assert "からの変更として記録" in kit("seal", project)[1]


def test_the_time_of_a_seal_is_shown_as_on_the_agreement_in_japanese_time(kit, project):
    shown, kept = kit("seal", project)[1], json.loads(kit("seal", project, "--json")[1])
    here = datetime.fromisoformat(kept["at"]).astimezone(ZoneInfo("Asia/Tokyo"))
    assert f"、{here.year}年{here.month}月{here.day}日 {here:%H:%M}（日本時間））" in shown
    assert kept["at"].endswith("+00:00")


def test_a_deadline_that_has_passed_is_told_before_anything_is_sealed(kit, project, here):
    criteria = project / "criteria.yaml"
    criteria.write_text("deadline: 2001-01-01\n" + criteria.read_text(encoding="utf-8"), encoding="utf-8")
    before = (here / "runs" / "ledger.jsonl").read_bytes()
    for verb in ("seal", "poc"):
        what, _, remedy = assert_refused(kit(verb, project))
        assert "2001-01-01" in what and "deadline" in remedy
    assert (here / "runs" / "ledger.jsonl").read_bytes() == before


def test_decide_again_gives_the_same(kit, run):
    before = (run / "decision.json").read_bytes()
    code, shown, told = kit("decide", run)
    assert (code, told) == (0, "")
    kept = json.loads(before)
    assert shown.splitlines()[:2] == [f"判定: {kept['outcome']}", kept["reason"]]
    assert len(shown.splitlines()) == 2 + len(kept["kpis"])
    assert json.loads((run / "decision.json").read_bytes())["outcome"] == kept["outcome"]


def test_summary_is_written_without_a_new_run(kit, run, here):
    rows = (run / "rows.jsonl").read_bytes()
    everything = "".join(f"runs/{run.name}/summary.{name}\n" for name in export.FORMATS)
    assert kit("summary", run.relative_to(here)) == (0, everything, "")
    assert {"html", "md"} <= {*export.FORMATS}
    code, shown, told = kit("summary", run, "--formats", "md", "--to", here / "社長 へ", "--lang", "en")
    assert (code, shown, told) == (0, "社長 へ/summary.en.md\n", "")
    assert [path.name for path in (here / "社長 へ").iterdir()] == ["summary.en.md"]
    assert (run / "rows.jsonl").read_bytes() == rows


def test_one_summary_of_several_runs_lies_beside_the_newest(kit, run, here):
    (here / "他のPC").mkdir()
    shutil.copy(run / "decision.json", here / "他のPC")
    assert kit("summary", run, here / "他のPC", "--formats", "md", "--to", "役員会") == (0, "役員会/summary.md\n", "")
    assert_refused(kit("summary", run, here / "gone"))


def test_a_summary_is_redrawn_with_other_prices(kit, run, here):
    usual = settings.load().prices.read_text(encoding="utf-8")
    (here / "単価.toml").write_text(usual.replace("yen_per_hour = 60.0", "yen_per_hour = 6_000_000.0"), encoding="utf-8")
    pages = []
    for options in ([], ["--prices", "単価.toml"], []):
        assert kit("summary", run, "--formats", "md", *options)[0] == 0
        pages.append((run / "summary.md").read_bytes())
    assert pages[0] == pages[2] != pages[1]
    assert "単価なし.toml" in assert_refused(kit("summary", run, "--prices", "単価なし.toml"))[0]


def test_a_summary_of_a_decision_carried_elsewhere_says_that_no_ledger_was_at_hand(kit, run, here):
    (here / "他のPC").mkdir()
    shutil.copy(run / "decision.json", here / "他のPC")
    kit("summary", run)
    for folder, told in ((run, False), (here / "他のPC", True)):
        assert kit("summary", folder)[0] == 0
        for name in ("summary.html", "summary.md"):
            assert ("台帳との照合はしていません" in (folder / name).read_text(encoding="utf-8")) == told


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        (["init", "neu"], None),
        (["check"], {"ok", "items"}),
        (["store", "{project}"], {"new", "replaced", "unchanged", "unreadable", "chunks"}),
        (["ask", "{project}", "始業時刻は何時ですか"], {"answer"}),
        (["seal", "{project}"], {"sha256", "sequence", "at", "parent"}),
        (["decide", "{run}"], {"outcome", "reason", "kpis", "seal"}),
        (["summary", "{run}"], None),
    ],
)
def test_json_parses_and_leaves_out_the_text_for_people(kit, project, run, arguments, keys):
    code, shown, told = kit(*(part.format(project=project, run=run) for part in arguments), "--json")
    assert (code, told) == (0, "")
    result = json.loads(shown)
    assert keys is None or keys <= set(result)
    assert "text" not in result
    assert JAPANESE.search(shown) or "\\u" not in shown


# --- errors


@pytest.mark.parametrize("verb", ["poc", "ask", "store", "seal"])
@pytest.mark.parametrize("folder", ["ない", "", "/dev/null", "空"])
def test_an_unknown_folder_is_refused_and_init_is_the_remedy(kit, here, verb, folder):
    (here / "空").mkdir()
    _, _, remedy = assert_refused(kit(verb, folder, *["質問"] * (verb == "ask")))
    assert "kit init" in remedy
    assert sorted(path.name for path in here.iterdir()) == ["空"], "nothing is made for a mistake"


@pytest.mark.parametrize("verb", ["poc", "ask", "store", "seal"])
def test_a_project_without_documents_is_refused(kit, here, verb):
    small_project(here / "p")
    for name in DOCUMENTS:
        (here / "p" / "documents" / name).unlink()
    what, _, _ = assert_refused(kit(verb, "p", *["質問"] * (verb == "ask")))
    assert "文書が" in what
    assert not (here / "runs").exists()


@pytest.mark.parametrize("verb", ["poc", "seal"])
def test_a_fresh_init_folder_says_what_is_missing(kit, here, verb):
    kit("init", "p")
    assert "文書が" in assert_refused(kit(verb, "p"))[0]
    (here / "p" / "documents" / "a.txt").write_text("年休は10日。", encoding="utf-8")
    assert "質問がまだ1問もありません" in assert_refused(kit(verb, "p"))[0]


def test_store_verifies_goes_back_and_forgets(kit, project):
    assert kit("store", "sync", project)[:1] == (0,)
    code, shown, _ = kit("store", "verify", project)
    assert (code, shown[:12]) == (0, "○ ストアは正常です（1")
    (project / "documents" / "追加.txt").write_text("食堂の営業時間は午前11時からである。", encoding="utf-8")
    assert "登録 1、" in kit("store", project)[1]
    tags = json.loads(kit("store", "tags", project, "--json")[1])["tags"]
    assert len(tags) == 2 and tags[1].endswith("-sync")
    told = kit("store", "rollback", project)[1]
    assert "控え" in told and "閲覧権限は戻していません" in told
    assert "追加.txt" in assert_refused(kit("store", "rollback", project, "追加.txt"))[0]
    assert "登録 1、" in kit("store", project)[1]
    code, shown, _ = kit("store", "forget", project, "追加.txt")
    assert code == 0 and "どのファイルにも残っていません" in shown and "元のファイルが残っています" in shown
    (project / "documents" / "追加.txt").unlink()
    assert "追加.txt" in assert_refused(kit("store", "forget", project, "追加.txt"))[0]


def test_store_names_damage(kit, project):
    kit("store", project)
    data = next((project / ".kit" / "store" / "chunks.lance" / "data").iterdir())
    data.write_bytes(data.read_bytes()[:-1] + b"?")
    code, shown, _ = kit("store", "verify", project)
    assert code == 1 and data.name in shown and "次にすること" in shown
    report = json.loads(kit("store", "verify", project, "--json")[1])
    assert (report["ok"], report["counts"], report["damage"]["changed"]) == (False, None, [f"chunks.lance/data/{data.name}"])


def flipped(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + bytes([content[len(content) // 2] ^ 4]) + content[len(content) // 2 + 1 :])


@pytest.mark.parametrize(
    ("damaged", "harm"),
    [("chunks.lance/data/*", Path.unlink), ("chunks.lance/data/*", flipped), ("chunks.lance/_indices/*/*", flipped),
     ("chunks.lance/_transactions/*", Path.unlink), ("checksums.txt", Path.unlink), ("checksums.txt", flipped), ("chunks.lance", shutil.rmtree)],
)  # fmt: skip
def test_what_is_advised_against_damage_helps(kit, project, damaged, harm):
    store = project / ".kit" / "store"
    harm(max(store.glob(damaged), key=lambda path: path.stat().st_size))
    code, shown, told = kit("store", "verify", project)
    assert code == 1
    rename = re.search(r"（(mv .+?)）", shown + told)[1]
    subprocess.run(["sh", "-c", rename], check=True)
    assert kit("store", "sync", project)[0] == 0 and "kit store sync フォルダ" in shown + told
    code, shown, _ = kit("store", "verify", project)
    assert (code, shown[0]) == (0, "○")
    assert kit("ask", project, "国内出張の日当はいくらですか")[1].startswith("国内出張の日当は1日3,000円")


def test_indices_and_a_head_that_have_gone_come_back_with_sync(kit, project):
    store = project / ".kit" / "store" / "chunks.lance"
    shutil.rmtree(store / "_indices")
    min((store / "_versions").glob("*.manifest")).unlink()
    assert kit("store", "verify", project)[0] == 1
    assert kit("store", "sync", project)[0] == 0
    assert kit("store", "verify", project)[1].startswith("○")
    assert "3,000円" in kit("ask", project, "国内出張の日当はいくらですか")[1]


def test_what_needs_the_store_only_does_without_the_documents(kit, project):
    shutil.rmtree(project / "documents")
    assert "文書がありません" in assert_refused(kit("store", "sync", project))[0]
    assert kit("store", "verify", project)[1].startswith("○")
    assert "3,000円" in kit("ask", project, "国内出張の日当はいくらですか")[1]
    assert "どのファイルにも残っていません" in kit("store", "forget", project, "旅費規程.md")[1]
    assert kit("store", "tags", project)[0] == 0


def test_a_misspelt_line_of_acl_csv_registers_nothing(kit, project):
    (project / "documents" / "acl.csv").write_text("パス,閲覧者\n役員報酬規程.md,executives\n", encoding="utf-8")
    (project / "documents" / "追加.txt").write_text("食堂の営業時間は午前11時からである。", encoding="utf-8")
    what, _, remedy = assert_refused(kit("store", project))
    assert "2行目「役員報酬規程.md」（近い名前: 役員報酬.md" in what and "行を削除" in remedy
    assert "追加.txt" in assert_refused(kit("store", "forget", project, "追加.txt"))[0]
    assert "120万円" not in kit("ask", project, "常勤役員の報酬月額はいくらですか")[1]


@pytest.mark.parametrize("words", [("forget", "p"), ("tags", "p", "x"), ("p", "q"), ("sync",), ("verify",), ("forget",)])
def test_store_with_too_few_or_too_many_words_is_explained(kit, here, words):
    assert "kit store" in assert_refused(kit("store", *words))[0]


def test_ask_before_store_says_what_to_run(kit, here):
    small_project(here / "p")
    _, _, remedy = assert_refused(kit("ask", "p", "日当は"))
    assert "kit store" in remedy


@pytest.mark.parametrize(("found", "said"), [(True, "m はすでに http://s/v1 で動いています。"), (False, "m を http://s/v1 で起動しました。")])
def test_serve_hands_its_options_on_and_says_whether_it_started(kit, monkeypatch, found, said):
    asked = {}

    def serve(model, **given):
        asked.update(given, model=model)
        return SimpleNamespace(url="http://s/v1", model="m", pid=1, log=Path("log"), found=found)

    monkeypatch.setattr(server, "serve", serve)
    options = ("--gpu-fraction", "0.95", "--port", "8123", "--context", "512", "--users", "2")
    assert kit("serve", "models/m", *options) == (0, f"{said}止めるには: kit stop\n", "")
    del asked["progress"]
    assert asked == {"model": "models/m", "gpu_fraction": 0.95, "port": 8123, "context": 512, "users": 2, "adapters": False}


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("serve", "m"), "中断しました。"),
        (("ask", "p", "?"), "中断しました。"),
        (("poc", "p"), "中断しました。記録済みの結果は残っています。同じコマンドで続きから再開できます。"),
        (("store", "p"), "中断しました。記録済みの結果は残っています。同じコマンドで続きから再開できます。"),
        (("models", "fetch", "a/b"), "中断しました。取得済みの分は残っています。同じコマンドで続きから再開できます。"),
    ],
)
def test_ctrl_c_promises_only_what_was_kept(kit, monkeypatch, command, said):
    def interrupted(options):
        raise KeyboardInterrupt

    module = cli._texts()["verbs"][command[0]]["module"]
    monkeypatch.setattr(f"kit.interface.{module}.{command[0]}", interrupted)
    assert kit(*command) == (130, "", f"\n{said}\n")


def test_a_runs_folder_that_cannot_be_written_is_told(kit, here):
    (here / "runs").write_text("")
    assert "書き込めません" in assert_refused(kit("run", "00"))[0]


@pytest.mark.parametrize("user", ["部長", "a b", "x' OR '1'='1", "a|b", "a" * 65])
def test_a_reader_name_that_cannot_be_one_is_refused(kit, project, user):
    assert_refused(kit("ask", project, "日当は", "--user", user))


def test_a_model_server_that_is_not_there_is_told(kit, project, monkeypatch):
    monkeypatch.setenv("KIT_LLM_URL", "http://127.0.0.1:9/v1")
    assert_refused(kit("ask", project, "日当は"))
    monkeypatch.setenv("KIT_LLM_URL", "http://203.0.113.9/v1")
    assert "allowed_hosts" in assert_refused(kit("ask", project, "日当は"))[2]


def test_a_wrong_kit_toml_is_told(kit, project, here):
    (here / "kit.toml").write_text('runs = ["a"]\n', encoding="utf-8")
    assert "runs" in assert_refused(kit("seal", project))[0]


@pytest.mark.parametrize("verb", ["decide", "summary"])
def test_what_is_no_run_is_told(kit, project, run, verb):
    for folder in ("ない", project, run.parent, "/dev/null"):
        assert_refused(kit(verb, folder))


def test_a_summary_in_an_unknown_format_is_refused(kit, run):
    assert "docx" in assert_refused(kit("summary", run, "--formats", "html,docx"))[0]


def test_a_decision_that_was_changed_is_refused(kit, run):
    path = run / "decision.json"
    kept = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(kept | {"outcome": "EXTEND"}, ensure_ascii=False), encoding="utf-8")
    assert_refused(kit("summary", run))


def test_rows_that_were_changed_are_refused(kit, run):
    path = run / "rows.jsonl"
    path.write_text("".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[:-1]), encoding="utf-8")
    for verb in ("decide", "summary"):
        assert_refused(kit(verb, run))


def test_a_ledger_that_was_changed_is_refused(kit, project, run):
    path = run.parent / "ledger.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace("小さなPoC", "大きなPoC", 1), encoding="utf-8")
    for verb, given in (("seal", project), ("decide", run), ("summary", run)):
        assert "台帳" in assert_refused(kit(verb, given))[0]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [(["99"], "00_check"), (["03", "-p", "qestion", "x"], "question"), (["04", "-p", "number", "たくさん"], "例: -p number "),
     (["kit.toml.ipynb"], "00_check")],
)  # fmt: skip
def test_run_refuses_before_a_kernel_starts(kit, here, arguments, expected):
    told = "\n".join(assert_refused(kit("run", *arguments)))
    assert expected in told
    assert list(here.iterdir()) == []


def test_a_full_or_closed_folder_is_told(kit, project, here):
    (here / "file").touch()
    assert_refused(kit("init", "file/p"))
    (here / "kit.toml").write_text('runs = "file/runs"\n', encoding="utf-8")
    assert_refused(kit("seal", project))


# --- as a process


def call(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "kit", *map(str, arguments)], capture_output=True, text=True, check=False, **options
    )


def test_the_program_and_the_module_are_the_same(project):
    program = Path(sys.executable).with_name("kit")
    done = subprocess.run([program, "ask", project, "始業時刻は何時ですか"], capture_output=True, text=True, check=False)
    again = call("ask", project, "始業時刻は何時ですか")
    assert (done.returncode, done.stdout, done.stderr) == (0, again.stdout, "") == (again.returncode, again.stdout, again.stderr)


def test_errors_go_to_stderr_and_a_reader_that_leaves_does_no_harm(here):
    done = call("seal", "ない")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 3)
    script = f"{sys.executable} -m kit check | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_output_is_utf_8_whatever_the_terminal_says(project):
    done = call("ask", project, "始業時刻は何時ですか", env=os.environ | {"LC_ALL": "C", "LANG": "C"})
    assert done.returncode == 0
    assert "8時30分" in done.stdout


# --- the whole PoC


def begin(*arguments):
    # A parent that ignores Ctrl-C (a job in the background) must not hand that on.
    script = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    script += "from kit.interface.cli import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )


def journal(here):
    return next(iter((here / "runs").glob("*/rows.jsonl")), None)


def test_gateway_keys_are_shown_once_and_kept_as_hashes(kit, here):
    code, key, told = kit("gateway", "add", "田中")
    assert code == 0 and re.fullmatch(r"kit-[\w-]{43}\n", key) and "KIT_LLM_API_KEY" in told and key not in told
    users = here / "runs" / "gateway" / "users.json"
    assert json.loads(users.read_bytes()) == {"田中": hashlib.sha256(key.strip().encode()).hexdigest()}
    assert (users.stat().st_mode & 0o777, users.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert "remove '田中'" in assert_refused(kit("gateway", "add", "田中"))[2]
    for name in ("", "a b", "a/b", "a\n", "x" * 65):
        assert_refused(kit("gateway", "add", name))
    assert "田中" in assert_refused(kit("gateway", "remove", "鈴木"))[1]
    assert kit("gateway", "remove", "田中")[0] == 0 and json.loads(users.read_bytes()) == {}
    users.write_text("{", encoding="utf-8")
    assert "users.json" in assert_refused(kit("gateway", "add", "田中"))[0]
    assert users.read_text(encoding="utf-8") == "{"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_gateway_start_says_how_to_connect_and_ends_with_a_signal(kit, here, scripted, monkeypatch, number):
    assert "kit serve" in assert_refused(kit("gateway", "start"))[2]
    assert "--cert" in assert_refused(kit("gateway", "start", "--url", scripted.url, "--host", "0.0.0.0"))[2]
    key = kit("gateway", "add", "田中")[1].strip()
    process = begin("gateway", "start", "--url", scripted.url, "--port", "0")
    told = [process.stderr.readline() for _ in range(3)]
    url = re.search(r'llm_url = "(http://127\.0\.0\.1:(\d+)/v1)"', told[2])
    assert f"ssh -L {url[2]}:127.0.0.1:{url[2]} " in told[1] and "利用者 1 人" in told[0]
    monkeypatch.setenv("KIT_LLM_API_KEY", key)
    with connect(url[1]) as chat:
        assert chat.ask("?").text == "はい"
    os.killpg(process.pid, number)
    shown, left = process.communicate(timeout=30)
    assert (process.returncode, shown, left) == (0, "公開を終わりました。\n", "")
    assert [json.loads(row)["user"] for row in (here / "runs" / "gateway" / "usage.jsonl").read_bytes().splitlines()] == ["田中"] * 2


@pytest.mark.notebooks
@pytest.mark.timeout(900)
def test_an_interrupted_poc_goes_on_where_it_was_and_a_finished_one_anew(here):
    """Ctrl-C while notebook 05 asks; the next call finishes the same run; one more starts another."""
    small_project(here / "p", repeat=30)
    process = begin("poc", "p")
    while not (journal(here) and journal(here).read_bytes().count(b"\n") >= 20):
        assert process.poll() is None, process.communicate()
    os.killpg(process.pid, signal.SIGINT)
    shown, told = process.communicate(timeout=60)
    assert (process.returncode, shown) == (130, "")
    assert told.rstrip().splitlines()[-1] == "中断しました。記録済みの結果は残っています。同じコマンドで続きから再開できます。"
    assert "Traceback" not in told
    run = journal(here).parent
    done = journal(here).read_bytes()
    done = done[: done.rfind(b"\n") + 1]
    assert 20 <= done.count(b"\n") < 480
    assert not (run / "decision.json").exists()

    finished = call("poc", "p")
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr.startswith(f"中断した実行の続き: runs/{run.name}\n")
    assert re.fullmatch(rf"DECISION: (GO|NO-GO|EXTEND)  runs/{run.name}/summary\.html(  runs/{run.name}/summary\.pdf)?\n", finished.stdout)
    rows = journal(here).read_bytes()
    assert rows.startswith(done)
    samples = [(row["case"], row["arm"]) for row in map(json.loads, rows.splitlines())]
    assert len(set(samples)) == len(samples) == 480
    assert [path for path in (here / "runs").iterdir() if path.is_dir()] == [run]

    again = call("poc", "p", "--json")
    assert again.returncode == 0, again.stderr
    result = json.loads(again.stdout)
    assert set(result) == {"decision", "reason", "summary"}
    assert Path(result["summary"]).is_file()
    assert len([path for path in (here / "runs").iterdir() if path.is_dir()]) == 2
    kinds = [json.loads(line)["kind"] for line in (here / "runs" / "ledger.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [kind for kind in kinds if kind not in ("stopped", "checkpoint")] == ["seal", "run", "rows", "decision", "run", "rows", "decision"]


@pytest.mark.notebooks
def test_a_notebook_that_fails_stops_the_poc_with_its_own_lines(here):
    small_project(here / "p")
    done = call("poc", "p", "--url", "http://127.0.0.1:9/v1")
    assert (done.returncode, done.stdout) == (1, "")
    lines = done.stderr.splitlines()
    assert lines[0] == "候補: モデルサーバー http://127.0.0.1:9/v1" and lines[1].startswith("実行: runs/")
    assert [line.split(": ")[0] for line in lines[-3:]] == ["エラー", "考えられる原因", "次にすること"]
    assert "127.0.0.1:9" in lines[-3] and lines[-1].endswith("/kit poc p --url http://127.0.0.1:9/v1")
    assert "Traceback" not in done.stderr


def test_a_long_notebook_gives_signs_of_life(tmp_path, monkeypatch):
    monkeypatch.setattr("kit.interface.poc._BEAT_S", 0.02)
    told, journal = [], tmp_path / "rows.jsonl"
    with _heartbeat(told.append, "05_evaluate", journal):
        while not told:
            time.sleep(0.01)
        journal.write_bytes(b"{}\n" * 1200)
        while "測定済み" not in told[-1]:
            time.sleep(0.01)
    count = len(told)
    assert re.fullmatch(r"  05_evaluate    実行中（0 秒経過）", told[0])
    assert re.fullmatch(r"  05_evaluate    実行中（\d 秒経過、測定済み 1,200 件）", told[-1])
    time.sleep(0.1)
    assert len(told) == count


def test_a_second_poc_on_the_same_run_is_refused(kit, here):
    small_project(here / "p")
    notebooks = here / "runs" / "20260101-000000-p" / "notebooks"
    with JsonLines(notebooks / ".running"):
        code, shown, told = kit("poc", "p")
    assert (code, shown) == (1, "")
    assert told.splitlines()[0].endswith("runs/20260101-000000-p")
    assert [line.split(": ")[0] for line in told.splitlines()[1:]] == ["エラー", "考えられる原因", "次にすること"]
    assert [path.name for path in notebooks.iterdir()] == [".running"]


def test_a_url_outside_is_refused_before_anything_runs(kit, here):
    small_project(here / "p")
    told = assert_refused(kit("poc", "p", "--url", "http://203.0.113.9/v1"))
    assert "allowed_hosts" in told[2]
    assert not list(here.glob("runs/*/notebooks"))
