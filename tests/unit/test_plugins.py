"""Plugins are found by name among what is installed, loaded when asked for, and broken alone."""

from __future__ import annotations

import sys
from textwrap import dedent
from typing import TYPE_CHECKING, Protocol

import pytest

from streamflow import plugins
from streamflow.errors import ConfigError, PluginError
from streamflow.plugins import (
    GROUPS,
    destination_plugin,
    installed,
    middleware_plugin,
    names,
    open_store,
    sink_plugin,
    store_plugin,
)
from streamflow.sdk.declarations import SinkPlugin, StorePlugin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from streamflow.plugins import Installed

SINK = """
    from streamflow.sdk import Capabilities, Settings, SinkPlugin

    class Nothing(Settings):
        pass

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


class Install(Protocol):
    def __call__(
        self, distribution: str, name: str, code: str, *, group: str = "sinks", value: str | None = None
    ) -> str: ...


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Leaves what installing a wheel leaves: a module, and metadata with an entry point. Returns the module's name."""
    monkeypatch.setattr("sys.path", [str(tmp_path), *sys.path])
    plugins._found.cache_clear()
    modules: list[str] = []

    def put(distribution: str, name: str, code: str, *, group: str = "sinks", value: str | None = None) -> str:
        module = distribution.replace("-", "_")
        (tmp_path / f"{module}.py").write_text(dedent(code))
        metadata = tmp_path / f"{module}-1.5.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.5\n")
        target = value or f"{module}:{name}"
        (metadata / "entry_points.txt").write_text(f"[streamflow.{group}]\n{name} = {target}\n")
        modules.append(module)
        return module

    yield put
    for module in modules:
        sys.modules.pop(module, None)
    plugins._found.cache_clear()


def sink(name: str, api_version: str = "1.0") -> str:
    return SINK.format(name=name, api_version=api_version)


def row(name: str) -> Installed:
    (found,) = (each for each in installed() if each.name == name and each.group == "sinks")
    return found


# --- what works ------------------------------------------------------------------------------------------------------


def test_a_plugin_is_found_by_name(install: Install) -> None:
    install("x-acme", "acme", sink("acme"))
    assert "acme" in names("sinks")
    found = sink_plugin("acme")
    assert isinstance(found, SinkPlugin)
    assert found.name == "acme"
    assert sink_plugin("acme") is found


def test_the_listing_says_where_a_plugin_is_from(install: Install) -> None:
    install("x-acme", "acme", sink("acme"))
    listed = row("acme")
    assert (listed.distribution, listed.version, listed.error) == ("x-acme", "1.5", None)
    assert listed.plugin is sink_plugin("acme")


def test_the_listing_has_every_group() -> None:
    found = {each.group for each in installed()}
    assert {"sinks", "stores"} <= found <= set(GROUPS)


def test_nothing_is_imported_until_somebody_asks_for_it(install: Install) -> None:
    acme = install("x-acme", "acme", sink("acme"))
    other = install("x-other", "other", sink("other"))
    assert {"acme", "other"} <= set(names("sinks"))
    assert not {acme, other} & sys.modules.keys()
    sink_plugin("acme")
    assert acme in sys.modules
    assert other not in sys.modules


def test_the_same_distribution_twice_is_no_twin(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for a folder of source that is installed, and is where one works."""
    install("x-acme", "acme", sink("acme"))
    copy = tmp_path / "copy" / "x_acme-1.5.dist-info"
    copy.mkdir(parents=True)
    for file in (tmp_path / "x_acme-1.5.dist-info").iterdir():
        (copy / file.name).write_text(file.read_text())
    monkeypatch.setattr("sys.path", [*sys.path, str(tmp_path / "copy")])
    assert sink_plugin("acme").name == "acme"


# --- what is broken --------------------------------------------------------------------------------------------------

BROKEN = {
    "import no_such_module": "ModuleNotFoundError: No module named 'no_such_module'",
    "raise RuntimeError('first line\\nsecond line')": "RuntimeError: first line",
    "raise SystemExit(3)": "SystemExit: 3",
    "def broken(": "SyntaxError: '(' was never closed (x_broken.py, line 1)",
    "other = 1": "AttributeError: module 'x_broken' has no attribute 'broken'",
}


@pytest.mark.fault("F4")
@pytest.mark.parametrize(("code", "reason"), BROKEN.items())
def test_a_module_that_cannot_be_imported_is_that_plugins_error(install: Install, code: str, reason: str) -> None:
    install("x-broken", "broken", code)
    install("x-acme", "acme", sink("acme"))
    message = f"plugin 'broken' of x-broken 1.5 cannot be loaded: {reason}"
    with pytest.raises(PluginError) as caught:
        sink_plugin("broken")
    assert str(caught.value) == message
    assert caught.value.plugin == "broken"
    assert caught.value.__cause__ is not None
    assert (row("broken").plugin, row("broken").error) == (None, message)
    assert row("acme").error is None


def test_ctrl_c_while_a_plugin_is_imported_ends_the_program(install: Install) -> None:
    install("x-broken", "broken", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        sink_plugin("broken")


def test_a_declaration_that_is_refused_is_told_with_its_distribution(install: Install) -> None:
    install("x-newer", "newer", sink("newer", api_version="1.9"))
    with pytest.raises(PluginError) as caught:
        sink_plugin("newer")
    assert str(caught.value) == (
        "x-newer 1.5: plugin 'newer': it is written for version 1.9 of streamflow.sdk, and this is 1.0"
    )


def test_what_is_no_plugin_is_refused(install: Install) -> None:
    install("x-wrong", "wrong", "class wrong: pass")
    with pytest.raises(PluginError) as caught:
        sink_plugin("wrong")
    assert str(caught.value) == "plugin 'wrong' of x-wrong 1.5 is a type: x_wrong:wrong must be a SinkPlugin"


def test_a_plugin_of_another_kind_is_refused(install: Install) -> None:
    install("x-acme", "acme", sink("acme"), group="middleware")
    with pytest.raises(PluginError, match="is a SinkPlugin: x_acme:acme must be a MiddlewarePlugin"):
        middleware_plugin("acme")


def test_a_plugin_under_another_name_is_refused(install: Install) -> None:
    module = install("x-acme", "other", sink("acme"), value="x_acme:acme")
    with pytest.raises(PluginError) as caught:
        sink_plugin("other")
    assert str(caught.value) == (
        "plugin 'other' of x-acme 1.5 calls itself 'acme': entry point and name must be the same"
    )
    assert module in sys.modules


@pytest.mark.fault("F4")
def test_two_distributions_with_one_name_are_both_refused_unseen(install: Install) -> None:
    one = install("x-one", "acme", sink("acme"))
    two = install("x-two", "acme", sink("acme"))
    message = "x-one and x-two both bring sinks 'acme': uninstall one of them"
    with pytest.raises(PluginError) as caught:
        sink_plugin("acme")
    assert str(caught.value) == message
    rows = [(each.distribution, each.error) for each in installed() if each.name == "acme"]
    assert rows == [("x-one", message), ("x-two", message)]
    assert not {one, two} & sys.modules.keys()


def test_the_same_name_in_two_groups_is_two_plugins(install: Install) -> None:
    install("x-acme", "acme", sink("acme"))
    install("x-wrong", "acme", "acme = 1", group="stores")
    assert sink_plugin("acme").name == "acme"
    assert names("stores").count("acme") == 1


LOOK_UPS: list[tuple[Callable[[str], object], str]] = [
    (sink_plugin, "sinks"),
    (middleware_plugin, "middleware"),
    (destination_plugin, "destinations"),
    (store_plugin, "stores"),
]


@pytest.mark.fault("F4")
@pytest.mark.parametrize(("look_up", "group"), LOOK_UPS, ids=[group for _, group in LOOK_UPS])
def test_a_name_that_is_not_installed_is_told_with_those_that_are(look_up: Callable[[str], object], group: str) -> None:
    with pytest.raises(PluginError) as caught:
        look_up("nowhere")
    known = ", ".join(names(group)) or "none"
    assert str(caught.value) == (
        f"there is no plugin 'nowhere' among the {group} (installed: {known}); it may be in a distribution of its own, "
        "such as streamflow-engine-nowhere"
    )


def test_a_misspelt_name_gets_a_hint() -> None:
    with pytest.raises(PluginError, match=r"'consol' among the sinks, did you mean console\?"):
        sink_plugin("consol")


# --- stores ----------------------------------------------------------------------------------------------------------


def test_a_store_is_found_by_the_scheme_of_its_url() -> None:
    assert isinstance(store_plugin("sqlite"), StorePlugin)
    assert hasattr(open_store("memory:"), "__aenter__")


def test_a_url_of_no_store_is_a_mistake_that_shows_no_password() -> None:
    with pytest.raises(ConfigError) as caught:
        open_store("cassandra://user:secret@host/db")
    assert "there is no plugin 'cassandra' among the stores" in str(caught.value)
    assert str(caught.value).startswith("store: ")
    assert "secret" not in str(caught.value)
