"""The vLLM client: what can be seen without a GPU, and the engine itself where vLLM is installed."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any

import pytest

from evsys_hydra.config import ModelConfig, RunConfig
from evsys_hydra.errors import ConfigError
from evsys_hydra.inference.choices import Encoded
from evsys_hydra.inference.client import Request
from evsys_hydra.inference.vllm import VllmInference, lora_room, open_vllm, result_of, sampling
from evsys_hydra.inference.vllm_choices import choice_logprobs
from evsys_hydra.sweep.validate import validate_words

INSTALLED = importlib.util.find_spec("vllm") is not None


@dataclass
class Output:
    """The fields of vllm.outputs.CompletionOutput that are read."""

    text: str
    token_ids: tuple[int, ...]
    finish_reason: str | None


def test_a_request_becomes_sampling_parameters() -> None:
    asked = Request([{"role": "user", "content": "x"}], max_tokens=7, temperature=0.5, stop=("\n",), seed=3)
    assert sampling(asked) == {"max_tokens": 7, "temperature": 0.5, "stop": ["\n"], "seed": 3}
    greedy = Request([{"role": "user", "content": "x"}], seed=3)
    assert sampling(greedy) == {"max_tokens": 512, "temperature": 0.0, "stop": None, "seed": None}


def test_an_output_becomes_a_result() -> None:
    done = result_of([1, 2], Output("hi", (5, 6, 7), "stop"), 0.5)
    assert (done.text, done.finish_reason, done.prompt_tokens, done.completion_tokens) == ("hi", "stop", 2, 3)
    assert (done.latency_s, done.error, done.token_ids) == (0.5, None, [5, 6, 7])
    lost = result_of([1], Output("", (), "abort"), 0.5)
    assert (lost.finish_reason, lost.error) == ("error", "vLLM ended the answer: abort")


@dataclass
class Logprob:
    """The field of vllm.logprobs.Logprob that is read."""

    logprob: float


@dataclass
class Told:
    """The field of vllm.outputs.RequestOutput that is read: None for the first token, {token: Logprob} for others."""

    prompt_logprobs: list[dict[int, Any] | None]


def test_log_likelihoods_are_of_the_choices_own_tokens() -> None:
    prompt: list[dict[int, Any] | None] = [None, {8: Logprob(-100.0)}]
    short = Told([*prompt, {5: Logprob(-0.5)}])
    long = Told([*prompt, {6: Logprob(-1.0), 5: Logprob(-0.5)}, {7: Logprob(-2.0)}])
    assert choice_logprobs(Encoded([1, 8], [[5], [6, 7]]), [short, long]) == [-0.5, -3.0]


def test_adapters_get_the_next_rank_that_there_is_room_for() -> None:
    assert [lora_room(rank) for rank in (1, 8, 9, 300, 512)] == [8, 8, 16, 320, 512]
    with pytest.raises(ConfigError, match=r"model\.lora\.r=600: vLLM takes at most 512"):
        lora_room(600)


@pytest.mark.skipif(INSTALLED, reason="vLLM is installed")
def test_without_vllm_nothing_is_launched() -> None:
    with pytest.raises(ConfigError, match=r"pip install 'evsys_hydra\[vllm\]', or use inference=local"):
        validate_words(["inference=vllm"])
    with pytest.raises(ConfigError, match="vLLM is not installed"):
        open_vllm(
            VllmInference(),
            None,
            RunConfig.model_construct(name="a", group="a", seed=0, model=ModelConfig(name="demo")),
        )


@pytest.mark.slow
@pytest.mark.skipif(not INSTALLED, reason="vLLM is not installed (it needs a GPU)")
def test_it_answers_as_the_local_engine_does() -> None:
    from evsys_hydra.inference.local import LocalInference, open_local

    run = RunConfig.model_construct(name="a", group="a", seed=0, model=ModelConfig(name="demo", dtype="float32"))
    asked = [Request([{"role": "user", "content": f"Say {word}."}], max_tokens=20) for word in ("bob", "abc", "x")]
    ours = open_local(LocalInference(), None, run).generate(asked)
    theirs = open_vllm(VllmInference(), None, run).generate(asked)
    assert [result.text for result in theirs] == [result.text for result in ours]


@pytest.mark.slow
@pytest.mark.skipif(not INSTALLED, reason="vLLM is not installed (it needs a GPU)")
def test_it_scores_choices_as_the_local_engine_does() -> None:
    from evsys_hydra.inference.local import LocalInference, open_local

    run = RunConfig.model_construct(name="a", group="a", seed=0, model=ModelConfig(name="demo", dtype="float32"))
    asked = [Request([{"role": "user", "content": word}], choices=["yes", "no", "perhaps"]) for word in ("a", "bob")]
    ours = open_local(LocalInference(), None, run).generate(asked)
    theirs = open_vllm(VllmInference(), None, run).generate(asked)
    for one, other in zip(ours, theirs, strict=True):
        assert list(other.choice_logprobs) == pytest.approx(list(one.choice_logprobs), abs=1e-2)
