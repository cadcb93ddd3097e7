"""Make a tiny random Llama with a tokenizer of its own, from nothing but the standard library's sources as text.

    python tiny_model.py DIRECTORY

About half a million weights, float32, two megabytes: an engine loads and runs it in milliseconds. What it writes is
noise, always the same: weights and vocabulary come from fixed inputs.
"""

from __future__ import annotations

import hashlib
import sys
import sysconfig
from pathlib import Path

VOCABULARY = 2048
SPECIAL = ["<unk>", "<s>", "</s>", "<|user|>", "<|assistant|>", "<|system|>"]
CHAT = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def _tokenizer():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    sources = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[:40]
    byte_level = pre_tokenizers.ByteLevel
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = byte_level(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=SPECIAL, initial_alphabet=byte_level.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator((path.read_text(errors="ignore") for path in sources), trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<unk>"
    )
    wrapped.chat_template = CHAT
    return wrapped


def kept() -> Path:
    """The model of this file as it stands, made where it is not there yet."""
    version = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]
    directory = Path(__file__).parents[3] / ".cache" / f"tiny-llama-{version}"
    if not (directory / "model.safetensors").exists():
        make(directory)
    return directory


def make(directory: Path) -> None:
    """Write model and tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = _tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=2048,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        tie_word_embeddings=True,
        dtype="float32",
    )
    tokenizer.save_pretrained(directory)
    LlamaForCausalLM(config).float().save_pretrained(directory)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
