"""Every error that evsys_hydra raises on purpose.

EvsysError
 ├── ConfigError        a config that cannot run: found before anything is launched
 │    └── UnknownKind   a `kind` that no registry knows
 ├── DataError          rows or tasks that cannot be read: names file and line
 ├── RecordError        an experiment's directory that cannot be used
 ├── EvaluationError    a benchmark that could not be scored
 └── StoreError         a store that refused or could not be reached

All are plain subclasses without their own __init__, so that each survives pickling.
"""


class EvsysError(Exception):
    """Base of every error raised on purpose; its text is written for the user."""


class ConfigError(EvsysError):
    """A config that cannot run. The text lists every problem with arm, field, value and options."""


class UnknownKind(ConfigError):
    """A `kind` that is not registered. The text lists the known ones."""


class DataError(EvsysError):
    """Training rows or benchmark tasks that cannot be read. The text names file and line."""


class RecordError(EvsysError):
    """An experiment's directory that is missing, foreign or incomplete."""


class EvaluationError(EvsysError):
    """A benchmark that could not be scored at all."""


class StoreError(EvsysError):
    """A store that refused a record or could not be reached."""
