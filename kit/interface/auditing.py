"""The verbs ``kit audit`` and ``kit evidence``: verify ledger and runs, make a key, sign a seal; prove what the kit promises."""

import argparse
import sys
from pathlib import Path

from kit import settings
from kit.errors import DataError
from kit.evaluation import audit as auditor
from kit.evaluation.criteria import read_criteria
from kit.interface.cli import Result
from kit.interface.project import find_project
from kit.reporting.wording import words
from kit.trust import ledger, signing
from kit.trust.durable import to_json
from kit.trust.evidence import prove
from kit.trust.seal import approve


def audit(options: argparse.Namespace) -> Result:
    """Do what the action says."""
    given = Path(options.run)
    runs = given.resolve().parent if options.run and given.is_dir() else settings.load().runs
    return {"verify": _verify, "head": _head, "key": _key, "sign": _sign}[options.action](options, runs / ledger.NAME)


def _verify(options: argparse.Namespace, path: Path) -> Result:
    found = auditor.audit(path, anchor=options.anchor, run=options.run and Path(options.run).resolve().name)
    return {"ok": found.ok, **to_json(found)}, str(found)


def _head(options: argparse.Namespace, path: Path) -> Result:
    if not (known := ledger.entries(path)):
        raise DataError(f"台帳 {path} に、まだ記録がありません。", "封印も実行もまだです。", "`kit seal フォルダ` で判定基準を封印してください。")
    last = known[-1]
    text = f"台帳 {last.sequence} 行目（{last.at}）\nハッシュ: {last.hash}\n紙などに控えておくと、あとで確かめられます: kit audit verify --anchor {last.hash[:16]}"
    return to_json(last), text


def _key(options: argparse.Namespace, path: Path) -> Result:
    signing.make_key(Path(_required(options.place, "鍵のファイル名")))
    key = signing.sign({}, signing.read_key(Path(options.place)))["key"]
    text = f"署名の鍵を作りました: {options.place}\n指紋: {key}\n本人だけが持ち、指紋を紙で責任者に届けておきます。なくすと作り直せません。"
    return {"file": options.place, "key": key}, text


def _sign(options: argparse.Namespace, path: Path) -> Result:
    project = find_project(_required(options.place, "PoCフォルダ"))
    name, key = _required(options.name, "--as"), Path(_required(options.key, "--key"))
    given = approve(read_criteria(project.criteria), name, key, path)
    return to_json(given), f"「{given.name}」の承認の署名を台帳に記録しました（鍵の指紋 {given.key[:16]}）。"


def evidence(options: argparse.Namespace) -> Result:
    """Run the tests behind the kit's claims and tell which of them are proven; exit code 1 where one could have been and is not."""
    told = words("ja")
    print(told["evidence_begun"], file=sys.stderr, flush=True)  # noqa: T201
    proofs = prove(settings.load().runs)
    marks = {"": "○", "untested": "－"}
    lines = [f"{marks.get(p.lack, '×')} {p.claim.says['ja']}{p.lack and '（' + told['evidence_' + p.lack] + '）'}" for p in proofs]
    lines.append(told["evidence_entered"].format(total=len(proofs), proven=sum(not p.lack for p in proofs)))
    return {"ok": all(p.lack in marks for p in proofs), "claims": to_json(proofs)}, "\n".join(lines)


def _required(value: str, name: str) -> str:
    if not value:
        example = "例: kit audit key 総務部長.pem、kit audit sign フォルダ --as 総務部長 --key 総務部長.pem"
        raise DataError(f"{name} が足りません。", "指定せずに実行しました。", example)
    return value
