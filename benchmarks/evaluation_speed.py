"""Evaluation speed: the local engine against transformers' own ways: one prompt at a time, in sorted batches, and its
continuous batching (paged cache; finished rows leave at once, waiting ones take their place).

Same model (the demo's, float32), same prompts, same greedy tokens, one run: the ratios are what to trust. 256 tasks of
mixed length: the demo benchmark's as they are, and half of them behind up to 3 or 12 worked examples. Reading prompts
costs the same in a batch as alone on a CPU core, so the longer the prompts, the smaller the ratio can be.

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive python benchmarks/evaluation_speed.py
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
import transformers

from evsys_hydra.config import ModelConfig
from evsys_hydra.demo.benchmark import DemoBenchmark, demo_tasks
from evsys_hydra.inference.client import Request
from evsys_hydra.inference.local import LocalClient, LocalInference
from evsys_hydra.inference.prompts import tokenize
from evsys_hydra.models import load_model

WANTED = 8.0
MAX_TOKENS = 40
Tokens = list[list[int]]


def requests_of(n: int, most_examples: int) -> list[Request]:
    """The demo's tasks, half of them behind up to `most_examples` worked examples."""
    rng = random.Random(0)
    tasks = demo_tasks(DemoBenchmark(n=2 * n))
    requests = []
    for task in tasks[:n]:
        shots = rng.sample(tasks[n:], rng.choice([0, rng.randint(1, most_examples)])) if most_examples else []
        turns = [turn for shot in shots for turn in (("user", shot["instruction"]), ("assistant", _answer(shot)))]
        messages = [{"role": role, "content": text} for role, text in [*turns, ("user", task["instruction"])]]
        requests.append(Request(messages, max_tokens=MAX_TOKENS))
    return requests


def _answer(task: Any) -> str:
    return str(task["verifier"]["expected"])


def one_at_a_time(model: Any, tokenizer: Any, requests: Sequence[Request]) -> Tokens:
    """transformers' generate for each prompt alone."""
    return [batched(model, tokenizer, [request], 1)[0] for request in requests]


def batched(model: Any, tokenizer: Any, requests: Sequence[Request], size: int) -> Tokens:
    """transformers' generate on sorted, left-padded batches."""
    prompts = [list(prompt) for prompt in tokenize(requests, tokenizer)]
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    answers: dict[int, list[int]] = {}
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        longest = max(len(prompts[index]) for index in chosen)
        pads = [longest - len(prompts[index]) for index in chosen]
        ids = torch.tensor([[0] * pad + prompts[index] for pad, index in zip(pads, chosen, strict=True)])
        mask = torch.tensor([[0] * pad + [1] * (longest - pad) for pad in pads])
        out = model.generate(input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=MAX_TOKENS)
        for index, row in zip(chosen, out[:, longest:].tolist(), strict=True):
            answers[index] = row[: row.index(2) + 1] if 2 in row else row
    return [answers[index] for index in range(len(prompts))]


def continuous(model: Any, tokenizer: Any, requests: Sequence[Request]) -> Tokens:
    """transformers' generate_batch, with the settings that were fastest here: its defaults are 9 to 20 times slower."""
    from transformers import GenerationConfig
    from transformers.generation.configuration_utils import ContinuousBatchingConfig

    out = model.generate_batch(
        inputs=[list(prompt) for prompt in tokenize(requests, tokenizer)],
        generation_config=GenerationConfig(max_new_tokens=MAX_TOKENS, do_sample=False, eos_token_id=2, pad_token_id=0),
        continuous_batching_config=ContinuousBatchingConfig(page_size=32, num_blocks=300, max_batch_tokens=128),
        warmup=False,
    )
    numbered = {int(name.rpartition("_")[2]): list(answer.generated_tokens) for name, answer in out.items()}
    return [numbered[number] for number in sorted(numbered)]


def local(model: Any, tokenizer: Any, requests: Sequence[Request], **settings: Any) -> list[str]:
    """The local engine's answers."""
    client = LocalClient(model, tokenizer, LocalInference(**settings))
    return [result.text for result in client.generate(requests)]


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What the work gives, and its CPU seconds: other processes of the machine do not count."""
    started = time.process_time()
    value = work()
    return value, time.process_time() - started


def measure(model: Any, tokenizer: Any, requests: Sequence[Request]) -> dict[str, Any]:
    """The four ways on one set of requests."""
    n = len(requests)
    answers, seconds = timed(lambda: local(model, tokenizer, requests))
    in_batches, batch_seconds = timed(lambda: batched(model, tokenizer, requests, 64))
    flowing, flowing_seconds = timed(lambda: continuous(model, tokenizer, requests))
    alone, alone_seconds = timed(lambda: one_at_a_time(model, tokenizer, requests))
    wanted = [tokenizer.decode(row, skip_special_tokens=True) for row in alone]
    lengths = [len(prompt) for prompt in tokenize(requests, tokenizer)]
    return {
        "prompt_tokens": {"min": min(lengths), "max": max(lengths), "mean": round(sum(lengths) / n)},
        "answer_tokens": {"min": min(map(len, alone)), "max": max(map(len, alone))},
        "equal_answers": sum(a == b for a, b in zip(answers, wanted, strict=True)),
        "equal_answers_of_hf_batches": sum(a == b for a, b in zip(in_batches, alone, strict=True)),
        "equal_answers_of_hf_continuous": sum(a == b for a, b in zip(flowing, alone, strict=True)),
        "tasks_per_cpu_s": {
            "local": round(n / seconds, 1),
            "hf_generate_batches_of_64": round(n / batch_seconds, 1),
            "hf_continuous_batching": round(n / flowing_seconds, 1),
            "hf_generate_one_at_a_time": round(n / alone_seconds, 1),
        },
        "ratio_to_one_at_a_time": round(alone_seconds / seconds, 2),
        "ratio_to_hf_batches": round(batch_seconds / seconds, 2),
        "ratio_to_hf_continuous_batching": round(flowing_seconds / seconds, 2),
    }


def main() -> None:
    """Measure, print one JSON object; exit with 1 if an answer differs or the first ratio is below the wanted one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=256)
    n = parser.parse_args().tasks
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    model, tokenizer = load_model(ModelConfig(name="demo", dtype="float32"))
    for warm_up in (local, one_at_a_time):
        warm_up(model, tokenizer, requests_of(8, 0))
    report = {
        f"{n} tasks, {name}": measure(model, tokenizer, requests_of(n, most))
        for name, most in (("as they are", 0), ("half behind 1-3 examples", 3), ("half behind 1-12 examples", 12))
    }
    print(json.dumps({**report, "wanted_ratio_as_they_are": WANTED}, indent=2))
    first = next(iter(report.values()))
    if any(each["equal_answers"] != n for each in report.values()) or first["ratio_to_one_at_a_time"] < WANTED:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
