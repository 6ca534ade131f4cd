"""`streamflow import-mapping` against a server that answers as Lambda's API does."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

import anyio.to_thread
import pytest

from scripted_aws import Received, isolate, json_answer, serving
from streamflow.cli.main import invoke

if TYPE_CHECKING:
    from pathlib import Path

    from aiohttp import web

pytestmark = pytest.mark.anyio

UUIDS = [f"14e0db71-5d35-4eb5-b481-{number:012}" for number in range(5)]
FUNCTION = "arn:aws:lambda:eu-west-1:123456789012:function:invoices"
KINESIS = "arn:aws:kinesis:eu-west-1:123456789012:stream/orders"
UNKNOWN = "The resource you requested does not exist."


def mapping(number: int, **members: Any) -> dict[str, Any]:
    return {
        "UUID": UUIDS[number],
        "EventSourceArn": f"arn:aws:dynamodb:eu-west-1:123456789012:table/orders-{number}/stream/2026-01-01T00:00:00.000",
        "FunctionArn": FUNCTION,
        "StartingPosition": "LATEST",
        "BatchSize": 10 + number,
        "LastModified": 1758123456.789,
        "State": "Enabled",
        **members,
    }


class Refusal(NamedTuple):
    """As Lambda says no: the code in a header, and in the text's key a capital or none."""

    code: str
    status: int
    body: dict[str, str]

    def answer(self) -> web.Response:
        return json_answer(self.body, status=self.status, x_amzn_ErrorType=self.code)


NOT_FOUND = Refusal("ResourceNotFoundException", 404, {"Type": "User", "Message": UNKNOWN})
DENIED = Refusal("AccessDeniedException", 403, {"Message": "not authorized to perform: lambda:GetX"})


@dataclass(slots=True)
class LambdaApi:
    """Three reads of Lambda's API; a page of the list has two mappings, and none of them has its filters."""

    mappings: list[dict[str, Any]]
    function: dict[str, Any] | Refusal = field(
        default_factory=lambda: {"Runtime": "python3.12", "Handler": "app.handler", "Timeout": 30, "MemorySize": 256}
    )
    refusal: Refusal | None = None
    asked: list[str] = field(default_factory=list)
    access_keys: set[str] = field(default_factory=set)

    def __call__(self, received: Received) -> web.Response:
        url = urlsplit(received.url)
        path, query = unquote(url.path).strip("/"), parse_qs(url.query)
        self.access_keys.add(received.access_key)
        self.asked.append(path.partition("/")[2])
        if self.refusal is not None:
            return self.refusal.answer()
        match path.split("/"):
            case ["2015-03-31", "event-source-mappings"]:
                return self._page(query["FunctionName"][0], int(query.get("Marker", ["0"])[0]))
            case ["2015-03-31", "event-source-mappings", uuid]:
                found = next((each for each in self.mappings if each["UUID"] == uuid), None)
                return json_answer(found) if found else NOT_FOUND.answer()
            case ["2015-03-31", "functions", _, "configuration"]:
                return self.function.answer() if isinstance(self.function, Refusal) else json_answer(self.function)
        raise AssertionError(path)

    def _page(self, function: str, start: int) -> web.Response:
        matching = [each for each in self.mappings if each["FunctionArn"].endswith(f":{function}")]
        page = [
            {key: value for key, value in each.items() if key != "FilterCriteria"}
            for each in matching[start : start + 2]
        ]
        more = {"NextMarker": str(start + 2)} if len(matching) > start + 2 else {}
        return json_answer({"EventSourceMappings": page, **more})


class Finished(NamedTuple):
    code: int
    out: str
    err: str

    def pipelines(self) -> dict[str, Any]:
        tables: dict[str, Any] = tomllib.loads(self.out)["pipelines"]
        return tables


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch)
    monkeypatch.delenv("STREAMFLOW_DEBUG", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def api() -> LambdaApi:
    return LambdaApi([mapping(0)])


async def imported(capsys: pytest.CaptureFixture[str], api: LambdaApi, *arguments: str) -> Finished:
    """Run the command against the API, in a thread: it has an event loop of its own."""
    async with serving(api) as server:
        given = ["import-mapping", *arguments, "--endpoint-url", server.url, "--region", "eu-west-1"]
        code = await anyio.to_thread.run_sync(invoke, given)
    printed = capsys.readouterr()
    return Finished(code, printed.out, printed.err)


# --- what is read ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("uuid", [UUIDS[0], UUIDS[0].upper()])
async def test_a_mapping_is_written_to_stdout(capsys: pytest.CaptureFixture[str], api: LambdaApi, uuid: str) -> None:
    finished = await imported(capsys, api, uuid)
    assert (finished.code, finished.err) == (0, "")
    assert finished.pipelines()["invoices"]["batch_size"] == 10
    assert finished.pipelines()["invoices"]["lambda"]["timeout_s"] == 30
    assert api.asked == [f"event-source-mappings/{UUIDS[0]}", f"functions/{FUNCTION}/configuration"]


async def test_all_mappings_of_a_function_are_read_whole_and_page_by_page(capsys: pytest.CaptureFixture[str]) -> None:
    criteria = {"Filters": [{"Pattern": '{"eventName":["INSERT"]}'}]}
    api = LambdaApi([mapping(number, FilterCriteria=criteria) for number in range(5)])
    finished = await imported(capsys, api, "--function", "invoices")
    assert finished.code == 0
    assert [table["batch_size"] for table in finished.pipelines().values()] == [10, 11, 12, 13, 14]
    assert all(table["filters"] == ['{"eventName":["INSERT"]}'] for table in finished.pipelines().values())
    assert api.asked.count("event-source-mappings") == 3


@pytest.mark.parametrize("refused", [DENIED, NOT_FOUND])
async def test_a_function_that_may_not_be_read_is_a_comment(
    capsys: pytest.CaptureFixture[str], api: LambdaApi, refused: Refusal
) -> None:
    api.function = refused
    finished = await imported(capsys, api, UUIDS[0])
    assert finished.code == 0
    assert f"could not be read ({refused.code}): set them here." in finished.out
    assert "timeout_s" not in finished.pipelines()["invoices"]["lambda"]


async def test_a_function_that_cannot_be_read_now_is_an_error(
    capsys: pytest.CaptureFixture[str], api: LambdaApi
) -> None:
    api.function = Refusal("ValidationException", 400, {"message": "1 validation error detected"})
    finished = await imported(capsys, api, UUIDS[0])
    assert (finished.code, finished.out) == (1, "")
    assert finished.err == "error: ValidationException: 1 validation error detected\n"


async def test_a_profile_says_who_reads(
    capsys: pytest.CaptureFixture[str], api: LambdaApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "credentials").write_text("[reader]\naws_access_key_id = AKIDREADER\naws_secret_access_key = x\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    finished = await imported(capsys, api, UUIDS[0], "--profile", "reader")
    assert (finished.code, api.access_keys) == (0, {"AKIDREADER"})


async def test_a_role_arn_that_is_none_is_told_by_its_option(
    capsys: pytest.CaptureFixture[str], api: LambdaApi
) -> None:
    finished = await imported(capsys, api, UUIDS[0], "--role-arn", "reader")
    assert finished.code == 2
    assert finished.err.startswith("error: --role-arn: ")


# --- what cannot be read ---------------------------------------------------------------------------------------------


async def test_an_unknown_mapping_is_told_with_the_next_step(
    capsys: pytest.CaptureFixture[str], api: LambdaApi
) -> None:
    finished = await imported(capsys, api, UUIDS[1])
    assert (finished.code, finished.out) == (1, "")
    assert finished.err.startswith(
        f"error: ResourceNotFoundException: {UNKNOWN} (the mapping {UUIDS[1]} in eu-west-1: "
    )
    assert "--region" in finished.err


async def test_an_unknown_function_is_told_with_the_next_step(
    capsys: pytest.CaptureFixture[str], api: LambdaApi
) -> None:
    api.refusal = NOT_FOUND
    finished = await imported(capsys, api, "--function", "invoice")
    assert finished.code == 1
    assert finished.err.startswith(
        f"error: ResourceNotFoundException: {UNKNOWN} (the function 'invoice' in eu-west-1: "
    )


async def test_a_function_without_mappings_is_told_with_the_next_step(
    capsys: pytest.CaptureFixture[str], api: LambdaApi
) -> None:
    finished = await imported(capsys, api, "--function", "orders")
    assert finished.code == 1
    assert finished.err.startswith("error: the function 'orders' has no event source mapping in eu-west-1; ")


@pytest.mark.parametrize("arguments", [(UUIDS[0],), ("--function", "invoices")])
async def test_a_permission_that_is_missing_is_told(
    capsys: pytest.CaptureFixture[str], api: LambdaApi, arguments: tuple[str, ...]
) -> None:
    api.refusal = DENIED
    finished = await imported(capsys, api, *arguments)
    assert (finished.code, finished.out) == (1, "")
    assert finished.err == (
        "error: AccessDeniedException: not authorized to perform: lambda:GetX "
        "(allow it in the policy of the role or user)\n"
    )


async def test_filters_that_could_not_be_decrypted_are_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    error = {"ErrorCode": "AccessDeniedException", "Message": "no kms:Decrypt"}
    finished = await imported(capsys, LambdaApi([mapping(0, FilterCriteriaError=error)]), UUIDS[0])
    assert (finished.code, finished.out) == (2, "")
    assert f"error: mapping {UUIDS[0]}: its filters cannot be read" in finished.err


async def test_a_mapping_of_another_source_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    api = LambdaApi([mapping(0, EventSourceArn=KINESIS), mapping(1, EventSourceArn=KINESIS)])
    finished = await imported(capsys, api, "--function", "invoices")
    assert (finished.code, finished.out) == (2, "")
    assert [line.partition(" (")[0] for line in finished.err.splitlines()] == [
        f"error: mapping {UUIDS[0]} reads a Kinesis stream",
        f"error: mapping {UUIDS[1]} reads a Kinesis stream",
    ]
    assert "event-source-mappings" in api.asked
    assert not any("configuration" in path for path in api.asked)


async def test_mappings_of_other_sources_are_left_out_beside_those_of_streams(
    capsys: pytest.CaptureFixture[str],
) -> None:
    finished = await imported(
        capsys, LambdaApi([mapping(0, EventSourceArn=KINESIS), mapping(1)]), "--function", "invoices"
    )
    assert finished.code == 0
    assert [*finished.pipelines()] == ["invoices"]
    assert finished.err.startswith(f"left out: mapping {UUIDS[0]} reads a Kinesis stream ({KINESIS}): ")


# --- where it is written ---------------------------------------------------------------------------------------------


async def test_a_file_is_written_and_checked(
    capsys: pytest.CaptureFixture[str], api: LambdaApi, tmp_path: Path
) -> None:
    finished = await imported(capsys, api, UUIDS[0], "--output", "orders.toml")
    assert (finished.code, finished.out) == (0, "")
    assert finished.err == "orders.toml is written: see to each target in it, then `streamflow check orders.toml`\n"
    file = tmp_path / "orders.toml"
    file.write_text(file.read_text().replace('"app:handler"', '"operator:eq"'))
    assert invoke(["check", "orders.toml"]) == 0
    assert "chain   lambda operator:eq, up to 10 records at a time" in capsys.readouterr().out


async def test_the_target_is_what_check_asks_for(capsys: pytest.CaptureFixture[str], api: LambdaApi) -> None:
    api.function = DENIED
    await imported(capsys, api, UUIDS[0], "--output", "orders.toml")
    assert invoke(["check", "orders.toml"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert re.match(r"error: orders.toml:\d+: pipelines.invoices.lambda.target: no module named 'module'", line)


async def test_a_file_is_overwritten_only_by_force(
    capsys: pytest.CaptureFixture[str], api: LambdaApi, tmp_path: Path
) -> None:
    file = tmp_path / "orders.toml"
    file.write_text("mine")
    finished = await imported(capsys, api, UUIDS[0], "--output", "orders.toml")
    assert (finished.code, finished.err) == (2, "error: --output: orders.toml exists already; --force overwrites it\n")
    assert (file.read_text(), api.asked) == ("mine", [])
    assert (await imported(capsys, api, UUIDS[0], "--output", "orders.toml", "--force")).code == 0
    assert tomllib.loads(file.read_text())["pipelines"]


async def test_a_file_that_cannot_be_written_is_told(capsys: pytest.CaptureFixture[str], api: LambdaApi) -> None:
    finished = await imported(capsys, api, UUIDS[0], "--output", "nowhere/orders.toml")
    assert finished.code == 2
    assert finished.err == "error: --output: nowhere/orders.toml cannot be written: No such file or directory\n"


# --- how it is called ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [[], [UUIDS[0], "--function", "invoices"]])
def test_either_a_mapping_or_a_function_is_named(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert invoke(["import-mapping", *arguments]) == 2
    assert "Give either UUID or --function." in capsys.readouterr().err


@pytest.mark.parametrize("uuid", ["invoices", FUNCTION, f"{UUIDS[0]}/..", "14e0db71"])
def test_what_is_no_uuid_is_told(capsys: pytest.CaptureFixture[str], uuid: str) -> None:
    assert invoke(["import-mapping", uuid]) == 2
    assert capsys.readouterr().err.startswith(f"error: {uuid!r} is no UUID of a mapping: ")
