"""Forms and progress bars, pressed and moved without a browser; test_browser.py does it in JupyterLab."""

import io
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import redirect_stderr

import ipywidgets
import pytest
from IPython import display

import kit
from kit.errors import RunError
from kit.interface import widgets
from kit.interface.widgets import Bar

TOLD = "別の処理が書き込み中です"


@pytest.fixture
def shown(monkeypatch):
    """What is displayed, in order."""
    items = []
    monkeypatch.setattr(display, "display", items.append)
    return items


def form(shown, function, **controls):
    """Draw a form with a button; return its view, its controls by name and its button."""
    widgets.form(function, **controls)
    (view,) = shown
    shown.clear()
    found = {child.description: child for child in view.children[:-2]}
    return view, found, view.children[-2]


def press(button, shown):
    shown.clear()
    button.click()
    return list(shown)


def test_a_form_is_only_drawn(shown):
    calls = []
    _, controls, button = form(shown, lambda **given: calls.append(given), button="質問する", question="日当は", user="")
    assert calls == []
    assert list(controls) == ["question", "user"]
    assert all(isinstance(control, ipywidgets.Text) for control in controls.values())
    assert (controls["question"].value, controls["question"].layout.width) == ("日当は", "640px")
    assert isinstance(button, ipywidgets.Button) and button.description == "質問する"


def test_the_button_calls_with_what_the_controls_say_and_shows_the_result(shown):
    _, controls, button = form(shown, lambda question, number: f"{question}{number}", question="a", number=(1, 20))
    controls["question"].value, controls["number"].value = "年休は", 7
    assert press(button, shown) == ["年休は7"]


def test_a_changed_text_alone_calls_nothing(shown):
    """A text that called by itself would ask a question twice: when it is left, and by the button."""
    calls = []
    _, controls, button = form(shown, lambda question: calls.append(question), question="a")
    assert controls["question"].continuous_update
    controls["question"].value = "b"
    assert calls == []
    press(button, shown)
    assert calls == ["b"]


def test_none_shows_nothing(shown):
    _, _, button = form(shown, lambda switch: None, switch=True)
    assert press(button, shown) == []


@pytest.mark.parametrize(
    ("initial", "kind", "value"),
    [
        ("text", ipywidgets.Text, "text"),
        ((1, 30), ipywidgets.IntSlider, 15),
        ((50, 3000, 10), ipywidgets.IntSlider, 1520),
        ((0.0, 1.0), ipywidgets.FloatSlider, 0.5),
        (["誤った回答", "正しい回答"], ipywidgets.Dropdown, "誤った回答"),
        (True, ipywidgets.Checkbox, True),
        (420.0, ipywidgets.FloatSlider, 420.0),
        (0.6, ipywidgets.FloatSlider, 0.6),
        (("新しい実行", "前の実行"), ipywidgets.SelectMultiple, ("新しい実行",)),
        ((), ipywidgets.SelectMultiple, ()),
        (8192, ipywidgets.BoundedIntText, 8192),
        (0, ipywidgets.BoundedIntText, 1),
    ],
)
def test_each_kind_of_value_has_its_control(shown, initial, kind, value):
    seen = []
    _, controls, button = form(shown, lambda 値: seen.append(値), 値=initial)
    assert type(controls["値"]) is kind
    press(button, shown)
    assert seen == [value]


def test_a_slider_reaches_five_times_the_value_in_steps_of_three_digits(shown):
    _, controls, _ = form(shown, lambda **_: None, 月間件数=420.0, 時給=0.0, サーバー=3_500_000.0, 稼働率=0.6)
    found = [(slider.min, slider.max, slider.step) for slider in controls.values()]
    assert found == [(1, 2100, 1), (1, 100, 1), (10_000, 17_500_000, 10_000), (0.01, 1, 0.01)]


def test_without_a_button_the_result_follows_each_control(shown):
    widgets.form(lambda 件数, 時給: kit.show(f"{件数:.0f}件 {時給:.0f}円"), button="", 件数=420.0, 時給=3500.0)
    (view,) = shown
    *knobs, result = view.children
    assert "420件 3500円" in result.value, "the first result is there before anything is moved"
    assert [knob.description for knob in knobs] == ["件数", "時給"]
    knobs[0].value = 500.0
    assert "500件 3500円" in result.value and shown == [view]


def test_without_a_button_an_error_is_shown_and_the_next_move_mends_it(shown):
    def call(件数):
        if 件数 > 450:
            raise RunError(TOLD, "原因", "対処")
        return kit.show("少ない")

    widgets.form(call, button="", 件数=420.0)
    knob, result = shown[0].children
    knob.value = 500.0
    assert TOLD in result.value
    knob.value = 400.0
    assert "少ない" in result.value


def test_shared_controls_move_in_every_form(shown):
    own = widgets.controls(件数=420.0)
    for name in "ab":
        widgets.form(lambda 件数, name=name: kit.show(f"{name}{件数:.0f}"), button="", **own)
    own["件数"].value = 500.0
    assert ["a500" in shown[0].children[-1].value, "b500" in shown[1].children[-1].value] == [True, True]


def test_a_widget_is_used_as_it_is(shown):
    own = ipywidgets.IntText(5, description="件数")
    _, controls, _ = form(shown, lambda number: number, number=own)
    assert controls["件数"] is own


def test_an_error_leaves_the_form_usable(shown):
    results = iter([RuntimeError(TOLD), "二度目"])

    def call(question):
        result = next(results)
        if isinstance(result, Exception):
            raise result
        return result

    view, _, button = form(shown, call, question="a")
    assert press(button, shown) == []
    assert not button.disabled
    assert press(button, shown) == ["二度目"]
    assert view.result is None


# --- bars


class Terminal(io.StringIO):
    """A screen that keeps what is written on it."""

    def isatty(self):
        return True


def test_a_bar_counts_documents():
    bar = Bar("文書の登録")
    with redirect_stderr(Terminal()) as screen:
        for _ in range(3):
            bar(object())
        assert (bar._bar.n, bar._bar.total) == (3, None)
        del bar
    assert "文書の登録: 3件" in screen.getvalue()


def test_a_bar_starts_where_a_run_goes_on_and_closes_at_the_end():
    bar = Bar("評価")
    with redirect_stderr(Terminal()) as screen:
        for done in range(71, 101):
            bar(done, 100)
            assert (bar._bar.n, bar._bar.total) == (done, 100)
    assert screen.getvalue().endswith("\n")
    assert re.search(r"評価:  70%.* 70/100 ", screen.getvalue()), "time left is reckoned from here"
    assert "100%" in screen.getvalue()


def test_no_bar_is_drawn_where_nobody_watches(capsys):
    bar = Bar("評価")
    for done in range(1, 11):
        bar(done, 10)
    assert capsys.readouterr() == ("", "")


@pytest.mark.skipif(not shutil.which("script"), reason="the program script is not installed")
def test_a_bar_on_a_terminal_ends_with_a_line_of_its_own():
    code = "from kit.interface.widgets import Bar\nbar = Bar('x')\n[bar(n, 3) for n in (1, 2, 3)]\nprint('done')"
    done = subprocess.run(
        ["script", "-qec", f"stty rows 24 cols 80; {shlex.join([sys.executable, '-c', code])}", "/dev/null"],
        capture_output=True, text=True, check=True,
    )
    assert done.stdout.splitlines()[-1] == "done"
    assert "3/3" in done.stdout
