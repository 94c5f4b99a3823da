"""The manifests of jobs/triton/, offline: against Kubernetes' schemas and against each other."""

import copy
import json
import re
import subprocess
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml
from support.kubernetes_files import Document, UniqueKeys, misspelt

from aigid.cli.scan import command as scan_command
from aigid.export.model_configs import PYTHON_INSTANCES, PYTHON_MODELS
from aigid.scorers.triton_config import TritonConfig
from aigid.serving import triton_server

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "jobs/triton"
PAGE = (ROOT / "jobs/README.md").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "build/server.Dockerfile").read_text(encoding="utf-8")
VALUES_FILE = "prometheus-adapter.values.yaml"
FLAVOURS = ("gpu.yaml", "cpu.yaml")
VERSIONS = ("1.30", kubernetes_validate.latest_version())


def strict(properties: Document, required: list[str] | None = None) -> Document:
    """The JSON schema of an object with only these properties; all are required by default."""
    names = list(properties) if required is None else required
    return {
        "type": "object",
        "properties": properties,
        "required": names,
        "additionalProperties": False,
    }


TEXT, TEXTS = (
    {"type": "string", "minLength": 1},
    {"type": "object", "additionalProperties": {"type": "string"}},
)
DURATION = {"type": "string", "pattern": r"^\d+(ms|s|m)$"}

# The documented fields of the operator's custom resource that we use.
POD_MONITOR = strict(
    {
        "apiVersion": {"const": "monitoring.coreos.com/v1"},
        "kind": {"const": "PodMonitor"},
        "metadata": strict({"name": TEXT, "labels": TEXTS}),
        "spec": strict(
            {
                "selector": strict({"matchLabels": TEXTS}),
                "podMetricsEndpoints": {
                    "type": "array",
                    "minItems": 1,
                    "items": strict({"port": TEXT, "path": TEXT, "interval": DURATION}),
                },
            }
        ),
    }
)

# The documented values of the Prometheus Adapter's chart that we use.
ADAPTER_VALUES = strict(
    {
        "prometheus": strict({"url": TEXT, "port": {"type": "integer"}}),
        "rules": strict(
            {
                "custom": {
                    "type": "array",
                    "minItems": 1,
                    "items": strict(
                        {
                            "seriesQuery": TEXT,
                            "resources": strict(
                                {
                                    "overrides": {
                                        "type": "object",
                                        "additionalProperties": strict({"resource": TEXT}),
                                    }
                                }
                            ),
                            "name": strict({"matches": TEXT, "as": TEXT}),
                            "metricsQuery": TEXT,
                        }
                    ),
                }
            }
        ),
    }
)


def load(text: str) -> list[Document]:
    return list(yaml.load_all(text, UniqueKeys))


FILES = {path.name: load(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.iterdir())}
DOCUMENTS = [(name, document) for name, documents in FILES.items() for document in documents]
IDS = [f"{name}-{document.get('kind', 'values')}" for name, document in DOCUMENTS]
each_document = pytest.mark.parametrize(("name", "document"), DOCUMENTS, ids=IDS)
each_flavour = pytest.mark.parametrize("flavour", FLAVOURS)


def validate(name: str, document: Document, version: str = VERSIONS[-1]) -> None:
    """Raise jsonschema's ValidationError, or SchemaNotFoundError for an unknown kind."""
    if name == VALUES_FILE:
        jsonschema.validate(document, ADAPTER_VALUES)
    elif document["kind"] == "PodMonitor":
        jsonschema.validate(document, POD_MONITOR)
    else:
        kubernetes_validate.validate(document, version, strict=True)


def of_kind(kind: str, name: str | None = None) -> Document:
    """Return the only document of a kind, in one file or in all."""
    (document,) = [
        one for file, one in DOCUMENTS if one.get("kind") == kind and name in (None, file)
    ]
    return document


def pod(flavour: str) -> Document:
    return of_kind("Deployment", flavour)["spec"]["template"]


def container(flavour: str) -> Document:
    (one,) = pod(flavour)["spec"]["containers"]
    return one


def command(flavour: str) -> list[str]:
    """Return the command of the container, without the shell that starts it."""
    words = container(flavour)["args"]
    return list(words[words.index("tritonserver") :])


def options(flavour: str) -> dict[str, str]:
    return dict(argument.split("=", 1) for argument in command(flavour)[1:])


def port_numbers(flavour: str) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for port in container(flavour)["ports"]}


def mebibytes(quantity: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([MG])i", quantity).groups()
    return int(number) * (1024 if unit == "G" else 1)


# Maps whose keys are free.
_FREE = {"labels", "matchLabels", "nodeSelector", "requests", "limits", "overrides"}


@pytest.mark.parametrize("version", VERSIONS)
@each_document
def test_kubernetes_accepts_every_document(name: str, document: Document, version: str) -> None:
    assert name.endswith(".yaml")
    validate(name, document, version)


@each_document
def test_a_misspelt_field_is_refused(name: str, document: Document) -> None:
    changed = dict(misspelt(document, _FREE))
    assert len(changed) >= 6
    for field, wrong in changed.items():
        try:
            validate(name, wrong)
        except jsonschema.ValidationError:
            continue
        pytest.fail(f"{name}: {field} misspelt is not noticed")


@pytest.mark.parametrize(
    ("name", "kind", "old", "new"),
    [
        ("gpu.yaml", "Deployment", "containerPort: 8001", "containerPort: grpc"),
        ("gpu.yaml", "Deployment", "failureThreshold: 120", "failureThreshold: ten minutes"),
        ("gpu.yaml", "Deployment", "drop: [ALL]", "drop: ALL"),
        ("gpu.yaml", "HorizontalPodAutoscaler", 'averageValue: "50"', "averageValue: [50]"),
        ("network.yaml", "NetworkPolicy", "policyTypes: [Ingress, Egress]", "policyTypes: Ingress"),
        ("monitoring.yaml", "PodMonitor", "interval: 15s", "interval: 15"),
        (VALUES_FILE, "values", "port: 9090", 'port: "9090"'),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(name: str, kind: str, old: str, new: str) -> None:
    text = (FOLDER / name).read_text(encoding="utf-8")
    assert old in text
    (document,) = [one for one in load(text.replace(old, new)) if one.get("kind", "values") == kind]
    with pytest.raises(jsonschema.ValidationError):
        validate(name, document)


def test_an_unknown_kind_and_a_key_given_twice_are_refused() -> None:
    with pytest.raises(kubernetes_validate.SchemaNotFoundError):
        validate("other.yaml", {"apiVersion": "example.com/v1", "kind": "Other"})
    with pytest.raises(yaml.constructor.ConstructorError, match="twice"):
        load("spec: {replicas: 1, replicas: 2}")


def test_the_flavours_differ_only_where_they_should() -> None:
    gpu, cpu = (copy.deepcopy(of_kind("Deployment", flavour)) for flavour in FLAVOURS)
    for deployment in (gpu, cpu):
        spec = deployment["spec"]["template"]["spec"]
        for field in ("nodeSelector", "tolerations"):
            spec.pop(field, None)
        for field in ("args", "resources"):
            spec["containers"][0].pop(field)
    assert gpu == cpu
    assert options("cpu.yaml") == options("gpu.yaml") | {"--model-config-name": "cpu"}
    gpus = [container(flavour)["resources"]["limits"].get("nvidia.com/gpu") for flavour in FLAVOURS]
    assert gpus == [1, None]


def test_the_image_is_of_the_default_release_and_marked_for_replacement() -> None:
    release = re.search(r"^ARG RELEASE=(\S+)$", DOCKERFILE, re.MULTILINE)[1]
    text = "".join(path.read_text(encoding="utf-8") for path in FOLDER.iterdir())
    images = re.findall(r"image: (\S+)( # REPLACE)?", text)
    assert len(images) == 3
    assert set(images) == {(f"registry.example.com/aigid-server:{release}", " # REPLACE")}


@each_flavour
def test_shared_memory_of_a_crashed_server_is_removed_before_the_next_starts(
    flavour: str, tmp_path: Path
) -> None:
    names = (
        "triton_python_backend_shm_region_1f",
        "triton_onnxruntime_backend_shm_region_2e",
        "sem.other",
    )
    for name in names:
        (tmp_path / name).touch()
    shell, option, line, *words = container(flavour)["args"]
    assert words == command(flavour)
    line = line.replace("/dev/shm", str(tmp_path))
    done = subprocess.run(
        [shell, option, line, "echo", "$HOME", "a b"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "$HOME a b\n"
    assert [path.name for path in tmp_path.iterdir()] == ["sem.other"]


@each_flavour
def test_the_server_is_started_as_the_image_starts_it(flavour: str) -> None:
    given = re.search(r"^CMD \[(.*)\]$", DOCKERFILE, re.MULTILINE)[1]
    assert set(json.loads(f"[{given}]")) <= set(command(flavour))
    assert (
        list(map(str, port_numbers(flavour).values()))
        == re.search(r"^EXPOSE (.*)$", DOCKERFILE, re.MULTILINE)[1].split()
    )
    assert port_numbers(flavour) == {"grpc": 8001, "metrics": 8002}


@each_flavour
def test_what_no_client_needs_is_closed_as_by_aigid_serve(flavour: str) -> None:
    given = options(flavour)
    assert given["--allow-http"] == "false"
    assert given["--grpc-restricted-protocol"] == (
        f"{triton_server.RESTRICTED}:{triton_server.CLOSED}={triton_server.CLOSED}"
    )


@each_flavour
def test_the_model_is_read_from_the_claim_and_not_written(flavour: str) -> None:
    mounts = {mount["name"]: mount for mount in container(flavour)["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod(flavour)["spec"]["volumes"]}
    assert set(mounts) == set(volumes)
    assert mounts["model"] == {
        "name": "model",
        "mountPath": options(flavour)["--model-repository"],
        "readOnly": True,
    }
    claim = of_kind("PersistentVolumeClaim")["metadata"]["name"]
    assert volumes["model"]["persistentVolumeClaim"] == {"claimName": claim, "readOnly": True}
    (copying,) = of_kind("Pod")["spec"]["volumes"]
    assert copying["persistentVolumeClaim"] == {"claimName": claim}


@each_flavour
def test_shared_memory_is_memory_and_within_the_limit(flavour: str) -> None:
    (volume,) = [volume for volume in pod(flavour)["spec"]["volumes"] if volume["name"] == "shm"]
    assert volume["emptyDir"]["medium"] == "Memory"
    assert {"name": "shm", "mountPath": "/dev/shm"} in container(flavour)["volumeMounts"]
    size, limit = (
        volume["emptyDir"]["sizeLimit"],
        container(flavour)["resources"]["limits"]["memory"],
    )
    assert 1024 <= mebibytes(size) <= mebibytes(limit) // 2


@each_flavour
def test_probes_ask_triton_for_its_health(flavour: str) -> None:
    probes = container(flavour)
    for name in ("startupProbe", "readinessProbe"):
        assert probes[name]["grpc"] == {"port": port_numbers(flavour)["grpc"]}
    (shell, option, command) = probes["livenessProbe"]["exec"]["command"]
    assert (shell, option) == ("sh", "-c")
    address = f"localhost:{port_numbers(flavour)['grpc']}"
    assert f"python3 -m aigid.serving.health {address} && " in command
    assert f'CMD ["python3", "-m", "aigid.serving.health", "{address}"]' in DOCKERFILE
    assert f"-ge {PYTHON_INSTANCES * len(PYTHON_MODELS)}" in command
    allowed = probes["startupProbe"]["periodSeconds"] * probes["startupProbe"]["failureThreshold"]
    assert 600 <= allowed < of_kind("Deployment", flavour)["spec"]["progressDeadlineSeconds"]


@each_flavour
def test_a_pod_has_time_to_stop(flavour: str) -> None:
    leaving = container(flavour)["lifecycle"]["preStop"]["sleep"]["seconds"] + int(
        options(flavour)["--exit-timeout-secs"]
    )
    assert pod(flavour)["spec"]["terminationGracePeriodSeconds"] > leaving
    assert (
        of_kind("Deployment", flavour)["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    )


@pytest.mark.parametrize(
    "spec",
    [*(pod(flavour)["spec"] for flavour in FLAVOURS), of_kind("Pod")["spec"]],
    ids=["gpu", "cpu", "copy"],
)
def test_pods_follow_the_restricted_standard_and_write_only_to_volumes(spec: Document) -> None:
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == int(
        re.search(r"^USER (\d+)$", DOCKERFILE, re.MULTILINE)[1]
    )
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    wanted = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert [one["securityContext"] for one in spec["containers"]] == [wanted]


@each_flavour
def test_every_selector_selects_these_pods(flavour: str) -> None:
    labels = pod(flavour)["metadata"]["labels"]
    selectors = [
        *(one["spec"]["selector"] for _, one in DOCUMENTS if one.get("kind") == "Service"),
        of_kind("Deployment", flavour)["spec"]["selector"]["matchLabels"],
        of_kind("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        of_kind("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        of_kind("PodMonitor")["spec"]["selector"]["matchLabels"],
        *(
            one["labelSelector"]["matchLabels"]
            for one in pod(flavour)["spec"]["topologySpreadConstraints"]
        ),
    ]
    assert len(selectors) == 7
    assert all(selector and selector.items() <= labels.items() for selector in selectors)
    # No selector selects the pod that copies the model.
    assert "labels" not in of_kind("Pod")["metadata"]


@each_flavour
def test_services_name_the_pods_ports_and_one_is_headless(flavour: str) -> None:
    services = {
        one["metadata"]["name"]: one["spec"] for _, one in DOCUMENTS if one.get("kind") == "Service"
    }
    for spec in services.values():
        for port in spec["ports"]:
            assert port_numbers(flavour)[port["targetPort"]] == port["port"]
    assert {name: spec.get("clusterIP") for name, spec in services.items()} == {
        "aigid-triton": None,
        "aigid-triton-pods": "None",
    }
    assert [port["name"] for port in services["aigid-triton"]["ports"]] == ["grpc"]


@each_flavour
def test_only_labelled_clients_and_monitoring_come_in_and_nothing_goes_out(
    flavour: str,
) -> None:
    policy = of_kind("NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["egress"] == []
    clients, monitoring = policy["ingress"]
    assert [port["port"] for port in clients["ports"]] == ["grpc"]
    label = {"matchLabels": {"aigid-triton-client": "true"}}
    assert [source["podSelector"] for source in clients["from"]] == [label, label]
    assert [port["port"] for port in monitoring["ports"]] == ["metrics"]
    assert monitoring["from"] == [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    ]
    (endpoint,) = of_kind("PodMonitor")["spec"]["podMetricsEndpoints"]
    assert {"grpc", endpoint["port"]} == set(port_numbers(flavour))


@each_flavour
def test_the_autoscaler_scales_the_deployment_by_the_adapters_metric(flavour: str) -> None:
    autoscaler, deployment = (
        of_kind("HorizontalPodAutoscaler", flavour)["spec"],
        of_kind("Deployment", flavour),
    )
    target = {
        "apiVersion": deployment["apiVersion"],
        "kind": "Deployment",
        "name": deployment["metadata"]["name"],
    }
    assert autoscaler["scaleTargetRef"] == target
    assert "replicas" not in deployment["spec"]
    assert 2 <= autoscaler["minReplicas"] < autoscaler["maxReplicas"]
    (rule,) = FILES[VALUES_FILE][0]["rules"]["custom"]
    (metric,) = autoscaler["metrics"]
    assert metric["pods"]["metric"] == {"name": rule["name"]["as"]}
    # It scales up fast and down slowly.
    windows = [
        autoscaler["behavior"][way]["stabilizationWindowSeconds"]
        for way in ("scaleUp", "scaleDown")
    ]
    assert windows == sorted(windows)
    assert f"/pods/*/{rule['name']['as']}" in PAGE


def test_the_adapters_rule_finds_its_series_by_pod_and_namespace() -> None:
    (rule,) = FILES[VALUES_FILE][0]["rules"]["custom"]
    series = rule["seriesQuery"].partition("{")[0]
    assert re.fullmatch(rule["name"]["matches"], series)
    assert rule["resources"]["overrides"] == {
        name: {"resource": name} for name in ("namespace", "pod")
    }
    assert all(f'{name}!=""' in rule["seriesQuery"] for name in ("namespace", "pod"))
    assert set(re.findall(r"<<(.*?)>>", rule["metricsQuery"])) == {
        ".Series",
        ".LabelMatchers",
        ".GroupBy",
    }


def test_files_options_and_services_of_the_page_exist() -> None:
    named = set(re.findall(r"[\w.-]+\.yaml", PAGE))
    assert named == set(FILES)
    assert not [
        link
        for link in re.findall(r"\]\((?!https)([^)#]+)\)", PAGE)
        if not (ROOT / "jobs" / link).is_file()
    ]
    scan = {option for parameter in scan_command.params for option in parameter.opts}
    ours = set(re.findall(r"--(?:triton-[\w-]+|batch-size|out|model)\b(?!-)", PAGE))
    assert (
        {"--triton-in-flight", "--triton-deadline", "--triton-patience", "--batch-size"}
        <= ours
        <= scan
    )
    services = {one["metadata"]["name"] for _, one in DOCUMENTS if one.get("kind") == "Service"}
    assert set(re.findall(r"(aigid-triton[\w-]*)\.aigid\b", PAGE)) == services


def test_the_command_of_the_page_gives_the_addresses_of_pods() -> None:
    line = re.search(r"^pods=.*$", PAGE, re.MULTILINE)[0]
    last = re.search(r'--triton "\$pods,(.*?)"', PAGE)[1]
    script = f'{line.replace("aigid-triton-pods.aigid", "localhost")}; printf %s "$pods"'
    found = subprocess.run(["sh", "-c", script], text=True, capture_output=True, check=True).stdout
    assert TritonConfig.parse(f"{found},{last}").addresses == (
        "127.0.0.1:8001",
        "aigid-triton.aigid:8001",
    )
