"""Folders → documents: names, order, readers, and what is not opened."""

import hashlib
import os
import unicodedata
from pathlib import Path

import pytest

from kit.errors import DataError
from kit.knowledge import files
from kit.knowledge.files import load


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "documents"
    root.mkdir()

    def write(name, content="本文"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return root

    return write


def named(root, **options):
    return {document.name: document for document in load(root, **options)}


def test_every_file_yields_one_document_in_order(folder):
    folder("b.txt", "二番")
    folder("人事/a.txt", "三")
    folder(".hidden", "x")
    folder(".git/config.txt", "x")
    folder("a.bin", b"\x00\x01")
    folder("~$a.docx", b"\x05lock")
    root = folder("c.txt", b"")
    documents = list(load(root))
    assert [d.name for d in documents] == ["a.bin", "b.txt", "c.txt", "~$a.docx", "人事/a.txt"]
    assert [bool(d.problem) for d in documents] == [True, False, True, True, False]
    assert "0バイト" in documents[2].problem
    assert "一時ファイル" in documents[3].problem
    assert documents[1].id == hashlib.sha256("二番".encode()).hexdigest()
    assert documents[1].title == "二番"
    assert all("\n" not in d.problem and d.readers == ("everyone",) for d in documents)


def test_a_single_file_and_the_same_content_twice(folder):
    folder("a.txt", "同じ")
    root = folder("b.txt", "同じ")
    (document,) = load(root / "b.txt")
    assert document.name == "b.txt"
    first, second = load(root)
    assert first.id == second.id
    assert [first.name, second.name] == ["a.txt", "b.txt"]


def test_names_are_nfc_and_readable(folder):
    folder(unicodedata.normalize("NFD", "規程ガイド.txt"))
    root = folder("a.txt")
    Path(os.fsdecode(os.fsencode(root) + b"/" + "議事録.txt".encode("cp932"))).write_text("本文")
    assert list(named(root)) == ["a.txt", "規程ガイド.txt", "議事録.txt"]


def test_what_is_no_ordinary_file_of_the_folder_is_not_opened(folder, tmp_path):
    root = folder("a.txt")
    (tmp_path / "secret.txt").write_text("秘密")
    (tmp_path / "other").mkdir()
    (root / "link.txt").symlink_to(tmp_path / "secret.txt")
    (root / "inside.txt").symlink_to(root / "a.txt")
    (root / "dangling.txt").symlink_to(root / "nowhere.txt")
    (root / "folder").symlink_to(tmp_path / "other")
    os.mkfifo(root / "pipe.txt")
    documents = named(root)
    assert len(documents) == 6
    assert documents["inside.txt"].text == "本文"
    for name in ("link.txt", "dangling.txt", "folder", "pipe.txt"):
        assert documents[name].problem
        assert not documents[name].blocks
    (asked_for,) = load(root / "link.txt")
    assert asked_for.text == "秘密"


def test_too_large_and_unreadable_files(folder, monkeypatch):
    root = folder("a.txt", "x" * 2000)
    monkeypatch.setattr(files, "MAX_BYTES", 1000)
    assert "大きすぎます" in named(root)["a.txt"].problem
    monkeypatch.setattr(files, "MAX_BYTES", 10000)
    monkeypatch.setattr(Path, "read_bytes", lambda self: (_ for _ in ()).throw(PermissionError))
    assert "読み出せません" in named(root)["a.txt"].problem
    monkeypatch.setattr(Path, "read_bytes", lambda self: (_ for _ in ()).throw(OSError(5, "I/O error")))
    assert "読み出せません" in named(root)["a.txt"].problem


def test_a_missing_path_and_an_empty_folder_are_errors_at_once(tmp_path):
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(DataError) as caught:
            load(path)
        assert len(str(caught.value).splitlines()) == 3


# --- readers ----------------------------------------------------------------------------------------------------------


def readers(root, **options):
    return {name: document.readers for name, document in named(root, **options).items()}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp932"])
def test_the_last_matching_line_of_acl_decides(folder, encoding):
    for name in ("a.txt", "人事/b.txt", "人事/公開/c.txt", "d.txt"):
        folder(name)
    table = "パス,閲覧者\n人事/*,hr; yakuin@example.co.jp\n人事/公開,everyone\nd.txt,\n"
    root = folder("acl.csv", table.encode(encoding))
    assert readers(root) == {
        "a.txt": ("everyone",),
        "d.txt": (),
        "人事/b.txt": ("hr", "yakuin@example.co.jp"),
        "人事/公開/c.txt": ("everyone",),
    }
    assert readers(root, readers=["keiri"])["人事/b.txt"] == ("keiri",)
    assert readers(root / "d.txt") == {"d.txt": ()}


def test_a_pattern_fits_whatever_the_width_and_case_of_its_letters(folder):
    names = ("［社外秘］メモ.txt", "[社外秘]案.txt", "ＨＲ資料/A.txt", "外.txt")
    for name in names:
        folder(name)
    root = folder("acl.csv", "path,readers\n[社外秘]*,hr\nhr資料/,hr\n")
    assert {name for name, who in readers(root).items() if who == ("hr",)} == set(names[:3])


def test_a_pattern_that_fits_nothing_stops_before_anything_is_read(folder):
    """It would leave open to everyone what it is to protect."""
    folder("人事/秘密.txt")
    folder("a.txt")
    root = folder("acl.csv", "パス,閲覧者\n人亊/*,hr\na.txt,hr\n人事/秘蜜.txt,hr\n")
    with pytest.raises(DataError) as caught:
        load(root)
    for told in ("acl.csv", "2行目「人亊/*」", "4行目「人事/秘蜜.txt」（近い名前: 人事/秘密.txt"):
        assert told in caught.value.what
    assert "行を削除" in caught.value.remedy and len(str(caught.value).splitlines()) == 3
    assert [document.readers for document in load(root / "a.txt")] == [("hr",)]


def test_a_folder_that_is_empty_for_now_keeps_its_rule(folder):
    root = folder("a.txt")
    (root / "人事").mkdir()
    for pattern in ("人事/*", "人事", "documents/人事/"):
        folder("acl.csv", f"パス,閲覧者\n{pattern},hr\n")
        assert readers(root) == {"a.txt": ("everyone",)}
    folder("acl.csv", "パス,閲覧者\n../documents/*,hr\n")
    with pytest.raises(DataError):
        load(root)


@pytest.mark.parametrize("pattern", ["秘密.txt", "/秘密.txt", "./秘密.txt", "documents/秘密.txt", "/documents/秘密.txt", "documents\\秘密.txt"])
def test_a_path_is_understood_however_it_begins(folder, pattern):
    folder("秘密.txt")
    folder("documents/別.txt" if pattern == "秘密.txt" else "別.txt")
    root = folder("acl.csv", f"パス,閲覧者\n{pattern},hr\n")
    assert readers(root)["秘密.txt"] == ("hr",) and set(readers(root).values()) == {("hr",), ("everyone",)}


def test_a_folder_called_like_the_root_is_meant_where_there_is_one(folder):
    folder("documents/秘密.txt")
    folder("秘密.txt")
    root = folder("acl.csv", "パス,閲覧者\ndocuments/秘密.txt,hr\n")
    assert readers(root) == {"documents/秘密.txt": ("hr",), "秘密.txt": ("everyone",)}


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("パス,閲覧者\na.txt,hr\n*,人事部\n", ["3行目", "列「閲覧者」", "「人事部」"]),
        ("パス,閲覧者\n*,a b\n", ["2行目", "「a b」"]),
        ("パス\n*\n", ["「閲覧者」"]),
        ("", ["「パス」"]),
        ('パス,閲覧者\n"*,hr\n', ["表として読めません"]),
        (b"\x81\xff\xfe\x00", ["表として読めません"]),
    ],
)
def test_a_wrong_acl_names_file_row_and_column(folder, table, words):
    folder("a.txt")
    root = folder("acl.csv", table)
    with pytest.raises(DataError) as caught:
        load(root)
    assert all(word in caught.value.what for word in [*words, "acl.csv"])
    assert len(str(caught.value).splitlines()) == 3


def test_a_part_of_a_folder_is_not_read_without_the_acl_above_it(folder, monkeypatch):
    folder("acl.csv", "パス,閲覧者\n人事/*,hr\n")
    root = folder("人事/賃金/給与.txt")
    (root.parent / "link").symlink_to(root / "人事")
    monkeypatch.chdir(root / "人事")
    for part in (root / "人事", root / "人事" / "賃金" / "給与.txt", "賃金", root.parent / "link"):
        with pytest.raises(DataError) as caught:
            load(part)
        assert str(root / "acl.csv") in caught.value.what and len(str(caught.value).splitlines()) == 3
        assert set(readers(part, readers=["keiri"]).values()) == {("keiri",)}


@pytest.mark.parametrize("name", ["ACL.csv", "Acl.CSV"])
def test_an_acl_counts_however_its_name_is_written(folder, name):
    root = folder("a.txt")
    assert set(readers(folder(name, "パス,閲覧者\n*,hr\n")).values()) == {("hr",)}
    assert set(readers(root).values()) == {("hr",)}


def test_an_acl_below_the_folder_is_an_error_not_an_oversight(folder):
    folder("人事/ACL.csv", "パス,閲覧者\n*,hr\n")
    with pytest.raises(DataError, match=r"acl\.csv"):
        load(folder("人事/a.txt"))


@pytest.mark.parametrize("wrong", [["人事部"], ["a" * 65], [""], "人事部"])
def test_wrong_readers_are_refused(folder, wrong):
    with pytest.raises(DataError):
        load(folder("a.txt"), readers=wrong)


def test_readers_as_argument(folder):
    root = folder("a.txt")
    assert readers(root, readers=[]) == {"a.txt": ()}
    assert readers(root, readers="hr") == {"a.txt": ("hr",)}


def test_the_date_comes_with_the_document(folder):
    (read,) = load(folder("規程_R6.4.1.csv", "品名,数量\n机,12\n椅子,3\n"))
    assert read.date == "2024-04-01"


def test_a_file_that_goes_while_the_folder_is_read_is_called_gone(tmp_path):
    for name in ("a.txt", "b.txt", "c.txt"):
        (tmp_path / name).write_text("本文")
    documents = load(tmp_path)
    next(documents)
    (tmp_path / "b.txt").unlink()
    gone, there = documents
    assert gone.problem.startswith("読み込みの途中でなくなりました")
    assert there.problem == ""
