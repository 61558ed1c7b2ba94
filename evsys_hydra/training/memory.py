"""How many examples a forward and backward pass may have: measured on this device, with the longest examples."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from .seeding import undisturbed
from .stepping import Stepper, is_out_of_memory

if TYPE_CHECKING:
    import torch

SHARE = 0.8
"""Share of the free memory that a step may take: allocators leave holes, and others use memory too."""


def fitting_pass(stepper: Stepper) -> tuple[int, dict[str, float]]:
    """The most examples whose pass fits, at most the stepper's micro_batch_size.

    Two passes are measured, of one and of two of the longest examples; memory grows by the difference with each more.
    Weights, optimizer and random numbers stay as they are.

    Returns:
        The number, and what it was computed from, in bytes: free, first_example, each_more.
    """
    import torch

    most = stepper.micro_batch_size
    longest = sorted(range(len(stepper.lengths)), key=stepper.lengths.__getitem__)[-2:][::-1]
    parameters = [parameter for group in stepper.optimizer.param_groups for parameter in group["params"]]
    moments = 2 * sum(parameter.numel() * parameter.element_size() for parameter in parameters)
    where: torch.device = parameters[0].device
    free = max(0.0, SHARE * (_free(where) - moments))
    measured = []
    with undisturbed():
        for n in range(1, min(most, len(longest), 2) + 1):
            try:
                measured.append(float(_peak(stepper, longest[:n], where)))
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                measured.append(float("inf"))
            stepper.optimizer.zero_grad(set_to_none=True)
    first, second = measured[0], measured[-1]
    more = max(second - first, 0.05 * second, 1.0) if len(measured) > 1 else max(first, 1.0)
    fits = 1 + int(max(0.0, free - first) / more) if first < float("inf") else 1
    return max(1, min(most, fits)), {"free": free, "first_example": first, "each_more": more}


def _peak(stepper: Stepper, members: list[int], where: torch.device) -> int:
    """Bytes that a forward and backward pass of some examples takes at its highest, gradients included."""
    import torch

    if where.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        Path("/proc/self/clear_refs").write_text("5")  # the highest resident size starts again from now
        before = _status("VmRSS")
    with stepper.autocast():
        loss = stepper.loss(members)
    loss.backward()  # type: ignore[no-untyped-call]
    return (torch.cuda.max_memory_allocated() if where.type == "cuda" else _status("VmHWM")) - before


def _free(where: torch.device) -> int:
    """Bytes that this process can still take."""
    import torch

    if where.type == "cuda":
        free, _ = torch.cuda.mem_get_info()
        return int(free + torch.cuda.memory_reserved() - torch.cuda.memory_allocated())
    available = _kilobytes(Path("/proc/meminfo"), "MemAvailable")
    limit, used = (_number(Path("/sys/fs/cgroup") / name) for name in ("memory.max", "memory.current"))
    return min(available, limit - used) if limit is not None and used is not None else available


def _status(name: str) -> int:
    return _kilobytes(Path("/proc/self/status"), name)


def _kilobytes(path: Path, name: str) -> int:
    line = next(line for line in path.read_text().splitlines() if line.startswith(name + ":"))
    return 1024 * int(line.split()[1])


def _number(path: Path) -> int | None:
    return int(path.read_text()) if os.path.exists(path) and path.read_text().strip().isdigit() else None
