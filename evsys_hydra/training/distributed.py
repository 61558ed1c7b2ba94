"""Several processes that make the steps of one training together: shares of a step, summed gradients, agreement.

Every rank knows all examples and takes its share of each step, so data order and loss are those of one process; the
gradients of the mean over all trained tokens of the step are summed once a step. They are summed here and not by
DistributedDataParallel because a rank can so make as many passes as its memory allows, none if the step is small, and
sums in an order that a resumed training repeats.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

BUCKET_ELEMENTS = 1 << 24
"""Gradients that are summed in one call: 64 MB in float32, which bounds the copy that is made of them."""
PATIENCE = timedelta(days=30)
"""How long a rank waits for the others, who may be evaluating; a rank that dies is seen by whoever started it."""


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together.

    Args:
        rank: which one, from 0; the first one writes, evaluates and decides.
        size: how many there are.
        sharded: weights, gradients and optimizer are spread over the ranks (FSDP), not held by each.
    """

    rank: int = 0
    size: int = 1
    sharded: bool = False

    @property
    def is_first(self) -> bool:
        """Whether this rank is the one that writes."""
        return self.rank == 0

    def share(self, members: Sequence[int], lengths: Sequence[int], rank: int | None = None) -> Sequence[int]:
        """The examples of a step that a rank (None: this one) computes: every size-th in order of length."""
        if self.size == 1:
            return members
        ordered = sorted(members, key=lengths.__getitem__)
        return ordered[self.rank if rank is None else rank :: self.size]

    def sum_gradients(self, parameters: Sequence[Tensor], loss_sum: Tensor) -> Tensor:
        """Put the sum of the ranks' gradients into every rank's; the sum of their losses.

        A parameter without a gradient on any rank keeps none. Shards are summed by FSDP itself in the backward pass.
        """
        if self.size == 1:
            return loss_sum
        import torch
        import torch.distributed as dist

        if self.sharded:
            dist.all_reduce(loss_sum)
            return loss_sum
        has = torch.tensor([float(parameter.grad is not None) for parameter in parameters], device=loss_sum.device)
        facts = torch.cat([loss_sum.reshape(1).double(), has.double()])
        dist.all_reduce(facts)
        used = [parameter for parameter, n in zip(parameters, facts[1:].tolist(), strict=True) if n]
        for parameter in used:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        for bucket in _buckets([parameter.grad for parameter in used if parameter.grad is not None]):
            flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
            dist.all_reduce(flat)
            parts = torch.split(flat, [gradient.numel() for gradient in bucket])
            for gradient, summed in zip(bucket, parts, strict=True):
                gradient.copy_(summed.view_as(gradient))
        return facts[0].to(loss_sum.dtype)

    def agreed(self, value: T) -> T:
        """The first rank's value, on every rank."""
        if self.size == 1:
            return value
        import torch
        import torch.distributed as dist

        values = [value]
        dist.broadcast_object_list(values, src=0, device=torch.device("cpu"))
        return values[0]

    def gathered(self, value: T) -> list[T]:
        """Every rank's value in the order of the ranks, on every rank."""
        if self.size == 1:
            return [value]
        import torch.distributed as dist

        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def own_seed(self, seed: int) -> None:
        """Give each rank random numbers of its own, once the weights that all share are drawn."""
        if not self.is_first:
            from .seeding import set_seed

            set_seed((seed + 1_000_003 * self.rank) % 2**32)


ALONE = Ranks()


def launched_ranks(processes: int) -> int:
    """How many ranks whoever launched this process (SLURM, torchrun) has started; 1: this process is alone.

    Raises:
        ConfigError: not as many as the config asks for.
    """
    started = all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"))
    size = int(os.environ["WORLD_SIZE"]) if started else 1
    if size > 1 and processes not in (1, size):
        raise ConfigError(
            f"model.processes={processes}, but this arm was launched as {size} tasks. Leave model.processes at 1 "
            "where the launcher starts the tasks, or launch one task"
        )
    return size


@contextmanager
def joined(rank: int, size: int, *, sharded: bool, rendezvous: str = "env://") -> Iterator[Ranks]:
    """Meet the other ranks: gloo between CPUs, and nccl between GPUs where this process has one.

    A rank that fails leaves without a word to the others, so that they cannot take its part for complete.

    Args:
        rendezvous: where they meet, as torch.distributed's init_method.

    Raises:
        ConfigError: there are several GPUs, but none for this rank.
    """
    import torch
    import torch.distributed as dist

    backend = "gloo"
    if torch.cuda.is_available():
        backend = "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(_own_gpu(torch.cuda.device_count()))
    dist.init_process_group(backend, init_method=rendezvous, rank=rank, world_size=size, timeout=PATIENCE)
    yield Ranks(rank, size, sharded)
    dist.barrier()
    dist.destroy_process_group()


def _own_gpu(visible: int) -> int:
    """Which of the GPUs that this process sees is its own: the only one, or the one of its number on this node.

    Raises:
        ConfigError: there is none of that number.
    """
    local = int(os.environ.get("LOCAL_RANK", "0")) if visible > 1 else 0
    if local >= visible:
        raise ConfigError(f"LOCAL_RANK={local}, but this node has {visible} GPUs: launch a task a GPU")
    return local


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Neighbours of one type, together at most BUCKET_ELEMENTS (or a single one)."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        full = bucket and sum(each.numel() for each in bucket) + tensor.numel() > BUCKET_ELEMENTS
        if bucket and (full or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket
