"""Models and tokenizers by name, directory, GGUF file or checkpoint.

The one place that knows where weights come from: training, evaluation and the baseline all load through it. The driver
imports this module to check configs, so torch and transformers (seconds of import) are imported inside the functions.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from .config import ModelConfig
from .errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DEMO_MODEL = Path(__file__).parent / "demo" / "model"
ADAPTER_CONFIG = "adapter_config.json"
_OFFLINE_OFF = ("", "0", "false", "no", "off")


@dataclass(frozen=True)
class Source:
    """Where a model's files are.

    Args:
        name: a directory's absolute path or a hub name.
        gguf_file: the GGUF file in it, if that is the format.
        is_local: whether `name` is a directory.
    """

    name: str
    gguf_file: str | None
    is_local: bool


def resolve_model_path(name: str) -> str:
    """The directory (absolute) or hub name that a model's name stands for; `demo` is the bundled model.

    Raises:
        ConfigError: `name` is written as a path and nothing is there.
    """
    if name == "demo":
        return str(DEMO_MODEL)
    path = Path(name).expanduser()
    if path.is_dir():
        return str(path.resolve())
    if path.suffix == ".gguf" and path.is_file():
        return str(path.resolve().parent)
    looks_like_path = path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1
    if looks_like_path:
        raise ConfigError(
            f"model.name={name!r}: no such directory. Give a directory with a model, a Hugging Face hub name "
            "(org/model) or `demo`."
        )
    return name


def model_source(model: ModelConfig) -> Source:
    """Where a configured model's files are; a `name` that is itself a .gguf file is accepted."""
    name = resolve_model_path(model.name)
    gguf_file = model.gguf_file
    if gguf_file is None and model.name.endswith(".gguf") and Path(model.name).expanduser().is_file():
        gguf_file = Path(model.name).name
    is_local = Path(name).is_dir()
    if gguf_file is not None and is_local and not (Path(name) / gguf_file).is_file():
        found = sorted(file.name for file in Path(name).glob("*.gguf"))
        raise ConfigError(f"model.gguf_file={gguf_file!r}: no such file in {name}. GGUF files there: {found or 'none'}")
    return Source(name, gguf_file, is_local)


def check_model(model: ModelConfig) -> list[str]:
    """Problems of a model's config that can be seen without loading it: no download, no torch."""
    try:
        source = model_source(model)
    except ConfigError as error:
        return [str(error)]
    problems = []
    if source.is_local and source.gguf_file is None and not (Path(source.name) / "config.json").is_file():
        problems.append(f"model.name={model.name!r}: {source.name} has no config.json, so it is no model")
    if not source.is_local and _is_offline():
        try:
            _located(source.name, model.revision)
        except OSError as error:
            problems.append(f"model.name={model.name!r}: {error} {_offline_remedy(source.name)}")
    if model.chat_template is not None and not Path(model.chat_template).expanduser().is_file():
        problems.append(f"model.chat_template={model.chat_template!r}: no such file")
    return problems


def device() -> torch.device:
    """Where this process computes: its first GPU if it has one, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def resolve_dtype(dtype: str) -> torch.dtype:
    """The torch type of `model.dtype`; auto: bfloat16 on a GPU that has it, else float32 (a CPU's fast, exact type)."""
    import torch

    if dtype != "auto":
        named: torch.dtype = getattr(torch, dtype)
        return named
    has_bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    return torch.bfloat16 if has_bf16 else torch.float32


def load_tokenizer(model: ModelConfig, checkpoint: Path | str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer of a model, or the one saved with its checkpoint; it always has a pad token.

    Raises:
        ConfigError: naming what could not be loaded, and the remedy.
    """
    from transformers import AutoTokenizer  # pulls torch: seconds

    arguments: dict[str, Any] = {"trust_remote_code": model.trust_remote_code}
    if model.tokenizer is not None:
        name = resolve_model_path(model.tokenizer)
    elif checkpoint is not None and (Path(checkpoint) / "tokenizer_config.json").is_file():
        name = str(checkpoint)
    else:
        source = model_source(model)
        name = source.name
        arguments["revision"] = model.revision
        if source.gguf_file is not None and not (Path(name) / "tokenizer_config.json").is_file():
            arguments["gguf_file"] = source.gguf_file
    with _explained("tokenizer", name):
        found = _located(name, model.revision)
        tokenizer = AutoTokenizer.from_pretrained(found, local_files_only=Path(found).is_dir(), **arguments)
    if model.chat_template is not None:
        tokenizer.chat_template = Path(model.chat_template).expanduser().read_text()
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    loaded: PreTrainedTokenizerBase = tokenizer
    return loaded


def load_model(
    model: ModelConfig,
    checkpoint: Path | str | None = None,
    *,
    dtype: torch.dtype | None = None,
    trainable: bool = False,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model, or a checkpoint of it, onto this process's device, in eval mode.

    Args:
        model: which model.
        checkpoint: a directory of whole weights, or of LoRA adapters that go over the model's own weights; None, or
            the model's own directory or name: the model itself.
        dtype: precision of the weights; None: as the config says.
        trainable: leave a checkpoint's adapters trainable.

    Returns:
        The model (a PeftModel if the checkpoint holds adapters) and its tokenizer.

    Raises:
        ConfigError: naming what could not be loaded, and the remedy.
    """
    dtype = dtype or resolve_dtype(model.dtype)
    own = model_source(model)
    if checkpoint is not None and str(checkpoint) == own.name:
        checkpoint = None
    has_adapters = checkpoint is not None and (Path(checkpoint) / ADAPTER_CONFIG).is_file()
    source = own if checkpoint is None or has_adapters else _checkpoint_source(checkpoint)
    loaded = _load_weights(model, source, dtype)
    if has_adapters:
        from peft import PeftModel  # seconds of import, only for adapters

        adapted = PeftModel.from_pretrained(loaded, str(checkpoint), is_trainable=trainable)
        loaded = cast("PreTrainedModel", adapted)
    loaded = loaded.to(device())  # type: ignore[arg-type]
    return loaded.train(False), load_tokenizer(model, checkpoint)


def merge_adapters(model: ModelConfig, checkpoint: Path, out: Path) -> Path:
    """Write a LoRA checkpoint as whole weights, so that any server can load it.

    Raises:
        ConfigError: the checkpoint holds no adapters.
    """
    if not (checkpoint / ADAPTER_CONFIG).is_file():
        raise ConfigError(f"{checkpoint} holds no adapters (no {ADAPTER_CONFIG}): there is nothing to merge")
    loaded, tokenizer = load_model(model, checkpoint)
    cast("PeftModel", loaded).merge_and_unload().save_pretrained(out)
    tokenizer.save_pretrained(out)
    return out


def _checkpoint_source(checkpoint: Path | str) -> Source:
    if not (Path(checkpoint) / "config.json").is_file():
        raise ConfigError(f"{checkpoint} is not a checkpoint: it has neither config.json nor {ADAPTER_CONFIG}")
    return Source(str(checkpoint), None, True)


def _load_weights(model: ModelConfig, source: Source, dtype: torch.dtype) -> PreTrainedModel:
    from transformers import AutoModelForCausalLM  # seconds of import
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # an arm's log has no use for bars

    with _explained("model", source.name):
        found = _located(source.name, model.revision)
        loading = AutoModelForCausalLM.from_pretrained(
            found,
            dtype=dtype,
            revision=model.revision,
            gguf_file=source.gguf_file,
            trust_remote_code=model.trust_remote_code,
            local_files_only=Path(found).is_dir(),
            output_loading_info=True,
        )
    loaded, report = cast("tuple[PreTrainedModel, dict[str, Any]]", loading)
    absent = sorted(report["missing_keys"])
    if absent:  # transformers would go on with random numbers in their place
        raise ConfigError(
            f"the files of model {source.name!r} lack {len(absent)} of its weights ({', '.join(absent[:3])}, ...): "
            "it is no causal language model, or its files are incomplete"
        )
    return loaded if source.gguf_file is None else _plain(loaded, dtype)


def _plain(loaded: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    """A GGUF's weights in an ordinary model: as loaded, transformers refuses to save it."""
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    weights = loaded.state_dict()
    plain: PreTrainedModel = type(loaded)(config).to(dtype)  # type: ignore[arg-type]
    plain.load_state_dict(weights)
    plain.generation_config = loaded.generation_config
    return plain


def _located(name: str, revision: str | None) -> str:
    """A directory or hub name to load from; with HF_HUB_OFFLINE the hub's cache, so that nothing asks the network.

    (The hub's libraries read HF_HUB_OFFLINE when they are imported, which in a fork server is before an arm sets it.)
    """
    if Path(name).is_dir() or not _is_offline():
        return name
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return snapshot_download(name, revision=revision, local_files_only=True)
    except (LocalEntryNotFoundError, HFValidationError) as error:
        raise OSError("it is not in the hub's cache.") from error


def _is_offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").lower() not in _OFFLINE_OFF


def _offline_remedy(name: str) -> str:
    return f"HF_HUB_OFFLINE is set: give a directory, or unset it, or run `hf download {name}` first."


@contextmanager
def _explained(what: str, name: str) -> Iterator[None]:
    """Turn the libraries' errors about missing files into one that names the model and the remedy."""
    try:
        yield
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if Path(name).is_dir():
            remedy = f"Check the files in {name}."
        elif _is_offline():
            remedy = _offline_remedy(name)
        else:
            remedy = "Check the name, the revision and your access to the hub, or give a directory."
        raise ConfigError(f"cannot load the {what} {name!r}: {reason} {remedy}") from error
