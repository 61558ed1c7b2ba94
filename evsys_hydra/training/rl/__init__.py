"""Training on the model's own samples: prompts, sampling, rewards, advantages, and the record of it all."""
