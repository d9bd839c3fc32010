"""What is written of a summary, and what is not lost when one format fails; the contents are tested with their modules."""

import dataclasses

import pytest

from kit.errors import ParameterError, RunError
from kit.reporting import export
from kit.reporting.export import draw_summary, write_summary
from tests.test_summary import PRICES, decision


def finished(moment, title):
    made = decision()
    criteria = dataclasses.replace(made.seal.criteria, title=title)
    return dataclasses.replace(
        made, seal=dataclasses.replace(made.seal, criteria=criteria), facts=made.facts | {"finished": moment}
    )


def test_the_newest_of_several_runs_leads_in_whatever_order_they_come():
    runs = [finished(f"2026-11-2{day}T09:00:00+00:00", f"{day}日") for day in (1, 3, 2)]
    assert [draw_summary(given, prices=PRICES).title for given in (runs, runs[::-1], runs[0])] == ["3日", "3日", "1日"]
    with pytest.raises(ParameterError, match="サマリーにする実行がありません"):
        draw_summary([])


def test_a_run_that_is_named_twice_counts_once(tmp_path):
    run = dataclasses.replace(decision(), folder=tmp_path / "run")
    again = dataclasses.replace(run, folder=tmp_path / "x" / ".." / "run")
    assert draw_summary([run, again], prices=PRICES).sections[0].key != "overview"


def test_all_formats_are_written_beside_the_run_by_default(tmp_path):
    made = dataclasses.replace(decision(), folder=tmp_path / "run")
    paths = write_summary(made, prices=PRICES)
    assert paths == [tmp_path / "run" / f"summary.{name}" for name in export.FORMATS]
    assert {path.name for path in (tmp_path / "run").iterdir()} == {path.name for path in paths}


def broken(_):
    raise ValueError("boom\nat line 3")


def test_a_format_that_fails_does_not_take_the_others_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "_WRITERS", {"html": broken, "md": lambda _: "text", "pdf": broken})
    with pytest.raises(RunError) as caught:
        write_summary(decision(), to=tmp_path, formats=("html", "md", "pdf"), prices=PRICES)
    assert "html、pdf を書き出せませんでした" in caught.value.what and "md は書き出しました" in caught.value.what
    assert "html: ValueError: boom at line 3" in caught.value.what and "pdf: ValueError" in caught.value.what
    assert len(str(caught.value).split("\n")) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["summary.md"]


def test_a_folder_that_cannot_be_written_is_told_once(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="に書き込めません") as caught:
        write_summary(decision(), to=tmp_path / "file", prices=PRICES)
    assert caught.value.cause.count("権限") == caught.value.remedy.count("権限") == 1
