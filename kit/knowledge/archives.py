"""ZIP files and mails: what is in them, taken apart for the readers of the other kinds."""

import io
import re
import stat
import zipfile
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage, MIMEPart
from pathlib import PurePath

from kit.knowledge.texts import LOCKED, file_name, squeeze

MAX_DEPTH = 3
"""How deep archives may stand in one another."""

OUTSIDE = "ZIPの外を指す名前かリンクなので開きません。必要な文書なら、ふつうのファイルとして入れ直してください。"

OWN = ("件名.txt", "本文.txt", "本文.html")
"""Names under which a mail's own head and text come; all else is attached."""


def zip_members(data: bytes) -> Iterator[tuple[str, bytes | str]]:
    """Yield the name and the bytes of each file in a ZIP, or one Japanese line why it is not opened.

    Hidden files, folders and what macOS adds are left out. How many and how large they are was checked before
    (``office.package_kind``).
    """
    package = zipfile.ZipFile(io.BytesIO(data))
    parts = [part for part in package.infolist() if not part.is_dir()]
    for part in sorted(parts, key=_member_name):
        name = _member_name(part)
        if stat.S_ISLNK(part.external_attr >> 16) or re.search(r"^(?:[A-Za-z]:)?[\\/]|(?:^|[\\/])\.\.[\\/]", name):
            yield name, OUTSIDE
        elif not re.search(r"(?:^|/)(?:\.|__MACOSX/|~\$)", name):
            yield name, LOCKED if part.flag_bits & 1 else package.read(part)


def _member_name(part: zipfile.ZipInfo) -> str:
    """Return a member's name; zipfile takes one without the mark for UTF-8 for CP437."""
    return part.filename if part.flag_bits & 0x800 else file_name(part.filename.encode("cp437", "replace"))


def mail_members(data: bytes) -> tuple[str, str, list[tuple[str, bytes]]]:
    """Take a mail apart.

    Returns:
        Its subject, the day it was sent (``2024-04-01``, "" where it does not say), and name and bytes of its head, its
        text and what is attached.
    """
    mail = message_from_bytes(data, policy=policy.default)
    assert isinstance(mail, EmailMessage)  # of that policy
    labels = (("subject", "件名"), ("from", "差出人"), ("to", "宛先"), ("cc", "CC"), ("date", "日時"))
    head = [f"{label}: {squeeze(str(mail[field]))}" for field, label in labels if mail[field]]
    members = [(OWN[0], "\n\n".join(head).encode())]
    body = mail.get_body(preferencelist=("plain", "html"))
    if body is not None:
        members.append((OWN[2 if body.get_content_subtype() == "html" else 1], _payload(body)))
    for number, part in enumerate(mail.iter_attachments(), 1):
        forwarded = part.get_content_type() == "message/rfc822"
        name = squeeze(part.get_filename() or "") or f"添付{number}" + (".eml" if forwarded else "")
        members.append((PurePath(name).name, _payload(part)))
    sent = getattr(mail["date"], "datetime", None)
    return squeeze(str(mail["subject"] or "")), f"{sent:%Y-%m-%d}" if sent else "", members


def _payload(part: MIMEPart) -> bytes:
    inner = part.get_payload(decode=True)
    if isinstance(inner, bytes):
        return inner
    return b"".join(mail.as_bytes() for mail in part.iter_parts())
