"""`evsys-hydra`: the verbs around a sweep. The sweep itself is `python -m evsys_hydra`.

Each verb is a few lines here and a function elsewhere; --json prints for scripts what the plain form prints for people.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from .dashboard.commands import app as dashboard_app
from .errors import EvsysError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="The verbs around a sweep: look at it, finish it, compare it. The sweep itself: python -m evsys_hydra -m ...",
)

app.add_typer(dashboard_app, name="dashboard")

Directory = Annotated[Path, typer.Argument(help="An experiment's directory, as the sweep printed it; or `last`.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def main() -> None:
    """The console entry: errors made for the user are printed without a traceback."""
    try:
        app()
    except EvsysError as error:
        print(error, file=sys.stderr)
        sys.exit(1)


@app.command()
def new(slug: Annotated[str, typer.Argument(help="Short name, for example lr_sweep.")]) -> None:
    """Make experiments/<yyyymmdd>_<slug>/ with config.yaml, run.py and plugins.py that run as they are."""
    from .new import new_experiment

    folder = new_experiment(slug, Path.cwd())
    print(f"{folder}\n\n  python -m evsys_hydra experiments={folder.name}\n  python {folder}/run.py")


@app.command()
def validate(
    overrides: Annotated[list[str] | None, typer.Argument(help="As for the sweep: lr=1e-5,3e-5 seed=0,1.")] = None,
    json: Json = False,
) -> None:
    """Compose and check every arm, and say what this experiment could tell, without launching anything."""
    from .sweep.validate import validate_words

    report = validate_words(overrides or [])
    print_json(report.facts) if json else print(report.text)


@app.command()
def status(directory: Directory, json: Json = False) -> None:
    """The arms and how far they are."""
    from .sweep.status import status_facts, status_text

    facts = status_facts(experiment(directory))
    print_json(facts) if json else print(status_text(facts))


@app.command()
def logs(
    directory: Directory,
    arm: Annotated[str, typer.Argument(help="Name of the arm.")],
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the arm has ended.")] = False,
    lines: Annotated[int, typer.Option("-n", help="How many of the last lines.")] = 50,
) -> None:
    """The log of an arm."""
    from .sweep.status import arm_of, follow_log

    view = arm_of(experiment(directory), arm)
    print("\n".join(view.log_tail(lines)))
    if follow:
        follow_log(view, sys.stdout)


@app.command()
def resume(
    directory: Directory,
    overrides: Annotated[list[str] | None, typer.Argument(help="SLURM: hydra.launcher.partition=gpu, ...")] = None,
    n_jobs: Annotated[int | None, typer.Option(help="Arms at a time; default as the sweep had it.")] = None,
) -> None:
    """Run the arms that have not completed where the sweep ran them, this machine or SLURM, and conclude."""
    from .slurm.resume import resume_on_slurm, was_on_slurm
    from .sweep.resume import resume as run

    if was_on_slurm(experiment(directory)):
        sys.exit(resume_on_slurm(experiment(directory), overrides or []))
    sys.exit(0 if run(experiment(directory), n_jobs=n_jobs).status == "completed" else 1)


@app.command()
def cancel(
    directory: Directory,
    arm: Annotated[str | None, typer.Argument(help="Name of an arm; without: all of them.")] = None,
    json: Json = False,
) -> None:
    """Cancel what an experiment has queued or running, on this machine or SLURM; the rest is concluded."""
    from .slurm.cancel import cancel as on_slurm
    from .slurm.submission import submissions
    from .sweep.cancel import cancel as here

    where = experiment(directory)
    names = (on_slurm if submissions(where) else here)(where, arm)
    print_json(names) if json else print(f"cancelled: {', '.join(names) or 'nothing was queued or running'}")


@app.command()
def conclude(directory: Directory, json: Json = False) -> None:
    """Rank what the records hold and write the conclusion."""
    from .record.files import read_json
    from .sweep.conclude import conclude as run
    from .sweep.show import show_result

    where = experiment(directory)
    result = run(where)
    if json:
        print_json(read_json(where / "conclusion.json"))
    else:
        show_result(result, where)
    sys.exit(0 if result.status == "completed" else 1)


@app.command()
def report(directory: Directory) -> None:
    """Write report.html: the experiment's page as one file that needs no network."""
    from .report import write_report

    print(write_report(experiment(directory)))


@app.command()
def rerun(
    directory: Annotated[Path, typer.Argument(help="An arm's directory; or an experiment's, or `last`, with ARM.")],
    arm: Annotated[str | None, typer.Argument(help="Name of the arm.")] = None,
    out: Annotated[Path | None, typer.Option(help="The new experiment's directory; default beside the first.")] = None,
    json: Json = False,
) -> None:
    """Run an arm again from its record and say whether the numbers are the same; the original is only read."""
    from .rerun import rerun as run
    from .rerun import rerun_text
    from .sweep.status import arm_of

    facts = run(arm_of(experiment(directory), arm).directory if arm is not None else directory, out)
    print_json(facts) if json else print(rerun_text(facts))
    sys.exit(0 if facts["identical"] else 1)


@app.command("eval")
def evaluate(
    arm: Annotated[Path, typer.Argument(help="An arm's directory, or its name in --dir; an experiment's: every arm.")],
    changes: Annotated[
        list[str] | None, typer.Argument(help="benchmark.max_tokens=64, inference.dtype=float32, ...")
    ] = None,
    benchmark: Annotated[
        list[str] | None,
        typer.Option(help="One of the arm's, a folder, or an option of conf/benchmark; default all of the arm's."),
    ] = None,
    step: Annotated[int | None, typer.Option(help="Score the checkpoint of this training step.")] = None,
    directory: Annotated[Path, typer.Option("--dir", help="The experiment of ARM.")] = Path("last"),
    json: Json = False,
) -> None:
    """Score a trained arm, on its own benchmarks or others, without training; a killed one goes on where it was."""
    from .evaluate import arms_of, conclude_again
    from .evaluate import evaluate as run
    from .sweep.catch_up import catch_up
    from .sweep.scored import Told, scored_text

    arms = arms_of(arm, experiment, directory)
    told = Told(sys.stderr)
    done = run(arms, benchmark or [], changes or [], step=step, tell=told)
    told.close()
    where = arms[0].parent.parent if arms else experiment(arm)
    said = conclude_again(where) if any(one.added for one in done) else "Nothing is new in the record."
    if json:
        print_json({"directory": str(where), "evals": [one.facts for one in done], "conclusion": said})
    else:
        print(scored_text(done, said))
    for line in catch_up(where, budget_s=10) if any(one.added for one in done) else []:
        print(line, file=sys.stderr)
    sys.exit(1 if any(one.row.error for one in done) else 0)


@app.command()
def sync(
    directories: Annotated[list[Path], typer.Argument(help="Experiments' directories.")],
    store: Annotated[
        str | None, typer.Option(help="auto, local, gateway, or postgresql://...; without: the experiment's own.")
    ] = None,
    path: Annotated[Path | None, typer.Option(help="The local store's file, if it is not the default one.")] = None,
    rebuild: Annotated[bool, typer.Option(help="Make the local store's records again from the directories.")] = False,
    json: Json = False,
) -> None:
    """Send records that the store and the trackers do not have yet."""
    from .sweep.catch_up import send_all

    where = [experiment(directory) for directory in directories]
    reports = send_all(where, store, path, rebuild=rebuild)
    print_json([report.facts for report in reports]) if json else print("\n".join(map(str, reports)))
    sys.exit(1 if any(report.failed for report in reports) else 0)


@app.command()
def export(
    directory: Directory,
    format: Annotated[str, typer.Option(help="csv, json (one object a line) or parquet.")] = "csv",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder; default export/ in DIRECTORY.")] = None,
    json: Json = False,
) -> None:
    """Tidy tables for pandas or a spreadsheet: arms, evals, breakdowns, predictions, rollouts, metrics, ranking."""
    from .export import export as run

    tell = None if json else lambda file: print(f"{file.path}  {file.rows} rows", flush=True)
    files = run(experiment(directory), format, output, tell)
    if json:
        print_json({"files": [vars(file) for file in files]})


@app.command()
def compare(
    first: Annotated[str, typer.Argument(help="DIRECTORY or DIRECTORY:group.")],
    second: Annotated[str, typer.Argument(help="DIRECTORY or DIRECTORY:group.")],
    show: Annotated[int, typer.Option(help="How many of the tasks that flipped are shown with both outputs.")] = 5,
    json: Json = False,
) -> None:
    """Two groups of any two experiments that share a benchmark, paired by task, with the tasks that flipped."""
    from .sweep.compare import compare_groups

    result = compare_groups(first, second)
    print_json(result.facts) if json else print(result.text(show))


@app.command("list")
def list_kinds(
    part: Annotated[str | None, typer.Argument(help="Only this part, for example verifier.")] = None,
    json: Json = False,
) -> None:
    """The registered kinds of every pluggable part."""
    from .registry import ALL, load_plugins

    load_plugins([])
    known = {name: registry.kinds() for name, registry in ALL.items() if part in (None, name)}
    if not known:
        raise typer.BadParameter(f"unknown part {part!r}; parts: {', '.join(ALL)}")
    print_json(known) if json else print("\n".join(f"{name:10} {', '.join(kinds)}" for name, kinds in known.items()))


@app.command()
def schema(
    part: Annotated[str | None, typer.Argument(help="A part; without: the whole config.")] = None,
    kind: Annotated[str | None, typer.Argument(help="A kind of that part, for example sft.")] = None,
) -> None:
    """The JSON schema of the config, or of one kind's settings."""
    from .config import ExperimentConfig, KindConfig
    from .registry import ALL

    if part is None or kind is None:
        print_json(ExperimentConfig.model_json_schema())
        return
    if part not in ALL:
        raise typer.BadParameter(f"unknown part {part!r}; parts: {', '.join(ALL)}")
    print_json((ALL[part].get(kind).config or KindConfig).model_json_schema())


def experiment(directory: Path) -> Path:
    """The directory of an experiment; `last`: the newest one below outputs/.

    Raises:
        RecordError: there is none.
    """
    from .errors import RecordError
    from .record import ExperimentRecord

    if str(directory) == "last" and not directory.exists():
        known = [path.parent for path in Path("outputs").glob("*/*/experiment.json")]
        if not known:
            raise RecordError("There is no experiment below outputs/ here. Give the directory that the sweep printed.")
        directory = max(known, key=lambda path: (path / "experiment.json").stat().st_mtime)
    ExperimentRecord.load(directory)
    return directory.resolve()


def print_json(value: Any) -> None:
    """Indented JSON on stdout."""
    import orjson

    sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_INDENT_2, default=str) + b"\n")


if __name__ == "__main__":
    main()
