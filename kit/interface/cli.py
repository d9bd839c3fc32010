"""The command line: each verb is one call of the kit, with Japanese help, ``--json`` and clear exit codes.

Exit codes: 0 done (whatever the decision), 1 the three-line error was shown or a check failed, 2 wrong usage, 130 interrupted.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from kit.errors import KitError

Command = Callable[[argparse.Namespace], Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        result = options.command(options)
        print(_json(result) if options.json else options.show(result), flush=True)  # noqa: T201
    except KitError as error:
        print(f"エラー: {error}", file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        print("\n中断しました。記録済みの結果は残っています。同じコマンドで続きから再開できます。", file=sys.stderr)  # noqa: T201
        return 130
    except BrokenPipeError:  # `kit … | head`: what is left in the buffer must not be written at exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1 if isinstance(result, dict) and result.get("ok") is False else 0  # kit check with a ×


def _json(result: Any) -> str:
    """Write a result without the line that is for people."""
    facts = {k: v for k, v in result.items() if k != "text"} if isinstance(result, dict) else result
    return json.dumps(facts, ensure_ascii=False, indent=1)


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def add_usage(self, usage: Any, actions: Any, groups: Any, prefix: str | None = None) -> None:
        super().add_usage(usage, actions, groups, "使い方: " if prefix is None else prefix)


class _Parser(argparse.ArgumentParser):
    """argparse in Japanese; wrong usage is told in the three lines of every error."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, add_help=False, formatter_class=_Formatter)
        self._positionals.title, self._optionals.title = "引数", "オプション"
        self.add_argument("-h", "--help", action="help", help="この説明を表示して終わる")

    def error(self, message: str) -> NoReturn:
        what = f"コマンドの書き方に誤りがあります（{' '.join(message.split())}）。"
        self.exit(2, f"エラー: {KitError(what, '引数が足りないか、名前の書き間違いです。', f'`{self.prog} --help` に書き方の例があります。')}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="kit", description="社内で完結するAIの試し方: 文書と質問を用意し、基準を封印し、測って、決める。",
        epilog="はじめに: kit init 私のPoC → documents/ に文書、質問表.xlsx に質問、criteria.yaml に基準 → kit poc 私のPoC\n"
        "各コマンドの書き方: kit コマンド --help",
    )
    verbs = parser.add_subparsers(title="コマンド", metavar="コマンド", required=True)

    def verb(name: str, help_text: str, example: str, command: Command, show: Callable[[Any], str]) -> argparse.ArgumentParser:
        sub = verbs.add_parser(
            name, help=help_text, description=help_text, epilog=f"例: {example}"
        )
        sub.add_argument("--json", action="store_true", help="結果を JSON で表示する")
        sub.set_defaults(command=command, show=show)
        return sub

    sub = verb("init", "PoCフォルダのひな形を作る（既にあるファイルは上書きしない）", "kit init 私のPoC", _init, lambda result: result["text"])
    sub.add_argument("folder", metavar="フォルダ", help="作るフォルダ")
    verb("check", "このマシンの準備と、外部送信の停止を確かめる", "kit check", _check, lambda result: result["text"])
    sub = verb(
        "run", "ノートブックを1冊、パラメータを確かめてから実行する", "kit run 04 -p project data/sample -o 出力.ipynb", _run, str
    )
    sub.add_argument("notebook", metavar="ノートブック", help="番号・名前・パスのどれか（例: 05）")
    sub.add_argument("-p", nargs=2, action="append", default=[], metavar=("名前", "値"), help="パラメータ（何度でも）")
    sub.add_argument("-f", metavar="FILE", help="パラメータを書いた YAML ファイル")
    sub.add_argument("-o", metavar="FILE", help="実行結果のノートブック（既定: runs/notebooks/ の下）")
    sub = verb(
        "poc", "ノートブック 00〜09 を通しで実行し、判定とサマリーを出す", "kit poc data/sample", _poc, lambda result: result["text"]
    )
    sub.add_argument("folder", metavar="フォルダ", help="kit init で作ったフォルダ")
    sub.add_argument("--url", default="", help="試すモデルサーバー（OpenAI互換）。省くと抽出型リーダーを試す")
    sub.add_argument("--name", metavar="名前", default="", help="実行の名前（既定: フォルダ名）")
    sub.add_argument("--new", action="store_true", help="中断した実行の続きではなく、新しく始める")
    sub = verb("ask", "登録済みの文書に質問する", 'kit ask data/sample "年休は何日もらえますか"', _ask, lambda result: result["text"])
    sub.add_argument("folder", metavar="フォルダ", help="kit init で作ったフォルダ")
    sub.add_argument("question", metavar="質問", help="質問")
    sub.add_argument("--user", metavar="閲覧者", default="", help="閲覧者名（既定: 全員に公開された文書だけ）")
    sub = verb("store", "文書を読み込み、RAGストアに登録する（変わった文書だけ）", "kit store data/sample", _store, lambda result: result["text"])
    sub.add_argument("folder", metavar="フォルダ", help="kit init で作ったフォルダ")
    sub = verb("seal", "判定基準と質問を封印し、ハッシュを台帳に書く", "kit seal data/sample", _seal, lambda result: result["text"])
    sub.add_argument("folder", metavar="フォルダ", help="kit init で作ったフォルダ")
    sub = verb("decide", "実行結果を、封印した基準で判定し直す", "kit decide runs/20261121-093000-sample", _decide, lambda result: result["text"])
    sub.add_argument("run", metavar="実行フォルダ", help="kit poc の結果（例: runs/20261121-093000-sample）")
    sub = verb("summary", "判定済みの実行から、サマリーを書き直す（再実行なし）", "kit summary runs/20261121-093000-sample", _summary, "\n".join)
    sub.add_argument("run", metavar="実行フォルダ", help="kit poc の結果（例: runs/20261121-093000-sample）")
    sub.add_argument("--formats", metavar="形式", default="html,md", help="形式をコンマで並べる（html,md）")
    sub.add_argument("--to", metavar="フォルダ", default="", help="書き出すフォルダ（既定: 実行フォルダ）")
    sub.add_argument("--lang", default="ja", choices=("ja", "en"), help="言語")
    return parser


def _init(options: argparse.Namespace) -> Any:
    from kit.interface.templates import init

    project = init(options.folder)
    made = f"作ったもの: {'、'.join(project.made)}" if project.made else "すべてそろっているので、何も変えていません。"
    kept = f"\nそのまま残したもの: {'、'.join(project.kept)}" if project.kept else ""
    following = f"次は documents/ に文書を入れ、質問表.xlsx と criteria.yaml を書き、`kit poc {options.folder}` を実行します。"
    return {"folder": str(project.folder), "made": list(project.made), "kept": list(project.kept),
            "text": f"{made}{kept}\n{following}"}  # fmt: skip


def _check(options: argparse.Namespace) -> Any:
    from kit.records import to_json
    from kit.trust.check import check

    result = check()
    return {"ok": result.ok, "items": to_json(result)["items"], "text": str(result)}


def _run(options: argparse.Namespace) -> Any:
    from kit import settings
    from kit.interface import notebooks
    from kit.interface.poc import shown

    path = notebooks.find(options.notebook)
    given = notebooks.read_values(options.f) if options.f else {}
    given |= notebooks.parse(path, dict(options.p))
    output = Path(options.o) if options.o else settings.load().runs / "notebooks" / path.name
    return shown(notebooks.run(str(path), output.resolve(), given))


def _poc(options: argparse.Namespace) -> Any:
    from kit.interface.poc import poc, shown

    decision = poc(options.folder, url=options.url, name=options.name, new=options.new)
    summary = shown(decision.folder / "summary.html")
    return {
        "decision": decision.outcome,
        "reason": decision.reason,
        "summary": summary,
        "text": f"DECISION: {decision.outcome}  {summary}",
    }


def _ask(options: argparse.Namespace) -> Any:
    from kit import settings
    from kit.answering.rag import Rag
    from kit.interface.project import find_project
    from kit.interface.steps import open_store
    from kit.records import to_json

    project = find_project(options.folder)
    rag = Rag(open_store(project))
    if settings.load().llm_url:
        from kit.answering.llm import LLMReader
        from kit.serving.chat import connect

        rag = Rag(rag.store, LLMReader(connect()))
    answer = rag(options.question, user=options.user)
    sources = "\n".join(f"出典: {label}" for label in dict.fromkeys(c.label for c in answer.citations))
    text = "\n".join(part for part in (answer.text, sources, f"確信度 {answer.confidence:.2f}（{answer.reader}）") if part)
    return {"answer": to_json(answer), "text": text}


def _store(options: argparse.Namespace) -> Any:
    from kit.interface.project import find_project
    from kit.interface.steps import build_store
    from kit.interface.widgets import Bar

    store, added = build_store(find_project(options.folder), progress=Bar("文書の登録"))
    lines = [f"登録 {added.new}、更新 {added.replaced}、変更なし {added.unchanged}、読めず {len(added.unreadable)}"]
    lines += [f"× {line}" for line in added.unreadable]
    lines.append(f"RAGストア: {len(store.documents())} 文書、{len(store)} 断片")
    return {"new": added.new, "replaced": added.replaced, "unchanged": added.unchanged,
            "unreadable": list(added.unreadable), "chunks": len(store), "text": "\n".join(lines)}  # fmt: skip


def _seal(options: argparse.Namespace) -> Any:
    from datetime import datetime

    from kit.interface.project import find_project
    from kit.interface.steps import seal_project

    sealed = seal_project(find_project(options.folder))
    at = datetime.fromisoformat(sealed.at).astimezone().isoformat(" ", "seconds")
    text = f"封印しました（台帳 {sealed.sequence} 行目、{at}）\nSHA-256: {sealed.sha256}"
    if sealed.parent:
        text += f"\n注意: 前の基準（{sealed.parent[:12]}…）からの変更として記録されました。"
    return {"sha256": sealed.sha256, "sequence": sealed.sequence, "at": sealed.at, "parent": sealed.parent, "text": text}


def _decide(options: argparse.Namespace) -> Any:
    from kit.evaluation.decide import decide_again
    from kit.records import to_json

    decision = decide_again(options.run)
    lines = [f"判定: {decision.outcome}", decision.reason]
    lines += [f"- {r.kpi.label}: {r.outcome or '参考'}（{r.reason}）" for r in decision.kpis]
    return to_json(decision) | {"text": "\n".join(lines)}


def _summary(options: argparse.Namespace) -> Any:
    from kit.evaluation.decide import read_decision
    from kit.interface.poc import shown
    from kit.reporting.summary import write_summary

    formats = tuple(part.strip() for part in options.formats.split(",") if part.strip())
    written = write_summary(read_decision(options.run), to=options.to or options.run, formats=formats, lang=options.lang)
    return [shown(Path(path)) for path in written]


if __name__ == "__main__":
    sys.exit(main())
