"""Make a tiny Llama with random weights and a tokenizer trained on the Japanese of this repository: no download.

Usage: python tests/tiny_model.py DIR [SEED]

It exercises every part of a server and knows nothing: its answers are noise. About 5 MB; the weights
are the same every time (SEED, 0 by default, makes others), the vocabulary follows the repository's text.
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEAD_DIM = 64  # vLLM's CPU attention dies at the first request with 16
CONTEXT = 8192
VOCABULARY = 6000
# ChatML, the commonest template. No "tokenizer_class" of its own, no code: safetensors and plain JSON only.
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def corpus():
    """The Japanese (and the JSON the readers ask for) that stands in this repository."""
    yield from [
        '{"found": true, "answer": "',
        '", "sources": [{"number": 1, "quote": "',
        '"}]}',
        "資料に見当たりません。",
    ] * 50
    for folder in ("kit", "data", "tests"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in {".py", ".txt", ".md", ".jsonl", ".toml", ".yaml", ".html"} and path.is_file():
                yield from path.read_text(encoding="utf-8", errors="ignore").splitlines()


def train_tokenizer():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        corpus(),
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=["<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return tokenizer


def write(folder, seed=0):
    """Write the model to a folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=train_tokenizer(), bos_token="<s>", eos_token="<|im_end|>", pad_token="<pad>"
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.model_max_length = CONTEXT
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=2 * HEAD_DIM,
            head_dim=HEAD_DIM,
            num_attention_heads=2,
            num_key_value_heads=1,
            num_hidden_layers=2,
            intermediate_size=256,
            max_position_embeddings=CONTEXT,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            tie_word_embeddings=True,
        )
    )
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model.num_parameters(), len(tokenizer)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    target = Path(sys.argv[1])
    parameters, tokens = write(target, *map(int, sys.argv[2:]))
    size = sum(path.stat().st_size for path in target.iterdir())
    report = {"folder": str(target), "parameters": parameters, "vocabulary": tokens, "bytes": size}
    sys.stdout.write(json.dumps(report) + "\n")
