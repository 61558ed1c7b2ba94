"""Low-rank adapters (peft) on a model. The seed must be set before, because their weights are drawn here."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ..config import LoraConfig
from ..errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def add_adapters(model: PreTrainedModel, lora: LoraConfig) -> PreTrainedModel:
    """The model with new adapters, the only weights that are trainable.

    Raises:
        ConfigError: peft is not installed, or a target module does not exist.
    """
    try:
        import peft  # seconds of import, only for adapters
    except ImportError as error:
        raise ConfigError("model.lora needs peft: pip install 'evsys_hydra[lora]'") from error
    config = peft.LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # peft divides by r: any number will do
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        task_type="CAUSAL_LM",
    )
    try:
        return cast("PreTrainedModel", peft.get_peft_model(model, config))
    except ValueError as error:
        raise ConfigError(f"model.lora.target_modules={lora.target_modules!r}: {error}") from error


def has_adapters(model: PreTrainedModel) -> bool:
    """Whether a loaded model is one with adapters."""
    return hasattr(model, "peft_config")
