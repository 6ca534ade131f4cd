"""The manifests of examples/deploy fit each other, the command line, and the metrics that there are. No cluster is asked."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from streamflow.cli.main import cli, invoke
from streamflow.config.load import load_file
from streamflow.observe.catalogue import CATALOGUE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamflow.pipeline import App

DEPLOY = Path(__file__).parents[2] / "examples" / "deploy"
DOCUMENTS: list[dict[str, Any]] = [
    document for path in sorted(DEPLOY.glob("*.yaml")) for document in yaml.safe_load_all(path.read_text("utf-8"))
]
SECONDS_AFTER_DRAIN = 10  # for the last checkpoints and the release of the leases


def manifest(kind: str) -> dict[str, Any]:
    (found,) = [document for document in DOCUMENTS if document["kind"] == kind]
    return found


def pod() -> dict[str, Any]:
    spec: dict[str, Any] = manifest("Deployment")["spec"]["template"]["spec"]
    return spec


def container() -> dict[str, Any]:
    (found,) = pod()["containers"]
    return dict(found)


@pytest.fixture
def pipeline_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of the ConfigMap, with the environment of the Secret, and the user's module beside it."""
    for name, value in manifest("Secret")["stringData"].items():
        monkeypatch.setenv(name, value)
    (tmp_path / "orders_handlers.py").write_text("async def deliver(batch): ...\n")
    ((name, text),) = manifest("ConfigMap")["data"].items()
    (tmp_path / name).write_text(text)
    yield tmp_path / name
    sys.modules.pop("orders_handlers", None)


@pytest.fixture
def app(pipeline_file: Path) -> App:
    return load_file(pipeline_file, manifest("Secret")["stringData"])


def test_every_document_has_what_kubernetes_asks_for() -> None:
    kinds = [document["kind"] for document in DOCUMENTS]
    assert sorted(kinds) == [
        "ConfigMap",
        "Deployment",
        "PodDisruptionBudget",
        "PodMonitor",
        "ScaledObject",
        "Secret",
        "ServiceAccount",
    ]
    for document in DOCUMENTS:
        assert document["apiVersion"]
        assert re.fullmatch(r"[a-z][a-z0-9-]*", document["metadata"]["name"])


def test_check_finds_no_mistake_in_the_pipeline_file(pipeline_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["check", str(pipeline_file)]) == 0
    said = capsys.readouterr()
    assert "is valid" in said.out
    assert "change-me" not in said.out + said.err


def test_the_container_runs_our_command_on_the_mounted_file() -> None:
    program, command, *arguments = container()["command"]
    assert program == "streamflow"
    run = cli.get_command(None, command)  # type: ignore[arg-type]  # the look-up needs no context
    assert run is not None
    parsed = run.make_context("run", list(arguments)).params
    (mount,) = [mount for mount in container()["volumeMounts"] if parsed["target"].startswith(mount["mountPath"])]
    (volume,) = [volume for volume in pod()["volumes"] if volume["name"] == mount["name"]]
    assert volume["configMap"]["name"] == manifest("ConfigMap")["metadata"]["name"]
    assert Path(parsed["target"]).name in manifest("ConfigMap")["data"]
    assert parsed["worker_id"] is None


def test_names_lead_to_what_they_name() -> None:
    assert pod()["serviceAccountName"] == manifest("ServiceAccount")["metadata"]["name"]
    assert [source["secretRef"]["name"] for source in container()["envFrom"]] == [
        manifest("Secret")["metadata"]["name"]
    ]
    assert manifest("ScaledObject")["spec"]["scaleTargetRef"]["name"] == manifest("Deployment")["metadata"]["name"]


@pytest.mark.parametrize("kind", ["Deployment", "PodDisruptionBudget", "PodMonitor"])
def test_selectors_match_the_pods(kind: str) -> None:
    wanted = manifest(kind)["spec"]["selector"]["matchLabels"]
    labels = manifest("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert wanted
    assert wanted.items() <= labels.items()


def test_probes_and_monitors_ask_the_admin_server(app: App) -> None:
    (port,) = container()["ports"]
    assert app.http is not None
    assert port["containerPort"] == app.http.port
    assert app.http.host == "0.0.0.0"
    assert app.http.token is not None
    probes = {kind: container()[f"{kind}Probe"]["httpGet"] for kind in ("liveness", "readiness")}
    assert {kind: probe["path"] for kind, probe in probes.items()} == {"liveness": "/livez", "readiness": "/readyz"}
    (endpoint,) = manifest("PodMonitor")["spec"]["podMetricsEndpoints"]
    assert endpoint["path"] == "/metrics"
    credentials = endpoint["authorization"]["credentials"]
    assert (endpoint["authorization"]["type"], credentials["name"]) == (
        "Bearer",
        manifest("Secret")["metadata"]["name"],
    )
    assert manifest("Secret")["stringData"][credentials["key"]] == app.http.token.get_secret_value()
    assert {probe["port"] for probe in probes.values()} | {endpoint["port"]} == {port["name"]}


@pytest.mark.fault("F3")
def test_a_worker_has_time_to_drain(app: App) -> None:
    assert pod()["terminationGracePeriodSeconds"] >= app.drain_timeout_s + SECONDS_AFTER_DRAIN


def test_a_rollout_starts_a_worker_before_it_stops_one() -> None:
    rolling = manifest("Deployment")["spec"]["strategy"]["rollingUpdate"]
    assert (rolling["maxUnavailable"], rolling["maxSurge"]) == (0, 1)
    assert manifest("PodDisruptionBudget")["spec"]["maxUnavailable"] < manifest("Deployment")["spec"]["replicas"]


def test_the_container_may_do_little() -> None:
    allowed = container()["securityContext"]
    assert pod()["securityContext"]["runAsNonRoot"] is True
    assert allowed["readOnlyRootFilesystem"] is True
    assert allowed["allowPrivilegeEscalation"] is False
    assert allowed["capabilities"] == {"drop": ["ALL"]}


def test_the_memory_limit_holds_what_is_read_ahead(app: App) -> None:
    number, unit = container()["resources"]["limits"]["memory"][:-2], container()["resources"]["limits"]["memory"][-2:]
    assert int(number) * {"Mi": 2**20, "Gi": 2**30}[unit] >= 2 * app.buffer_bytes_max


def test_scaling_asks_for_a_metric_and_a_pipeline_that_there_are(app: App) -> None:
    (trigger,) = manifest("ScaledObject")["spec"]["triggers"]
    asked = re.fullmatch(r'max\((?P<name>\w+)\{(?P<label>\w+)="(?P<pipeline>\w+)"\}\)', trigger["metadata"]["query"])
    assert asked is not None
    (metric,) = [metric for metric in CATALOGUE if metric.name == asked["name"]]
    assert (metric.kind, metric.unit, metric.fold) == ("gauge", "seconds", "max")
    assert asked["label"] in metric.labels
    assert asked["pipeline"] in {pipeline.name for pipeline in app.pipelines}


def test_scaling_never_stops_the_last_worker() -> None:
    spec = manifest("ScaledObject")["spec"]
    assert 1 <= spec["minReplicaCount"] <= spec["maxReplicaCount"]
    down = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
    assert down["stabilizationWindowSeconds"] >= 300
    assert down["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 120}]
