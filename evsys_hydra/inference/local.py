"""The local engine: generates with transformers in the arm's own process, many answers at a time.

Requests are sorted by length into left-padded batches (decoding.py), a shared beginning of the prompts is computed
once, and the batch size follows the memory: an estimate first, halved when it runs out, without losing tokens. The
driver imports this module for its config, so torch is imported inside the functions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from ..config import KindConfig, RunConfig
from ..registry import register_inference
from .client import Request, Result
from .identity import weights_identity
from .prompts import PromptStyle, common_prefix, stop_tokens, tokenize

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from .decoding import Decoder
    from .rows import Prefix, Row

OnResult = Callable[[int, Result], None]
CPU_BATCH = 128
GPU_BATCH = 256
MIN_PREFIX = 16
"""A shorter shared beginning costs more to hand around than to compute again."""


class LocalInference(KindConfig):
    """Generates with transformers, in the arm's own process; scores choices by their log-likelihoods."""

    kind: Literal["local"] = "local"
    batch_size: int | None = Field(None, ge=1)
    """Most answers at a time; null: found from the free memory, at most 128 on a CPU and 256 on a GPU."""
    dtype: Literal["model", "float32", "bfloat16", "float16"] = "model"
    """Precision of the weights while evaluating; model: as model.dtype says."""
    prompt: PromptStyle = "auto"
    """chat: through the chat template; plain: the texts as they are; auto: chat if there is a template."""
    share_prefix: bool = True
    """Compute what all prompts begin with once (a long system prompt)."""


def prompt_style(inference: KindConfig) -> PromptStyle:
    """How prompts are rendered in training too, where the model answers them there."""
    return inference.prompt if isinstance(inference, LocalInference) else "auto"


@register_inference("local", config=LocalInference)
def open_local(config: LocalInference, checkpoint: str | Path | None, run: RunConfig) -> LocalClient:
    """Load a checkpoint, or the untrained model if there is none.

    Raises:
        ConfigError: what could not be loaded.
    """
    from ..models import load_model

    wanted = run.model if config.dtype == "model" else run.model.model_copy(update={"dtype": config.dtype})
    model, tokenizer = load_model(wanted, checkpoint)
    identity = weights_identity({"prompt": config.prompt, **wanted.model_dump()}, checkpoint)
    return LocalClient(model, tokenizer, config, identity=identity)


class LocalClient:
    """An InferenceClient on a loaded model.

    Args:
        model: a causal language model of transformers, on its device, in eval mode.
        identity: what the answers depend on, for resuming; None: unknown.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        config: LocalInference | None = None,
        identity: str | None = None,
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._config = config or LocalInference()
        self.identity = identity
        self._largest = self._config.batch_size or (GPU_BATCH if model.device.type == "cuda" else CPU_BATCH)
        self._has_state = bool(getattr(model, "_is_stateful", False))
        self.facts: dict[str, Any] = {
            "engine": "local",
            "dtype": str(model.dtype).removeprefix("torch."),
            "device": str(model.device),
            "padding": "left",
            "batch_size": 0,
        }

    def generate(self, requests: Sequence[Request], on_result: OnResult | None = None) -> list[Result]:
        """Answer all requests. `latency_s` is from the start of the answer's batch to its last token, or its end.

        Raises:
            ConfigError: a model that keeps no cache which this engine knows (Mamba, RWKV).
        """
        from .decoding import Decoder

        ends = stop_tokens(getattr(self._model.generation_config, "eos_token_id", None), self._tokenizer)
        decoder = Decoder(self._model, self._tokenizer, ends)
        results: dict[int, Result] = {}

        def finish(index: int, result: Result) -> None:
            results[index] = result
            if on_result is not None:
                on_result(index, result)

        self._choose(decoder, requests, finish)
        rows = self._rows(requests, finish)
        prefix = self._prefix(decoder, rows)
        self._decode(decoder, rows, prefix, finish)
        return [results[index] for index in range(len(requests))]

    def _choose(self, decoder: Decoder, requests: Sequence[Request], finish: OnResult) -> None:
        """Answer the requests that have choices."""
        asked = [index for index, request in enumerate(requests) if request.choices]
        if not asked:
            return
        from .likelihood import Likelihood

        engine = Likelihood(
            self._model,
            self._tokenizer,
            self._config.prompt,
            most=self._largest,
            fixed=self._config.batch_size is not None,
            read_prefix=decoder.prefix if self._config.share_prefix else None,
        )
        largest = engine.answer(
            [requests[index] for index in asked], lambda place, result: finish(asked[place], result)
        )
        self.facts["batch_size"] = max(self.facts["batch_size"], largest)

    def _rows(self, requests: Sequence[Request], finish: OnResult) -> list[Row]:
        """Those that generate and have a prompt that fits, longest first: if memory runs out, it does so at once."""
        from .rows import Row

        context = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        rows: list[Row] = []
        asked = [index for index, request in enumerate(requests) if not request.choices]
        prompts = tokenize([requests[index] for index in asked], self._tokenizer, self._config.prompt)
        for index, prompt in zip(asked, prompts, strict=True):
            request = requests[index]
            if isinstance(prompt, str):
                finish(index, Result(finish_reason="error", error=prompt))
            elif context is not None and len(prompt) >= context:
                text = f"the prompt has {len(prompt)} tokens, the model's context {context}"
                finish(index, Result(finish_reason="error", error=text, prompt_tokens=len(prompt)))
            else:
                room = request.max_tokens if context is None else min(request.max_tokens, context - len(prompt))
                stop = tuple(text for text in request.stop if text)
                rows.append(Row(index, prompt, room, request.temperature, request.seed, stop))
        return sorted(rows, key=lambda row: (-len(row.prompt), -row.max_tokens, row.index))

    def _prefix(self, decoder: Decoder, rows: Sequence[Row]) -> Prefix | None:
        if not self._config.share_prefix or self._has_state:
            return None
        shared = common_prefix([row.prompt for row in rows])
        return decoder.prefix(rows[0].prompt[:shared]) if shared >= MIN_PREFIX else None

    def _decode(self, decoder: Decoder, rows: list[Row], prefix: Prefix | None, finish: OnResult) -> None:
        from .memory import is_out_of_memory

        while rows:
            batch = rows[: self._fitting(rows)]
            self.facts["batch_size"] = max(self.facts["batch_size"], len(batch))
            started = time.monotonic()

            def done(row: Row, started: float = started) -> None:
                finish(row.index, _result(decoder, row, time.monotonic() - started))

            try:
                decoder.run(batch, prefix, done)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                rows = self._smaller(rows, batch, finish)
            else:
                rows = rows[len(batch) :]

    def _smaller(self, rows: list[Row], batch: Sequence[Row], finish: OnResult) -> list[Row]:
        """After running out of memory: the rows still to be done, with half the batch size."""
        if len(batch) == 1:
            text = f"out of memory with a single answer (prompt of {len(batch[0].prompt)} tokens)"
            finish(batch[0].index, Result(finish_reason="error", error=text, prompt_tokens=len(batch[0].prompt)))
            return rows[1:]
        self._largest = max(1, len(batch) // 2)
        self.facts["batch_size"] = self._largest
        if self._model.device.type == "cuda":
            import torch

            torch.cuda.empty_cache()
        return [row for row in rows if row.finish is None]

    def _fitting(self, rows: Sequence[Row]) -> int:
        """How many of the first rows make a batch."""
        if self._has_state:  # a recurrent state would take padding in: equal lengths only
            same = [row for row in rows[: self._largest] if len(row.tokens) == len(rows[0].tokens)]
            return len(same)
        if self._config.batch_size is not None:
            return self._largest
        from .memory import budget, bytes_per_row, bytes_per_token

        longest = len(rows[0].prompt) + max(row.max_tokens for row in rows[: self._largest])
        row_bytes = bytes_per_row(self._model) + bytes_per_token(self._model) * longest
        return max(1, min(self._largest, int(budget(self._model.device) / row_bytes)))


def _result(decoder: Decoder, row: Row, seconds: float) -> Result:
    return Result(
        text=decoder.text(row),
        finish_reason=row.finish or "length",
        prompt_tokens=len(row.prompt),
        completion_tokens=len(row.generated),
        latency_s=seconds,
        prompt_ids=row.prompt,
        token_ids=row.generated,
    )
