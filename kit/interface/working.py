"""The verbs about a project: init, run, poc, ask, store."""

import argparse
import time
from pathlib import Path

from kit import settings
from kit.answering.llm import LLMReader
from kit.answering.rag import Rag
from kit.errors import DataError
from kit.evaluation.decide import read_decision
from kit.interface import notebooks, poc as whole, project as projects
from kit.interface.cli import Result
from kit.interface.poc import shown
from kit.interface.stores import build_store, forget_document, open_store, project_store
from kit.interface.widgets import Bar
from kit.records import Decision
from kit.serving.chat import connect
from kit.serving.server import running
from kit.trust.durable import to_json


def init(options: argparse.Namespace) -> Result:
    """Lay down a project's folder."""
    project = projects.init(options.folder)
    made = f"作ったもの: {'、'.join(project.made)}" if project.made else "すべてそろっているので、何も変えていません。"
    kept = f"\nそのまま残したもの: {'、'.join(project.kept)}" if project.kept else ""
    following = f"次は documents/ に文書を入れ、質問表.xlsx と criteria.yaml を書き、`kit poc {options.folder}` を実行します。"
    facts = {"folder": str(project.folder), "made": project.made, "kept": project.kept}
    return facts, f"{made}{kept}\n{following}"


def run(options: argparse.Namespace) -> Result:
    """Run one notebook, and tell what it decided."""
    path = notebooks.find(options.notebook)
    output = Path(options.o) if options.o else settings.load().runs / "notebooks" / path.name
    values = (notebooks.read_values(Path(options.f)) if options.f else {}) | notebooks.parse(path, dict(options.p))
    begun = time.time()
    written = shown(notebooks.run(str(path), output.resolve(), values))
    if not (decision := _decided(values.get("run", ""), begun)):
        return {"notebook": written}, written
    facts = {"notebook": written, "decision": decision.outcome, "reason": decision.reason, "run": shown(decision.folder)}
    return facts, f"{written}\nDECISION: {decision.outcome}  {shown(decision.folder)}"


def _decided(run: str, begun: float) -> Decision | None:
    """Return what was decided since a moment (``time.time``): in the given run's folder, else in the one decided last."""
    config = settings.load()
    files = [config.root / run / "decision.json"] if run else [*config.runs.glob("*/decision.json")]
    fresh = [file for file in files if file.is_file() and file.stat().st_mtime >= begun]
    return read_decision(max(fresh, key=lambda file: file.stat().st_mtime).parent) if fresh else None


def poc(options: argparse.Namespace) -> Result:
    """Run a whole PoC."""
    size = {"context": options.context, "users": options.users, "gpu_fraction": options.gpu_fraction}
    decision = whole.poc(options.folder, url=options.url, model=options.model, new=options.new, **size)
    files = [path for name in ("html", "pdf") if (path := decision.folder / f"summary.{name}").exists()]
    written = [*map(shown, files or [decision.folder])]  # notebook 09 may have been told to write other formats
    facts = {"decision": decision.outcome, "reason": decision.reason, "summary": written[0]}
    return facts, "  ".join((f"DECISION: {decision.outcome}", *written))


def ask(options: argparse.Namespace) -> Result:
    """Ask the documents of a project."""
    if not options.question.strip():
        raise DataError("質問が空です。", "質問の文を渡していません。", '例: kit ask フォルダ "在宅勤務は週に何日までできますか"')
    rag = Rag(open_store(projects.locate(options.folder)))
    if settings.load().llm_url or running():
        rag = Rag(rag.store, LLMReader(connect()))
    answer = rag(options.question, user=options.user)
    sources = "\n".join(f"出典: {label}" for label in dict.fromkeys(c.label for c in answer.citations))
    text = "\n".join(part for part in (answer.text, sources, f"確信度 {answer.confidence:.2f}（{answer.reader}）") if part)
    return {"answer": to_json(answer)}, text


def store(options: argparse.Namespace) -> Result:
    """Bring a store up to date, verify it, forget a document, go back."""
    action, folder, name = _store_words([options.action, *filter(None, (options.folder, options.name))])
    project = projects.find_project(folder) if action == "sync" else projects.locate(folder)  # documents may be unmounted
    if action == "sync":
        filled, added = build_store(project, progress=Bar("文書の登録"))
        text = f"{added}\nRAGストア: {len(filled.documents())} 文書、{len(filled)} 断片"
        return {**to_json(added), "chunks": len(filled)}, text
    if action == "forget":
        kept = project.embedder.exists()
        erasure = forget_document(project, name)
        fitted = "\n△ 自社文書から作った埋め込みモデルは、消した文書の語を含むので外しました。ノートブック 02 で作り直せます。"
        again = (project.documents / name).exists()
        warning = f"\n△ 元のファイルが残っています。次の登録で戻るので、移すか消してください: {project.documents / name}"
        return {**to_json(erasure), "source_left": again}, f"{erasure}{fitted if kept and not project.embedder.exists() else ''}{warning if again else ''}"
    opened = project_store(project, model=False)
    if action == "verify":
        health = opened.verify()
        return {"ok": health.ok, **to_json(health)}, str(health)
    if action == "rollback":
        tag = opened.rollback(name)
        back = f"控え {tag} の状態に戻しました: {len(opened.documents())} 文書、{len(opened)} 断片\n閲覧権限は戻していません（削除されていた文書の権限は、削除される直前のものです）。"
        return {"tag": tag, "documents": len(opened.documents()), "chunks": len(opened)}, back
    tags = opened.tags()
    return {"tags": tags}, "\n".join(tags) or "控えはまだありません（変更のたびに、その前の状態を最大 10 個残します）。"


def _store_words(words: list[str]) -> tuple[str, str, str]:
    """Read ``[action] folder [name]``; without an action it is ``sync``, as before there were others."""
    most = {"sync": 1, "verify": 1, "forget": 2, "rollback": 2, "tags": 1}
    named = words[0] in most and (len(words) > 1 or not Path(words[0]).exists())
    action, rest = (words[0], words[1:]) if named else ("sync", words)
    if not 1 + (action == "forget") <= len(rest) <= most[action]:
        raise DataError(
            f"書き方に誤りがあります: kit store {' '.join(words)}", "動作、フォルダ、名前の順に書きます。名前は forget と rollback だけに付けます。",
            "例: kit store sync フォルダ、kit store forget フォルダ 人事/旧規程.docx（書き方の一覧は kit store --help）",
        )
    return action, rest[0], rest[1] if len(rest) > 1 else ""
