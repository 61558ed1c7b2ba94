"""Evaluation speed: choices scored by the local engine against lm-evaluation-harness' HF backend.

Same model (the demo's, float32), same prompts and choices, the batch size that the backend's `auto` finds (64; the
search is not timed), one thread each, in turns in one process. Every log-likelihood has to agree.
Also measured: the engine without groups of prompts that begin alike, and with each prompt read again for each choice.

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive python benchmarks/lm_eval_choices_speed.py
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import statistics
import sys
from collections.abc import Sequence
from typing import Any

import torch
import transformers
from evaluation_speed import timed
from lm_eval_speed import WANTED, harness

from evsys_hydra.config import ModelConfig
from evsys_hydra.inference import likelihood
from evsys_hydra.inference.client import Request
from evsys_hydra.inference.local import LocalClient, LocalInference
from evsys_hydra.models import load_model

SUBJECTS = 8
LETTERS = ("A", "B", "C", "D")
WORDS = [
    "amber",
    "basin",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "grove",
    "harbor",
    "island",
    "jasper",
    "kelp",
    "lagoon",
    "meadow",
    "nectar",
    "orchard",
    "prairie",
]
MIXES: dict[str, tuple[int, tuple[int, int]]] = {
    "letters": (0, (0, 0)),
    "letters, 5 examples of the subject": (5, (0, 0)),
    "1 to 3 words": (0, (1, 3)),
    "1 to 3 words, 5 examples of the subject": (5, (1, 3)),
    "4 to 12 words": (0, (4, 12)),
}
"""Kind of choices -> examples before each question, and how many words a choice has (0: it is a letter)."""


def questions(n: int, examples: int, words: tuple[int, int]) -> list[Request]:
    """Questions of 8 to 24 words with four choices each, of one of eight subjects, behind the subject's examples."""
    rng = random.Random(0)

    def text(least: int, most: int) -> str:
        return " ".join(rng.choices(WORDS, k=rng.randint(least, most)))

    def choices() -> list[str]:
        return list(LETTERS) if not words[1] else list(dict.fromkeys(text(*words) for _ in LETTERS))

    def example() -> str:
        return f"Question: {text(8, 24)}\nAnswer: {rng.choice(choices())}\n\n"

    shots = ["".join(example() for _ in range(examples)) for _ in range(SUBJECTS)]
    return [
        Request(
            [{"role": "user", "content": f"{shots[place % SUBJECTS]}Question: {text(8, 24)}\nAnswer:"}],
            choices=choices(),
        )
        for place in range(n)
    ]


def by_harness(backend: Any, asked: Sequence[Request]) -> list[float]:
    """Its log-likelihoods, without its progress bar."""
    from lm_eval.api.instance import Instance

    pairs = [(request.messages[0]["content"], f" {choice}") for request in asked for choice in request.choices]
    instances = [Instance("loglikelihood", {}, pair, place) for place, pair in enumerate(pairs)]
    with contextlib.redirect_stdout(sys.stderr):
        return [value for value, _ in backend.loglikelihood(instances, disable_tqdm=True)]


def by_engine(model: Any, tokenizer: Any, asked: Sequence[Request], **settings: Any) -> list[float]:
    """The local engine's."""
    results = LocalClient(model, tokenizer, LocalInference(prompt="plain", **settings)).generate(asked)
    return [value for result in results for value in result.choice_logprobs]


def each_whole(model: Any, tokenizer: Any, asked: Sequence[Request]) -> list[float]:
    """The local engine's, as for a model whose cache it cannot share."""
    can_join = likelihood.can_join
    likelihood.can_join = lambda _: False
    try:
        return by_engine(model, tokenizer, asked)
    finally:
        likelihood.can_join = can_join


def best(asked: Sequence[Request], values: Sequence[float]) -> list[str]:
    """The likeliest choice of each."""
    left = iter(values)
    scored = [[(next(left), -place) for place, _ in enumerate(request.choices)] for request in asked]
    return [request.choices[-max(each)[1]] for request, each in zip(asked, scored, strict=True)]


def measure(model: Any, tokenizer: Any, asked: Sequence[Request], rounds: int) -> dict[str, Any]:
    """All ways in turns on one kind of questions."""
    with contextlib.redirect_stdout(sys.stderr):
        found = harness(model, tokenizer, "auto")._detect_batch_size()
    backend = harness(model, tokenizer, found)
    ways = {
        "local": lambda: by_engine(model, tokenizer, asked),
        "local_without_groups": lambda: by_engine(model, tokenizer, asked, share_prefix=False),
        "local_each_choice_whole": lambda: each_whole(model, tokenizer, asked),
        "harness": lambda: by_harness(backend, asked),
    }
    values: dict[str, list[float]] = {}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            values[name], spent = timed(way)
            seconds[name].append(spent)
    ratios = [theirs / ours for ours, theirs in zip(seconds["local"], seconds["harness"], strict=True)]
    return {
        "tasks": len(asked),
        "choices": sum(len(request.choices) for request in asked),
        "largest_difference": max(
            abs(a - b) for name in ways for a, b in zip(values[name], values["harness"], strict=True)
        ),
        "equal_answers": sum(
            a == b for a, b in zip(best(asked, values["local"]), best(asked, values["harness"]), strict=True)
        ),
        "batch_size_found_by_the_harness": found,
        "tasks_per_cpu_s": {name: round(len(asked) / statistics.median(each), 1) for name, each in seconds.items()},
        "ratio": round(statistics.median(ratios), 2),
        "ratio_of_each_round": [round(ratio, 2) for ratio in ratios],
    }


def main() -> None:
    """Measure, print one JSON object; exit with 1 if a log-likelihood differs or a ratio is below the wanted one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    model, tokenizer = load_model(ModelConfig(name="demo", dtype="float32"))
    warm_up = questions(8, 0, (1, 3))
    by_engine(model, tokenizer, warm_up)
    by_harness(harness(model, tokenizer, 8), warm_up)
    report = {
        name: measure(model, tokenizer, questions(options.tasks, examples, words), options.rounds)
        for name, (examples, words) in MIXES.items()
    }
    print(json.dumps({**report, "wanted_ratio": WANTED}, indent=2))
    if any(each["ratio"] < WANTED or each["largest_difference"] > 1e-3 for each in report.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
