"""A plugin as an outsider writes and installs it: another folder, another environment, nothing but what is published.

The environment has the libraries of this one, and none of our distributions but the core, installed from a wheel.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamflow.testing import LocalStreams

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180), pytest.mark.xdist_group("outside_plugin")]

ROOT = Path(__file__).resolve().parents[2]
UV = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
OURS = ("streamflow", "_streamflow", "__editable__", "__pycache__")
# As the command `pytest` does: without the current directory among the places to import from.
PYTEST = ("python", "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider")
PIPELINE = """
store = "memory:"

[pipelines.orders]
table = "orders"
starting_position = "TRIM_HORIZON"

[pipelines.orders.sink]
type = "{sink}"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """An environment of its own, and a folder to work in."""

    environment: Path
    folder: Path

    @property
    def packages(self) -> Path:
        (found,) = self.environment.glob("lib/python*/site-packages")
        return found

    def run(
        self, *command: str, directory: str = "", status: int = 0, variables: Mapping[str, str] = MappingProxyType({})
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of the environment as somebody does who has activated it."""
        hidden = ("AWS_", "PYTHON", "PYTEST", "STREAMFLOW", "VIRTUAL_ENV")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
        program = self.environment / "bin" / command[0]
        finished = subprocess.run(
            [str(program), *command[1:]],
            check=False,
            cwd=self.folder / directory,
            env={**inherited, **variables},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert finished.returncode == status, f"{command}: {finished.stdout}\n{finished.stderr}"
        return finished

    def install(self, wheel: Path) -> None:
        uv("pip", "install", "--offline", "--no-deps", "--python", str(self.environment), str(wheel))

    def pipeline(self, sink: str, **settings: str) -> str:
        """Write a pipeline file into the folder; returns its name."""
        lines = [f'{key} = "{value}"\n' for key, value in settings.items()]
        (self.folder / f"{sink}.toml").write_text("".join([PIPELINE.format(sink=sink), *lines]))
        return f"{sink}.toml"

    def plugins(self, *, status: int = 0) -> dict[tuple[str, str], str | None]:
        """What `streamflow plugins` lists of sinks: distribution and name to the error."""
        rows = map(json.loads, self.run("streamflow", "plugins", "--json", status=status).stdout.splitlines())
        return {(row["distribution"], row["name"]): row["error"] for row in rows if row["kind"] == "sinks"}


def uv(*arguments: str) -> None:
    assert UV is not None, "uv is in the development environment"
    subprocess.run([UV, *arguments[:1], "-q", *arguments[1:]], check=True, timeout=120)


def wheel_of(project: Path, folder: Path) -> Path:
    uv("build", "--wheel", "--out-dir", str(folder), str(project))
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the core, from its wheel."""
    folder = tmp_path_factory.mktemp("outside")
    outside = Outside(environment=folder / "venv", folder=folder)
    uv("venv", "--python", sys.executable, str(outside.environment))
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.startswith(OURS):
            (outside.packages / entry.name).symlink_to(entry)
    outside.install(wheel_of(ROOT, folder / "core"))
    return outside.environment


@pytest.fixture(scope="module")
def acme(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Outside:
    """The same after `streamflow new sink acme` and installing what that wrote."""
    outside = Outside(environment=environment, folder=tmp_path_factory.mktemp("elsewhere"))
    outside.run("streamflow", "new", "sink", "acme")
    outside.install(wheel_of(outside.folder / "streamflow-acme", outside.folder / "wheels"))
    return outside


@pytest.fixture
def orders(local_streams: LocalStreams) -> dict[str, str]:
    """A table with three changes and a stream that ends; as variables that lead to it."""
    local_streams.create_table("orders")
    local_streams.put("orders", {"id": {"S": "1"}, "total": {"N": "12.50"}})
    local_streams.put("orders", {"id": {"S": "1"}, "total": {"N": "13.25"}})
    local_streams.delete("orders", {"id": {"S": "1"}})
    local_streams.disable_stream("orders")
    return {
        "AWS_ENDPOINT_URL": local_streams.endpoint_url,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
    }


def test_the_core_alone_has_its_own_sinks_and_no_other(environment: Path, tmp_path: Path) -> None:
    outside = Outside(environment=environment, folder=tmp_path)
    program = "import streamflow; print(streamflow.__file__)"
    assert outside.run("python", "-c", program).stdout.startswith(str(environment))
    assert {distribution for distribution, _ in outside.plugins()} <= {"streamflow-engine", "streamflow-contrib-acme"}


def test_an_installed_plugin_is_listed_described_and_checked(acme: Outside) -> None:
    assert acme.plugins()["streamflow-contrib-acme", "acme"] is None
    described = acme.run("streamflow", "describe", "acme").stdout
    assert "sinks, from streamflow-contrib-acme 0.1.0" in described
    assert "directory: " in described
    file = acme.pipeline("acme", directory="out")
    assert "sink acme" in acme.run("streamflow", "check", file).stdout
    wrong = acme.pipeline("acme", directorie="out")
    assert "did you mean directory?" in acme.run("streamflow", "check", wrong, status=2).stderr


def test_a_target_that_is_not_there_is_told_before_a_run(acme: Outside) -> None:
    file = acme.pipeline("acme", directory="nowhere")
    told = acme.run("streamflow", "check", "--connect", file, status=2).stderr
    assert told == "error: sink acme: directory nowhere is not there: create it, or name another one\n"


def test_its_own_tests_are_green(acme: Outside) -> None:
    told = acme.run(*PYTEST, directory="streamflow-acme").stdout
    assert int(told.split(" passed")[0].split()[-1]) >= 50
    assert "failed" not in told


def test_a_pipeline_delivers_into_its_target(acme: Outside, orders: dict[str, str]) -> None:
    (acme.folder / "out").mkdir()
    file = acme.pipeline("acme", directory="out", payload="change")
    acme.run("streamflow", "run", file, variables=orders)
    lines = (acme.folder / "out" / "records.jsonl").read_text().splitlines()
    assert [json.loads(line)["op"] for line in lines] == ["c", "u", "d"]


def test_a_new_pipeline_is_green_where_only_the_core_is(environment: Path, tmp_path: Path) -> None:
    outside = Outside(environment=environment, folder=tmp_path)
    outside.run("streamflow", "new", "pipeline", "orders")
    assert "orders.toml is valid" in outside.run("streamflow", "check", "orders.toml", directory="orders").stdout
    assert "2 passed" in outside.run(*PYTEST, directory="orders").stdout


# --- plugins that are wrong ------------------------------------------------------------------------------------------

DECLARED = """
from streamflow.sdk import Capabilities, Settings, SinkPlugin

class Nothing(Settings):
    {setting}

def open_sink(settings, context): ...

{name} = SinkPlugin(
    name="{name}",
    api_version="{api_version}",
    summary="A sink.",
    settings=Nothing,
    examples={{"plain": {{}}}},
    open=open_sink,
    capabilities=Capabilities(order="key", idempotence="none"),
)
"""


def put_distribution(outside: Outside, distribution: str, name: str, code: str) -> None:
    """What installing a wheel leaves: a module, and metadata with an entry point."""
    module = distribution.replace("-", "_")
    (outside.packages / f"{module}.py").write_text(code)
    metadata = outside.packages / f"{module}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[streamflow.sinks]\n{name} = {module}:{name}\n")


@pytest.fixture(scope="module")
def spoilt(acme: Outside) -> Outside:
    """The environment with plugins beside `acme` that are wrong, each in its own way."""
    described = 'url: str = ""\n    """Where to."""'
    put_distribution(acme, "x-broken", "broken", "import no_such_client")
    put_distribution(acme, "x-newer", "newer", DECLARED.format(name="newer", api_version="1.9", setting=described))
    put_distribution(
        acme, "x-silent", "silent", DECLARED.format(name="silent", api_version="1.0", setting="url: str = ''")
    )
    twin = DECLARED.format(name="twin", api_version="1.0", setting=described)
    put_distribution(acme, "x-twin-one", "twin", twin)
    put_distribution(acme, "x-twin-two", "twin", twin)
    return acme


ERRORS = {
    ("x-broken", "broken"): (
        "plugin 'broken' of x-broken 1.0 cannot be loaded: ModuleNotFoundError: No module named 'no_such_client'"
    ),
    ("x-newer", "newer"): (
        "x-newer 1.0: plugin 'newer': it is written for version 1.9 of streamflow.sdk, and this is 1.0"
    ),
    ("x-silent", "silent"): (
        "x-silent 1.0: plugin 'silent': settings.url has no description: write a docstring below it"
    ),
    ("x-twin-one", "twin"): "x-twin-one and x-twin-two both bring sinks 'twin': uninstall one of them",
    ("x-twin-two", "twin"): "x-twin-one and x-twin-two both bring sinks 'twin': uninstall one of them",
}


@pytest.mark.fault("F4")
def test_wrong_plugins_are_rows_with_their_errors(spoilt: Outside) -> None:
    rows = spoilt.plugins(status=1)
    assert {key: error for key, error in rows.items() if error is not None} == ERRORS
    assert rows["streamflow-contrib-acme", "acme"] is None
    table = spoilt.run("streamflow", "plugins", status=1).stdout
    assert "BROKEN: plugin 'broken' of x-broken 1.0 cannot be loaded" in table


@pytest.mark.fault("F4")
def test_who_names_a_wrong_plugin_is_told_where_and_why(spoilt: Outside) -> None:
    errors = {name: error for (_, name), error in ERRORS.items()}
    tables = [f'[pipelines.{name}]\ntable = "orders"\nsink.type = "{name}"\n' for name in errors]
    (spoilt.folder / "wrong.toml").write_text("".join(tables))
    told = spoilt.run("streamflow", "check", "wrong.toml", status=2).stderr
    assert told.splitlines() == [
        f"error: wrong.toml:{3 * number}: pipelines.{name}.sink.type: type = '{name}': {error}"
        for number, (name, error) in enumerate(errors.items(), start=1)
    ]


@pytest.mark.fault("F4")
def test_who_names_another_sink_is_not_disturbed(spoilt: Outside, orders: dict[str, str]) -> None:
    file = spoilt.pipeline("console")
    finished = spoilt.run("streamflow", "run", file, variables=orders)
    assert [json.loads(line)["eventName"] for line in finished.stdout.splitlines()] == ["INSERT", "MODIFY", "REMOVE"]
