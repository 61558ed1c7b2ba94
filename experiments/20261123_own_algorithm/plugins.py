"""An algorithm of this experiment's own: only the model's norm weights are trained, by a plain PyTorch loop."""

from pydantic import Field

from evsys_hydra import KindConfig, RunResult, TrainContext, register_algorithm


class NormsOnly(KindConfig):
    """Settings, typed: a misspelt key in config.yaml is an error that names it."""

    lr: float = Field(gt=0)
    """Learning rate of AdamW."""
    max_steps: int = Field(60, ge=1)
    """Optimizer steps; a field of this name is what dry=true shortens."""
    batch_size: int = Field(16, ge=1)
    """Examples a step."""


@register_algorithm("norms_only", config=NormsOnly)
def train(config: NormsOnly, context: TrainContext) -> RunResult:
    """Train the one-dimensional weights and save the model."""
    import torch  # heavy: only the process that trains imports it

    from evsys_hydra.models import load_model
    from evsys_hydra.training.encoding import EncodingOptions, encode_rows
    from evsys_hydra.training.loss import LabelLoss

    torch.manual_seed(context.run.seed)
    model, tokenizer = load_model(context.run.model, context.start_from, trainable=True)
    for weights in model.parameters():
        weights.requires_grad = weights.ndim == 1
    examples = encode_rows(context.rows, tokenizer, EncodingOptions()).examples
    loss_of = LabelLoss(model, examples, pad_id=tokenizer.pad_token_id or 0)
    optimizer = torch.optim.AdamW((weights for weights in model.parameters() if weights.requires_grad), lr=config.lr)

    model.train()
    value = 0.0
    for step in range(1, config.max_steps + 1):
        members = torch.randint(len(examples), (config.batch_size,)).tolist()
        loss = loss_of(members) / loss_of.sizes(members)[1]  # mean over the trained tokens
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        value = loss.item()
        context.record.metrics(step, {"loss": value})
        context.record.progress("train", step, config.max_steps)

    checkpoint = context.directory / "checkpoints" / "final"
    model.save_pretrained(checkpoint)
    tokenizer.save_pretrained(checkpoint)
    return RunResult(context.run.name, metrics={"train_loss": value}, artifacts={"checkpoint": str(checkpoint)})
