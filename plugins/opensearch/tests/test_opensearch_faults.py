"""The sink while its server is busy, broken, strange or careful about whom it lets in: the stand-in does as it is told."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from servers.opensearch_fake import Fake, Received, open_fake
from streamflow.sdk import ConfigError, RecordsFailedError, SinkBusyError
from streamflow.testing.sink_contract.changes import Changes
from streamflow_opensearch.answers import OpenSearchError

if TYPE_CHECKING:
    from opensearch_server import Open, Server

pytestmark = pytest.mark.anyio

NOBODY = "http://127.0.0.1:1"


# --- busy and broken ---------------------------------------------------------------------------------------------------


async def test_a_throttled_document_waits_and_so_do_later_changes_of_its_item(
    fake: Fake, fake_server: Server, open_sink: Open
) -> None:
    changes = Changes()
    changes.put_many(6, items=3)
    throttled = changes.item("item1")
    fake.fail_items(1, about=lambda id_: id_ == throttled)
    async with open_sink(fake_server) as opened:
        with pytest.raises(RecordsFailedError) as failed:
            await opened.writer.write(changes.batch(*changes.records))
        assert [failure.record for failure in failed.value.failures] == changes.by_item[throttled]
        assert {failure.kind for failure in failed.value.failures} == {"waiting"}
        assert throttled not in await fake_server.documents()
        await opened.writer.write(changes.batch(*changes.by_item[throttled]))
    assert {each["version"] for each in (await fake_server.documents()).values()} == {2}


@pytest.mark.parametrize(("retry_after_s", "expected_s"), [(None, 1.0), (7, 7.0)])
async def test_a_busy_server_is_given_the_pause_that_it_asks_for(
    fake: Fake, fake_server: Server, open_sink: Open, retry_after_s: int | None, expected_s: float
) -> None:
    changes = Changes()
    fake.fail_requests(1, status=429, retry_after_s=retry_after_s)
    async with open_sink(fake_server) as opened:
        with pytest.raises(SinkBusyError) as busy:
            await opened.writer.write(changes.batch(changes.put("a")))
        assert busy.value.retry_after_s == expected_s
        await opened.writer.write(changes.batch(*changes.records))


@pytest.mark.parametrize("status", [500, 502])
async def test_a_broken_server_fails_the_batch(fake: Fake, fake_server: Server, open_sink: Open, status: int) -> None:
    changes = Changes()
    fake.fail_requests(1, status=status)
    async with open_sink(fake_server) as opened:
        with pytest.raises(OpenSearchError, match=f"status {status}"):
            await opened.writer.write(changes.batch(changes.put("a")))


async def test_a_lost_answer_fails_the_batch_and_its_repetition_changes_nothing(
    fake: Fake, fake_server: Server, open_sink: Open
) -> None:
    changes = Changes()
    batch = changes.batch(*changes.put_many(3))
    fake.lose_answers(1)
    async with open_sink(fake_server) as opened:
        with pytest.raises(OpenSearchError, match="did not answer"):
            await opened.writer.write(batch)
        await opened.writer.write(batch)
        assert sum(opened.suppressed) == 3
    assert len(await fake_server.documents()) == 3


async def test_a_document_that_somebody_wrote_since_the_look_fails_and_succeeds_when_it_comes_again(
    fake: Fake, fake_server: Server, open_sink: Open
) -> None:
    changes = Changes()
    batch = changes.batch(changes.put("a"))
    fake.fail_items(1, status=409, kind="version_conflict_engine_exception")
    async with open_sink(fake_server) as opened:
        with pytest.raises(RecordsFailedError) as failed:
            await opened.writer.write(batch)
        assert [failure.kind for failure in failed.value.failures] == ["failed"]
        await opened.writer.write(batch)


async def test_a_condition_that_does_not_hold_any_more_is_a_conflict(
    fake: Fake, fake_server: Server, open_sink: Open
) -> None:
    changes = Changes()
    changes.put("a")
    look = fake._looked_up

    def look_and_be_overtaken(place: dict[str, str], wanted: list[str]) -> dict[str, object]:
        found = look(place, wanted)
        fake._carry_out("index", place, '{"_sf_seq":"023"}')
        return found

    fake._looked_up = look_and_be_overtaken  # type: ignore[method-assign]
    async with open_sink(fake_server) as opened:
        with pytest.raises(RecordsFailedError, match="409"):
            await opened.writer.write(changes.batch(*changes.records))
    assert (await fake_server.documents())[changes.item("a")] == {"_sf_seq": "023"}


async def test_a_request_that_is_too_large_for_the_server_goes_in_halves_and_one_document_is_refused(
    fake: Fake, fake_server: Server, open_sink: Open
) -> None:
    changes = Changes()
    changes.put_many(9)
    large = changes.put("large", text={"S": "x" * 3_000})
    fake.request_bytes_max = 2_000
    async with open_sink(fake_server) as opened:
        with pytest.raises(RecordsFailedError) as failed:
            await opened.writer.write(changes.batch(*changes.records))
    assert [(failure.record, failure.kind) for failure in failed.value.failures] == [(large, "refused")]
    assert len(await fake_server.documents()) == 9


async def test_requests_stay_within_their_limit(fake: Fake, fake_server: Server, open_sink: Open) -> None:
    changes = Changes()
    for number in range(30):
        changes.put(f"item{number}", text={"S": "x" * 10_000})
    async with open_sink(fake_server, request_bytes_max=100_000, versioning="ordered") as opened:
        await opened.writer.write(changes.batch(*changes.records))
    sizes = [len(received.body) for received in fake.received if received.path.startswith("/_bulk")]
    assert max(sizes) <= 100_000
    assert 3 <= len(sizes) <= 5


async def test_scripts_that_are_not_allowed_refuse_no_record(fake: Fake, fake_server: Server, open_sink: Open) -> None:
    changes = Changes()
    fake.scripts.clear()
    async with open_sink(fake_server, versioning="scripted") as opened:
        with pytest.raises(RecordsFailedError) as failed:
            await opened.writer.write(changes.batch(changes.put("a")))
    assert [failure.kind for failure in failed.value.failures] == ["failed"]


# --- nodes ---------------------------------------------------------------------------------------------------------------


async def test_a_node_that_cannot_be_reached_is_left_out(fake_server: Server, open_sink: Open) -> None:
    changes = Changes()
    async with open_sink(fake_server, urls=[NOBODY, fake_server.url, NOBODY]) as opened:
        for number in range(4):
            await opened.writer.write(changes.batch(changes.put(f"item{number}")))
    assert len(await fake_server.documents()) == 4


async def test_where_nobody_answers_opening_fails(fake_server: Server, open_sink: Open) -> None:
    with pytest.raises(ConfigError, match="cannot be reached"):
        async with open_sink(fake_server, urls=[NOBODY]):
            pass


async def test_an_index_may_be_made_by_the_server(fake: Fake, fake_server: Server, open_sink: Open) -> None:
    changes = Changes()
    fake.auto_create = True
    async with open_sink(fake_server, index="cdc-{table}", index_must_exist=False) as opened:
        await opened.writer.write(changes.batch(changes.put("a")))
    assert set(fake.indices["cdc-contract"].documents) == {changes.item("a")}


# --- whom it lets in -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "authorization"),
    [
        ({"username": "u", "password": "hidden"}, f"Basic {b64encode(b'u:hidden').decode()}"),
        ({"api_key": "hidden"}, "ApiKey hidden"),
    ],
)
async def test_credentials_are_sent(
    fake: Fake, fake_server: Server, open_sink: Open, settings: dict[str, str], authorization: str
) -> None:
    changes = Changes()
    async with open_sink(fake_server, **settings) as opened:
        await opened.writer.write(changes.batch(changes.put("a")))
    seen = {(each.method, each.headers.get("Authorization")) for each in fake.received}
    assert seen - {("PUT", None)} == {("HEAD", authorization), ("POST", authorization)}


@pytest.mark.parametrize("index", ["orders", "cdc-{table}"])
async def test_wrong_credentials_are_a_mistake_and_are_not_shown(
    open_sink: Open, fake_server: Server, index: str
) -> None:
    async with open_fake(Fake(authorization="Basic right")) as serving:
        with pytest.raises(ConfigError, match="credentials") as refused:
            async with open_sink(fake_server, urls=[serving.url], index=index, username="u", password="hidden"):
                pass
    assert "hidden" not in str(refused.value)


async def test_certificates_that_cannot_be_loaded_are_a_mistake(fake_server: Server, open_sink: Open) -> None:
    with pytest.raises(ConfigError, match="ca_bundle"):
        async with open_sink(fake_server, ca_bundle="missing.pem"):
            pass


@pytest.mark.parametrize("service", ["es", "aoss"])
async def test_what_arrives_is_what_was_signed(
    fake: Fake, fake_server: Server, open_sink: Open, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    changes = Changes()
    async with open_sink(fake_server, aws_service=service, aws={"region": "eu-west-1"}) as opened:
        await opened.writer.write(changes.batch(changes.put("a")))
    signed = [each for each in fake.received if each.method != "PUT"]
    assert [each.path.partition("?")[0] for each in signed] == [f"/{fake_server.index}", "/_mget", "/_bulk"]
    for each in signed:
        assert each.headers["X-Amz-Content-SHA256"] == sha256(each.body).hexdigest()
        assert each.headers["Authorization"] == _signature(each, fake_server.url, service)


def _signature(received: Received, url: str, service: str) -> str:
    """What botocore makes of the request as it came over the wire, at the time that it carries."""
    auth = SigV4Auth(Credentials("AKIDEXAMPLE", "secret", "token"), service, "eu-west-1")
    headers = received.headers
    named = headers["Authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    signed = {name: value for name, value in headers.items() if name.lower() in named}
    assert signed["Host"] == urlsplit(url).netloc
    request = AWSRequest(method=received.method, url=url + received.path, data=received.body, headers=signed)
    request.context["timestamp"] = headers["X-Amz-Date"]
    string = auth.string_to_sign(request, auth.canonical_request(request))
    return (
        f"AWS4-HMAC-SHA256 Credential={auth.scope(request)}, SignedHeaders={';'.join(sorted(named))}, "
        f"Signature={auth.signature(string, request)}"
    )
