"""`inference=vllm`: vLLM in the arm's process, for GPUs, where it is installed.

The prompts are the local engine's token ids, LoRA checkpoints are vLLM's own LoRA requests, and shared prefixes are its
prefix cache. Sampling has each sample's own seed; vLLM's batches may still change the last bits of a logit, so neither
greedy nor sampled answers are promised to be those of the local engine.
"""

from __future__ import annotations

import gc
import importlib.util
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from ..causes import describe
from ..config import KindConfig, RunConfig
from ..errors import ConfigError
from ..record.files import read_json
from ..registry import register_inference
from .client import Request, Result
from .identity import weights_identity
from .prompts import PromptStyle, tokenize
from .vllm_choices import answer_choices

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

OnResult = Callable[[int, Result], None]
CHUNK = 1024
"""Requests handed over at a time: enough to fill a GPU, and answers are on disk when a chunk is done."""
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""LoRA ranks that vLLM can make room for."""


class VllmInference(KindConfig):
    """Generates with vLLM, in the arm's own process."""

    kind: Literal["vllm"] = "vllm"
    dtype: Literal["model", "float32", "bfloat16", "float16"] = "model"
    """Precision of the weights while evaluating; model: as model.dtype says."""
    prompt: PromptStyle = "auto"
    """chat: through the chat template; plain: the texts as they are; auto: chat if there is a template."""
    gpu_memory_utilization: float = Field(0.8, gt=0, le=1)
    """Share of each GPU's memory that vLLM takes for weights and cache."""
    tensor_parallel_size: int = Field(1, ge=1)
    """GPUs that hold the model together."""
    max_model_len: int | None = Field(None, ge=1)
    """Longest prompt and answer together, in tokens; null: what the model can take."""
    share_prefix: bool = True
    """Compute what prompts begin with in common once."""

    def unusable(self) -> list[str]:
        """Why it cannot be used here; empty: nothing that is seen without starting it."""
        if importlib.util.find_spec("vllm") is None:
            return [
                "inference.kind=vllm: vLLM is not installed: pip install 'evsys_hydra[vllm]', or use inference=local"
            ]
        return []


@register_inference("vllm", config=VllmInference)
def open_vllm(config: VllmInference, checkpoint: str | Path | None, run: RunConfig) -> VllmClient:
    """Start vLLM on a checkpoint, or on the untrained model if there is none.

    Raises:
        ConfigError: vLLM is not installed.
    """
    if problems := config.unusable():
        raise ConfigError("\n".join(problems))
    import torch
    from vllm import LLM
    from vllm.lora.request import LoRARequest

    from ..models import ADAPTER_CONFIG, load_tokenizer, model_source

    model = run.model if config.dtype == "model" else run.model.model_copy(update={"dtype": config.dtype})
    adapter = read_json(Path(checkpoint) / ADAPTER_CONFIG) if checkpoint is not None else None
    whole = checkpoint is not None and adapter is None
    gc.collect()
    torch.cuda.empty_cache()  # what training held
    engine = LLM(
        str(checkpoint) if whole else model_source(model).name,
        tokenizer=str(checkpoint) if whole else model.tokenizer,
        revision=None if whole else model.revision,
        trust_remote_code=model.trust_remote_code,
        dtype=model.dtype,
        seed=run.seed,
        gpu_memory_utilization=config.gpu_memory_utilization,
        tensor_parallel_size=config.tensor_parallel_size,
        max_model_len=config.max_model_len,
        enable_prefix_caching=config.share_prefix,
        **({"enable_lora": True, "max_lora_rank": lora_room(int(adapter["r"]))} if adapter else {}),
    )
    lora = LoRARequest("arm", 1, str(checkpoint)) if adapter else None
    identity = weights_identity({"engine": "vllm", "prompt": config.prompt, **model.model_dump()}, checkpoint)
    return VllmClient(engine, load_tokenizer(model, checkpoint), config, lora=lora, identity=identity)


class VllmClient:
    """An InferenceClient on a vLLM engine.

    Args:
        engine: vllm.LLM.
        lora: the adapter that answers, as vllm's LoRARequest; None: the engine's own weights.
        identity: what the answers depend on, for resuming; None: unknown.
    """

    def __init__(
        self,
        engine: Any,
        tokenizer: PreTrainedTokenizerBase,
        config: VllmInference | None = None,
        *,
        lora: Any = None,
        identity: str | None = None,
    ) -> None:
        self._engine, self._tokenizer, self._lora = engine, tokenizer, lora
        self._config = config or VllmInference()
        self.identity = identity
        self.facts: dict[str, Any] = {"engine": "vllm", "dtype": self._config.dtype}

    def generate(self, requests: Sequence[Request], on_result: OnResult | None = None) -> list[Result]:
        """Answer all requests. `latency_s` is the time of the answer's chunk."""
        results: dict[int, Result] = {}

        def finish(index: int, result: Result) -> None:
            results[index] = result
            if on_result is not None:
                on_result(index, result)

        choosing = {index: request for index, request in enumerate(requests) if request.choices}
        answer_choices(self._engine, choosing, self._tokenizer, self._config.prompt, self._lora, finish)
        prompts: dict[int, list[int]] = {}
        asked = [index for index, request in enumerate(requests) if not request.choices]
        texts = tokenize([requests[index] for index in asked], self._tokenizer, self._config.prompt)
        for index, prompt in zip(asked, texts, strict=True):
            if isinstance(prompt, str):
                finish(index, Result(finish_reason="error", error=prompt))
            else:
                prompts[index] = prompt
        # those that begin alike behind each other, so that the prefix cache finds them
        order = sorted(prompts, key=lambda index: prompts[index])
        for start in range(0, len(order), CHUNK):
            self._chunk({index: prompts[index] for index in order[start : start + CHUNK]}, requests, finish)
        return [results[index] for index in range(len(requests))]

    def _chunk(self, prompts: dict[int, list[int]], requests: Sequence[Request], finish: OnResult) -> None:
        from vllm import SamplingParams

        started = time.monotonic()
        try:
            outputs = self._engine.generate(
                [{"prompt_token_ids": prompt} for prompt in prompts.values()],
                [SamplingParams(**sampling(requests[index])) for index in prompts],
                use_tqdm=False,
                lora_request=self._lora,
            )
        except ValueError as error:  # a prompt that is too long is refused for the whole chunk
            if len(prompts) == 1:
                (index,) = prompts
                finish(index, Result(finish_reason="error", error=describe(error), prompt_tokens=len(prompts[index])))
                return
            half = len(prompts) // 2
            parts = list(prompts.items())
            self._chunk(dict(parts[:half]), requests, finish)
            self._chunk(dict(parts[half:]), requests, finish)
            return
        seconds = time.monotonic() - started
        for (index, prompt), output in zip(prompts.items(), outputs, strict=True):
            finish(index, result_of(prompt, output.outputs[0], seconds))


def sampling(request: Request) -> dict[str, Any]:
    """The arguments of vllm.SamplingParams for a request."""
    return {
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "stop": list(request.stop) or None,
        "seed": request.seed if request.temperature > 0 else None,
    }


def result_of(prompt: Sequence[int], output: Any, seconds: float) -> Result:
    """A vllm CompletionOutput as a Result."""
    reason = output.finish_reason
    known = reason in ("stop", "length")
    return Result(
        text=output.text,
        finish_reason=reason if known else "error",
        prompt_tokens=len(prompt),
        completion_tokens=len(output.token_ids),
        latency_s=seconds,
        error=None if known else f"vLLM ended the answer: {reason}",
        prompt_ids=list(prompt),
        token_ids=list(output.token_ids),
    )


def lora_room(rank: int) -> int:
    """The smallest rank vLLM makes room for that holds this one.

    Raises:
        ConfigError: none does.
    """
    found = next((room for room in RANKS if room >= rank), None)
    if found is None:
        raise ConfigError(
            f"model.lora.r={rank}: vLLM takes at most {RANKS[-1]}; use inference=local or merge the adapters"
        )
    return found
