"""ZIP files and mails: what is in them is read as one document, and what is not is said."""

import io
import zipfile
from email.message import EmailMessage

import pytest

from kit.knowledge import archives, worker
from kit.knowledge.worker import parse


def packed(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as package:
        for name, content in members.items():
            package.writestr(name, content)
    return buffer.getvalue()


def placed(reading):
    return [(block.text, block.place.headings) for block in reading.blocks]


def mail(body="出張の旅費を改めました。", **attached):
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = "旅費の改定", "経理 <keiri@example.co.jp>", "all@example.co.jp"
    message["Date"] = "Mon, 01 Apr 2024 09:00:00 +0900"
    message.set_content(body, charset="iso-2022-jp", cte="7bit")
    for name, content in attached.items():
        message.add_attachment(content, "application", "octet-stream", filename=name)
    return message


def test_a_zip_is_one_document_with_its_files_as_headings():
    data = packed(**{"規程/旅費.md": "# 日当\n\n三千円とする。", "a.csv": "品名,数量\n机,1\n", ".git": "x", "規程/画像.png": b"\x89PNG"})
    reading = parse("規程集_20240401.zip", data)
    assert placed(reading) == [
        ("品名: 机 / 数量: 1", ("a.csv",)),
        ("日当", ("規程/旅費.md", "日当")),
        ("三千円とする。", ("規程/旅費.md", "日当")),
    ]
    assert reading.blocks[0].place.row == 2
    assert reading.date == "2024-04-01"
    (skipped,) = reading.doubts
    assert skipped.startswith("規程/画像.png: 対応していない形式（.png）")


def test_names_without_the_mark_for_utf8_are_utf8_or_cp932():
    # In a real file of an old tool the name's bytes are CP932 and bit 11 is not set.
    data = packed(**{"aaaaaa.txt": "本文"}).replace(b"aaaaaa.txt", "旅費規".encode("cp932") + b".txt")
    assert placed(parse("a.zip", data)) == [("本文", ("旅費規.txt",))]
    data = packed(**{"aaaaaa.txt": "本文"}).replace(b"aaaaaa.txt", "旅費".encode() + b".txt")  # as macOS writes it
    assert placed(parse("a.zip", data)) == [("本文", ("旅費.txt",))]


def test_locked_members_are_said_and_a_zip_of_nothing_else_is_a_problem():
    data = bytearray(packed(**{"a.txt": "本文"}))
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + flags] |= 1
    assert parse("a.zip", bytes(data)).problem == f"a.txt: {worker.LOCKED}"


def test_members_that_point_outside_and_links_are_not_opened_and_are_said():
    link = zipfile.ZipInfo("link.txt")
    link.external_attr = 0o120777 << 16
    buffer = io.BytesIO(packed(**dict.fromkeys(("../a.txt", "b/../../b.txt", "/etc/c.txt", "C:\\d.txt", "第1..2版.txt"), "本文")))
    with zipfile.ZipFile(buffer, "a") as package:
        package.writestr(link, "第1..2版.txt")
    reading = parse("a.zip", buffer.getvalue())
    assert placed(reading) == [("本文", ("第1..2版.txt",))]
    names = ("../a.txt", "/etc/c.txt", "C:\\d.txt", "b/../../b.txt", "link.txt")
    assert reading.doubts == tuple(f"{name}: {archives.OUTSIDE}" for name in names)


def test_archives_in_archives_end_somewhere():
    inner = packed(**{"a.txt": "底"})
    for level in range(archives.MAX_DEPTH - 1):
        inner = packed(**{f"{level}.zip": inner})
    assert placed(parse("a.zip", inner)) == [("底", ("1.zip", "0.zip", "a.txt"))]
    assert worker.TOO_DEEP in parse("a.zip", packed(**{"x.zip": inner})).problem


def test_a_mail_is_its_head_its_text_and_what_is_attached():
    reading = parse("a.eml", mail(**{"日当.csv": "役職,日当\n部長,3000\n".encode("cp932"), "x.exe": b"MZ\x00"}).as_bytes())
    assert reading.title == "旅費の改定"
    assert reading.date == "2024-04-01"
    texts = [text for text, headings in placed(reading) if not headings]
    assert texts[0] == "件名: 旅費の改定"
    assert texts[-1] == "出張の旅費を改めました。"
    assert placed(reading)[-1] == ("役職: 部長 / 日当: 3000", ("日当.csv",))
    assert "x.exe: 対応していない形式" in reading.doubts[0]


def test_a_long_subject_and_a_long_sender_stay_apart():
    message = EmailMessage()
    message["Subject"] = "夏季休業期間中の連絡体制と入館手続についてのお知らせ"
    message["From"] = "総務部 業務支援課 山田太郎 <soumu-gyomu@example.co.jp>"
    message.set_content("本文です。")
    texts = [text for text, _ in placed(parse("a.eml", message.as_bytes()))]
    assert texts == [f"件名: {message['Subject']}", f"差出人: {message['From']}", "本文です。"]


def test_a_mail_is_of_the_day_it_was_sent_on_whatever_it_and_its_name_say():
    sent = mail("2025年4月1日改定", **{"規程.txt": "2026年4月1日改定\n日当は三千円とする。\n".encode()})
    assert parse("旅費_20230101.eml", sent.as_bytes()).date == "2024-04-01"
    del sent["Date"]
    assert parse("a.eml", sent.as_bytes()).date == "2026-04-01"


def test_a_forwarded_mail_and_a_mail_in_html_are_read():
    outer = EmailMessage()
    outer["Subject"] = "転送"
    outer.set_content("<p>次を<b>参照</b>。</p><nav>目次</nav>", subtype="html")
    outer.add_attachment(mail())
    texts = [block.text for block in parse("a.eml", outer.as_bytes()).blocks]
    assert "次を参照。" in texts
    assert "出張の旅費を改めました。" in texts
    assert "目次" not in texts


@pytest.mark.parametrize("data", [b"\x00\x01\x02", b"Subject: =?utf-8?b?!!!?=\nContent-Type: multipart/mixed\n\n", b"\xff" * 50])
def test_odd_mails_give_a_line_or_a_text(data):
    reading = parse("a.eml", data)
    assert bool(reading.blocks) != bool(reading.problem)
