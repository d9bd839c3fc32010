"""Notebooks 01, 02, 03, 05, 08 and 09 as a user operates them: JupyterLab with the shipped configuration, in headless Chromium."""

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "kit" / "interface" / "jupyter_server_config.py"
TOKEN = secrets.token_hex(16)
pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A copy of the project's root with the sample's store built."""
    folder = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT / "notebooks", folder / "notebooks", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    shutil.copy(ROOT / "kit.toml", folder)
    shutil.copytree(ROOT / "data" / "sample", folder / "data" / "sample", ignore=shutil.ignore_patterns(".kit", "sources"))
    subprocess.run([sys.executable, "-m", "kit", "store", "data/sample"], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def lab(root, tmp_path_factory):
    """JupyterLab as ``make lab`` starts it, on a port and with a token of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    own = tmp_path_factory.mktemp("j")
    folders = {"CONFIG": "c", "RUNTIME": "r", "DATA": "d"}
    environment = os.environ | {f"JUPYTER_{name}_DIR": str(own / folder) for name, folder in folders.items()}
    environment |= {"JUPYTER_TOKEN": TOKEN, "KIT_RUNS": "runs"}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", f"--config={CONFIG}", f"--ServerApp.port={port}"]
    command += [f"--ServerApp.root_dir={root}", "--ServerApp.port_retries=0", *["--allow-root"] * (os.geteuid() == 0)]
    with (own / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=root, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            url = f"http://127.0.0.1:{port}"
            while not answers(f"{url}/api/status?token={TOKEN}"):
                assert process.poll() is None, (own / "log").read_text()
                time.sleep(0.2)
            yield url
        finally:
            process.terminate()
            process.wait(30)
    text = (own / "log").read_text()
    assert "Traceback" not in text, text


def answers(url):
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5) as reply:
            return reply.status == 200 and reply.url == url  # and not the page that asks for the token
    except OSError:
        return False


@pytest.fixture(scope="module")
def context(chromium):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=chromium, args=options)
        yield browser.new_context(viewport={"width": 1280, "height": 2600}, locale="ja-JP")
        browser.close()


@pytest.fixture
def open_notebook(lab, context):
    """Open a notebook and run all its cells; afterwards nothing may have been asked of any other host."""
    asked, faults = [], []

    def call(name):
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("request", lambda request: asked.append(request.url))
        page.on("websocket", lambda websocket: asked.append(websocket.url))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(f"{lab}/lab/tree/notebooks/{name}?reset&token={TOKEN}")
        page.wait_for_selector(".jp-Notebook .jp-CodeCell")
        page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()  # in the status bar, once the kernel answered
        page.locator(".lm-MenuBar-item", has_text="Run").click()
        page.locator(".lm-Menu-item", has_text="Run All Cells").first.click()
        page.wait_for_function(
            """() => {
                const cells = [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(e => e.textContent);
                return cells.length > 3 && cells.every(text => /\\[\\d+\\]/.test(text));
            }"""
        )
        assert page.locator(".Toastify__toast").all_inner_texts() == [], "nobody is asked about news or updates"
        assert page.locator('[data-mime-type="application/vnd.jupyter.stderr"]').all_inner_texts() == []
        assert page.locator('[data-mime-type="application/vnd.jupyter.error"]').all_inner_texts() == []
        return page

    yield call
    assert len(asked) > 20
    own = ("data", "blob", "chrome", "chrome-extension")  # the last two are the browser's PDF viewer
    outside = [url for url in asked if urlsplit(url).scheme not in own and urlsplit(url).hostname != "127.0.0.1"]
    assert outside == []
    assert faults == []


def last_form(page):
    """The form drawn by the notebook's last code cell with a widget."""
    return page.locator(".widget-interact").last


def press(form, button, expected):
    """Press a button and return what the form shows once the expected text is there."""
    form.get_by_role("button", name=button).click(delay=80)  # milliseconds, as a hand does
    shown = form.locator(".jp-OutputArea")
    shown.get_by_text(expected).first.wait_for()
    return shown.inner_text()


def test_a_question_is_typed_answered_with_its_source_and_rated(open_notebook, root, tmp_path):
    from playwright.sync_api import expect

    page = open_notebook("03_ask.ipynb")
    form = last_form(page)
    question, user = form.locator("input[type=text]").all()
    question.fill("国内出張の日当はいくらですか")
    told = press(form, "質問する", "出張旅費規程")
    assert "出典: 出張旅費規程" in told
    assert "確信度" in told
    source = form.get_by_role("link", name="出張旅費規程")
    expect(source.first).to_have_attribute("href", re.compile(r"/files/data/sample/documents/.*\.pdf.*#page=\d"))
    address = source.first.evaluate("link => link.href")
    assert page.request.get(address).body().startswith(b"%PDF")
    form.locator("textarea").fill("3,000円です")
    press(form, "誤り・不足", "記録しました")
    press(form, "役に立った", "役に立った）")
    page.screenshot(path=tmp_path / "03_ask.png")
    rows = (root / "data/sample/.kit/feedback.jsonl").read_text(encoding="utf-8").splitlines()
    given = [(row["verdict"], row["correction"], row["question"]) for row in map(json.loads, rows)]
    assert given == [(verdict, "3,000円です", "国内出張の日当はいくらですか") for verdict in ("bad", "good")]
    source.first.click()
    page.locator(".lm-TabBar-tab", has_text="出張旅費規程").first.wait_for()
    page.locator(".lm-TabBar-tab", has_text="03_ask").first.click()

    question.fill("社長の好きな音楽は何ですか")
    assert "資料に見当たりません" in press(form, "質問する", "資料に見当たりません")

    question.fill("総合評価Aの賞与係数はいくつですか")
    user.fill("hr")
    assert "1.13" in press(form, "質問する", "人事評価運用細則")
    user.fill("")
    assert "人事評価運用細則" not in press(form, "質問する", "資料に見当たりません")

    user.fill("役員 部長")
    told = press(form, "質問する", "次にすること")
    assert [line.partition(": ")[0] for line in told.strip().splitlines()][1:] == ["考えられる原因", "次にすること"]
    assert "Traceback" not in told
    page.screenshot(path=tmp_path / "03_error.png")


def test_a_search_is_narrowed_and_its_words_are_marked(open_notebook, tmp_path):
    page = open_notebook("02_store.ipynb")
    choosing, searching, rolling = page.locator(".widget-interact").all()
    assert "data/sample/documents" in press(choosing, "確かめる", "RAGストア")
    words, documents, since, *_ = searching.locator("input[type=text]").all()
    words.fill("国内出張の日当")
    documents.fill("総務人事/*2025*")
    told = press(searching, "検索する", "点数の内訳")
    assert "出張旅費規程_2025年版.pdf" in told and "2023年版.pdf" not in told.replace("旧版: 出張旅費規程", "")
    assert "日当" in searching.locator("mark").all_inner_texts()
    since.fill("2999-01-01")
    assert "該当する断片はありません" in press(searching, "検索する", "該当する断片はありません")
    assert rolling.locator("select option").count() >= 1
    page.screenshot(path=tmp_path / "02_store.png")


def test_a_model_is_chosen_and_inspected_before_it_is_started(open_notebook, root, plain_model, tmp_path):
    shutil.copytree(plain_model, root / "models" / "plain")
    page = open_notebook("01_serve.ipynb")
    fitting, inspecting, starting = page.locator(".widget-interact").all()
    gib, _, people = fitting.locator("input[type=number]").all()
    gib.fill("80")
    people.fill("2")
    assert "公開版" in press(fitting, "調べる", "GPU 80 GB・文脈長 8,192 トークン・同時 2 人")

    fitting.screenshot(path=tmp_path / "01_fitting.png")

    inspecting.locator("select").select_option(label="models/plain")
    told = press(inspecting, "検査する", "メモリーの見積もり")
    assert "8,192 トークン（モデルの上限: 8,192）" in told
    (root / "models" / "plain" / "model.safetensors").write_bytes(b"torn")
    told = press(inspecting, "検査する", "読めません")
    assert "×" in told
    page.screenshot(path=tmp_path / "01_serve.png")
    told = press(starting, "起動する", "次にすること")
    assert told.startswith("モデルのファイルを検査しています") and "Traceback" not in told
    shutil.rmtree(root / "models")


def test_the_evaluation_runs_and_its_answers_are_looked_through(open_notebook, root, tmp_path):
    page = open_notebook("05_evaluate.ipynb")
    form = last_form(page)
    rows = form.locator(".jp-OutputArea tr:has(td)")
    for kind in ("正しい回答", "控えた回答", "誤った回答"):
        form.locator("select").select_option(label=kind)
        told = press(form, "回答を見る", f"{kind}: ")
        assert f"{kind}: " in told
        assert 0 < rows.count() <= 20
    slider = form.locator(".widget-readout").last
    slider.fill("3")
    slider.press("Enter")
    press(form, "回答を見る", "件のうち 3 件")
    assert rows.count() == 3
    page.screenshot(path=tmp_path / "05_evaluate.png")
    for number, chart in enumerate(page.locator(".jp-OutputArea-output:has(svg), .jp-OutputArea-output:has(img)").all()):
        chart.screenshot(path=tmp_path / f"05_chart_{number}.png")
    (run,) = (root / "runs").glob("*-sample")
    assert (run / "decision.json").is_file()
    assert (run / "rows.jsonl").read_bytes().count(b"\n") == 400
    assert_a_slider_moves_the_charts(open_notebook("08_cost.ipynb"), tmp_path)
    assert (run / "prices.toml").is_file()
    page = open_notebook("09_summary.ipynb")
    pages = page.frame_locator("iframe[srcdoc]")
    pages.first.locator("h1").wait_for()
    form = last_form(page)
    assert form.locator("select option").all_inner_texts() == [f"../runs/{run.name}"]
    form.get_by_role("button", name="仕上がりを見る").click(delay=80)
    pages.nth(1).locator("h1").wait_for()
    page.screenshot(path=tmp_path / "09_summary.png")
    assert {f"summary.{name}" for name in ("html", "md")} <= {path.name for path in run.iterdir()}


def assert_a_slider_moves_the_charts(page, tmp_path):
    """While it is dragged, before it is let go, and without a button."""
    from playwright.sync_api import expect

    form = last_form(page)
    charts = form.locator("svg[role=img]")
    expect(charts).to_have_count(4)
    form.scroll_into_view_if_needed()
    told = [chart.get_attribute("aria-label") for chart in charts.all()]
    form.screenshot(path=tmp_path / "08_form.png")
    handle = form.locator(".noUi-handle").first.bounding_box()
    x, y = handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    for step in range(1, 6):
        page.mouse.move(x + 20 * step, y)
    for chart, before in zip(charts.all(), told, strict=True):
        expect(chart).not_to_have_attribute("aria-label", before)
    form.screenshot(path=tmp_path / "08_moved.png")
    page.mouse.up()
    assert form.get_by_role("button").count() == 0


def test_the_server_lets_nobody_in_without_the_token(lab):
    for path in ("/api/contents", "/api/kernels", "/lab/api/settings", "/files/kit.toml"):
        assert answers(f"{lab}{path}?token={TOKEN}") or path.startswith("/files")
        assert not answers(f"{lab}{path}")
    assert not answers(f"{lab}/api/terminals?token={TOKEN}"), "no terminals"
