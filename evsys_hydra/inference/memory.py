"""How many answers fit into memory at a time: an estimate to begin with, corrected by what happens."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..causes import cause_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

CPU_SHARE = 0.25
"""Of the free memory; other arms of the machine count on the rest."""
GPU_SHARE = 0.8


def is_out_of_memory(error: Exception) -> bool:
    """Whether a smaller batch may help."""
    return cause_of(error) == "out_of_memory"


def budget(device: torch.device) -> float:
    """Bytes that a batch may use: a share of what is free now."""
    if device.type == "cuda":
        import torch

        free_unused(device)
        return GPU_SHARE * torch.cuda.mem_get_info(device)[0]
    return CPU_SHARE * _free_cpu_memory()


def free_unused(device: torch.device) -> None:
    """Give back what a GPU's allocator holds and nobody uses."""
    if device.type == "cuda":
        import torch

        torch.cuda.empty_cache()


def bytes_per_token(model: PreTrainedModel) -> float:
    """Estimated bytes that one token of one row takes: keys and values twice (growing copies them), activations."""
    config = model.config.get_text_config()
    size = next(model.parameters()).element_size()
    heads = getattr(config, "num_attention_heads", 1)
    hidden = getattr(config, "hidden_size", 1024)
    head_dim = getattr(config, "head_dim", None) or hidden // heads
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    layers = getattr(config, "num_hidden_layers", 12)
    inner = getattr(config, "intermediate_size", None) or 4 * hidden
    keys_and_values = 2 * layers * kv_heads * head_dim * size
    return float(2 * keys_and_values + (4 * hidden + 3 * inner) * size)


def bytes_per_row(model: PreTrainedModel) -> float:
    """Estimated bytes that a row takes whatever its length: its logits, in float32 and once more for sampling."""
    return 16.0 * float(getattr(model.config.get_text_config(), "vocab_size", 0))


def _free_cpu_memory() -> float:
    """MemAvailable, or what the container's limit leaves if that is less; 1 GB where nothing says."""
    free = 1e9
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
        cgroup = Path("/sys/fs/cgroup")
        limit = (cgroup / "memory.max").read_text().strip()
        if limit != "max":
            free = min(free, float(limit) - float((cgroup / "memory.current").read_text()))
    except (OSError, ValueError, StopIteration, IndexError):
        pass
    return max(free, 0.0)
