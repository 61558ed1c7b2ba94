"""Weights and optimizer spread over the ranks (FSDP, torch's fully_shard), and brought together to save or evaluate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError

if TYPE_CHECKING:
    import torch
    from torch import nn

MANAGED = "_is_fsdp_managed_module"
"""Torch's mark on modules that are spread; transformers' generate waits for all ranks where it sees it."""


def shard(model: nn.Module) -> None:
    """Spread a model over the ranks in place, layer by layer.

    Raises:
        ConfigError: the model does not say what its layers are, or part of it was not spread.
    """
    from torch.distributed.fsdp import FSDPModule, fully_shard
    from torch.distributed.tensor import DTensor

    names = set(getattr(model, "_no_split_modules", None) or ())
    layers = [module for module in model.modules() if type(module).__name__ in names]
    if not layers:
        raise ConfigError("model.parallel=fsdp: this model does not say what its layers are; use model.parallel=ddp")
    for module in (*layers, model):
        fully_shard(module, reshard_after_forward=True)
    whole = [name for name, parameter in model.named_parameters() if not isinstance(parameter, DTensor)]
    if whole or not isinstance(model, FSDPModule) or not all(isinstance(layer, FSDPModule) for layer in layers):
        raise ConfigError(f"model.parallel=fsdp: {whole[:3] or 'layers'} were not spread; use model.parallel=ddp")


def whole_weights(model: nn.Module) -> dict[str, Any]:
    """All weights, tied ones once, on the CPU of the first rank; every rank must ask."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    every = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    tied = every - {name for name, _ in model.named_parameters()}
    weights = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    return {name: value for name, value in weights.items() if name not in tied}


def whole_optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The optimizer's state as one process would have it, on the CPU; every rank must ask."""
    from torch.distributed.tensor import DTensor

    def whole(value: Any) -> Any:
        return value.full_tensor().cpu() if isinstance(value, DTensor) else value

    state = optimizer.state_dict()
    moments = {place: {name: whole(v) for name, v in entry.items()} for place, entry in state["state"].items()}
    return {**state, "state": moments}


def spread_optimizer_state(state: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The reverse of `whole_optimizer_state`: this rank's part of a whole state."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def part(place: int, value: Any) -> Any:
        parameter = parameters[place]
        if not isinstance(parameter, DTensor) or getattr(value, "shape", None) != parameter.shape:
            return value
        return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements)

    moments = {
        place: {name: part(place, value) for name, value in entry.items()} for place, entry in state["state"].items()
    }
    return {**state, "state": moments}


@contextmanager
def brought_together(model: nn.Module) -> Iterator[None]:
    """Inside, every rank holds the whole model, so that one alone can evaluate it; every rank must enter."""
    from torch.distributed.fsdp import FSDPModule

    assert isinstance(model, FSDPModule)
    parts = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    managed = [module for module in model.modules() if getattr(module, MANAGED, False)]
    for module in managed:
        setattr(module, MANAGED, False)
    try:
        yield
    finally:
        for module in managed:
            setattr(module, MANAGED, True)
        for part in parts:
            part.set_reshard_after_forward(True, recurse=False)
            part.reshard()
