"""lm-evaluation-harness' tasks as a benchmark: its prompts, its stop strings, its scores, checked against itself."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from evsys_hydra import Benchmark, BenchmarkConfig, ConfigError, Request, Result

pytestmark = pytest.mark.slow

pytest.importorskip("lm_eval", reason="needs the lm-eval extra")

SUMS = """\
task: evsys_sums
dataset_path: json
dataset_kwargs: {data_files: {train: "FOLDER/train.jsonl", test: "FOLDER/test.jsonl"}}
training_split: train
test_split: test
fewshot_split: train
output_type: generate_until
description: "Add up.\\n\\n"
doc_to_text: "Question: {{question}}\\nAnswer:"
doc_to_target: "{{sum}}"
num_fewshot: 2
generation_kwargs: {until: ["\\n", "Question:"], max_gen_toks: 24}
filter_list:
  - name: number
    filter:
      - {function: regex, regex_pattern: "(-?[0-9]+)"}
      - {function: take_first}
  - name: whole
    filter:
      - {function: take_first}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
"""
CHOICE = """\
task: evsys_choice
dataset_path: json
dataset_kwargs: {data_files: {train: "FOLDER/train.jsonl", test: "FOLDER/test.jsonl"}}
training_split: train
test_split: test
fewshot_split: train
output_type: multiple_choice
doc_to_text: "Question: {{question}}\nAnswer:"
doc_to_choice: "{{[sum|string, (sum + 1)|string, 'none of these', 'é' * level|length]}}"
doc_to_target: "{{(sum // 2) % 4}}"
num_fewshot: 1
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
  - {metric: acc_bytes, aggregation: mean, higher_is_better: true}
  - {metric: brier_score, higher_is_better: false}
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
"""
INPUTS = """\
task: evsys_inputs
dataset_path: json
dataset_kwargs: {data_files: {test: "FOLDER/test.jsonl"}}
test_split: test
output_type: multiple_choice
doc_to_text: 0
doc_to_choice: ["one", "two"]
doc_to_target: "and so on"
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
"""
ROLLING = """\
task: evsys_rolling
dataset_path: json
dataset_kwargs: {data_files: {test: "FOLDER/test.jsonl"}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{question}}"
metric_list:
  - {metric: word_perplexity}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Task files over local documents."""
    root = tmp_path_factory.mktemp("lm_eval")
    for split, numbers in (("train", range(20, 30)), ("test", range(12))):
        rows = [{"question": f"What is {n}+{n}?", "sum": 2 * n, "level": "low" if n < 6 else "high"} for n in numbers]
        (root / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, text in (("sums", SUMS), ("choice", CHOICE), ("inputs", INPUTS), ("rolling", ROLLING)):
        (root / f"{name}.yaml").write_text(text.replace("FOLDER", str(root)))
    return root


def load(folder: Path, **settings: Any) -> Benchmark:
    generate = {"kind": "lm_eval", "tasks": "evsys_sums", "include_path": str(folder), **settings}
    return Benchmark.load(BenchmarkConfig.model_validate({"generate": generate}))


def answer(place: int) -> str:
    """Right for even places, but for the first."""
    return "I say 99" if place % 2 or not place else f"It is {2 * place}."


class Answers:
    """Keeps the requests it saw."""

    def __init__(self) -> None:
        self.asked: list[Request] = []

    def generate(self, requests: Sequence[Request], on_result: Any = None) -> list[Result]:
        self.asked = list(requests)
        return [Result(answer(place)) for place in range(len(requests))]


def test_documents_become_tasks_with_their_own_stops_and_length(folder: Path) -> None:
    client = Answers()
    scored = load(folder, n=8).score(client, stop=["END"], breakdown_keys=["doc.level", "task"])
    assert [request.max_tokens for request in client.asked] == [24] * 8
    assert {tuple(request.stop) for request in client.asked} == {("END", "\n", "Question:")}
    assert [row["reward"] for row in scored.predictions] == [0, 0, 1, 0, 1, 0, 1, 0]
    assert scored.metrics["n_errors"] == 0
    assert [row["expected"] for row in scored.predictions] == [str(2 * n) for n in range(8)]
    assert {level: each["n"] for level, each in scored.breakdowns["doc.level"].items()} == {"low": 6, "high": 2}


def test_the_other_filter_reads_the_whole_answer(folder: Path) -> None:
    scored = load(folder, filter="whole", n=4).score(Answers())
    assert scored.metrics["mean_reward"] == 0.0


def test_settings_change_the_prompts_and_the_hash(folder: Path) -> None:
    benchmark = load(folder)
    assert benchmark.hash == load(folder).hash
    assert benchmark.tasks[0].instruction.count("Question:") == 3
    assert load(folder, num_fewshot=0).tasks[0].instruction == "Add up.\n\nQuestion: What is 0+0?\nAnswer:"
    assert load(folder, fewshot_seed=5).hash != benchmark.hash
    assert [task.task_id for task in load(folder, n=2).tasks] == ["evsys_sums-0000", "evsys_sums-0001"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"tasks": ["evsys_inputs", "evsys_rolling"]},
            [
                "evsys_inputs has a prompt of its own for each choice",
                "evsys_rolling has output_type loglikelihood",
            ],
        ),
        ({"tasks": "evsys_choice", "metric": "brier_score"}, ["'brier_score'", "it has acc, acc_norm, acc_bytes (of"]),
        ({"metric": "acc"}, ["generate.metric", "'acc'", "it has exact_match"]),
        ({"filter": "strict"}, ["generate.filter", "'strict'", "it has number, whole"]),
        ({"include_path": "nowhere"}, ["generate.include_path: no such folder: nowhere"]),
    ],
)
def test_what_cannot_be_scored_is_told(folder: Path, settings: dict[str, Any], said: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(folder, **settings)
    assert all(part in str(caught.value) for part in said), str(caught.value)


def test_the_driver_needs_no_torch_for_it(folder: Path) -> None:
    code = (
        "import sys\nfrom evsys_hydra import BenchmarkConfig\nfrom evsys_hydra.benchmark import check_benchmark\n"
        f"generate = {{'kind': 'lm_eval', 'tasks': 'evsys_sums', 'include_path': {str(folder)!r}}}\n"
        "print(check_benchmark(BenchmarkConfig(generate=generate)), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] False"


@pytest.mark.slow
def test_prompts_stops_and_scores_are_those_of_lm_eval(folder: Path) -> None:
    from lm_eval import simple_evaluate
    from lm_eval.api.model import LM
    from lm_eval.tasks import TaskManager

    class Recorder(LM):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.asked: list[tuple[str, dict[str, Any]]] = []

        def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
            self.asked = [request.args for request in requests]
            return [answer(place) for place in range(len(requests))]

        def loglikelihood(self, requests: Any, disable_tqdm: bool = False) -> Any:
            raise AssertionError

        loglikelihood_rolling = loglikelihood

    theirs = Recorder()
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    results = simple_evaluate(theirs, tasks=["evsys_sums"], task_manager=manager, bootstrap_iters=0)
    assert results is not None
    benchmark = load(folder)
    assert [task.instruction for task in benchmark.tasks] == [context for context, _ in theirs.asked]
    assert [task.stop for task in benchmark.tasks] == [settings["until"] for _, settings in theirs.asked]
    scores = results["results"]["evsys_sums"]
    assert benchmark.score(Answers()).metrics["mean_reward"] == pytest.approx(scores["exact_match,number"])
    assert load(folder, filter="whole").score(Answers()).metrics["mean_reward"] == scores["exact_match,whole"]


def chooser() -> tuple[Any, Any]:
    """A random model and the demo's tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from evsys_hydra.config import ModelConfig
    from evsys_hydra.models import load_tokenizer

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=262, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=512, initializer_range=0.2,
        bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    return LlamaForCausalLM(config).float().eval(), load_tokenizer(ModelConfig(name="demo"))


@pytest.mark.parametrize("style", ["plain", "chat"])
@pytest.mark.parametrize("metric", ["acc", "acc_norm", "acc_bytes"])
def test_choices_are_scored_as_by_lm_eval(folder: Path, style: Any, metric: str) -> None:
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    from evsys_hydra.inference.local import LocalClient, LocalInference

    model, tokenizer = chooser()
    results = simple_evaluate(
        HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4),
        tasks=["evsys_choice"],
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        apply_chat_template=style == "chat",
        fewshot_as_multiturn=False,  # the examples are in the one user message, as here
        bootstrap_iters=0,
        log_samples=True,
    )
    assert results is not None
    theirs = sorted(results["samples"]["evsys_choice"], key=lambda sample: sample["doc_id"])
    client = LocalClient(model, tokenizer, LocalInference(prompt=style))
    scored = load(folder, tasks="evsys_choice", metric=metric).score(client, breakdown_keys=["doc.level"])
    assert scored.metrics["n_errors"] == 0
    for row, sample in zip(scored.predictions, theirs, strict=True):
        expected = [each[0] for each in sample["filtered_resps"]]
        assert row["metadata"]["choice_logprobs"] == pytest.approx(expected, abs=1e-4)
        assert row["reward"] == sample[metric]
        assert (row["output"] == row["expected"]) == bool(row["reward"])
    assert scored.metrics["mean_reward"] == pytest.approx(results["results"]["evsys_choice"][f"{metric},none"])
    assert style == "chat" or 0 < scored.metrics["mean_reward"] < 1  # neither all right nor all wrong
    assert set(scored.breakdowns["doc.level"]) == {"low", "high"}


def test_choices_without_log_likelihoods_are_errors(folder: Path) -> None:
    scored = load(folder, tasks="evsys_choice", n=2).score(Answers())
    assert all("no log-likelihoods of the choices" in str(row["error"]) for row in scored.predictions)
    assert [row["expected"] for row in scored.predictions] == ["0", "3"]


@pytest.mark.slow
def test_an_unknown_name_gets_the_nearest_and_a_shipped_task_its_file(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"'gsm8kk'; the nearest: gsm8k.*include_path has evsys_choice, evsys_inputs"):
        load(folder, tasks="gsm8kk")
    from evsys_hydra.benchmark.lm_eval_loading import _source

    assert _source("gsm8k", None) == "lm_eval/gsm8k/gsm8k.yaml"
