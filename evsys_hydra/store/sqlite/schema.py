"""The tables, as the migrations that lead to them: `user_version` counts the ones that a file has had.

A record is one row: its whole JSON in `data`, and beside it the ids it is looked up by. Curves are the exception: a
`series` is one name and split of one run, its points are three numbers each. `n` is the order of arrival.
"""

from __future__ import annotations

from dataclasses import dataclass

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    INSERT INTO meta VALUES ('id', lower(hex(randomblob(8))));

    CREATE TABLE projects (n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, data TEXT NOT NULL);
    CREATE TABLE goals (
        n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, project_id TEXT, data TEXT NOT NULL);
    CREATE INDEX goals_of_project ON goals (project_id);

    CREATE TABLE experiments (
        n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, project_id TEXT, data TEXT NOT NULL);
    CREATE INDEX experiments_of_project ON experiments (project_id);
    CREATE TABLE groups (
        n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,
        experiment_id TEXT NOT NULL REFERENCES experiments (id) ON DELETE CASCADE, data TEXT NOT NULL);
    CREATE INDEX groups_of_experiment ON groups (experiment_id);
    CREATE TABLE runs (
        n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,
        experiment_id TEXT NOT NULL REFERENCES experiments (id) ON DELETE CASCADE,
        group_id TEXT REFERENCES groups (id) ON DELETE SET NULL, data TEXT NOT NULL);
    CREATE INDEX runs_of_experiment ON runs (experiment_id);
    CREATE INDEX runs_of_group ON runs (group_id);

    CREATE TABLE datasets (
        n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, project_id TEXT, kind TEXT NOT NULL, data TEXT NOT NULL);
    CREATE INDEX datasets_of_project ON datasets (kind, project_id);
    CREATE TABLE dataset_rows (
        dataset_id TEXT NOT NULL REFERENCES datasets (id) ON DELETE CASCADE,
        idx INTEGER NOT NULL, payload TEXT NOT NULL, PRIMARY KEY (dataset_id, idx)) WITHOUT ROWID;

    CREATE TABLE checkpoints (
        n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,
        run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE, data TEXT NOT NULL);
    CREATE INDEX checkpoints_of_run ON checkpoints (run_id);
    CREATE TABLE evals (
        n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,
        run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE, data TEXT NOT NULL);
    CREATE INDEX evals_of_run ON evals (run_id);
    CREATE TABLE predictions (
        n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,
        run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        eval_id TEXT REFERENCES evals (id) ON DELETE CASCADE, kind TEXT NOT NULL, data TEXT NOT NULL);
    CREATE INDEX predictions_of_run ON predictions (run_id, kind);
    CREATE INDEX predictions_of_eval ON predictions (eval_id);

    CREATE TABLE series (
        n INTEGER PRIMARY KEY, run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        name TEXT NOT NULL, split TEXT NOT NULL, UNIQUE (run_id, name, split));
    CREATE TABLE points (
        series INTEGER NOT NULL REFERENCES series (n) ON DELETE CASCADE,
        step INTEGER NOT NULL, value REAL, PRIMARY KEY (series, step)) WITHOUT ROWID;
    """,
)


@dataclass(frozen=True)
class Table:
    """A table of records, with the ids of a record that have columns of their own."""

    name: str
    keys: tuple[str, ...] = ()
    what: str = "record"


PROJECTS = Table("projects", what="project")
GOALS = Table("goals", ("project_id",), "goal")
EXPERIMENTS = Table("experiments", ("project_id",), "experiment")
GROUPS = Table("groups", ("experiment_id",), "group")
RUNS = Table("runs", ("experiment_id", "group_id"), "run")
DATASETS = Table("datasets", ("project_id", "kind"), "dataset")
CHECKPOINTS = Table("checkpoints", ("run_id",), "checkpoint")
EVALS = Table("evals", ("run_id",), "eval")
PREDICTIONS = Table("predictions", ("run_id", "eval_id", "kind"), "prediction")
