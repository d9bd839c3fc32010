"""The audit: do the ledger and the run folders beside it still say what was written when it happened?

Files are compared as JSON, not as records: what an older version of the kit wrote keeps its hash.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kit.errors import DataError, KitError, LedgerError
from kit.evaluation.evaluate import JOURNAL, rows_sha256
from kit.trust import ledger, seal, signing
from kit.trust.check import Checkup, Item
from kit.trust.durable import digest_of, read
from kit.trust.ledger import Entry

_EDITED = "考えられる原因: 記録されたあとで書き換えられたか、一部が失われています。"
_RESTORE = "バックアップと見比べて戻してください。戻せない実行は判定の根拠にせず、新しい実行としてやり直します（kit poc フォルダ --new）。"
_FORGED = "台帳を保管し、印刷済みのサマリーにある台帳のハッシュで確かめてください: kit audit verify --anchor ハッシュ"
Finding = tuple[bool | None, str, str]
"""Whether it stands (None: a remark), what was found, and what to do."""


def audit(path: Path, *, anchor: str = "", run: str = "") -> Checkup:
    """Check the chain, its clocks and signatures, and every run folder against it.

    Args:
        path: The ledger file; the run folders lie beside it.
        anchor: A head hash noted elsewhere, or its first 12 or more hex digits: what stood then must still stand. It is
            the only sign of a tail that was cut off, or of a chain written anew by someone who holds the signing key.
        run: Check this run's folder only; "" for all.

    Raises:
        DataError: The anchor is no hash.
    """
    anchor = "".join(anchor.split()).lower()
    if anchor and not re.fullmatch("[0-9a-f]{12,64}", anchor):
        cause = "台帳のハッシュは、0〜9 と a〜f の64桁です。先頭の12桁以上を指定します。"
        raise DataError(f"--anchor の値「{anchor[:80]}」は使えません。", cause, "サマリーに印刷されたハッシュを確かめてください。")
    try:
        known = ledger.entries(path)
    except LedgerError as error:
        return Checkup((Item("台帳の連鎖", False, f"{error.what}考えられる原因: {error.cause}", error.remedy),))
    checks = {"台帳の連鎖": _chain(path, known), "時計": _clocks(known), "署名": _signatures(known)}
    checks |= {"控えたハッシュ": _anchor(known, anchor)} if anchor else {}
    entered = {str(entry.content.get("run")) for entry in known if entry.kind == "run"}
    measured = {file.parent.name for name in (JOURNAL, "decision.json") for file in path.parent.glob(f"*/{name}")}
    names = [run] if run else sorted(entered | measured)
    checks |= {f"実行 {name}": _run(path.parent / name, known) for name in names}
    return Checkup(tuple(Item(name, *finding) for name, finding in checks.items()))


def _chain(path: Path, known: Sequence[Entry]) -> Finding:
    notes = [f"{len(known)} 件、切れ目なし"]
    if mended := "、".join(f"{entry.sequence} 行目" for entry in known if entry.recovered_torn_line):
        notes.append(f"書きかけの行を取り除いてから書いた行: {mended}")
    content = path.read_bytes() if path.exists() else b""
    if content[-1:] in (b"", b"\n"):
        return True, "。".join(notes), ""
    if content.count(b"\n") < len(known):
        notes.append("最後の行の改行が失われていますが、記録は欠けていません（改行は次の記録のときに補われます）")
    else:
        notes.append("末尾に書きかけの行があり、記録に数えていません。書き込み中の停止か、末尾の切り取りかは、控えたハッシュで確かめられます（--anchor）")
    return None, "。".join(notes), ""


def _clocks(known: Sequence[Entry]) -> Finding:
    last: dict[str, Entry] = {}
    for entry in known:
        before = last.get(entry.boot)
        if entry.boot and before and entry.monotonic_ns < before.monotonic_ns:
            what = f"{entry.sequence} 行目の経過時間が、同じ起動中の {before.sequence} 行目より前です。{_EDITED}"
            return False, what, _FORGED
        last[entry.boot] = entry
    jumps = "、".join(f"{entry.sequence} 行目で {jump:+,.1f} 秒" for entry, jump in ledger.drifts(known))
    told = f"日時が飛んでいます（{jumps}）。時計の変更、スリープ、別のマシンからの記録などで起こります。順序は連番で確かめました"
    return (None, told, "") if jumps else (True, "日時と経過時間は連番の順", "")


def _signatures(known: Sequence[Entry]) -> Finding:
    heads = [[0, ledger.FIRST], *([entry.sequence, entry.hash] for entry in known)]
    signed = [entry for entry in known if entry.kind in (ledger.CHECKPOINT, seal.APPROVAL)]
    for entry in signed:
        said = entry.content
        holds = entry.kind == seal.APPROVAL or [said.get("sequence"), said.get("head")] in heads[: entry.sequence]
        if not holds or not signing.stands(said):
            whose = f"（{said.get('name')}の承認）" if entry.kind == seal.APPROVAL else ""
            return False, f"{entry.sequence} 行目の署名{whose}が、署名された内容と合いません。{_EDITED}", _FORGED
    given = [f"{e.content.get('name', '台帳')} {e.sequence} 行目（鍵の指紋 {e.content['key'][:16]}）" for e in signed]
    last = max((entry.sequence for entry in signed if entry.kind == ledger.CHECKPOINT), default=0)
    if not last or any(entry.kind == "decision" for entry in known[last:]):
        given.append("最後の判定のあとに台帳の署名がありません（まだ判定がないか、署名の前に止まったか、署名が除かれています）")
        return None, "、".join(given), ""
    return True, "、".join(given), ""


def _anchor(known: Sequence[Entry], anchor: str) -> Finding:
    entry = next((entry for entry in known if entry.hash.startswith(anchor)), None)
    if entry is None:
        what = f"{anchor[:16]}… は、この台帳にありません。考えられる原因: 控えたあとで台帳が作り直されたか、末尾が失われたか、別の台帳です。"
        return False, what, "控えと台帳の場所を確かめてください。合っていれば、この台帳を判定の根拠にせず、バックアップと見比べます。"
    kinds = Counter(entry.kind for entry in known[entry.sequence :])
    after = "、".join(f"{kind} {count} 件" for kind, count in kinds.items()) or "なし"
    return True, f"{anchor[:16]}… は {entry.sequence} 行目（{entry.kind}、{entry.at}）にあります。その後の記録: {after}", ""


def _run(folder: Path, known: Sequence[Entry]) -> Finding:
    entered = {entry.kind: entry for entry in known if entry.content.get("run") == folder.name}
    if "run" not in entered:
        what = "台帳に記録がありません。考えられる原因: 台帳の末尾が失われたか、別の場所から写したか、フォルダの名前を変えています。"
        return False, what, "元の名前と元の台帳の場所に戻すか、この runs フォルダの外に移してください。"
    if not folder.is_dir():
        return False, "フォルダがありません。考えられる原因: 消されたか、移されたか、名前が変わりました。", _RESTORE
    if wrong := differing(folder, known):
        return False, f"{named(folder, wrong)} が台帳と一致しません。{_EDITED}", _RESTORE
    if "rows" not in entered:
        return None, "途中で止まっています（測定記録は、終わるまで台帳と照合できません）", ""
    names = [japanese for kind, japanese in (("decision", "判定"), ("scores", "採点")) if kind in entered]
    return True, f"{'・'.join(['基準', '質問', '測定記録', *names])}が台帳と一致", ""


def differing(folder: Path, known: Sequence[Entry]) -> list[str]:
    """Return the files of a run that are not those that the ledger speaks of."""
    return [name for name, check in _files(folder, known).items() if not _stands(check)]


def named(folder: Path, files: Sequence[str]) -> str:
    """Name files of a run folder; of one that is not there that it is not."""
    return "、".join(file if (folder / file).exists() else f"{file}（ファイルがありません）" for file in files)


def _files(folder: Path, known: Sequence[Entry]) -> dict[str, Callable[[], bool]]:
    """Return file → whether it is the one that the ledger speaks of; an exception means that it is not."""
    entered = {entry.kind: entry for entry in known if entry.content.get("run") == folder.name}
    said = {kind: entry.content for kind, entry in entered.items()}
    rows = {str(e.content.get("sha256")) for e in known if e.kind == "rows" and e.content.get("run") == folder.name}

    def kept(name: str) -> dict[str, Any]:
        return dict(json.loads((folder / name).read_text(encoding="utf-8")))

    def sealed() -> bool:
        document = kept("seal.json")
        entry = known[document["sequence"] - 1]
        named = [document["sha256"], document["at"], document["parent"], digest_of(document["criteria"], "cases_name")]
        told = [said["run"]["seal"], entry.at, entry.content["parent"], entry.content["sha256"]]
        return named == told and named[0] == named[3] and entry.sequence < entered["run"].sequence

    def decided() -> bool:
        if "decision" not in said:
            return not (folder / "decision.json").exists()
        document, told = kept("decision.json"), [said["decision"]["decision"], said["decision"]["rows"]]
        return told == [digest_of(document, "sha256"), said["rows"]["sha256"]] and document["sha256"] == told[0]

    def scored() -> bool:
        told = said.get("scores", {"count": 0, "sha256": hashlib.sha256().hexdigest()})
        # Lines behind those that the ledger vouches for were never acknowledged, and count for nothing.
        lines = (folder / "scores.jsonl").read_bytes().splitlines(keepends=True) if told["count"] else []
        return bool(told["sha256"] == hashlib.sha256(b"".join(lines[: told["count"]])).hexdigest())

    return {
        "seal.json": sealed,
        "criteria.yaml": lambda: kept("seal.json")["criteria"]["text"].encode() == (folder / "criteria.yaml").read_bytes(),
        "cases.jsonl": lambda: kept("seal.json")["criteria"]["cases_sha256"] == digest_of(read(folder / "cases.jsonl")),
        JOURNAL: lambda: not rows or rows == {rows_sha256(read(folder / JOURNAL))},
        "decision.json": decided,
        "scores.jsonl": scored,
    }


def _stands(check: Callable[[], bool]) -> bool:
    try:
        return check()
    except (OSError, ValueError, LookupError, TypeError, AttributeError, KitError):  # missing, or not what the kit wrote
        return False
