"""The deployment examples: read by their own tools where those are, and true of this Sidespan everywhere."""

import os
import re
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from collector.api.own_routes import OWN_OPERATIONS
from collector.receivers.http import PATHS
from collector.settings import ALL_ROLES, FOREIGN_VARIABLES, Role, load

DEPLOY = Path(__file__).parents[1] / "examples" / "deploy"
COMPOSE = DEPLOY / "compose" / "compose.yaml"
MANIFESTS = [DEPLOY / "kubernetes" / name for name in ("sidecar.yaml", "gateway.yaml")]
SCALE_COMPOSE = DEPLOY / "compose" / "scale.yaml"
SCALE = DEPLOY / "kubernetes" / "scale.yaml"
UNIT = DEPLOY / "systemd" / "sidespan.service"
SOCKET = DEPLOY / "systemd" / "sidespan.socket"
WORKLOADS = ("Deployment", "StatefulSet")
COLLECTOR = DEPLOY / "otelcol" / "config.yaml"
FILES = [COMPOSE, SCALE_COMPOSE, *MANIFESTS, SCALE, UNIT, SOCKET, COLLECTOR, DEPLOY / "Dockerfile"]


def documents(file: Path) -> list[Any]:
    return [document for document in yaml.safe_load_all(file.read_text()) if document]


def environments(node: Any) -> list[dict[str, str]]:
    """Every environment in a compose file or a manifest."""
    if isinstance(node, list):
        return [found for item in node for found in environments(item)]
    if not isinstance(node, dict):
        return []
    own = [node["environment"]] if isinstance(node.get("environment"), dict) else []
    if isinstance(node.get("env"), list):
        own.append({item["name"]: item["value"] for item in node["env"] if "value" in item})
    return own + [found for value in node.values() for found in environments(value)]


def test_variables_and_their_values_are_settings() -> None:
    files = (COMPOSE, SCALE_COMPOSE, *MANIFESTS)
    found = [each for file in files for doc in documents(file) for each in environments(doc)]
    unit = dict(re.findall(r"^Environment=(SIDESPAN_\w+)=(.+)$", UNIT.read_text(), re.MULTILINE))
    services = [{k: v for k, v in each.items() if k.startswith("SIDESPAN_")} for each in [*found, unit]]
    assert sum(map(bool, services)) >= 5
    for each in services:
        load(environment={k: str(v) for k, v in each.items() if k not in FOREIGN_VARIABLES}, flags={})


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_ports_and_paths_are_real(file: Path) -> None:
    text = file.read_text()
    assert "4318" in text or file == UNIT
    own = set(re.findall(r"/-/[a-z]+", text))
    assert own <= {"/-/healthy", "/-/ready"}
    assert set(re.findall(r"/v1/[a-z]+", text)) <= set(PATHS)


@pytest.mark.parametrize("file", MANIFESTS, ids=lambda file: file.name)
def test_kubernetes_manifests_hold_together(file: Path) -> None:
    for document in documents(file):
        assert {"apiVersion", "kind", "metadata"} <= document.keys()
        if document["kind"] != "Deployment":
            continue
        spec = document["spec"]
        template = spec["template"]
        assert spec["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
        pod = template["spec"]
        assert pod["enableServiceLinks"] is False
        volumes = {volume["name"] for volume in pod["volumes"]}
        containers = [*pod["containers"], *pod.get("initContainers", [])]
        mounted = {mount["name"] for c in containers for mount in c.get("volumeMounts", [])}
        assert mounted == volumes
        sidespan = next(container for container in containers if container["name"] == "sidespan")
        assert sidespan["args"][0] == "serve"
        # the default of 20 s for the service itself, and the time that Kubernetes needs
        assert pod["terminationGracePeriodSeconds"] >= 30
        assert any(mount["mountPath"] == "/var/lib/sidespan" for mount in sidespan["volumeMounts"])


@pytest.mark.parametrize("file", [MANIFESTS[1], SCALE], ids=lambda file: file.name)
def test_kubernetes_asks_where_sidespan_answers(file: Path) -> None:
    probes = [
        (probe["httpGet"], {port["name"] for port in container["ports"]})
        for document in documents(file)
        if document["kind"] in WORKLOADS
        for container in document["spec"]["template"]["spec"]["containers"]
        if container["name"] == "sidespan"
        for probe in (container["livenessProbe"], container["readinessProbe"])
    ]
    assert probes
    for asked, ports in probes:
        assert asked["port"] in ports
        assert ("GET", asked["path"]) in OWN_OPERATIONS.exact


@pytest.mark.parametrize("file", [*MANIFESTS, SCALE], ids=lambda file: file.name)
def test_who_is_not_root_can_read_the_secrets(file: Path) -> None:
    """Secrets are root's files; a mode that gives others nothing needs a group (`fsGroup`)."""
    for document in (each for each in documents(file) if each["kind"] in WORKLOADS):
        pod = document["spec"]["template"]["spec"]
        for volume in (each for each in pod["volumes"] if "secret" in each):
            assert volume["secret"].get("defaultMode", 0o644) & 0o004 or pod["securityContext"]["fsGroup"]


def test_a_gateways_service_has_both_ports_of_otlp() -> None:
    deployment = next(d for d in documents(MANIFESTS[1]) if d["kind"] == "Deployment")
    service = next(d for d in documents(MANIFESTS[1]) if d["kind"] == "Service")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    inside = {port["name"]: port["containerPort"] for port in container["ports"]}
    outside = {port["targetPort"]: port["port"] for port in service["spec"]["ports"]}
    assert inside == outside == {"otlp-http": 4318, "otlp-grpc": 4317}


def test_a_gateway_is_the_only_one_at_its_journal() -> None:
    deployment = next(d for d in documents(MANIFESTS[1]) if d["kind"] == "Deployment")
    assert (deployment["spec"]["replicas"], deployment["spec"]["strategy"]["type"]) == (1, "Recreate")
    claim = next(d for d in documents(MANIFESTS[1]) if d["kind"] == "PersistentVolumeClaim")
    volumes = deployment["spec"]["template"]["spec"]["volumes"]
    assert {"claimName": claim["metadata"]["name"]} in [v.get("persistentVolumeClaim") for v in volumes]


def role_arguments(arguments: list[str]) -> tuple[str, ...]:
    return tuple(after for before, after in pairwise(arguments) if before == "--role")


@pytest.fixture(scope="module")
def scale() -> list[Any]:
    return documents(SCALE)


def test_replicas_in_kubernetes_can_run_as_they_are_set_up(scale: list[Any], tmp_path: Path) -> None:
    (shared,) = [document["data"] for document in scale if document["kind"] == "ConfigMap"]
    file = tmp_path / "sidespan.toml"
    file.write_text(shared["sidespan.toml"])
    found = set()
    for document in (each for each in scale if each["kind"] in WORKLOADS):
        (container,) = document["spec"]["template"]["spec"]["containers"]
        environment = {item["name"]: item.get("value", "pod-0") for item in container.get("env", [])}
        assert document["kind"] == "Deployment" or "SIDESPAN_KAFKA__MEMBER" in environment
        roles = role_arguments(container["args"])
        settings = load(file=file, environment=environment, flags={"roles": roles})
        assert not settings.log_place.engine.is_embedded
        assert settings.log.requests_to == "stdout"
        found |= set(settings.roles)
    assert found == set(ALL_ROLES) - {Role.ROUTE}, "route is for those who have foreign topics"


def test_replicas_in_kubernetes_have_no_disk_and_may_be_moved(scale: list[Any]) -> None:
    for document in (each for each in scale if each["kind"] in WORKLOADS):
        spec = document["spec"]
        template = spec["template"]
        assert spec["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
        pod = template["spec"]
        (container,) = pod["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert pod["enableServiceLinks"] is False
        assert pod["terminationGracePeriodSeconds"] >= 30
        assert "volumeClaimTemplates" not in spec
        assert {v["name"] for v in pod["volumes"]} == {m["name"] for m in container["volumeMounts"]}
        assert all("persistentVolumeClaim" not in volume for volume in pod["volumes"])


def test_what_kubernetes_scales_and_reaches_is_there(scale: list[Any]) -> None:
    workloads = {each["metadata"]["name"]: each for each in scale if each["kind"] in WORKLOADS}
    labels = {n: each["spec"]["template"]["metadata"]["labels"] for n, each in workloads.items()}
    (autoscaler,) = [each for each in scale if each["kind"] == "HorizontalPodAutoscaler"]
    target = autoscaler["spec"]["scaleTargetRef"]
    assert workloads[target["name"]]["kind"] == target["kind"]
    assert "replicas" not in workloads[target["name"]]["spec"], "the autoscaler decides"
    services = {each["metadata"]["name"]: each["spec"] for each in scale if each["kind"] == "Service"}
    for service in services.values():
        (chosen,) = [n for n, of in labels.items() if service["selector"].items() <= of.items()]
        (container,) = workloads[chosen]["spec"]["template"]["spec"]["containers"]
        inside = {port["name"] for port in container["ports"]}
        assert {port["targetPort"] for port in service["ports"]} <= inside
    stateful = [each for each in workloads.values() if each["kind"] == "StatefulSet"]
    assert all(each["spec"]["serviceName"] in services for each in stateful)


def test_replicas_in_compose_have_every_role_and_what_they_need() -> None:
    (compose,) = documents(SCALE_COMPOSE)
    services = compose["services"]
    replicas = [each for each in services.values() if each.get("command", [""])[0] == "serve"]
    roles = set()
    for each in replicas:
        environment = {name: str(value) for name, value in each["environment"].items()}
        settings = load(environment=environment, flags={"roles": role_arguments(each["command"])})
        roles |= set(settings.roles)
        assert settings.kafka.replicas == 1
        assert f"{settings.log_place.hosts[0].partition(':')[0]}" in services
    assert roles == set(ALL_ROLES) - {Role.ROUTE}
    assert services["kafka"]["image"].startswith("apache/kafka:")
    assert services["clickhouse"]["image"].startswith("clickhouse/clickhouse-server:")
    published = [port for each in services.values() for port in each.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in published)
    balanced = set(re.findall(r"server ([a-z0-9-]+):", (SCALE_COMPOSE.parent / "balancer.conf").read_text()))
    assert balanced == {name for name in services if name.startswith("receive-")}


def test_the_compose_file_publishes_to_this_machine_only() -> None:
    (compose,) = documents(COMPOSE)
    sidespan = compose["services"]["sidespan"]
    assert sidespan["ports"] == ["127.0.0.1:4318:4318", "127.0.0.1:4317:4317"]
    context = (COMPOSE.parent / sidespan["build"]["context"]).resolve()
    assert (context / sidespan["build"]["dockerfile"]).is_file()
    used = {v.split(":")[0] for s in compose["services"].values() for v in s.get("volumes", [])}
    assert used == compose["volumes"].keys()


def test_the_collectors_pipelines_name_what_is_there() -> None:
    (config,) = documents(COLLECTOR)
    for pipeline in config["service"]["pipelines"].values():
        for kind in ("receivers", "processors", "exporters"):
            assert set(pipeline[kind]) <= config[kind].keys()
    assert config["exporters"]["otlphttp/sidespan"]["headers"] == {"x-mlflow-experiment-name": "agents"}


def test_the_image_holds_what_it_copies() -> None:
    root = DEPLOY.parents[1]
    for line in (DEPLOY / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY "):
            assert all((root / source).exists() for source in line.split()[1:-1]), line


def test_the_unit_gets_its_port_from_the_socket() -> None:
    assert "Requires=sidespan.socket" in UNIT.read_text()
    assert "ListenStream=127.0.0.1:4318" in SOCKET.read_text()


TOOLS = {
    "systemd": (["systemd-analyze", "verify"], UNIT),
    "compose": (["docker-compose", "-f"], COMPOSE),
    "compose of replicas": (["docker-compose", "-f"], SCALE_COMPOSE),
    "otelcol": (["otelcol", "validate", "--config"], COLLECTOR),
}


@pytest.mark.parametrize("name", TOOLS)
def test_its_own_tool_reads_it(name: str, tmp_path: Path) -> None:
    command, file = TOOLS[name]
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not here")
    if name == "systemd":  # which looks at the program too
        text = file.read_text().replace("/usr/bin/env sidespan", "/bin/true")
        file = tmp_path / file.name
        file.write_text(text)
        shutil.copy(SOCKET, tmp_path)
    tail = ["config", "--quiet"] if name.startswith("compose") else []
    done = subprocess.run(
        [*command, str(file), *tail],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"CLICKHOUSE_PASSWORD": "a password"},
    )
    assert done.returncode == 0, done.stderr
    assert str(file) not in done.stderr
