"""Training: rows in, checkpoint out.

Each algorithm is a `kind` with a typed config, `train(config, context) -> RunResult`; nothing outside this package
knows which one ran. Importing it is cheap: torch and transformers are imported when an algorithm starts.
"""
