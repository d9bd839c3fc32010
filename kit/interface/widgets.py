"""Small forms for notebooks. Each control sets one argument of the same function that the cell above calls.

ipywidgets does the work; headless the form is only drawn and never waited for.
"""

from collections.abc import Callable, Mapping
from typing import Any

from kit import views
from kit.errors import KitError


def form(function: Callable[..., Any], *, button: str = "実行", **controls: Any) -> None:
    """Show a form that calls a function and shows what it returns.

    Args:
        function: Called with the controls' values when the button is pressed.
        button: Text on the button.
        controls: Argument name → initial value: a text, a whole number of 1 or more, another number (a slider from
            1 to twice its value), a (min, max) pair of numbers, a list of choices, or a bool; a widget is used as it
            is. The argument's name is what stands beside its control: give it in Japanese,
            ``form(lambda 質問: rag(質問), 質問="…")``.
    """
    import ipywidgets
    from IPython.display import display

    def control(value: Any) -> Any:
        if isinstance(value, str):
            return ipywidgets.Text(value, layout={"width": "640px"})
        if type(value) is int:
            return ipywidgets.BoundedIntText(value, min=1, max=10**9)
        if isinstance(value, float):
            return ipywidgets.FloatSlider(value, min=1, max=max(2 * value, 100), step=1, readout_format=",.0f")
        return value

    def call(**values: Any) -> None:
        result = function(**values)
        if result is not None:
            display(result)

    options = {"manual": True, "manual_name": button}
    view = ipywidgets.interactive(call, options, **{name: control(value) for name, value in controls.items()})
    for child in view.kwargs_widgets:  # a text would also call when it is left, and then again by the button
        if isinstance(child, ipywidgets.Text):
            child.unobserve(view.update, names="value")
        if isinstance(child, (ipywidgets.Text, ipywidgets.BoundedIntText)):
            child.continuous_update = True  # sent while it is typed, not in a race with the button's press
    display(view)


def rating(save: Callable[[Any, str], str], choices: Mapping[Any, str]) -> Any:
    """Return a box for a correction and a button for each verdict; each press saves one.

    Args:
        save: Called with the verdict and the correction; returns the line to show.
        choices: Verdict → text on its button.
    """
    import ipywidgets

    told = ipywidgets.HTML()
    correction = ipywidgets.Textarea(
        placeholder="誤りがあれば、正しい答えをここに書いてから 👎 を押してください（任意）", layout={"width": "640px", "height": "60px"},
        continuous_update=True,
    )
    buttons = {verdict: ipywidgets.Button(description=text, layout={"width": "auto"}) for verdict, text in choices.items()}

    def pressed(button: Any) -> None:
        try:
            line = save(next(verdict for verdict, own in buttons.items() if own is button), correction.value)
        except KitError as error:  # an exception of a callback would only reach Jupyter's log
            line = str(error)
        told.value = views.paragraphs(line)

    for button in buttons.values():
        button.on_click(pressed)
    return ipywidgets.VBox([correction, ipywidgets.HBox([*buttons.values(), told])])


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
