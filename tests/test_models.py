"""Models by directory, GGUF file and checkpoint; and what is said when there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evsys_hydra.config import ModelConfig
from evsys_hydra.demo import MODEL_DIR
from evsys_hydra.errors import ConfigError
from evsys_hydra.models import check_model, load_model, load_tokenizer, model_source, resolve_model_path
from tests.training.parts import make_tiny_model, run_sft


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


def test_names_are_resolved(tmp_path: Path) -> None:
    assert resolve_model_path("demo") == str(MODEL_DIR)
    assert resolve_model_path(str(tmp_path)) == str(tmp_path.resolve())
    assert resolve_model_path("org/model") == "org/model"
    with pytest.raises(ConfigError, match=r"model\.name='\./none': no such directory.*`demo`"):
        resolve_model_path("./none")


def test_the_driver_sees_problems_without_loading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_model(ModelConfig(name="demo")) == []
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert check_model(ModelConfig(name="org/model")) == []
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "it is not in the hub's cache. HF_HUB_OFFLINE is set" in check_model(ModelConfig(name="org/model"))[0]
    assert "no config.json" in check_model(ModelConfig(name=str(tmp_path)))[0]
    assert "no such directory" in check_model(ModelConfig(name=str(tmp_path / "none")))[0]
    assert "GGUF files there: none" in check_model(ModelConfig(name=str(tmp_path), gguf_file="a.gguf"))[0]
    assert "no such file" in check_model(ModelConfig(name="demo", chat_template="none.jinja"))[0]


@pytest.mark.model
def test_the_demo_model_loads_in_float32_on_a_cpu() -> None:
    import torch

    model, tokenizer = load_model(ModelConfig(name="demo"))
    assert not model.training
    assert model.dtype == (torch.float32 if not torch.cuda.is_available() else torch.bfloat16)
    assert tokenizer.chat_template and tokenizer.pad_token


@pytest.mark.model
def test_the_models_own_directory_as_checkpoint_is_the_model(tiny: Path) -> None:
    config = ModelConfig(name=str(tiny))
    own, _ = load_model(config)
    same, _ = load_model(config, Path(model_source(config).name))
    assert all(a.equal(b) for a, b in zip(own.parameters(), same.parameters(), strict=True))


@pytest.mark.model
def test_a_hub_model_that_is_not_there_offline_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for load in (load_model, load_tokenizer):
        with pytest.raises(ConfigError, match=r"'no-org/no-model'.*HF_HUB_OFFLINE is set.*hf download no-org/no-model"):
            load(ModelConfig(name="no-org/no-model"))


@pytest.mark.model
def test_a_directory_that_is_no_checkpoint(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"neither config\.json nor adapter_config\.json"):
        load_model(ModelConfig(name=str(tiny)), tmp_path)


@pytest.mark.model
def test_files_that_lack_weights_are_an_error_and_not_random_numbers(tiny: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    shutil.copytree(tiny, tmp_path / "model")
    weights = load_file(tiny / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, tmp_path / "model" / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigError, match=r"lack 1 of its weights \(model\.layers\.1\.mlp\.up_proj\.weight"):
        load_model(ModelConfig(name=str(tmp_path / "model")))


@pytest.mark.model
def test_a_tokenizer_without_pad_token_gets_one(tiny: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(ModelConfig(name=str(tiny)))
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path)
    assert load_tokenizer(ModelConfig(name=str(tiny), tokenizer=str(tmp_path))).pad_token == tokenizer.eos_token


@pytest.mark.model
def test_the_untrained_model_is_its_own_checkpoint(tiny: Path, tmp_path: Path) -> None:
    from evsys_hydra import registry
    from evsys_hydra.config import typed
    from tests.training.parts import make_context

    config = typed(registry.algorithms, "none")
    train = registry.algorithms.get("none").target
    assert train(config, make_context(tmp_path / "a", tiny)).artifacts == {"checkpoint": str(tiny.resolve())}
    assert train(config, make_context(tmp_path / "b", "org/model")).artifacts == {"checkpoint": "org/model"}
    start = make_context(tmp_path / "c", tiny, start_from=tmp_path)
    assert train(config, start).artifacts == {"checkpoint": str(tmp_path.resolve())}


def write_gguf(model: Any, path: Path) -> None:
    """A Llama's weights as a GGUF file, as llama.cpp's converter writes it."""
    import gguf

    config = model.config
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight":  # tied
            continue
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
            rows, columns = tensor.shape
            tensor = tensor.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)
        writer.add_tensor(str(names.get_name(name, (".weight",))), tensor.float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.model
def test_a_gguf_file_is_loaded_trained_and_saved(tiny: Path, tmp_path: Path) -> None:
    import torch

    pytest.importorskip("gguf")
    plain, _ = load_model(ModelConfig(name=str(tiny)))
    folder = tmp_path / "gguf"
    folder.mkdir()
    write_gguf(plain, folder / "tiny.gguf")
    config = ModelConfig(name=str(folder), gguf_file="tiny.gguf", tokenizer=str(tiny))
    loaded, tokenizer = load_model(config)
    ids = torch.tensor([tokenizer("Say cat.")["input_ids"]])
    with torch.no_grad():
        torch.testing.assert_close(loaded(input_ids=ids).logits, plain(input_ids=ids).logits, rtol=1e-4, atol=1e-4)
    by_file, _ = load_model(ModelConfig(name=str(folder / "tiny.gguf"), tokenizer=str(tiny)))
    assert all(a.equal(b) for a, b in zip(loaded.parameters(), by_file.parameters(), strict=True))
    result = run_sft(tmp_path / "arm", folder, gguf_file="tiny.gguf", tokenizer=str(tiny))
    trained, _ = load_model(config, result.artifacts["checkpoint"])
    assert not all(a.equal(b) for a, b in zip(loaded.parameters(), trained.parameters(), strict=True))
