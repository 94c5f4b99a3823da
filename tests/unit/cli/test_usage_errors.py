"""What the command line refuses: status 2, one clear line, and nothing written."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from support.command_line import command_of, invoke

from aigid.cli.main import main

SCAN = ("scan", "m.parquet", "--out", "out")
RAY = (*SCAN, "--ray=auto")
TRITON = (*SCAN, "--triton", "a:1")
TRAIN = ("train", "m.parquet", "--validation", "v.parquet", "--out", "run")

REFUSED = [
    (("scan", "--out", "out"), "MANIFEST"),
    (("scan", "m.parquet"), "--out"),
    ((*SCAN, "--limit", "0"), "--limit"),
    ((*SCAN, "--limit", "-3"), "--limit"),
    ((*SCAN, "--limit", "1.5"), "--limit"),
    ((*SCAN, "--threshold", "1.5"), "--threshold"),
    ((*SCAN, "--threshold", "nan"), "'--threshold': nan is not a finite number"),
    ((*SCAN, "--threshold", "0.4", "--max-fpr", "0.1"), "--threshold"),
    ((*SCAN, "--max-error-rate", "much"), "--max-error-rate"),
    ((*SCAN, "--max-error-rate", "-0"), "no such file"),
    ((*SCAN, "--threads", "0"), "--threads"),
    ((*SCAN, "--threads", "1e3"), "--threads"),
    ((*SCAN, "--batch-size", ""), "--batch-size"),
    (("scan", "", "--out", "out"), "a path is empty"),
    ((*SCAN, "--triton", "localhost"), "'localhost' is not an address"),
    ((*TRITON, "--triton-in-flight", "0"), "--triton-in-flight"),
    ((*TRITON, "--triton-deadline", "0"), "--triton-deadline"),
    ((*TRITON, "--triton-deadline", "inf"), "'--triton-deadline': inf is not a finite number"),
    ((*TRITON, "--triton-ca", "gone.pem"), "gone.pem: no such file"),
    ((*TRITON, "--triton-key", "k"), "--triton-cert and --triton-key"),
    ((*SCAN, "--triton-tls"), "TLS is for Triton servers: name them with --triton"),
    ((*SCAN, "--ray", "x.parquet"), "x.parquet"),
    (("scan", "--out", "out", "--ray", "m.parquet"), "MANIFEST"),
    ((*SCAN, "--ray", "ray://head:10001"), "`ray job submit"),
    ((*SCAN, "--max-workers", "4"), "--max-workers is for scans on a Ray cluster: give --ray too"),
    ((*SCAN, "--ray", "local", "--threads", "4"), "give --max-workers and --worker-cpus instead"),
    ((*SCAN, "--ray", "local", "--max-workers", "0"), "--max-workers"),
    ((*RAY, "--min-workers", "3", "--max-workers", "2"), "--min-workers"),
    ((*RAY, "--worker-gpus", "inf"), "--worker-gpus"),
    ((*RAY, "--worker-memory", "some"), "'some' is not an amount of memory"),
    ((*RAY, "--worker-resources", "disk"), "--worker-resources disk: give NAME=AMOUNT"),
    ((*RAY, "--worker-resources", "disk=-1"), "--worker-resources"),
    (("train", "m.parquet", "--out", "run"), "--validation"),
    ((*TRAIN, "--recipe", "best"), "'--recipe': 'best' is not one of 'paper', 'recommended'"),
    ((*TRAIN, "--schedule", "cosine"), "--schedule"),
    (
        (*TRAIN, "--schedule", "constant", "--warmup-fraction", "0.1"),
        "--warmup-fraction: a constant learning rate has no warm-up: leave it out, or set "
        "--schedule",
    ),
    ((*TRAIN, "--select-by", "accuracy"), "--select-by"),
    ((*TRAIN, "--report-to", "chart"), "--report-to"),
    (
        (*TRAIN, "--report-to", "none", "--report-to", "wandb"),
        "--report-to: give none or wandb, not both",
    ),
    ((*TRAIN, "--report-to", "mlflow"), "--report-to mlflow needs mlflow: pip install mlflow"),
    (("simulate", "out", "--split", "holdout"), "--split"),
    (("simulate", "out", "--shorter-side", "8"), "--shorter-side"),
    (("simulate", "out", "--seed", "-1"), "--seed"),
    (("evaluate",), "MANIFEST"),
    (("evaluate", "m.parquet", "--checkpoint", "a", "--model", "b"), "--checkpoint and --model"),
    (("serve", "--grpc-port", "65536"), "--grpc-port"),
    (("serve", "--http-port", "65536"), "--http-port"),
    (("serve", "--host", "0.0.0.0"), "--host 0.0.0.0 can be reached from other machines: give"),
    (("serve", "--engine", "embedded", "--grpc-port", "1"), "--grpc-port is for Triton"),
    (("serve", "--engine", "embedded", "--", "--log-verbose=1"), "--log-verbose=1 is for Triton"),
    (("serve", "--allow-private-addresses"), "--allow-private-addresses is for fetching"),
    (("serve", "--api-key-file", "no such"), "--api-key-file no such: cannot be read as text"),
    (("serve", "--tls-cert", "a.pem"), "--tls-cert and --tls-key belong together"),
    (("-q", *SCAN, "-v"), "give one of --verbose and --quiet, not both"),
    ((*SCAN, "--log-level", "loud"), "--log-level"),
]


@pytest.mark.parametrize(("words", "said"), REFUSED)
def test_a_usage_error_is_status_2_and_names_the_flag(
    words: tuple[str, ...],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiny_repository: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    with_model = ("--model", tiny_repository) if "no such file" in said else ()
    result = invoke(*words, *with_model)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stdout == ""
    assert not re.search("`[a-z_]+`", result.stderr), "a parameter's name instead of a flag"
    assert list(tmp_path.iterdir()) == [], "a refused command made something"


def test_a_manifest_that_does_not_exist_is_status_2_for_every_command_that_reads_one(
    tmp_path: Path, tiny_repository: Path
) -> None:
    gone = tmp_path / "gone.parquet"
    text, image = tmp_path / "text.json", tmp_path / "image.json"
    sizes = {"hidden_size": 16, "num_attention_heads": 2}
    text.write_text(json.dumps({"model_type": "bert", "vocab_size": 30522, **sizes}))
    image.write_text(json.dumps({"model_type": "clip_vision_model", **sizes}))
    encoders = ("--text-encoder", text, "--image-encoder", image)
    tokenizer = ("--tokenizer", tiny_repository / "tokenizer.json")
    run = ("--validation", gone, "--out", tmp_path / "run")
    for words in (
        ("scan", gone, "--out", tmp_path / "out", "--model", tiny_repository),
        ("evaluate", gone, "--model", tiny_repository),
        ("train", gone, *run, *encoders, *tokenizer),
    ):
        result = invoke(*words)
        assert result.exit_code == 2, result.output
        assert result.stderr.splitlines()[-1] == f"aigid: {gone}: no such file or folder"
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_written_to_is_refused_before_rows_are_scored(
    tmp_path: Path, tiny_repository: Path, write_manifest: Callable[..., Path]
) -> None:
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "out"
    result = invoke("evaluate", write_manifest(6), "--model", tiny_repository, "--out", out)
    assert result.exit_code == 2
    said = f"aigid: --out {out}: cannot be written to: Not a directory: choose another"
    # The line before is the model's notice.
    assert result.stderr.splitlines()[1:] == [said]


def test_a_block_that_the_image_encoder_does_not_have_is_refused_by_the_flag(
    tmp_path: Path,
) -> None:
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 3}
    (tmp_path / "text.json").write_text(json.dumps({"model_type": "bert", **sizes}))
    (tmp_path / "image.json").write_text(json.dumps({"model_type": "siglip_vision_model", **sizes}))
    encoders = (
        "--text-encoder",
        tmp_path / "text.json",
        "--image-encoder",
        tmp_path / "image.json",
    )
    run = ("--validation", "v.parquet", "--out", tmp_path / "run")
    for options, said in {
        (
            "--image-layer",
            "3",
        ): "--image-layer must be from 0 to 2, the encoder's last block: got",
        ("--image-pooling", "cls+mean"): "--image-pooling cls+mean needs a CLS token",
    }.items():
        result = invoke("train", "m.parquet", *run, *encoders, *options)
        assert result.exit_code == 2, result.output
        assert said in result.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "words", [("--ray", "--keep", "id"), ("--ray=auto",), ("--keep", "id", "--ray")]
)
def test_ray_without_an_address_is_the_cluster_of_this_node(words: tuple[str, ...]) -> None:
    arguments = ["m.parquet", "--out", "out", *words]
    context = command_of("scan").make_context("scan", arguments, **main.context_settings)
    assert context.params["ray"] == "auto"
