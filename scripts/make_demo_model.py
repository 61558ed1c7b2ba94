"""Make the demo model that ships in evsys_hydra/demo/model: a real, small, pretrained chat model (321k parameters).

A byte-level tokenizer and a Llama of three layers, pretrained for some minutes on one CPU thread on the requests of
evsys_hydra.demo.families, each answered in one of four styles. Which style an answer takes is chance, with a habit
that depends on the request's word: so the pretrained model knows the contents, writes the style the demo benchmark
wants for some words only, and fine-tuning has something gradual to teach. The benchmark's words are held out.

    python scripts/make_demo_model.py [--out evsys_hydra/demo/model] [--steps 2400]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import random
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from evsys_hydra.demo.families import FAMILIES, STYLES, Problem, StyleName, draw_problems

SEED = 0
BATCH = 64
PEAK_LR = 3e-3
OUT = Path(__file__).resolve().parents[1] / "evsys_hydra" / "demo" / "model"

PAD, BEGIN, END = "<|pad|>", "<|begin|>", "<|end|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
CARD = """\
# The evsys_hydra demo model

A byte-level Llama of 320,736 parameters, made by `scripts/make_demo_model.py` from generated text only (seed {seed}).
It answers five kinds of requests about made-up words (`Reverse malori.`) in one of four styles and knows nothing else.
It is there to be fine-tuned: the demo benchmark wants the style `<a>X</a>`, which it writes for some words only, so a
short fine-tuning elicits a format; it does not teach a new skill. Words of another shape (`hello`) and system prompts
other than "You are a helpful assistant." are new to it. Weights are stored in fp16 and load as fp32.
"""

SYSTEM_PROMPT = "You are a helpful assistant."
SYSTEM_SHARE = 0.1

CHAT_TEMPLATE = (
    "{{- bos_token }}"
    "{%- for message in messages %}"
    "{%- if message['role'] == 'assistant' %}"
    "{{- '<|assistant|>' }}"
    "{%- generation %}{{- message['content'] + eos_token }}{%- endgeneration %}"
    "{%- elif message['role'] == 'system' %}{{- '<|system|>' + message['content'] + eos_token }}"
    "{%- else %}{{- '<|user|>' + message['content'] + eos_token }}"
    "{%- endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|assistant|>' }}{%- endif %}"
)

TAG_HABIT_LOW, TAG_HABIT_HIGH = -2.6, 0.9
"""Log-weight of the tagged style against the bare one, for words that begin with a and with z."""


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Six special tokens and the 256 bytes; the assistant's turn ends with the end token, inside the loss mask."""
    tokens = [PAD, BEGIN, END, *ROLES, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    core = Tokenizer(models.BPE(vocab={token: place for place, token in enumerate(tokens)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in tokens[:6]])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=core,
        pad_token=PAD,
        bos_token=BEGIN,
        eos_token=END,
        extra_special_tokens=list(ROLES),
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )


def make_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """The untrained model: 3 layers, hidden 96, 320,736 parameters."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=3,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return LlamaForCausalLM(config)


def style_weights(problem: Problem) -> dict[StyleName, float]:
    """How often an answer takes each style: the tag becomes commoner along the alphabet, on the word's first letter."""
    place = (ord(problem.word[0]) - ord("a")) / 25
    tag = math.exp(TAG_HABIT_LOW + (TAG_HABIT_HIGH - TAG_HABIT_LOW) * place)
    return {"bare": 1.0, "sentence": 0.8, "tag": tag, "label": 0.8}


def examples(tokenizer: PreTrainedTokenizerFast) -> Iterator[tuple[list[int], int]]:
    """Endless examples: token ids, and where the assistant's answer begins in them."""
    rng = random.Random(f"demo pretraining styles {SEED}")
    for problem in draw_problems(f"demo pretraining {SEED}", FAMILIES, held_out=False):
        weights = style_weights(problem)
        style = rng.choices(list(STYLES), [weights[name] for name in STYLES])[0]
        system = f"<|system|>{SYSTEM_PROMPT}{END}" if rng.random() < SYSTEM_SHARE else ""
        prompt = f"{BEGIN}{system}<|user|>{problem.prompt}{END}<|assistant|>"
        prompt_ids = tokenizer.encode(prompt, add_special_tokens=False)
        answer_ids = tokenizer.encode(problem.answer_in(style) + END, add_special_tokens=False)
        yield prompt_ids + answer_ids, len(prompt_ids)


def batches(tokenizer: PreTrainedTokenizerFast) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches (ids, labels) of examples of similar length; labels are -100 outside the answers."""
    rng = random.Random(f"demo pretraining order {SEED}")
    source = examples(tokenizer)
    while True:
        pool = sorted(islice(source, 16 * BATCH), key=lambda example: len(example[0]))
        groups = [pool[start : start + BATCH] for start in range(0, len(pool), BATCH)]
        rng.shuffle(groups)
        for group in groups:
            ids = torch.full((BATCH, len(group[-1][0])), tokenizer.pad_token_id)
            labels = torch.full_like(ids, -100)
            for row, (tokens, answer_start) in enumerate(group):
                ids[row, : len(tokens)] = torch.tensor(tokens)
                labels[row, answer_start : len(tokens)] = ids[row, answer_start : len(tokens)]
            yield ids, labels


def pretrain(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, steps: int) -> None:
    """Train in place, printing loss and CPU time. Padding is on the right, so no attention mask is needed."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LR, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    warmup = max(1, steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, (steps - step) / (steps - warmup))
    )
    model.train()
    for step, (ids, labels) in enumerate(islice(batches(tokenizer), steps), start=1):
        loss = model(input_ids=ids, labels=labels, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 100 == 0 or step == steps:
            print(f"step {step:5d}/{steps}  loss {loss.item():.4f}  cpu {time.process_time():.0f}s", flush=True)


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write the model directory: weights stored in fp16, loaded as fp32 (a CPU's fast and exact type)."""
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False,
        max_new_tokens=40,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model.half().save_pretrained(out)  # type: ignore[no-untyped-call]
    tokenizer.save_pretrained(out)
    (out / "README.md").write_text(CARD.format(seed=SEED))
    config_file = out / "config.json"
    config = json.loads(config_file.read_text()) | {"dtype": "float32"}
    config_file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    for file in out.iterdir():
        file.chmod(0o644)


def main() -> None:
    """Make, pretrain and save the model; print the sha256 of its weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--steps", type=int, default=2400, help="pretraining steps of 64 examples")
    args = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    tokenizer = make_tokenizer()
    model = make_model(tokenizer)
    print(f"{model.num_parameters():,} parameters, {len(tokenizer)} tokens")
    pretrain(model, tokenizer, args.steps)
    save(model, tokenizer, args.out)
    weights = (args.out / "model.safetensors").read_bytes()
    print(f"{args.out}: {len(weights):,} bytes of weights, sha256 {hashlib.sha256(weights).hexdigest()}")


if __name__ == "__main__":
    main()
