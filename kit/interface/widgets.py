"""Small forms for notebooks. Each control sets one argument of the same function that the cell above calls.

ipywidgets does the work; headless the form is only drawn and never waited for.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kit import views
from kit.errors import KitError


def form(function: Callable[..., Any], *, button: str = "実行", **controls: Any) -> None:
    """Show a form that calls a function and shows what it returns.

    Args:
        function: Called with the controls' values when the button is pressed.
        button: Text on the button; "" for none: what the function returns, something with ``_repr_html_``, follows each
            control while it is moved.
        controls: Argument name → initial value: a text, a whole number of 1 or more, a share between 0 and 1 (a slider
            in percent), another number (a slider to five times its value), a (min, max) pair of numbers, a list of choices,
            a tuple of texts of which several can be chosen, at first the first one, or a bool; a widget is used as it
            is. The argument's name is what stands beside its control: give it in Japanese,
            ``form(lambda 質問: rag(質問), 質問="…")``.
    """
    import ipywidgets
    from IPython.display import display

    knobs = {name: _control(name, value) for name, value in controls.items()}
    if not button:
        display(_following(function, knobs))
        return

    def call(**values: Any) -> None:
        result = function(**values)
        if result is not None:
            display(result)

    view = ipywidgets.interactive(call, {"manual": True, "manual_name": button}, **knobs)
    for child in view.kwargs_widgets:  # a text would also call when it is left, and then again by the button
        if isinstance(child, ipywidgets.Text):
            child.unobserve(view.update, names="value")
        if isinstance(child, (ipywidgets.Text, ipywidgets.BoundedIntText)):
            child.continuous_update = True  # sent while it is typed, not in a race with the button's press
    display(view)


def _following(function: Callable[..., Any], knobs: Mapping[str, Any]) -> Any:
    """Return the controls with the result under them, drawn anew whenever one moves.

    The result is a widget's value, not captured output: headless, a notebook that ran would wait for that for ever.
    """
    import ipywidgets

    shown = ipywidgets.HTML()

    def draw(_: Any = None) -> None:
        try:
            shown.value = function(**{name: knob.value for name, knob in knobs.items()})._repr_html_()
        except KitError as error:
            shown.value = views.paragraphs(str(error))

    for name, knob in knobs.items():
        knob.description = knob.description or name
        knob.observe(draw, "value")
    draw()
    return ipywidgets.VBox([*knobs.values(), shown]).add_class("widget-interact")  # as the forms with a button


def controls(**initial: Any) -> dict[str, Any]:
    """Return the controls of a form by their names; given to several forms they move together.

    Args:
        initial: Name → initial value (see ``form``).
    """
    return {name: _control(name, value) for name, value in initial.items()}


def _control(name: str, value: Any) -> Any:
    import ipywidgets

    if isinstance(value, str):
        return ipywidgets.Text(value, layout={"width": "640px"})
    if type(value) is int:
        return ipywidgets.BoundedIntText(value, min=1, max=10**9)
    if isinstance(value, float):
        look = {"description": name, "style": {"description_width": "12em"}, "layout": {"width": "600px"}}
        if 0 < value < 1:
            return ipywidgets.FloatSlider(value, min=0.01, max=1, step=0.01, readout_format=".0%", **look)
        step = 10.0 ** max(0, math.floor(math.log10(value or 1)) - 2)  # three digits are enough
        return ipywidgets.FloatSlider(value, min=step, max=max(5 * value, 100), step=step, readout_format=",.0f", **look)
    if isinstance(value, tuple) and all(isinstance(item, str) for item in value):
        return ipywidgets.SelectMultiple(options=value, value=value[:1], layout={"width": "640px"})
    return value


def rating(save: Callable[[Any, str], str], choices: Mapping[Any, str]) -> Any:
    """Return a box for a correction and a button for each verdict; each press saves one.

    Args:
        save: Called with the verdict and the correction; returns the line to show.
        choices: Verdict → text on its button.
    """
    import ipywidgets

    correction = ipywidgets.Textarea(
        placeholder="誤りがあれば、正しい答えをここに書いてから 👎 を押してください（任意）", layout={"width": "640px", "height": "60px"},
        continuous_update=True,
    )
    verdicts = {text: verdict for verdict, text in choices.items()}
    told = ipywidgets.HTML()
    buttons = _buttons([*verdicts], lambda name: views.paragraphs(save(verdicts[name], correction.value)), told, told)
    return ipywidgets.VBox([correction, ipywidgets.HBox([*buttons, told])])


def deck(press: Callable[[str], str], names: Sequence[str]) -> Any:
    """Return a card with a button for each name under it; each press turns to the next card.

    Args:
        press: Called with the name of the button, first with ""; returns the card to show, as HTML.
        names: What stands on the buttons.
    """
    import ipywidgets

    card, told = ipywidgets.HTML(press("")), ipywidgets.HTML()
    buttons = _buttons(names, press, card, told)
    return ipywidgets.VBox([card, ipywidgets.HBox(buttons), told])


def _buttons(names: Sequence[str], press: Callable[[str], str], shown: Any, told: Any) -> list[Any]:
    """Return a button for each name; what pressing one returns is ``shown``, why it failed is ``told``."""
    import ipywidgets

    def pressed(button: Any) -> None:
        told.value = ""
        try:
            shown.value = press(button.description)
        except KitError as error:  # an exception of a callback would only reach Jupyter's log
            told.value = views.paragraphs(str(error))

    buttons = [ipywidgets.Button(description=name, layout={"width": "auto"}) for name in names]
    for button in buttons:
        button.on_click(pressed)
    return buttons


class Bar:
    """A progress bar with the time left; give it as ``progress=`` to any kit call.

    Args:
        label: What is being done.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._bar: Any = None

    def __call__(self, *progress: Any) -> None:
        """Move on by one; (finished, planned) moves to that position."""
        from tqdm.auto import tqdm
        from tqdm.notebook import tqdm_notebook

        done, total = progress if len(progress) == 2 else (None, None)
        if self._bar is None:
            hidden = None if not issubclass(tqdm, tqdm_notebook) else False  # None: only where no terminal watches
            self._bar = tqdm(total=total, desc=self._label, unit="件", disable=hidden, initial=done - 1 if done else 0)
        self._bar.update(1)
        if total is not None and done == total:
            self._bar.close()

    def note(self, text: str) -> None:
        """Show a line beside the bar."""
        if self._bar is not None:
            self._bar.set_postfix_str(text)
