"""One optimizer step: gradients accumulated over passes of similar length, checked, clipped, applied.

Loss and gradients are those of the mean over all trained tokens of the step, however it is cut into passes. A step
that runs out of memory is tried again in passes of half the size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from .batching import split_by_length, split_by_packing
from .distributed import ALONE, Ranks
from .errors import TrainingOutOfMemory
from .seeding import restore_rng_state, rng_state

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Loss(Protocol):
    """What an algorithm minimizes."""

    def sizes(self, members: Sequence[int]) -> tuple[int, int]:
        """Tokens of some examples, and the weight that their loss is divided by (tokens trained on)."""
        ...

    def __call__(self, members: Sequence[int]) -> Tensor:
        """The summed loss of some examples."""
        ...

    def figures(self, members: Sequence[int]) -> Mapping[str, float]:
        """What else there is to say of the last passes over these examples: name -> mean; empty: nothing."""
        ...


class Steps(Protocol):
    """What the loop asks to make its steps; `Stepper` is the plain one."""

    micro_batch_size: int

    @property
    def optimizer(self) -> torch.optim.Optimizer: ...

    def step(self, members: Sequence[int], lr: float) -> StepResult: ...


@dataclass(frozen=True)
class StepResult:
    """What one step did.

    Args:
        loss_sum: summed loss before the step.
        weight: what it is a sum over.
        tokens: tokens seen.
        grad_norm: norm of the gradients before clipping.
        figures: what else the algorithm says of it.
    """

    loss_sum: float
    weight: int
    tokens: int
    grad_norm: float
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def finite(self) -> bool:
        """Whether loss and gradients are numbers; if not, the step was not applied."""
        return math.isfinite(self.loss_sum) and math.isfinite(self.grad_norm)


@dataclass
class Stepper:
    """Makes steps.

    Args:
        loss: what is minimized.
        optimizer: has the parameters that are trained.
        lengths: tokens of every example.
        pass_cost: what a forward pass costs beside its tokens, in tokens.
        micro_batch_size: examples in a forward pass at most; halved here when memory runs out.
        max_grad_norm: gradients are scaled down to this norm; None: not.
        autocast: the context of forward passes.
        on_halved: told the new micro_batch_size.
        ranks: who makes the steps together with this process.
        packed: a pass is a row of examples behind each other, not one of padded examples of similar length.
    """

    loss: Loss
    optimizer: torch.optim.Optimizer
    lengths: Sequence[int]
    pass_cost: int
    micro_batch_size: int
    max_grad_norm: float | None
    autocast: Callable[[], AbstractContextManager[object]]
    on_halved: Callable[[int], None]
    ranks: Ranks = ALONE
    packed: bool = False

    def step(self, members: Sequence[int], lr: float) -> StepResult:
        """One step on some examples; not applied if loss or gradients are not finite.

        Raises:
            TrainingOutOfMemory: not even one example fits, or not the optimizer.
        """
        import torch

        tokens, weight = self.loss.sizes(members)
        own = self._gradients(members, weight)
        try:
            summed, grad_norm = self._apply(own, lr)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise TrainingOutOfMemory(
                f"the passes fit into memory, but not the optimizer's moments beside weights and gradients ({error}). "
                "Train adapters (model=lora), or spread the model over several GPUs (model.parallel=fsdp)"
            ) from error
        result = StepResult(summed, weight, tokens, grad_norm, self.loss.figures(members))
        self.optimizer.zero_grad(set_to_none=True)
        return result

    def smaller(self, tried: int) -> None:
        """From now on passes of half as many examples as those that were tried and did not fit."""
        import torch

        self.optimizer.zero_grad(set_to_none=True)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.micro_batch_size = max(1, tried // 2)
        self.on_halved(self.micro_batch_size)

    def _apply(self, own: Tensor, lr: float) -> tuple[float, float]:
        """Sum this rank's gradients with the others', and update the weights; the step's loss and gradient norm."""
        import torch

        loss_sum = self.ranks.sum_gradients(self._parameters(), own)
        norm = torch.nn.utils.clip_grad_norm_(self._parameters(), self.max_grad_norm or math.inf)
        norm = norm.full_tensor() if self.ranks.sharded else norm  # type: ignore[attr-defined]
        summed, grad_norm = torch.stack([loss_sum, norm.float()]).tolist()  # one wait for the device
        if math.isfinite(summed) and math.isfinite(grad_norm):
            for group in self.optimizer.param_groups:
                group["lr"] = lr
            self.optimizer.step()
        return summed, grad_norm

    def _gradients(self, members: Sequence[int], weight: int) -> Tensor:
        """Fill the gradients of this rank's share; the summed loss.

        Out of memory: again in smaller passes, with the same random numbers. (Not where every pass is made together
        with other ranks.)
        """
        import torch

        if self.ranks.sharded:
            return self._accumulate_sharded(members, weight)
        members = self.ranks.share(members, self.lengths)
        state = rng_state()
        while True:
            try:
                return self._accumulate(members, weight)
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                if min(self.micro_batch_size, len(members)) == 1:
                    raise self.too_large(members, error) from error
            # Outside the except block: the exception no longer holds on to the failed pass's tensors.
            self.smaller(min(self.micro_batch_size, len(members)))
            restore_rng_state(state)

    def too_large(self, members: Sequence[int], error: BaseException) -> TrainingOutOfMemory:
        """What to say, and to advise, when the smallest pass over some examples does not fit."""
        longest = max(self.lengths[member] for member in members)
        if self.ranks.sharded:
            return TrainingOutOfMemory(
                f"a pass of up to {self.micro_batch_size} examples of up to {longest} tokens does not fit into memory "
                f"({error}). Set a smaller algorithm.micro_batch_size, lower algorithm.max_length, or set "
                "algorithm.gradient_checkpointing=true"
            )
        return TrainingOutOfMemory(
            f"one example of up to {longest} tokens does not fit into memory ({error}). Lower algorithm.max_length, "
            "set algorithm.gradient_checkpointing=true, or train adapters (model=lora)"
        )

    def _accumulate(self, members: Sequence[int], weight: int) -> Tensor:
        import torch

        total = torch.zeros((), device=self._parameters()[0].device)
        for part in self._passes(members):
            with self.autocast():
                loss = self.loss(part)
            (loss / weight).backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total

    def _accumulate_sharded(self, members: Sequence[int], weight: int) -> Tensor:
        """As many passes on every rank: each brings weights together and spreads gradients, which takes all ranks.

        FSDP takes the mean over the ranks, so the loss is multiplied by their number.
        """
        import torch

        ranks = self.ranks
        shares = [self._passes(ranks.share(members, self.lengths, rank)) for rank in range(ranks.size)]
        own = shares[ranks.rank]
        total = torch.zeros((), device=self._parameters()[0].device)
        try:
            for place in range(max(map(len, shares))):
                with self.autocast():
                    loss = self.loss(own[place]) if place < len(own) else 0.0 * self.loss(members[:1])
                (loss * (ranks.size / weight)).backward()  # type: ignore[no-untyped-call]
                total += loss.detach()
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if is_out_of_memory(error):
                raise self.too_large(members, error) from error
            raise
        return total

    def _passes(self, members: Sequence[int]) -> list[list[int]]:
        if self.packed:
            return split_by_packing(members, self.lengths, most=self.micro_batch_size)
        return split_by_length(members, self.lengths, most=self.micro_batch_size, pass_cost=self.pass_cost)

    def _parameters(self) -> list[Tensor]:
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out (a CPU's is a plain RuntimeError)."""
    if isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__:
        return True
    text = str(error).lower()
    return "out of memory" in text or "can't allocate memory" in text
