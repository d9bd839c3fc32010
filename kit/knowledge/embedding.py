"""Vectors of texts by a model in a local folder: the one place that knows sentence-transformers.

A folder is taken only if nothing in it can run code: plain files of known kinds, weights in safetensors, and no other
parts than ``_PARTS``. What a model wants before its texts is what its own folder says, else ``embedders.toml``.
"""

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from kit.errors import DataError, StoreError
from kit.knowledge import japanese
from kit.knowledge.rows import Row, chunk_of, index_text
from kit.settings import read_toml
from kit.trust import model_files
from kit.trust.durable import canonical, write_atomically
from kit.trust.model_files import damaged, refuse

Vectors = np.ndarray[Any, np.dtype[np.float32]]
_WANTS = Path(__file__).with_name("embedders.toml")
_PARTS = {"Transformer", "Pooling", "Dense", "Normalize", "LayerNorm", "Dropout", "StaticEmbedding"}
_WEIGHT = "likeness.json"
_FITTED = "kit_embedder.json"
"""Marks a folder that the kit fitted: its tokenizer splits at blanks, and the kit cuts the words."""


class Embedder:
    """A model from a local folder, on the processor and without network.

    Args:
        folder: As sentence-transformers writes it.

    Attributes:
        folder: The folder, resolved.
        name: The folder's own name, by which ``embedders.toml`` knows it.
        identity: Hash of all that decides what its vectors are: every file and the prefixes; 64 hex digits.
        dimensions: Length of a vector.

    Raises:
        DataError: The folder is none, could run code, or cannot be loaded.
    """

    def __init__(self, folder: str | Path) -> None:
        place = Path(folder).expanduser().resolve()
        self.folder, self.name = place, place.name
        modules = place / "modules.json"
        if not modules.is_file():
            refuse(
                f"埋め込みモデルのフォルダ {place} を使えません。",
                "フォルダがないか、sentence-transformers 形式（modules.json のあるもの）ではありません。",
                "モデルIDではなく、手元のフォルダを指定してください。自社の文書から作るには: kit.fit_embedder(store, to=フォルダ)",
            )
        model_files.check(place)
        _check_parts(modules)
        self._model = _load(place)
        own, wants = self._model.prompts, _wants(self.name)
        self._before = [own.get("query") or wants.get("query_prefix", ""), own.get("document") or wants.get("passage_prefix", "")]
        self._cut = (place / _FITTED).is_file()
        self.dimensions = int(self._model.get_embedding_dimension())
        decisive = [model_files.digests(place), self._before]
        self.identity = hashlib.sha256(canonical(decisive).encode()).hexdigest()

    def query(self, text: str) -> Vectors:
        """Return the vector of a question: float32, length 1; all zeros where the model knows nothing of the text."""
        (vector,) = self._vectors([text], self._before[0])
        return np.asarray(vector)

    def passages(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors of texts to be found, shape (texts, dimensions): float32, length 1 or all zeros."""
        return self._vectors(texts, self._before[1])

    def embedded(self, rows: Sequence[Row]) -> list[Row]:
        """Return rows of the store's table with their vectors."""
        vectors = self.passages([index_text(chunk.title, chunk.place.headings, chunk.text) for chunk in map(chunk_of, rows)])
        return [row | {"vector": vector} for row, vector in zip(rows, vectors, strict=True)]

    def _vectors(self, texts: Sequence[str], before: str) -> Vectors:
        given = [" ".join(tokens(text)) for text in texts] if self._cut else list(texts)
        found = self._model.encode(given, prompt=before, normalize_embeddings=True, show_progress_bar=False)
        vectors: Vectors = np.asarray(found, np.float32)
        if not np.isfinite(vectors).all():
            damaged(Path(self.name), "ベクトルに数でない値があります")
        return vectors


def tokens(text: str) -> list[str]:
    """Return what a fitted model sees of a text: its words and grams as in a question, each once."""
    return list(dict.fromkeys(japanese.query(text)))


def save(known: Sequence[str], vectors: Vectors, folder: Path) -> None:
    """Write a model whose vector of a text is the mean over its tokens.

    Args:
        known: The tokens; none holds a blank.
        vectors: One row for each.
        folder: Made where absent.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit

    tokenizer = Tokenizer(WordLevel({"[UNK]": 0} | {token: row for row, token in enumerate(known, 1)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    # What is unknown counts as nothing; mean and length do not change the direction.
    weights = np.vstack([np.zeros_like(vectors[:1]), vectors]).astype(np.float32)
    model = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=weights)], device="cpu")
    model.save_pretrained(str(folder), create_model_card=False, safe_serialization=True)
    (folder / _FITTED).write_text(json.dumps({"tokens": "kit.knowledge.embedding.tokens"}), encoding="utf-8")


def read_weight(store: Path, identity: str) -> float:
    """Return the weight (0–10) that a store keeps for an embedder's vectors; 0 where it keeps none for this one."""
    with suppress(OSError, ValueError, LookupError, TypeError):  # a damaged file vouches for nothing
        kept = json.loads((store / _WEIGHT).read_bytes())
        if kept["embedder"] == identity and 0 <= kept["weight"] <= 10:
            return float(kept["weight"])
    return 0.0


def write_weight(store: Path, identity: str, weight: float) -> None:
    """Keep the weight of an embedder's vectors with a store."""
    write_atomically(store / _WEIGHT, canonical({"embedder": identity, "weight": weight}))


def mismatch(store: Path, made_by: str, given: Embedder | None) -> StoreError:
    """Return the error that a store's vectors are not the given embedder's.

    Args:
        store: The store's folder.
        made_by: Name of the model that made the vectors; "" where there are none.
        given: The model at hand.
    """
    cause = f"ストアのベクトルは、別のモデルか、ファイルが変わる前の「{made_by}」で作られています。" if made_by else "ストアにはベクトルがありません。"
    plain = f"kit.Store('{store}')"
    own = f"ストアのモデルで開き直すには: kit.Store('{store}', embedder='「{made_by}」のフォルダ')。" if made_by else ""
    anew = f"このモデルでベクトルを作り直すには: {plain}.embed('{given.folder}')。" if given else ""
    remedy = f"{own}{anew}言葉だけで検索するには: {plain}"
    return StoreError(f"RAGストア {store} は、埋め込みモデル（{given.name if given else '指定なし'}）と合いません。", cause, remedy)


def _wants(name: str) -> Mapping[str, Any]:
    """Return what the table says of a model whose folder has this name; {} where it does not know it."""
    table = read_toml(_WANTS)["embedder"]
    return next((entry for entry in table if name.lower() in (entry["id"].lower(), entry["id"].split("/")[1].lower())), {})


def _check_parts(modules: Path) -> None:
    """Refuse a list of parts with any other than ``_PARTS``: a part is a class that is imported by its name."""
    listed = json.loads(modules.read_bytes())
    try:
        kinds = [str(part["type"]) for part in listed]
    except (TypeError, LookupError) as error:
        damaged(modules, repr(error)[:80])
    for kind in kinds:
        if not kind.startswith("sentence_transformers.") or kind.rpartition(".")[2] not in _PARTS:
            refuse(
                f"埋め込みモデルの部品 {kind[:80]} は使えません。", "付属のプログラムか、このキットが確かめていない部品を求めています。",
                f"使える部品: {'、'.join(sorted(_PARTS))}。これらだけでできたモデルを選んでください。",
            )  # fmt: skip


def _load(folder: Path) -> Any:
    """Load a checked folder."""
    from sentence_transformers import SentenceTransformer

    try:
        with warnings.catch_warnings(action="ignore"):
            weights = {"use_safetensors": True}
            return SentenceTransformer(str(folder), device="cpu", local_files_only=True, trust_remote_code=False, model_kwargs=weights)
    except (OSError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, ImportError) as error:
        raise DataError(
            f"埋め込みモデルのフォルダ {folder} を読み込めません。",
            f"ファイルが足りないか、壊れています（{' '.join(str(error).split())[:200]}）。",
            "フォルダ全体をコピーし直すか、safetensors 形式の版を選んでください。",
        ) from error
