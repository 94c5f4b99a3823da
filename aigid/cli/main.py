"""The command line: options become one frozen config, one call, one exit status."""

import io
import json
import logging
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import click

from aigid import __version__
from aigid.cli.confidence_options import confidence_options, sureness
from aigid.cli.option_types import FOLDER, MANY, SHARE
from aigid.cli.scan_options import scan_config, scan_options
from aigid.cli.train_options import run_config, train_options
from aigid.errors import AigidError, MissingExtraError, UsageError

EXIT_TOO_MANY_ERRORS = 3
EXIT_INTERRUPTED = 130

_FILE = click.Path(path_type=Path, dir_okay=False)
_PORT = click.IntRange(0, 65535)
_SECONDS = click.FloatRange(min=0, min_open=True)


@contextmanager
def _clear_errors() -> Iterator[None]:
    """Turn what aigid raises on purpose into one line on stderr and its exit status."""
    try:
        yield
    except AigidError as error:
        click.echo(f"aigid: {error}", err=True)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        click.echo(
            "aigid: interrupted; what was committed stays: run the same command again to go on",
            err=True,
        )
        sys.exit(EXIT_INTERRUPTED)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="aigid")
def main() -> None:
    """Tell which images are AI-generated, and by which model, at scale.

    \b
    Example:
      aigid scan manifest.parquet --out results/
    """
    logging.basicConfig(level=logging.WARNING, format="aigid: %(message)s")
    # Pillow warns of every odd file, a line each: what matters of it is in the row's error.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    # The same of servers and connections: what they fail at is an error of ours.
    logging.getLogger("urllib3").setLevel(logging.CRITICAL)


@main.command()
@scan_options
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option(
    "--progress-json", is_flag=True, help="Print progress and messages as JSON lines on stderr."
)
def scan(paths: tuple[str, ...], as_json: bool, progress_json: bool, **options: Any) -> None:
    """Scan the image-prompt pairs of Parquet manifests: files, folders, globs or URIs.

    \b
    Example:
      aigid scan manifest.parquet --out results/ --keep id
      aigid scan manifest.parquet --out results/ --triton gpu1:8001,gpu2:8001
      aigid scan s3://bucket/manifest/ --out s3://bucket/results/ --ray=auto

    Exit status: 0 finished; 1 could not go on, or shards were given up; 2 usage; 3 finished, but more rows failed than
    --max-error-rate; 130 interrupted. Committed shards always stay.
    """
    with _clear_errors():
        config = scan_config(paths, options)
        outcome = _run_scan(config, progress_json)
        _print_summary(outcome.summary.to_json(), config.out, as_json)
        if outcome.too_many_errors:
            click.echo(
                f"aigid: more rows failed than --max-error-rate {config.max_error_rate:g} allows",
                err=True,
            )
            sys.exit(EXIT_TOO_MANY_ERRORS)


def _run_scan(config: Any, progress_json: bool) -> Any:
    from aigid.progress_bar import show_progress
    from aigid.run_scan import run_scan

    prefix = "" if progress_json else "aigid: "
    # Ray prints what it hears of its machines to stdout, which is for the summary.
    quiet = redirect_stdout(_Log()) if config.ray else nullcontext()
    with show_progress("scan", as_json=progress_json) as progress, quiet:
        return run_scan(config, progress, lambda line: progress.message(prefix + line))


@main.command("pseudo-label")
@scan_options
@click.option(
    "--labels",
    required=True,
    metavar="DIR",
    help="Folder or URI for the manifest of pseudo-labelled pairs.",
)
@confidence_options
@click.option(
    "--progress-json", is_flag=True, help="Print progress and messages as JSON lines on stderr."
)
def pseudo_label(paths: tuple[str, ...], labels: str, progress_json: bool, **options: Any) -> None:
    """Scan unlabelled pairs, and write those that both heads are sure about as a labelled manifest.

    \b
    Example:
      aigid pseudo-label unlabelled/ --out results/ --labels pseudo/
    """
    with _clear_errors():
        from aigid.training.pseudo_labels import write_pseudo_labels

        sure = sureness(options)
        config = scan_config(paths, options)
        _run_scan(config, progress_json)
        record = write_pseudo_labels(config, labels, sure)
        classes = ", ".join(f"{name} {count:,}" for name, count in record["classes"].items())
        right = (
            f"; {record['precision']:.1%} of them rightly labelled" if "precision" in record else ""
        )
        click.echo(
            f"{labels}: {record['kept']:,} of {record['rows']:,} pairs kept: {classes}{right}"
        )


class _Log(io.TextIOBase):
    """What is printed here goes to the log, which shows warnings only."""

    def write(self, text: str) -> int:
        """Log it."""
        if text.strip():
            logging.getLogger("aigid").info("%s", text.rstrip())
        return len(text)


def _print_summary(summary: dict[str, Any], out: str, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(summary))
        return
    from aigid.cli.summary_table import print_summary

    print_summary(summary, out)


@main.command()
@click.argument("out", type=FOLDER)
@click.option(
    "--rows", type=MANY, default=600, show_default=True, help="Rows to make; six to a scene."
)
@click.option(
    "--split", type=click.Choice(["train", "validation", "test"]), default="test", show_default=True
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--shorter-side", type=click.IntRange(min=32), default=224, show_default=True, help="Pixels."
)
@click.option(
    "--varied-sizes",
    is_flag=True,
    help="Shorter sides from 224 to 1024 pixels instead, for all classes alike.",
)
@click.option("--workers", type=MANY, help="Processes.  [default: one for each core]")
def simulate(out: Path, workers: int | None, **options: Any) -> None:
    """Make a labelled manifest of simulated image-prompt pairs, the same for the same seed.

    The classes stand for camera pictures and five families of generator decoders; they are not real models' pictures.
    Splits never share a scene.

    \b
    Example:
      aigid simulate data/test --rows 3600 --split test --seed 1
    """
    with _clear_errors():
        from aigid.cores import available_cores
        from aigid.progress_bar import show_progress
        from aigid.simulation.simulate import SimulationConfig
        from aigid.simulation.simulate import simulate as run_simulate

        config = SimulationConfig(workers=workers or available_cores(), **options)
        with show_progress("simulate") as progress:
            progress.start(config.rows, 0)
            before = [0]

            def on_rows(done: int) -> None:
                progress.advance(done - before[0], 0)
                before[0] = done

            files = run_simulate(config, out, progress=on_rows)
        click.echo(f"{out}: {config.rows:,} rows in {len(files)} files")


@main.command()
@train_options
@click.option(
    "--resume", is_flag=True, help="Go on with the run in --out, from its last whole epoch."
)
def train(train_manifests: tuple[str, ...], resume: bool, **options: Any) -> None:
    """Train on labelled manifests (Label_A, Label_B); the defaults are the paper's.

    \b
    Example:
      aigid train data/train --validation data/validation --out runs/first
    """
    with _clear_errors(), _training_extra():
        from aigid.progress_bar import show_progress
        from aigid.training.run import train as run_train

        with show_progress("train") as progress:
            best = run_train(
                run_config(train_manifests, options), progress, progress.message, resume=resume
            )
        if best:
            click.echo(f"best checkpoint: {best}")


@main.command()
@train_options
@click.option(
    "--test",
    "test_manifests",
    multiple=True,
    required=True,
    help="Labelled manifest to measure on; repeatable.",
)
@click.option(
    "--seeds",
    type=click.IntRange(min=2),
    default=3,
    show_default=True,
    help="Runs of each variant.",
)
@click.option(
    "--variant",
    "variants",
    multiple=True,
    metavar="NAME",
    help="Only this variant; repeatable.  [default: all]",
)
@click.option(
    "--pseudo",
    multiple=True,
    help="Pseudo-labelled manifest for the variant with pseudo-labels; repeatable.",
)
@click.option(
    "--robustness",
    is_flag=True,
    help="Measure after JPEG, resizing, blur, cropping and a screenshot too.",
)
def ablation(train_manifests: tuple[str, ...], **options: Any) -> None:
    """Train variants of a recipe, several seeds each, and print the table a paper would.

    The options of training are the recipe's, which is the variant "fusion"; each other variant differs from it in what its
    name says. The same command goes on where it stopped. Figures are means with 95 % confidence intervals over the seeds;
    a second table has each variant's differences from the recipe with the same seeds.

    \b
    Example:
      aigid ablation data/train --validation data/validation --test data/test --out runs/ablation
    """
    with _clear_errors(), _training_extra():
        from aigid.progress_bar import show_progress
        from aigid.training.ablation import AblationConfig, run_ablation
        from aigid.training.ablation_table import print_table

        own = {
            name: options.pop(name)
            for name in ("test_manifests", "seeds", "variants", "pseudo", "robustness")
        }
        config = AblationConfig(run_config(train_manifests, options), **own)
        with show_progress("train") as progress:
            table = run_ablation(config, progress, progress.message)
        print_table(table)
        click.echo(f"written to {config.base.folder}")


@main.command()
@click.argument("manifests", nargs=-1, required=True, metavar="MANIFEST...")
@click.option("--checkpoint", type=FOLDER, help="Evaluate this torch checkpoint.")
@click.option(
    "--model", type=FOLDER, help="Evaluate this model repository.  [default: the demo model]"
)
@click.option(
    "--out", type=FOLDER, help="Folder for metrics.json, confusion.png and reliability.png."
)
@click.option("--threshold", type=SHARE, default=0.5, show_default=True)
@click.option(
    "--unify", "unified", is_flag=True, help="Measure once more with all pictures encoded alike."
)
@click.option(
    "--robustness",
    is_flag=True,
    help="Measure after JPEG, resizing, blur, cropping and a screenshot too.",
)
def evaluate(
    manifests: tuple[str, ...], out: Path | None, unified: bool, robustness: bool, **options: Any
) -> None:
    """Measure a model on labelled manifests, beside the constant answer.

    \b
    Example:
      aigid evaluate data/test --out evaluation/
      aigid evaluate data/test --model model/ --robustness
    """
    with _clear_errors(), _training_extra():
        from aigid.training import evaluation
        from aigid.training.image_changes import DEGRADATIONS, unify

        if options["checkpoint"] and options["model"]:
            raise UsageError("--checkpoint and --model exclude each other: give one of them")
        changes = {
            **({"all encoded alike": unify} if unified else {}),
            **(DEGRADATIONS if robustness else {}),
        }
        measure = _measuring(manifests, **options)
        metrics = measure(None)
        evaluation.print_evaluation(metrics)
        if changes:
            metrics["after"] = {name: measure(change) for name, change in changes.items()}
            evaluation.print_views(metrics)
        if out:
            evaluation.write_evaluation(metrics, out)
            click.echo(f"written to {out}")


def _measuring(
    manifests: tuple[str, ...], checkpoint: Path | None, model: Path | None, threshold: float
) -> Any:
    """What measures the model, loaded once, after a change that is made to every picture, or None."""
    from aigid.model_location import find_model
    from aigid.progress_bar import show_progress
    from aigid.scorers.onnx_embedded import OnnxScorer
    from aigid.training import evaluation
    from aigid.training.checkpoint import load_checkpoint

    if checkpoint:
        evaluated: Any = partial(evaluation.evaluate_checkpoint, load_checkpoint(checkpoint))
    else:
        repository = find_model(model)
        evaluated = partial(evaluation.evaluate_repository, repository, OnnxScorer(repository))

    def measure(change: Any) -> Any:
        with show_progress("evaluate") as progress:
            return evaluated(manifests, progress, threshold=threshold, change=change)

    return measure


@main.command()
@click.argument("folder", type=FOLDER)
def competition(folder: Path) -> None:
    """Write manifests of the CT2 competition's own folders (Train, Validation) into their FOLDER.

    \b
    Example:
      aigid competition defactify/
    """
    with _clear_errors(), _training_extra():
        from aigid.training.competition import write_competition_manifests

        for written in write_competition_manifests(folder):
            missing = f", {written.missing:,} pictures are not there" if written.missing else ""
            click.echo(f"{written.path}: {written.rows:,} rows{missing}")


@main.command()
@click.argument("manifests", nargs=-1, required=True, metavar="MANIFEST...")
@click.option("--limit", type=MANY, help="Look at so many rows, from all over the manifest.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def audit(manifests: tuple[str, ...], limit: int | None, as_json: bool) -> None:
    """Tell how well a labelled manifest's classes can be guessed from file facts, without the pictures.

    Format, dimensions, byte size, JPEG tables and metadata: what differs between the classes, a detector learns in place of
    what it should. A ! marks what is well above chance.

    \b
    Example:
      aigid audit data/train
    """
    with _clear_errors(), _training_extra():
        from aigid.training.audit import audit as run_audit
        from aigid.training.audit_table import print_audit

        found = run_audit(manifests, limit)
        if as_json:
            click.echo(json.dumps(found.to_json()))
        else:
            print_audit(found, ", ".join(manifests))


@main.command()
@click.option(
    "--model",
    type=FOLDER,
    help="Model repository.  [default: the demo model, not for real decisions]",
)
@click.option(
    "--gpu",
    is_flag=True,
    help="Serve TensorRT engines on this machine's GPUs; needs a tritonserver on the PATH.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on: this machine alone, by default.",
)
@click.option("--http-port", type=_PORT, default=8000, show_default=True, help="0: any free one.")
@click.option("--grpc-port", type=_PORT, default=8001, show_default=True, help="0: any free one.")
@click.option(
    "--metrics-port", type=_PORT, default=8002, show_default=True, help="0: any free one."
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[-- TRITON_OPTION...]")
def serve(model: Path | None, gpu: bool, **settings: Any) -> None:
    """Serve a model repository with Triton on this machine, until Ctrl-C.

    A tritonserver on the PATH is used; without one, NVIDIA's own is installed from a wheel on first use, for CPUs. What
    comes after -- are options of tritonserver itself, such as --log-verbose=1.

    \b
    Example:
      aigid serve --model model/
    """
    with _clear_errors():
        from aigid.model_location import find_model
        from aigid.serving.triton_server import Flavour, ServerConfig, TritonServer

        config = ServerConfig(find_model(model), Flavour.GPU if gpu else Flavour.CPU, **settings)
        with (
            _ended_by_sigterm(),
            TritonServer(config, lambda line: click.echo(f"aigid: {line}", err=True)) as server,
        ):
            if server.notice:
                click.echo(f"aigid: {server.notice}", err=True)
            for name, version, state in server.models():
                click.echo(f"{name:13} {version:>3}  {state}")
            click.echo(
                f"gRPC {server.grpc_address}   HTTP {server.http_address}   metrics {server.metrics_address}"
            )
            server.wait()


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Have SIGTERM and Ctrl-C both end what runs inside in the ordinary way."""

    def end(number: int, frame: Any) -> None:
        raise SystemExit(0)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _training_extra() -> Iterator[None]:
    """Name the extra where a package of it is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"this command needs {error.name}: pip install 'aigid[train]'"
        ) from error


if __name__ == "__main__":
    main()
