"""Evaluation speed: the local engine against lm-evaluation-harness' HF backend with its own choice of batch size.

Same model (the demo's, float32), same 256 prompts of mixed length, greedy, same stop string and longest answer, one
thread each, in turns in one process. The search for the batch size (batch_size=auto does it in every call) is timed
apart: the ratio that counts is without it.

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive python benchmarks/lm_eval_speed.py
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
from typing import Any

import torch
import transformers
from evaluation_speed import MAX_TOKENS, requests_of, timed

from evsys_hydra.config import ModelConfig
from evsys_hydra.inference.client import Request
from evsys_hydra.inference.local import LocalClient, LocalInference
from evsys_hydra.inference.prompts import tokenize
from evsys_hydra.models import load_model

WANTED = 1.5
STOP = ["\n"]
MIXES = (("as they are", 0), ("half behind 1-3 examples", 3), ("half behind 1-12 examples", 12))


def harness(model: Any, tokenizer: Any, batch_size: int | str) -> Any:
    """The HF backend on a loaded model."""
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)


def by_harness(backend: Any, prompts: list[str]) -> list[str]:
    """Its answers, without its progress bar."""
    from lm_eval.api.instance import Instance

    settings = {"until": STOP, "max_gen_toks": MAX_TOKENS, "do_sample": False}
    asked = [Instance("generate_until", {}, (prompt, dict(settings)), n) for n, prompt in enumerate(prompts)]
    with contextlib.redirect_stdout(sys.stderr):  # it prints the batch size that it found
        answers: list[str] = backend.generate_until(asked, disable_tqdm=True)
    return answers


def by_engine(model: Any, tokenizer: Any, prompts: list[str]) -> list[Any]:
    """The local engine's results for the same texts."""
    client = LocalClient(model, tokenizer, LocalInference(prompt="plain"))
    asked = [Request([{"role": "user", "content": prompt}], max_tokens=MAX_TOKENS, stop=STOP) for prompt in prompts]
    return client.generate(asked)


def measure(model: Any, tokenizer: Any, n: int, most_examples: int, rounds: int) -> dict[str, Any]:
    """Both in turns on one mix of prompts."""
    chats = requests_of(n, most_examples)
    prompts = [
        tokenizer.apply_chat_template(list(chat.messages), add_generation_prompt=True, tokenize=False) for chat in chats
    ]
    automatic = harness(model, tokenizer, "auto")
    found, search_seconds = timed(automatic._detect_batch_size)
    backend = harness(model, tokenizer, found)
    ids = tokenize([Request([{"role": "user", "content": prompt}]) for prompt in prompts], tokenizer, "plain")
    assert ids == [backend.tok_encode(prompt, add_special_tokens=True) for prompt in prompts]
    seconds: dict[str, list[float]] = {"local": [], "harness": []}
    for _ in range(rounds):
        ours, spent = timed(lambda: by_engine(model, tokenizer, prompts))
        seconds["local"].append(spent)
        theirs, spent = timed(lambda: by_harness(backend, prompts))
        seconds["harness"].append(spent)
    ratios = [theirs / ours for ours, theirs in zip(seconds["local"], seconds["harness"], strict=True)]
    rates = {name: round(n / statistics.median(each), 1) for name, each in seconds.items()}
    return {
        "prompt_tokens": sum(result.prompt_tokens for result in ours),
        "answer_tokens": sum(result.completion_tokens for result in ours),
        "equal_answers": sum(a.text == b for a, b in zip(ours, theirs, strict=True)),
        "batch_size_found_by_the_harness": found,
        "cpu_s_of_that_search": round(search_seconds, 2),
        "tasks_per_cpu_s": rates,
        "ratio": round(statistics.median(ratios), 2),
        "ratio_of_each_round": [round(ratio, 2) for ratio in ratios],
        "ratio_with_the_search": round(
            (statistics.median(seconds["harness"]) + search_seconds) / n * rates["local"], 2
        ),
    }


def main() -> None:
    """Measure, print one JSON object; exit with 1 if an answer differs or a ratio is below the wanted one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    model, tokenizer = load_model(ModelConfig(name="demo", dtype="float32"))
    by_engine(model, tokenizer, ["warm up"])
    by_harness(harness(model, tokenizer, 1), ["warm up"])
    report = {name: measure(model, tokenizer, options.tasks, most, options.rounds) for name, most in MIXES}
    print(json.dumps({**report, "wanted_ratio": WANTED}, indent=2))
    if any(each["ratio"] < WANTED or each["equal_answers"] != options.tasks for each in report.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
