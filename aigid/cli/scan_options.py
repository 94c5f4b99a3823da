"""The options of a scan, for the commands that begin with one."""

import click

from aigid.cli.command import Function, options_under, with_options
from aigid.cli.evidence_options import READERS, TRUST_LIST
from aigid.cli.option_types import (
    ALL_ERRORS,
    ERROR_CODES,
    FILE,
    FOLDER,
    FRACTION,
    MEMORY,
    MODE,
    NON_NEGATIVE_NUMBER,
    PORT,
    POSITIVE_INT,
    POSITIVE_NUMBER,
)

_input = options_under("Input")
_INPUT = (
    click.argument("paths", nargs=-1, required=True, metavar="MANIFEST..."),
    _input(
        "--image-column",
        metavar="NAME",
        help="Column of the images.  [default: found by its usual names]",
    ),
    _input(
        "--prompt-column",
        metavar="NAME",
        help="Column of the prompts.  [default: found by its usual names; may be absent]",
    ),
    _input(
        "--no-prompts",
        is_flag=True,
        help="Score the images without their prompts; no column of prompts is looked for.",
    ),
    _input("--limit", type=POSITIVE_INT, help="Scan only this many rows, the first ones."),
)

_output = options_under("Output")
_OUTPUT = (
    _output(
        "-o",
        "--out",
        required=True,
        metavar="DIR",
        help="Folder or URI for the results. Run the same command again to resume a scan.",
    ),
    _output(
        "--retry-errors",
        is_flag=False,
        flag_value=ALL_ERRORS,
        default=None,
        type=ERROR_CODES,
        metavar="[CODES]",
        help="Also scan again the rows in DIR that failed: those with these error codes, as in "
        "timeout,missing, or all. Nothing else in DIR changes.",
    ),
    _output(
        "--keep",
        multiple=True,
        metavar="COLUMN",
        help="Copy this column of the manifest to the results; repeatable.",
    ),
)

_model = options_under("Model")
VERDICT_MODE = _model(
    "--mode",
    type=MODE,
    default="best-guess",
    show_default=True,
    help="Certainty of the verdicts ai and real: by the threshold, or at most 1 % (balanced) "
    "or 0.1 % (high-precision) of each kind of image wrong, and unsure between.",
)
"""The option that tells how certain verdicts are."""

_MODEL = (
    _model(
        "--model",
        type=FOLDER,
        help="Model repository.  [default: the demo model, not for real decisions]",
    ),
    _model(
        "--threshold",
        type=FRACTION,
        help="Call an image AI-generated if its p_ai is at least this.  [default: 0.5]",
    ),
    _model(
        "--max-fpr",
        type=FRACTION,
        help="Use the threshold that the model stores for this false-positive rate.",
    ),
    VERDICT_MODE,
)

_evidence = options_under("Evidence")
_EVIDENCE = (
    _evidence(
        "--evidence",
        is_flag=True,
        help="Also write what the image files say of their origin into the results.",
    ),
    TRUST_LIST,
    READERS,
    _evidence(
        "--hash",
        is_flag=True,
        help="Also write hashes into the results: of each image's bytes, and of its looks. Implies "
        "--reuse-answers.",
    ),
)

_images = options_under("Images")
_IMAGES = (
    _images(
        "--image-root",
        metavar="DIR",
        help="Folder or URI that relative image paths start from.  [default: the manifest's]",
    ),
    _images(
        "--allow-outside-root",
        is_flag=True,
        help="Also read image paths that lead out of the image root.",
    ),
    _images(
        "--allow-private-addresses",
        is_flag=True,
        help="Also fetch images over http(s) from private addresses.",
    ),
    _images(
        "--respect-opt-out",
        is_flag=True,
        help="Do not score images whose X-Robots-Tag says noai or noimageai.",
    ),
    _images(
        "--user-agent",
        metavar="TEXT",
        default="aigid",
        show_default=True,
        help="Name yourself to web servers.",
    ),
    _images(
        "--header",
        multiple=True,
        metavar="HOST=NAME:VALUE",
        help="Send this header to this host (or HOST:PORT) alone; VALUE may be env:VARIABLE, whose "
        "value is sent; repeatable.",
    ),
    _images(
        "--requests-per-host",
        type=POSITIVE_INT,
        default=8,
        show_default=True,
        help="Images that each process fetches at a time from one web server.",
    ),
)

_triton = options_under("Triton servers")
_TRITON = (
    _triton(
        "--triton",
        metavar="HOST:PORT,...",
        help="Score on these Triton servers (gRPC), which serve the model.",
    ),
    _triton(
        "--triton-in-flight",
        type=POSITIVE_INT,
        default=8,
        show_default=True,
        help="Concurrent requests to each server.",
    ),
    _triton(
        "--triton-deadline",
        type=POSITIVE_NUMBER,
        default=120,
        show_default=True,
        help="Seconds to wait for an answer before the request is tried again.",
    ),
    _triton(
        "--triton-patience",
        type=POSITIVE_NUMBER,
        default=120,
        show_default=True,
        help="Seconds without an answer from any server before the scan stops.",
    ),
    _triton(
        "--triton-tls",
        is_flag=True,
        help="Use TLS, and trust the system's certificate authorities.",
    ),
    _triton("--triton-ca", type=FILE, help="Use TLS, and trust the authorities in this PEM file."),
    _triton(
        "--triton-cert",
        type=FILE,
        help="Use TLS with this client certificate chain (PEM). Needs --triton-key.",
    ),
    _triton("--triton-key", type=FILE, help="Private key (PEM) of --triton-cert."),
)

_ray = options_under("Ray cluster")
_RAY = (
    _ray(
        "--ray",
        is_flag=False,
        flag_value="auto",
        metavar="[ADDRESS]",
        help="Scan on a Ray cluster: HOST:PORT of its head; the cluster of this node (no address); "
        "or local, a cluster started on this host for the scan.",
    ),
    _ray(
        "--min-workers",
        type=POSITIVE_INT,
        default=1,
        show_default=True,
        help="Workers (processes) that must be ready before the scan starts.",
    ),
    _ray(
        "--max-workers",
        type=POSITIVE_INT,
        help="Most workers.  [default: as many as fit on the cluster]",
    ),
    _ray(
        "--worker-cpus",
        type=POSITIVE_INT,
        default=1,
        show_default=True,
        help="CPU cores, and threads, of each worker.",
    ),
    _ray(
        "--worker-gpus",
        type=NON_NEGATIVE_NUMBER,
        default=0,
        show_default=True,
        help="GPUs of each worker.",
    ),
    _ray(
        "--worker-memory",
        type=MEMORY,
        help="Memory reserved for each worker: GiB as a number, or with a unit, as in 512MiB.",
    ),
    _ray(
        "--worker-resources",
        multiple=True,
        metavar="NAME=AMOUNT",
        help="Custom Ray resource reserved for each worker; repeatable.",
    ),
    _ray(
        "--shard-attempts",
        type=POSITIVE_INT,
        default=3,
        show_default=True,
        help="Attempts at a shard before it is given up.",
    ),
    _ray(
        "--worker-start",
        type=POSITIVE_NUMBER,
        default=600,
        show_default=True,
        help="Seconds to wait for --min-workers.",
    ),
)

_speed = options_under("Speed and limits")
_SPEED = (
    _speed(
        "--reuse-answers",
        is_flag=True,
        help="Decode and score images with identical bytes once for each prompt. Answers stay the "
        "same; a set without duplicates takes a little longer.",
    ),
    _speed(
        "--threads",
        type=POSITIVE_INT,
        help="Threads that decode and score.  [default: one for each core; not with --ray]",
    ),
    _speed(
        "--batch-size",
        type=POSITIVE_INT,
        default=32,
        show_default=True,
        help="Pairs that a thread scores at once.",
    ),
    _speed(
        "--shard-rows",
        type=POSITIVE_INT,
        default=10_000,
        show_default=True,
        help="Rows of a shard, about. Results are committed shard by shard.",
    ),
    _speed(
        "--max-error-rate",
        type=FRACTION,
        default=0.05,
        show_default=True,
        help="Exit with status 3 if a larger share of the rows has an error.",
    ),
)

_metrics = options_under("Metrics")
_METRICS = (
    _metrics(
        "--metrics-port",
        type=PORT,
        help="Serve metrics for Prometheus on this port while the scan runs; 0 takes any free "
        "port.  [default: none]",
    ),
    _metrics(
        "--metrics-host",
        metavar="HOST",
        default="127.0.0.1",
        show_default=True,
        help="Address to serve them on. The default accepts connections from this host only; "
        "others are not asked who they are.",
    ),
)

# All but --out and --retry-errors, which come first, --max-error-rate, and those about metrics and
# Ray.
PLAN_OPTIONS = (*_INPUT, *_OUTPUT[2:], *_MODEL, *_EVIDENCE, *_IMAGES, *_SPEED[:-1], *_TRITON)
"""The options of a scan that its plan has too."""

_OPTIONS = (*_INPUT, *_OUTPUT, *_MODEL, *_EVIDENCE, *_IMAGES, *_SPEED, *_METRICS, *_TRITON, *_RAY)


def scan_options(function: Function) -> Function:
    """Give a command the options of a scan."""
    return with_options(function, _OPTIONS)
