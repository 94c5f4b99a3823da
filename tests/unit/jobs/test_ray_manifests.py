"""The manifests of jobs/ray/, offline: against Kubernetes' schemas, jobs/triton/ and the CLI."""

import copy
import os
import re
import stat
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import click
import jsonschema
import kubernetes_validate
import pytest
import yaml
from support.kubernetes_files import Document, UniqueKeys, misspelt

from aigid.cli.main import main
from aigid.cli.scan import command as scan_command
from aigid.scorers.triton_config import TritonConfig

ROOT = Path(__file__).parents[3]
FOLDER, TRITON = ROOT / "jobs/ray", ROOT / "jobs/triton"
TEXTS = {path.name: path.read_text(encoding="utf-8") for path in sorted(FOLDER.iterdir())}
PAGE, DOCKERFILE, IGNORED = (
    TEXTS["README.md"],
    TEXTS["Dockerfile"],
    TEXTS["Dockerfile.dockerignore"],
)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
VERSIONS = ("1.30", kubernetes_validate.latest_version())
SCAN = scan_command
# From Ray's own constants: Ray does not start with less.
LEAST_OBJECT_STORE_BYTES = 75 << 20


def strict(**properties: Document) -> Document:
    """The JSON schema of an object with these properties, all of them and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


ANYTHING, TEXT, FLAG = {"type": "object"}, {"type": "string", "minLength": 1}, {"type": "boolean"}
COUNT = {"type": "integer", "minimum": 0}
START_PARAMS = {"type": "object", "additionalProperties": {"type": "string"}}

# The fields that we use, from KubeRay's API reference (ray.io/v1 of 1.4 to 1.7, in
# docs/reference/api.md of its repository). Parts of Kubernetes itself (pod templates, the
# autoscaler's container) are validated against its schemas.
RAY_JOB = strict(
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayJob"},
    metadata=strict(name=TEXT),
    spec=strict(
        submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
        entrypoint=TEXT,
        backoffLimit=COUNT,
        shutdownAfterJobFinishes=FLAG,
        ttlSecondsAfterFinished=COUNT,
        rayClusterSpec=strict(
            rayVersion=TEXT,
            enableInTreeAutoscaling=FLAG,
            autoscalerOptions=strict(
                version={"enum": ["v1", "v2"]},
                idleTimeoutSeconds=COUNT,
                resources=ANYTHING,
                securityContext=ANYTHING,
                volumeMounts={"type": "array"},
            ),
            headGroupSpec=strict(rayStartParams=START_PARAMS, template=ANYTHING),
            workerGroupSpecs={
                "type": "array",
                "minItems": 1,
                "items": strict(
                    groupName=TEXT,
                    minReplicas=COUNT,
                    maxReplicas=COUNT,
                    rayStartParams=START_PARAMS,
                    template=ANYTHING,
                ),
            },
        ),
    ),
)


def load(text: str) -> list[Document]:
    return list(yaml.load_all(text, UniqueKeys))


def of_kind(kind: str, documents: list[Document]) -> Document:
    (document,) = [one for one in documents if one["kind"] == kind]
    return document


DOCUMENTS = [document for name in TEXTS if name.endswith(".yaml") for document in load(TEXTS[name])]
TRITON_DOCUMENTS = [
    one
    for path in sorted(TRITON.glob("*.yaml"))
    for one in load(path.read_text("utf-8"))
    if "kind" in one
]
JOB = of_kind("RayJob", DOCUMENTS)
CLUSTER = JOB["spec"]["rayClusterSpec"]
HEAD, (WORKERS,) = CLUSTER["headGroupSpec"], CLUSTER["workerGroupSpecs"]
GROUPS = {"head": HEAD, "workers": WORKERS}
each_document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=[one["kind"] for one in DOCUMENTS]
)
each_group = pytest.mark.parametrize("group", GROUPS)


def pods(job: Document) -> list[Document]:
    """Return the pods of a job as KubeRay makes them.

    KubeRay adds a container for the autoscaler to the head, and to workers an init container that
    waits for the head. Both take the image of the container beside them; the second also takes its
    security context and mounts.
    """
    cluster = copy.deepcopy(job["spec"]["rayClusterSpec"])
    options = cluster["autoscalerOptions"]
    head = cluster["headGroupSpec"]["template"]
    taken = {
        key: options[key]
        for key in ("resources", "securityContext", "volumeMounts")
        if key in options
    }
    head["spec"]["containers"].append(
        {"name": "autoscaler", "image": head["spec"]["containers"][0]["image"], **taken}
    )
    workers = [group["template"] for group in cluster["workerGroupSpecs"]]
    for worker in workers:
        ray = worker["spec"]["containers"][0]
        waiting = {
            key: ray[key]
            for key in ("image", "securityContext", "volumeMounts", "env", "envFrom")
            if key in ray
        }
        worker["spec"]["initContainers"] = [{"name": "wait-gcs-ready", **waiting}]
    return [{"apiVersion": "v1", "kind": "Pod", **template} for template in (head, *workers)]


def validate(document: Document, version: str = VERSIONS[-1]) -> None:
    """Raises jsonschema's ValidationError."""
    if document["kind"] != "RayJob":
        kubernetes_validate.validate(document, version, strict=True)
        return
    jsonschema.validate(document, RAY_JOB)
    cluster = document["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        kubernetes_validate.validate(
            {"apiVersion": "v1", "kind": "Pod", **group["template"]}, version, strict=True
        )
    for pod in pods(document):
        kubernetes_validate.validate(pod, version, strict=True)


def container(group: str) -> Document:
    (one,) = GROUPS[group]["template"]["spec"]["containers"]
    return one


def mebibytes(quantity: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([MG])i", quantity).groups()
    return int(number) * (1024 if unit == "G" else 1)


def words_of(entrypoint: str, servers: list[str], tmp_path: Path) -> list[str]:
    """Return the arguments that the entrypoint passes to Python if DNS knows these servers."""
    lines = "".join(f"{server} {kind} x\\n" for server in servers for kind in ("STREAM", "DGRAM"))
    programs = {
        "python": 'printf "%s\\0" "$@"',
        "getent": f'[ "$*" = "ahostsv4 aigid-triton-pods" ] && printf "{lines}"',
    }
    for name, line in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
        (tmp_path / name).chmod(stat.S_IRWXU)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    # Ray's job supervisor starts it like this.
    done = subprocess.run(
        entrypoint, shell=True, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout.split("\0")[:-1]


def options_of(words: list[str]) -> dict[str, Any]:
    """Parse words as `aigid scan` does for jobs/scan.py; raises click's UsageError."""
    return SCAN.make_context("scan", ["--ray=auto", *words], **main.context_settings).params


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    return options_of(words_of(JOB["spec"]["entrypoint"], ["10.0.0.1", "10.0.0.2"], tmp_path)[1:])


# Maps whose keys are free.
_FREE = {"labels", "matchLabels", "annotations", "requests", "limits", "rayStartParams"}


@pytest.mark.parametrize("version", VERSIONS)
@each_document
def test_kubernetes_and_kuberay_accept_every_document(document: Document, version: str) -> None:
    validate(document, version)


@each_document
def test_a_misspelt_field_is_refused(document: Document) -> None:
    changed = dict(misspelt(document, _FREE))
    assert len(changed) >= 3
    for field, wrong in changed.items():
        try:
            validate(wrong)
        except jsonschema.ValidationError:
            continue
        pytest.fail(f"{document['kind']}: {field} misspelt is not noticed")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('num-cpus: "0"', "num-cpus: 0"),
        ("maxReplicas: 10", 'maxReplicas: "10"'),
        ("submissionMode: HTTPMode", "submissionMode: HttpMode"),
        ("version: v2", "version: 2"),
        ("containerPort: 8265", "containerPort: dashboard"),
        ("optional: true", 'optional: "true"'),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(old: str, new: str) -> None:
    text = TEXTS["rayjob.yaml"]
    assert old in text
    with pytest.raises(jsonschema.ValidationError):
        validate(of_kind("RayJob", load(text.replace(old, new))))


def test_a_key_given_twice_is_refused() -> None:
    with pytest.raises(yaml.constructor.ConstructorError, match="twice"):
        load("spec: {backoffLimit: 1, backoffLimit: 2}")


def test_ray_is_one_version_everywhere() -> None:
    version = CLUSTER["rayVersion"]
    pinned = re.search(
        r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE
    )[1]
    assert re.search(r"^ARG RAY=(\S+)$", DOCKERFILE, re.MULTILINE)[1] == version == pinned
    images = set(re.findall(r"aigid-ray:([\w.]+)", "".join(TEXTS.values())))
    assert images == {version}
    assert {container(group)["image"] for group in GROUPS} == {
        f"registry.example.com/aigid-ray:{version}"
    }
    assert len(
        re.findall(r"image: registry\.example\.com/\S+ # REPLACE", TEXTS["rayjob.yaml"])
    ) == len(GROUPS)


def test_the_entrypoint_is_a_scan_with_options_that_exist(tmp_path: Path) -> None:
    program, *words = words_of(JOB["spec"]["entrypoint"], ["10.0.0.1", "10.0.0.2"], tmp_path)
    workdir = re.search(r"^WORKDIR (\S+)$", DOCKERFILE, re.MULTILINE)[1]
    assert (ROOT / Path(program).relative_to(workdir)).read_text(encoding="utf-8").count(
        'main(["scan", "--ray=auto"'
    ) == 1
    values = options_of(words)
    assert values["paths"] == ("s3://bucket/manifest/",)
    assert values["out"] == "s3://bucket/results/"
    with pytest.raises(click.NoSuchOption):
        options_of([*words, "--max-worker", "3"])


@pytest.mark.parametrize(
    ("servers", "first"),
    [(["10.0.0.7", "10.0.0.1"], ("10.0.0.1:8001", "10.0.0.7:8001")), ([], ())],
    ids=["pods", "none"],
)
def test_the_scan_names_tritons_pods_and_its_service(
    servers: list[str], first: tuple[str, ...], tmp_path: Path
) -> None:
    values = options_of(words_of(JOB["spec"]["entrypoint"], servers, tmp_path)[1:])
    assert TritonConfig.parse(values["triton"]).addresses == (*first, "aigid-triton:8001")
    services = {
        one["metadata"]["name"]: one["spec"] for one in TRITON_DOCUMENTS if one["kind"] == "Service"
    }
    assert set(re.findall(r"aigid-triton(?:-pods)?\b", JOB["spec"]["entrypoint"])) == set(services)
    for spec in services.values():
        assert 8001 in [port["port"] for port in spec["ports"] if port["name"] == "grpc"]


def test_the_model_is_tritons_at_one_path_and_not_written(options: dict[str, Any]) -> None:
    claim = of_kind("PersistentVolumeClaim", TRITON_DOCUMENTS)["metadata"]["name"]
    for group, specs in GROUPS.items():
        assert {"name": "model", "mountPath": str(options["model"]), "readOnly": True} in container(
            group
        )["volumeMounts"]
        (volume,) = [one for one in specs["template"]["spec"]["volumes"] if one["name"] == "model"]
        assert volume["persistentVolumeClaim"] == {"claimName": claim, "readOnly": True}


def test_the_scan_asks_for_as_many_workers_as_pods_have_room_for(options: dict[str, Any]) -> None:
    cores = int(container("workers")["resources"]["limits"]["cpu"])
    assert cores % options["worker_cpus"] == 0
    assert options["max_workers"] == WORKERS["maxReplicas"] * cores // options["worker_cpus"]
    assert options["min_workers"] <= options["max_workers"]
    assert "num-cpus" not in WORKERS["rayStartParams"]


def test_no_worker_runs_on_the_head_and_idle_ones_are_removed() -> None:
    assert HEAD["rayStartParams"]["num-cpus"] == "0"
    assert WORKERS["minReplicas"] == 0
    assert CLUSTER["enableInTreeAutoscaling"] is True
    assert (
        CLUSTER["autoscalerOptions"]["idleTimeoutSeconds"] < JOB["spec"]["ttlSecondsAfterFinished"]
    )
    # The autoscaler's second version accepts no other policy.
    assert CLUSTER["autoscalerOptions"]["version"] == "v2"
    assert {specs["template"]["spec"]["restartPolicy"] for specs in GROUPS.values()} == {"Never"}


def test_a_failed_job_is_retried_on_a_new_cluster() -> None:
    spec = JOB["spec"]
    assert spec["backoffLimit"] >= 1
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["submissionMode"] == "HTTPMode"
    # KubeRay's own rule, for it derives other names from this one.
    assert re.fullmatch(r"[a-z]([-a-z0-9]{0,45}[a-z0-9])?", JOB["metadata"]["name"])


@each_group
def test_the_object_store_is_small_and_its_memory_is_within_the_limit(group: str) -> None:
    specs = GROUPS[group]
    (volume,) = [one for one in specs["template"]["spec"]["volumes"] if one["name"] == "shm"]
    assert volume["emptyDir"]["medium"] == "Memory"
    assert {"name": "shm", "mountPath": "/dev/shm"} in container(group)["volumeMounts"]
    store = int(specs["rayStartParams"]["object-store-memory"])
    size = mebibytes(volume["emptyDir"]["sizeLimit"])
    assert LEAST_OBJECT_STORE_BYTES <= store <= size << 20
    assert size <= mebibytes(container(group)["resources"]["limits"]["memory"]) // 16


@pytest.mark.parametrize("pod", pods(JOB), ids=GROUPS)
def test_pods_follow_the_restricted_standard_and_write_only_to_volumes(pod: Document) -> None:
    spec = pod["spec"]
    user = int(re.search(r"^USER (\d+)$", DOCKERFILE, re.MULTILINE)[1])
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == user
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    wanted = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    every = [*spec["containers"], *spec.get("initContainers", [])]
    assert len(every) == 2
    assert [one["securityContext"] for one in every] == [wanted, wanted]
    volumes = {one["name"] for one in spec["volumes"]}
    for one in every:
        paths = {mount["mountPath"]: mount for mount in one["volumeMounts"]}
        assert "/tmp" in paths
        assert {mount["name"] for mount in paths.values()} <= volumes
    homes = {entry["value"] for entry in spec["containers"][0]["env"] if entry["name"] == "HOME"}
    assert homes == {"/tmp"}


@each_group
def test_requests_and_limits_of_every_container_are_equal(group: str) -> None:
    resources = container(group)["resources"]
    assert resources["requests"] == resources["limits"]
    assert (
        CLUSTER["autoscalerOptions"]["resources"]["requests"]
        == CLUSTER["autoscalerOptions"]["resources"]["limits"]
    )


def test_only_the_head_may_ask_kubernetes_and_both_may_ask_the_store() -> None:
    account = of_kind("ServiceAccount", DOCUMENTS)
    assert account["automountServiceAccountToken"] is False
    specs = [group["template"]["spec"] for group in GROUPS.values()]
    assert {spec["serviceAccountName"] for spec in specs} == {account["metadata"]["name"]}
    assert [spec["automountServiceAccountToken"] for spec in specs] == [True, False]
    (secret,) = {
        entry["secretRef"]["name"] for group in GROUPS for entry in container(group)["envFrom"]
    }
    assert all(
        entry["secretRef"]["optional"] is True
        for group in GROUPS
        for entry in container(group)["envFrom"]
    )
    assert f"kubectl create secret generic {secret}" in PAGE


@each_group
def test_triton_accepts_the_pods_and_only_they_and_the_operator_reach_them(group: str) -> None:
    labels = GROUPS[group]["template"]["metadata"]["labels"]
    triton, ours = (
        of_kind("NetworkPolicy", TRITON_DOCUMENTS)["spec"],
        of_kind("NetworkPolicy", DOCUMENTS)["spec"],
    )
    clients = triton["ingress"][0]["from"][0]["podSelector"]["matchLabels"]
    assert clients
    assert clients.items() <= labels.items()
    assert ours["podSelector"]["matchLabels"].items() <= labels.items()
    assert ours["policyTypes"] == ["Ingress"]
    own, operator = ours["ingress"]
    assert own == {"from": [{"podSelector": ours["podSelector"]}]}
    assert [port["port"] for port in operator["ports"]] == ["dashboard"]
    assert "dashboard" in [port["name"] for port in container("head")["ports"]]
    # Triton's pods are not Ray's.
    deployments = [
        one["spec"]["template"]["metadata"]["labels"]
        for one in TRITON_DOCUMENTS
        if one["kind"] == "Deployment"
    ]
    assert not any(
        ours["podSelector"]["matchLabels"].items() <= other.items() for other in deployments
    )


def test_without_the_lines_that_name_triton_the_scan_is_embedded(tmp_path: Path) -> None:
    command = re.search(r"^(sed \S+) (\S+)", PAGE, re.MULTILINE)
    assert command, "the page says how"
    text = subprocess.run(
        ["sh", "-c", command[0]], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    (account, job), (_, with_triton) = load(text), load(TEXTS["rayjob.yaml"])
    validate(account)
    validate(job)
    values = options_of(words_of(job["spec"]["entrypoint"], [], tmp_path)[1:])
    assert values["triton"] is None
    before = options_of(words_of(with_triton["spec"]["entrypoint"], [], tmp_path)[1:])
    assert {name for name in before if before[name] != values[name]} == {
        "triton",
        "triton_in_flight",
    }
    # Besides, only the label of Triton's clients goes.
    for specs in (with_triton, job):
        cluster = specs["spec"]["rayClusterSpec"]
        for template in (
            cluster["headGroupSpec"]["template"],
            cluster["workerGroupSpecs"][0]["template"],
        ):
            template["metadata"]["labels"].pop("aigid-triton-client", None)
        del specs["spec"]["entrypoint"]
    assert job == with_triton


def test_files_that_the_image_copies_exist_and_are_in_its_context() -> None:
    copies = re.findall(r"^COPY (.+) \S+$", DOCKERFILE, re.MULTILINE)
    sources = {source for sources in copies for source in sources.split()}
    assert {
        "pyproject.toml",
        "constraints.txt",
        "aigid",
        "jobs",
        PROJECT["readme"],
        *PROJECT["license-files"],
    } <= sources
    allowed = {line[1:] for line in IGNORED.splitlines() if line.startswith("!")}
    assert allowed == sources
    assert "*" in IGNORED.splitlines()
    assert not [source for source in sources if not (ROOT / source).exists()]


def test_the_image_has_the_extras_and_a_supported_python() -> None:
    extras = re.search(r"pip install .*'\.\[([\w,]+)\]'", DOCKERFILE)[1].split(",")
    assert set(extras) == {"heif", "hub", "observe", "ray", "serve"}
    assert set(extras) <= set(PROJECT["optional-dependencies"])
    python = re.search(r"^FROM python:([\d.]+)-slim", DOCKERFILE, re.MULTILINE)[1]
    least = PROJECT["requires-python"].removeprefix(">=")
    assert tuple(map(int, python.split("."))) >= tuple(map(int, least.split(".")))


def test_hadolint_finds_nothing() -> None:
    command = [Path(sys.executable).with_name("hadolint"), FOLDER / "Dockerfile"]
    linted = subprocess.run(list(map(str, command)), text=True, capture_output=True, check=False)
    assert (linted.returncode, linted.stdout) == (0, "")


def test_files_links_and_options_of_the_page_exist() -> None:
    files = set(
        re.findall(r"jobs/[\w./-]+\.(?:yaml|py|md)|jobs/ray/Dockerfile\b", PAGE + DOCKERFILE)
    )
    assert {"jobs/ray/rayjob.yaml", "jobs/ray/network.yaml", "jobs/ray/Dockerfile"} <= files
    assert not [path for path in files if not (ROOT / path).is_file()]
    assert not [
        link
        for link in re.findall(r"\]\((?!https)([^)#]+)\)", PAGE)
        if not (FOLDER / link).exists()
    ]
    known = {option for parameter in SCAN.params for option in parameter.opts}
    named = set(re.findall(r"`(--(?:triton|max-w|min-w|worker|shard|out|model)[\w-]*)", PAGE))
    assert {"--max-workers", "--shard-attempts", "--triton-in-flight"} <= named <= known
    assert set(re.findall(r"-n (\w[\w-]*)", PAGE)) == {"aigid"}
