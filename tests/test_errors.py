import pickle

import pytest
from IPython.core.interactiveshell import InteractiveShell

from kit import errors
from kit.errors import DataError, KitError

ERROR = DataError("何が起きたか。", "考えたこと。", "`make setup` を実行してください。")
LINES = ["何が起きたか。", "考えられる原因: 考えたこと。", "次にすること: `make setup` を実行してください。"]


def test_message_has_three_lines_and_keeps_its_parts():
    assert str(ERROR).split("\n") == LINES
    assert (ERROR.what, ERROR.cause, ERROR.remedy) == ("何が起きたか。", "考えたこと。", "`make setup` を実行してください。")


def test_every_part_is_required():
    with pytest.raises(TypeError):
        KitError("何が起きたか。", "考えたこと。")


def test_an_error_crosses_a_process_boundary():
    again = pickle.loads(pickle.dumps(ERROR))
    assert type(again) is DataError
    assert str(again) == str(ERROR)


def test_the_tree_in_the_docstring_is_the_tree():
    drawn = {line.split()[1] for line in errors.__doc__.splitlines() if line.startswith(("├", "└"))}
    assert drawn == {cls.__name__ for cls in KitError.__subclasses__() if cls.__module__ == "kit.errors"}


@pytest.fixture
def shell(tmp_path, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    shell = InteractiveShell()
    shell.run_cell("from kit.errors import DataError, StoreError")
    yield shell
    shell.restore_sys_module_state()
    shell.history_manager.end_session()
    InteractiveShell.clear_instance()


def test_a_notebook_shows_just_the_three_lines(shell, capsys):
    result = shell.run_cell("raise DataError('何が起きたか。', '考えたこと。', '`make setup` を実行してください。')")
    assert isinstance(result.error_in_exec, DataError)  # papermill sees a failed cell
    assert capsys.readouterr().out.splitlines() == LINES


def test_a_chained_cause_is_not_shown_either(shell, capsys):
    shell.run_cell("try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise StoreError('何。', '因。', '策。') from e")
    assert capsys.readouterr().out.splitlines() == ["何。", "考えられる原因: 因。", "次にすること: 策。"]


def test_other_errors_keep_their_traceback(shell, capsys):
    shell.run_cell("1 / 0")
    assert "ZeroDivisionError" in capsys.readouterr().out
