"""The policy that training started from, kept to compare with while it moves away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, cast

from ..adapters import has_adapters
from ..context import TrainContext
from ..policy import Policy, frozen
from ..seeding import undisturbed
from ..sft import load_trainable

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


class Reference:
    """The start of a training: its model with new adapters switched off, or else a second model in memory.

    Args:
        live: the model that is trained.
    """

    def __init__(
        self,
        context: TrainContext,
        live: PreTrainedModel,
        pad_id: int,
        autocast: Callable[[], AbstractContextManager[object]],
    ) -> None:
        self._autocast = autocast
        self._adapters: PeftModel | None = None
        if has_adapters(live) and context.start_from is None:
            self._adapters = cast("PeftModel", live)
            self._policy = Policy(live, pad_id)
        else:
            with undisturbed():
                start, _ = load_trainable(context, None)
            start.requires_grad_(False)
            self._policy = Policy(start, pad_id)

    @contextmanager
    def policy(self) -> Iterator[Policy]:
        """The policy as it was at the start, without dropout and gradients."""
        with frozen(self._policy.model, self._autocast):
            if self._adapters is None:
                yield self._policy
            else:
                with self._adapters.disable_adapter():
                    yield self._policy
