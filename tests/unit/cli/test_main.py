"""The command line: its help, its refusals, and that a base install is all that a scan needs."""

import dataclasses
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

import aigid
from aigid.cli.main import main
from aigid.config import RayConfig, ScanConfig
from aigid.cores import available_cores
from aigid.decisions import DEFAULT_THRESHOLD
from aigid.scorers.triton_config import TritonConfig
from aigid.simulation.simulate import SimulationConfig

Write = Callable[..., Path]
COMMANDS = sorted(main.commands)
OPTIONAL = (
    "torch",
    "ray",
    "transformers",
    "sklearn",
    "matplotlib",
    "safetensors",
    "onnx",
    "onnxscript",
    "tritonclient",
    "grpc",
)

# Stands for an installation without the extras: the finder of installed packages does not find these.
HIDE = """
import sys
from importlib.machinery import PathFinder
class Hide(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {hidden!r} else super().find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(PathFinder)] = Hide
from aigid.cli.main import main
"""


def invoke(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)


def run_without(hidden: tuple[str, ...], *words: object) -> subprocess.CompletedProcess[str]:
    """Run aigid in a process of its own where some packages are not installed."""
    script = HIDE.format(hidden=hidden) + f"main({[str(word) for word in words]!r})"
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )


def help_of(name: str) -> str:
    result = invoke(name, "--help")
    assert result.exit_code == 0
    return result.output


def option_defaults(name: str) -> dict[str, object]:
    """The defaults of a command's options that have one."""
    options = (
        option
        for option in main.commands[name].params
        if isinstance(option, click.Option) and not option.is_flag
    )
    return {
        str(option.name): option.default
        for option in options
        if isinstance(option.default, int | float | str)
    }


def test_the_help_of_aigid_lists_every_command_with_what_it_does_and_an_example() -> None:
    for word in ("--help", "-h"):
        result = invoke(word)
        assert result.exit_code == 0
        assert "aigid scan manifest.parquet --out results/" in result.output
        listed = result.output[result.output.index("Commands:") :]
        for name in COMMANDS:
            assert re.search(rf"^  {name} +[A-Z]\w+ .", listed, re.MULTILINE), name


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_every_command_has_an_example_that_its_own_options_accept(name: str) -> None:
    text = help_of(name)
    example = re.search(rf"Example:\n +aigid {name} (.+)", text)
    assert example, text
    command = main.commands[name]
    with command.make_context(name, shlex.split(example[1]), **main.context_settings) as context:
        assert context.args == []
    assert invoke(name, "-h").output == text


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_every_command_shows_every_default(name: str) -> None:
    text = " ".join(help_of(name).split())
    for option in main.commands[name].params:
        if (
            isinstance(option, click.Option)
            and option.name in option_defaults(name)
            and option.default != ""
        ):
            assert re.search(
                rf"{option.opts[0]} [^-].*?\[default: {re.escape(str(option.default))}[;\]]", text
            ), option.opts


def test_the_defaults_in_the_help_of_scan_are_those_of_a_scan() -> None:
    config = ScanConfig(("m.parquet",), "out")
    servers = TritonConfig(("localhost:8001",))
    defaults = {
        "batch_size": config.batch_rows,
        "shard_rows": config.shard_rows,
        "max_error_rate": config.max_error_rate,
    }
    defaults |= {"triton_in_flight": servers.in_flight, "triton_deadline": servers.deadline_s}
    defaults["triton_patience"] = servers.patience_s
    cluster = RayConfig()
    defaults |= {
        "min_workers": cluster.min_workers,
        "worker_cpus": cluster.worker_cpus,
        "worker_gpus": cluster.worker_gpus,
    }
    defaults |= {"shard_attempts": cluster.shard_attempts, "worker_start": cluster.start_within_s}
    assert option_defaults("scan") == defaults
    text = " ".join(help_of("scan").split())
    assert f"Call an image AI-generated from this p_ai on. [default: {DEFAULT_THRESHOLD}]" in text
    assert "[default: one for each core; not on Ray]" in text
    assert config.workers == available_cores()


def test_the_defaults_in_the_help_of_train_are_those_of_a_training_run() -> None:
    from aigid.training.config import TrainingConfig
    from aigid.training.losses import LossConfig
    from aigid.training.run import RunConfig

    configs = (RunConfig, TrainingConfig, LossConfig)
    fields = {
        field.name: field.default for config in configs for field in dataclasses.fields(config)
    }
    shown = option_defaults("train")
    shown["batch_rows"] = shown.pop("batch_size")
    # The encoders have no default in Python; those of the command are the paper's.
    assert (shown.pop("text_encoder"), shown.pop("image_encoder")) == (
        "bert-base-uncased",
        "openai/clip-vit-base-patch32",
    )
    assert shown == {name: fields[name] for name in shown}
    assert {
        "epochs",
        "learning_rate",
        "batch_rows",
        "schedule",
        "oversample_real",
        "seed",
    } <= shown.keys()


def test_the_defaults_in_the_help_of_simulate_are_those_of_a_simulation() -> None:
    shown = option_defaults("simulate")
    config = SimulationConfig(rows=int(str(shown.pop("rows"))), split=str(shown.pop("split")))
    assert shown == {name: getattr(config, name) for name in shown}


def test_version_is_the_packages_own() -> None:
    result = invoke("--version")
    assert (result.exit_code, result.output) == (0, f"aigid, version {aigid.__version__}\n")
    module = subprocess.run(
        [sys.executable, "-m", "aigid", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert module.stdout == result.output


@pytest.mark.parametrize("name", COMMANDS)
def test_an_unknown_option_is_status_2_and_named(name: str) -> None:
    result = invoke(name, "--no-such-option")
    assert result.exit_code == 2
    assert "No such option" in result.stderr
    assert "--no-such-option" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("no-such-command",), "no-such-command"),
        (("scan", "--out", "out"), "MANIFEST"),
        (("scan", "m.parquet"), "--out"),
        (("scan", "m.parquet", "--out", "out", "--limit", "0"), "--limit"),
        (("scan", "m.parquet", "--out", "out", "--threshold", "1.5"), "--threshold"),
        (("scan", "m.parquet", "--out", "out", "--max-error-rate", "much"), "--max-error-rate"),
        (("scan", "m.parquet", "--out", "out", "--threads", "0"), "--threads"),
        (("scan", "", "--out", "out"), "a path is empty"),
        (
            ("scan", "m.parquet", "--out", "out", "--triton", "localhost"),
            "'localhost' is no address",
        ),
        (
            ("scan", "m.parquet", "--out", "out", "--triton", "a:1", "--triton-in-flight", "0"),
            "--triton-in-flight",
        ),
        (
            ("scan", "m.parquet", "--out", "out", "--triton", "a:1", "--triton-deadline", "0"),
            "--triton-deadline",
        ),
        (
            ("scan", "m.parquet", "--out", "out", "--triton", "a:1", "--triton-ca", "gone.pem"),
            "gone.pem: no such file",
        ),
        (
            ("scan", "m.parquet", "--out", "out", "--triton", "a:1", "--triton-key", "k"),
            "belong together",
        ),
        (
            ("scan", "m.parquet", "--out", "out", "--triton-tls"),
            "TLS is for Triton servers: name them with --triton",
        ),
        (
            ("scan", "m.parquet", "--out", "out", "--ray", "x.parquet"),
            "'x.parquet': no address of a cluster",
        ),
        (("scan", "--out", "out", "--ray", "m.parquet"), "MANIFEST"),
        (
            ("scan", "m.parquet", "--out", "out", "--ray", "ray://head:10001"),
            "submit it with `ray job submit",
        ),
        (
            ("scan", "m.parquet", "--out", "out", "--max-workers", "4"),
            "--max-workers is for scans on a Ray cluster: say --ray",
        ),
        (
            ("scan", "m.parquet", "--out", "out", "--ray", "local", "--threads", "4"),
            "say --max-workers and --worker-cpus",
        ),
        (
            ("scan", "m.parquet", "--out", "out", "--ray", "local", "--max-workers", "0"),
            "--max-workers",
        ),
        (
            (
                "scan",
                "m.parquet",
                "--out",
                "out",
                "--ray=auto",
                "--min-workers",
                "3",
                "--max-workers",
                "2",
            ),
            "less than --min-workers 3",
        ),
        (
            ("scan", "m.parquet", "--out", "out", "--ray=auto", "--worker-resources", "disk"),
            "give NAME=AMOUNT",
        ),
        (
            ("scan", "m.parquet", "--out", "out", "--ray=auto", "--worker-resources", "disk=-1"),
            "more than 0",
        ),
        (("train", "m.parquet", "--out", "run"), "--validation"),
        (("simulate", "out", "--split", "holdout"), "--split"),
        (("simulate", "out", "--shorter-side", "8"), "--shorter-side"),
        (("evaluate",), "MANIFEST"),
    ],
)
def test_a_usage_error_is_status_2_and_names_what_is_wrong(
    words: tuple[str, ...],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiny_repository: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke(*words, *(("--model", tiny_repository) if words[:2] == ("scan", "") else ()))
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == [], "a refused command made something"


def test_a_manifest_that_does_not_exist_is_status_2_for_every_command_that_reads_one(
    tmp_path: Path, tiny_repository: Path
) -> None:
    gone = tmp_path / "gone.parquet"
    text, image = tmp_path / "text.json", tmp_path / "image.json"
    text.write_text(
        json.dumps(
            {"model_type": "bert", "vocab_size": 30522, "hidden_size": 16, "num_attention_heads": 2}
        )
    )
    image.write_text(
        json.dumps({"model_type": "clip_vision_model", "hidden_size": 16, "num_attention_heads": 2})
    )
    encoders = (
        "--text-encoder",
        text,
        "--image-encoder",
        image,
        "--tokenizer",
        tiny_repository / "tokenizer.json",
    )
    for words in (
        ("scan", gone, "--out", tmp_path / "out", "--model", tiny_repository),
        ("evaluate", gone, "--model", tiny_repository),
        ("train", gone, "--validation", gone, "--out", tmp_path / "run", *encoders),
    ):
        result = invoke(*words)
        assert result.exit_code == 2, result.output
        assert result.stderr.splitlines()[-1] == f"aigid: {gone}: no such file or folder"
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "run").exists()


def test_evaluate_refuses_a_checkpoint_and_a_model_together(tmp_path: Path) -> None:
    result = invoke("evaluate", "m.parquet", "--checkpoint", tmp_path, "--model", tmp_path)
    assert result.exit_code == 2
    assert result.stderr == "aigid: --checkpoint and --model exclude each other: give one of them\n"


@pytest.mark.parametrize(
    ("words", "package"),
    [
        (("train", "m.parquet", "--validation", "m.parquet", "--out", "run"), "torch"),
        (("train", "m.parquet", "--validation", "m.parquet", "--out", "run"), "transformers"),
        (("evaluate", "m.parquet"), "torch"),
        (("evaluate", "m.parquet"), "sklearn"),
    ],
)
def test_a_command_without_its_extra_says_which_package_is_missing_and_how_to_get_it(
    words: tuple[str, ...], package: str, tmp_path: Path
) -> None:
    done = run_without((package,), *words)
    assert done.returncode == 2, done.stderr
    assert done.stderr == f"aigid: this command needs {package}: pip install 'aigid[train]'\n"


def test_a_scan_on_servers_without_its_extra_says_how_to_get_it(
    write_manifest: Write, tiny_repository: Path, tmp_path: Path
) -> None:
    words = (
        "scan",
        write_manifest(6),
        "--out",
        tmp_path / "out",
        "--model",
        tiny_repository,
        "--triton",
        "localhost:8001",
    )
    done = run_without(OPTIONAL, *words)
    assert done.returncode == 2, done.stderr
    assert (
        done.stderr
        == "aigid: scoring on Triton servers needs tritonclient: pip install 'aigid[serve]'\n"
    )


def test_a_scan_on_a_cluster_without_its_extra_says_how_to_get_it(
    write_manifest: Write, tiny_repository: Path, tmp_path: Path
) -> None:
    words = (
        "scan",
        write_manifest(6),
        "--out",
        tmp_path / "out",
        "--model",
        tiny_repository,
        "--ray",
        "local",
    )
    done = run_without(OPTIONAL, *words)
    assert done.returncode == 2, done.stderr
    assert done.stderr == "aigid: scanning on a Ray cluster needs ray: pip install 'aigid[ray]'\n"


@pytest.mark.parametrize(
    "words", [("--ray", "--keep", "id"), ("--ray=auto",), ("--keep", "id", "--ray")]
)
def test_ray_without_an_address_is_the_cluster_that_this_machine_is_in(
    words: tuple[str, ...],
) -> None:
    context = main.commands["scan"].make_context(
        "scan", ["m.parquet", "--out", "out", *words], **main.context_settings
    )
    assert context.params["ray"] == "auto"


def test_a_base_install_scans_and_loads_none_of_the_extras(
    write_manifest: Write, tiny_repository: Path, tmp_path: Path
) -> None:
    words = (
        "scan",
        write_manifest(6),
        "--out",
        tmp_path / "out",
        "--model",
        tiny_repository,
        "--json",
    )
    done = run_without(OPTIONAL, *words)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["scored"] == 6


def test_a_scan_loads_none_of_the_extras_where_they_are_installed(
    write_manifest: Write, tiny_repository: Path, tmp_path: Path
) -> None:
    words = [
        str(word)
        for word in (
            "scan",
            write_manifest(6),
            "--out",
            tmp_path / "out",
            "--model",
            tiny_repository,
            "--json",
        )
    ]
    script = f"import sys; from aigid.cli.main import main; main({words!r}, standalone_mode=False); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    summary, modules = done.stdout.splitlines()
    assert json.loads(summary)["scored"] == 6
    assert set(modules.split()).isdisjoint(OPTIONAL)


def test_the_help_loads_none_of_the_heavy_packages() -> None:
    script = "import sys; from aigid.cli.main import main; main(['--help'], standalone_mode=False); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert set(done.stdout.splitlines()[-1].split()).isdisjoint(
        {*OPTIONAL, "numpy", "pyarrow", "onnxruntime", "PIL", "rich"}
    )


def test_a_base_install_simulates(tmp_path: Path) -> None:
    done = run_without(
        OPTIONAL, "simulate", tmp_path / "out", "--rows", 6, "--shorter-side", 32, "--workers", 1
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'out'}: 6 rows in 1 files\n"
    assert len(list((tmp_path / "out").glob("*.parquet"))) == 1


def test_the_summary_goes_to_stdout_and_everything_else_to_stderr(
    write_manifest: Write, tiny_repository: Path, tmp_path: Path
) -> None:
    result = invoke(
        "scan", write_manifest(6), "--out", tmp_path / "out", "--model", tiny_repository
    )
    assert result.exit_code == 0
    assert result.stdout.startswith("model: ")
    assert result.stderr == "aigid: tiny random model\nscan: 6 rows\n"
