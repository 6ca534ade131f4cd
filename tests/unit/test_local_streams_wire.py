"""LocalStreams as boto3 sees it."""

from __future__ import annotations

import math
import re
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import boto3
import orjson
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError

if TYPE_CHECKING:
    from streamflow.testing import LocalStreams


class Clients:
    """boto3 without retries, and the reading that tests repeat."""

    def __init__(self, streams: LocalStreams, *, access_key: str = "local") -> None:
        options: dict[str, Any] = {
            "endpoint_url": streams.endpoint_url,
            "region_name": "us-east-1",
            "aws_access_key_id": access_key,
            "aws_secret_access_key": "local",
            "config": Config(retries={"total_max_attempts": 1}),
        }
        self.tables = boto3.client("dynamodb", **options)
        self.streams = boto3.client("dynamodbstreams", **options)

    def shards(self, arn: str, **options: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            description = self.streams.describe_stream(StreamArn=arn, **options)["StreamDescription"]
            found += description["Shards"]
            if "LastEvaluatedShardId" not in description:
                return found
            options["ExclusiveStartShardId"] = description["LastEvaluatedShardId"]

    def iterator(self, arn: str, shard_id: str, kind: str = "TRIM_HORIZON", **options: Any) -> str:
        answer = self.streams.get_shard_iterator(StreamArn=arn, ShardId=shard_id, ShardIteratorType=kind, **options)
        return str(answer["ShardIterator"])

    def records(self, arn: str, shard_id: str) -> list[dict[str, Any]]:
        return list(self.streams.get_records(ShardIterator=self.iterator(arn, shard_id))["Records"])

    def all_records(self, arn: str) -> list[dict[str, Any]]:
        return [record for shard in self.shards(arn) for record in self.records(arn, shard["ShardId"])]


@pytest.fixture
def clients(local_streams: LocalStreams) -> Clients:
    return Clients(local_streams)


def item(key: str, **attributes: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {"id": {"S": key}, **attributes}


def code(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


# --- records -----------------------------------------------------------------------------------------------------------


def test_a_record_has_every_member_that_aws_sends(local_streams: LocalStreams, clients: Clients) -> None:
    arn = local_streams.create_table("orders", shards=1)
    clients.tables.put_item(TableName="orders", Item=item("1", bin={"B": b"foo"}))
    clients.tables.put_item(TableName="orders", Item=item("1", bin={"B": b"bar"}))
    clients.tables.delete_item(TableName="orders", Key=item("1"))
    inserted, modified, removed = clients.all_records(arn)
    assert [record["eventName"] for record in (inserted, modified, removed)] == ["INSERT", "MODIFY", "REMOVE"]
    assert re.fullmatch("[0-9a-f]{32}", modified["eventID"])
    assert modified["eventVersion"] == "1.1"
    assert modified["eventSource"] == "aws:dynamodb"
    assert modified["awsRegion"] == "us-east-1"
    change = modified["dynamodb"]
    assert list(change) == [
        *("ApproximateCreationDateTime", "Keys", "NewImage", "OldImage"),
        *("SequenceNumber", "SizeBytes", "StreamViewType"),
    ]
    assert change["ApproximateCreationDateTime"].microsecond == 0
    assert change["Keys"] == {"id": {"S": "1"}}
    assert change["NewImage"] == item("1", bin={"B": b"bar"})
    assert change["OldImage"] == item("1", bin={"B": b"foo"})
    assert re.fullmatch("[0-9]{21,40}", change["SequenceNumber"])
    assert change["SizeBytes"] == 3 + 9 + 9
    assert "OldImage" not in inserted["dynamodb"]
    assert "NewImage" not in removed["dynamodb"]
    assert "userIdentity" not in removed


@pytest.mark.parametrize(
    ("view_type", "images"),
    [
        ("KEYS_ONLY", set()),
        ("NEW_IMAGE", {"NewImage"}),
        ("OLD_IMAGE", {"OldImage"}),
        ("NEW_AND_OLD_IMAGES", {"NewImage", "OldImage"}),
    ],
)
def test_the_view_type_decides_about_images(
    local_streams: LocalStreams, clients: Clients, view_type: Any, images: set[str]
) -> None:
    arn = local_streams.create_table("orders", view_type=view_type)
    local_streams.put("orders", item("1", n={"N": "1"}))
    local_streams.put("orders", item("1", n={"N": "2"}))
    change = clients.all_records(arn)[-1]["dynamodb"]
    assert change.keys() & {"NewImage", "OldImage"} == images
    assert change["StreamViewType"] == view_type


def test_a_write_that_changes_nothing_makes_no_record(local_streams: LocalStreams, clients: Clients) -> None:
    arn = local_streams.create_table("orders")
    for number, names in (("1.50", ["b", "a"]), ("15e-1", ["a", "b"])):
        clients.tables.put_item(TableName="orders", Item=item("1", n={"N": number}, names={"SS": names}))
    clients.tables.delete_item(TableName="orders", Key=item("2"))
    assert [record["eventName"] for record in clients.all_records(arn)] == ["INSERT"]


def test_a_delete_by_time_to_live_names_the_service(local_streams: LocalStreams, clients: Clients) -> None:
    arn = local_streams.create_table("orders")
    local_streams.put("orders", item("1"))
    assert local_streams.expire("orders", item("1"))
    assert not local_streams.expire("orders", item("1"))
    removed = clients.all_records(arn)[-1]
    assert removed["eventName"] == "REMOVE"
    assert removed["userIdentity"] == {"PrincipalId": "dynamodb.amazonaws.com", "Type": "Service"}


def test_every_type_of_attribute_comes_back_as_boto3_wrote_it(local_streams: LocalStreams, clients: Clients) -> None:
    local_streams.create_table("orders")
    whole = item(
        "1",
        number={"N": "-12345678901234567890123456789012345678"},
        binary={"B": b"\x00\xff"},
        yes={"BOOL": True},
        nothing={"NULL": True},
        numbers={"NS": ["1", "2"]},
        binaries={"BS": [b"a", b"b"]},
        nested={"M": {"list": {"L": [{"S": ""}, {"M": {}}, {"S": "🦫"}]}}},
    )
    clients.tables.put_item(TableName="orders", Item=whole)
    assert clients.tables.get_item(TableName="orders", Key=item("1"))["Item"] == whole


def test_a_batch_write_makes_a_record_per_item_and_is_checked_as_a_whole(
    local_streams: LocalStreams, clients: Clients
) -> None:
    arn = local_streams.create_table("orders")
    put = [{"PutRequest": {"Item": item(str(index))}} for index in range(25)]
    clients.tables.batch_write_item(RequestItems={"orders": put})
    clients.tables.batch_write_item(RequestItems={"orders": [{"DeleteRequest": {"Key": item("3")}}]})
    with pytest.raises(ClientError) as error:
        clients.tables.batch_write_item(RequestItems={"orders": [*put[:1], *put[:1]]})
    assert code(error) == "ValidationException"
    with pytest.raises(ClientError):
        clients.tables.batch_write_item(RequestItems={"orders": [*put, *put]})
    names = [record["eventName"] for record in clients.all_records(arn)]
    assert sorted(names) == ["INSERT"] * 25 + ["REMOVE"]


# --- tables ------------------------------------------------------------------------------------------------------------


def create(clients: Clients, **options: Any) -> Any:
    return clients.tables.create_table(
        TableName="orders",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}, {"AttributeName": "at", "KeyType": "RANGE"}],
        AttributeDefinitions=[
            {"AttributeName": "at", "AttributeType": "N"},
            {"AttributeName": "id", "AttributeType": "S"},
        ],
        BillingMode="PAY_PER_REQUEST",
        **options,
    )["TableDescription"]


def test_tables_and_streams_are_managed_as_on_aws(clients: Clients) -> None:
    assert "LatestStreamArn" not in create(clients)
    on = {"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"}
    first = clients.tables.update_table(TableName="orders", StreamSpecification=on)["TableDescription"]
    with pytest.raises(ClientError, match="already has an enabled stream"):
        clients.tables.update_table(TableName="orders", StreamSpecification=on)
    clients.tables.update_table(TableName="orders", StreamSpecification={"StreamEnabled": False})
    second = clients.tables.update_table(TableName="orders", StreamSpecification=on)["TableDescription"]
    assert first["LatestStreamArn"] != second["LatestStreamArn"]
    listed = [stream["StreamArn"] for stream in clients.streams.list_streams(TableName="orders")["Streams"]]
    assert listed == [first["LatestStreamArn"], second["LatestStreamArn"]]
    assert clients.tables.list_tables()["TableNames"] == ["orders"]
    described = clients.tables.describe_table(TableName="orders")["Table"]
    assert [key["AttributeName"] for key in described["KeySchema"]] == ["id", "at"]
    assert described["StreamSpecification"] == on
    clients.tables.delete_table(TableName="orders")
    with pytest.raises(ClientError) as error:
        clients.tables.describe_table(TableName="orders")
    assert code(error) == "ResourceNotFoundException"
    description = clients.streams.describe_stream(StreamArn=second["LatestStreamArn"])["StreamDescription"]
    assert description["StreamStatus"] == "DISABLED"


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        ("put_item", {"Item": item("1"), "ConditionExpression": "attribute_not_exists(id)"}),
        ("delete_item", {"Key": item("1"), "Expected": {"id": {"Exists": False}}}),
        ("get_item", {"Key": item("1"), "ProjectionExpression": "id"}),
    ],
)
def test_expressions_are_refused_aloud(
    local_streams: LocalStreams, clients: Clients, operation: str, arguments: dict[str, Any]
) -> None:
    local_streams.create_table("orders")
    with pytest.raises(ClientError, match="LocalStreams takes no expressions") as error:
        getattr(clients.tables, operation)(TableName="orders", **arguments)
    assert code(error) == "ValidationException"


@pytest.mark.parametrize(
    "wrong",
    [
        {"other": {"S": "1"}},
        {"id": {"N": "1"}},
        {"id": {"S": ""}},
        {"id": {"S": "1"}, "n": {"N": "one"}},
        {"id": {"S": "1"}, "n": {"N": "1" * 39}},
        {"id": {"S": "1"}, "n": {"NS": ["1", "1.0"]}},
        {"id": {"S": "1"}, "large": {"S": "x" * 409_600}},
    ],
)
def test_items_that_dynamodb_refuses_are_refused(
    local_streams: LocalStreams, clients: Clients, wrong: dict[str, Any]
) -> None:
    arn = local_streams.create_table("orders")
    with pytest.raises(ClientError) as error:
        clients.tables.put_item(TableName="orders", Item=wrong)
    assert code(error) == "ValidationException"
    assert clients.all_records(arn) == []


def test_an_operation_that_is_not_offered_says_so(local_streams: LocalStreams, clients: Clients) -> None:
    local_streams.create_table("orders")
    with pytest.raises(ClientError, match="LocalStreams does not offer Scan") as error:
        clients.tables.scan(TableName="orders")
    assert code(error) == "UnknownOperationException"


# --- shards ------------------------------------------------------------------------------------------------------------


def test_more_than_a_hundred_shards_come_in_pages(local_streams: LocalStreams, clients: Clients) -> None:
    arn = local_streams.create_table("orders", shards=230)
    page = clients.streams.describe_stream(StreamArn=arn)["StreamDescription"]
    assert len(page["Shards"]) == 100
    assert page["LastEvaluatedShardId"] == page["Shards"][-1]["ShardId"]
    assert {shard["ShardId"] for shard in clients.shards(arn)} == set(local_streams.shard_ids("orders"))
    assert all(re.fullmatch("shardId-[0-9]{20}-[0-9a-f]{8}", shard["ShardId"]) for shard in page["Shards"])
    with pytest.raises(ClientError) as error:
        clients.streams.describe_stream(StreamArn=arn, Limit=101)
    assert code(error) == "ValidationException"


def test_split_and_rollover_leave_a_lineage(local_streams: LocalStreams, clients: Clients) -> None:
    arn = local_streams.create_table("orders", shards=1)
    (root,) = local_streams.shard_ids("orders")
    twins = local_streams.split("orders")
    (heir,) = local_streams.rollover("orders", twins[0])
    shards = {shard["ShardId"]: shard for shard in clients.shards(arn)}
    assert {shard_id: shard.get("ParentShardId") for shard_id, shard in shards.items()} == {
        root: None,
        twins[0]: root,
        twins[1]: root,
        heir: twins[0],
    }
    ranges = {shard_id: shard["SequenceNumberRange"] for shard_id, shard in shards.items()}
    assert {shard_id for shard_id in ranges if "EndingSequenceNumber" in ranges[shard_id]} == {root, twins[0]}
    assert int(ranges[root]["EndingSequenceNumber"]) < int(ranges[heir]["StartingSequenceNumber"])
    children = clients.shards(arn, ShardFilter={"Type": "CHILD_SHARDS", "ShardId": root})
    assert sorted(shard["ShardId"] for shard in children) == sorted(twins)
    assert set(local_streams.shard_ids("orders", open_only=True)) == {twins[1], heir}
    with pytest.raises(Exception, match="closed already"):
        local_streams.split("orders", root)


def test_a_closed_shard_ends_only_when_it_is_read_to_its_end(local_streams: LocalStreams, clients: Clients) -> None:
    arn = local_streams.create_table("orders", shards=1)
    (root,) = local_streams.shard_ids("orders")
    for key in "abc":
        local_streams.put("orders", item(key))
    local_streams.rollover("orders")
    local_streams.put("orders", item("d"))
    page = clients.streams.get_records(ShardIterator=clients.iterator(arn, root), Limit=2)
    assert len(page["Records"]) == 2
    page = clients.streams.get_records(ShardIterator=page["NextShardIterator"], Limit=2)
    assert len(page["Records"]) == 1
    assert "NextShardIterator" not in page
    assert "NextShardIterator" not in clients.streams.get_records(ShardIterator=clients.iterator(arn, root, "LATEST"))


def test_an_open_shard_returns_empty_pages_with_an_iterator_that_goes_on(
    local_streams: LocalStreams, clients: Clients
) -> None:
    arn = local_streams.create_table("orders", shards=1)
    (shard,) = local_streams.shard_ids("orders")
    page = clients.streams.get_records(ShardIterator=clients.iterator(arn, shard, "LATEST"))
    assert page["Records"] == []
    local_streams.put("orders", item("1"))
    assert len(clients.streams.get_records(ShardIterator=page["NextShardIterator"])["Records"]) == 1


def test_children_are_listed_late(local_streams_factory: Any) -> None:
    streams = local_streams_factory(shards=1, children_delay_s=30.0)
    clients = Clients(streams)
    arn = streams.create_table("orders")
    (heir,) = streams.rollover("orders")
    assert len(clients.shards(arn)) == 1
    streams.advance(31)
    assert len(clients.shards(arn)) == 2
    streams.rollover("orders", heir, children_delay_s=math.inf)
    assert len(clients.shards(arn)) == 2
    streams.list_children("orders")
    assert len(clients.shards(arn)) == 3


def test_a_forgotten_parent_leaves_children_that_name_it(local_streams: LocalStreams, clients: Clients) -> None:
    arn = local_streams.create_table("orders", shards=1)
    (root,) = local_streams.shard_ids("orders")
    local_streams.split("orders")
    local_streams.forget("orders", root)
    assert [shard["ParentShardId"] for shard in clients.shards(arn)] == [root, root]
    with pytest.raises(ClientError) as error:
        clients.iterator(arn, root)
    assert code(error) == "ResourceNotFoundException"


def test_the_shard_filter_can_be_switched_off(local_streams_factory: Any) -> None:
    streams = local_streams_factory(shards=1, shard_filter=False)
    arn = streams.create_table("orders")
    (root,) = streams.shard_ids("orders")
    streams.rollover("orders")
    assert len(Clients(streams).shards(arn, ShardFilter={"Type": "CHILD_SHARDS", "ShardId": root})) == 2


def test_a_disabled_stream_is_closed_and_stays_readable_for_a_day(
    local_streams: LocalStreams, clients: Clients
) -> None:
    arn = local_streams.create_table("orders", shards=2)
    local_streams.put("orders", item("1"))
    local_streams.disable_stream("orders")
    local_streams.put("orders", item("2"))
    assert len(clients.all_records(arn)) == 1
    assert all("EndingSequenceNumber" in shard["SequenceNumberRange"] for shard in clients.shards(arn))
    assert local_streams.enable_stream("orders") != arn
    local_streams.advance(86_500)
    with pytest.raises(ClientError) as error:
        clients.shards(arn)
    assert code(error) == "ResourceNotFoundException"


# --- reading -----------------------------------------------------------------------------------------------------------


def test_a_page_stops_before_a_megabyte(local_streams: LocalStreams, clients: Clients) -> None:
    arn = local_streams.create_table("orders", shards=1)
    (shard,) = local_streams.shard_ids("orders")
    for key in "abcde":
        local_streams.put("orders", item(key, large={"S": "x" * 300_000}))
    page = clients.streams.get_records(ShardIterator=clients.iterator(arn, shard))
    assert len(page["Records"]) == 3
    assert len(clients.streams.get_records(ShardIterator=page["NextShardIterator"])["Records"]) == 2


@pytest.mark.parametrize("limit", [1001, 5000])
def test_a_limit_above_a_thousand_is_refused(local_streams: LocalStreams, clients: Clients, limit: int) -> None:
    arn = local_streams.create_table("orders", shards=1)
    (shard,) = local_streams.shard_ids("orders")
    with pytest.raises(ClientError) as error:
        clients.streams.get_records(ShardIterator=clients.iterator(arn, shard), Limit=limit)
    assert code(error) == "ValidationException"


def test_iterators_begin_at_and_after_sequence_numbers(local_streams: LocalStreams, clients: Clients) -> None:
    arn = local_streams.create_table("orders", shards=1)
    (shard,) = local_streams.shard_ids("orders")
    for key in "abc":
        local_streams.put("orders", item(key))
    numbers = [record["dynamodb"]["SequenceNumber"] for record in clients.all_records(arn)]

    def read(kind: str, number: str) -> list[str]:
        iterator = clients.iterator(arn, shard, kind, SequenceNumber=number)
        records = clients.streams.get_records(ShardIterator=iterator)["Records"]
        return [record["dynamodb"]["SequenceNumber"] for record in records]

    assert read("AT_SEQUENCE_NUMBER", numbers[1]) == numbers[1:]
    assert read("AFTER_SEQUENCE_NUMBER", numbers[1]) == numbers[2:]
    for kind, options in (
        ("AFTER_SEQUENCE_NUMBER", {"SequenceNumber": str(int(numbers[-1]) + 1_000)}),
        ("AFTER_SEQUENCE_NUMBER", {}),
    ):
        with pytest.raises(ClientError) as error:
            clients.iterator(arn, shard, kind, **options)
        assert code(error) == "ValidationException"
    with pytest.raises(ClientError) as error:
        clients.iterator(arn, "shardId-00000000000000000000-00000000")
    assert code(error) == "ResourceNotFoundException"
    with pytest.raises(ClientError) as error:
        clients.streams.get_records(ShardIterator="no iterator")
    assert code(error) == "ValidationException"


def test_trimmed_records_are_refused_to_those_who_ask_for_them(local_streams: LocalStreams, clients: Clients) -> None:
    arn = local_streams.create_table("orders", shards=1)
    (shard,) = local_streams.shard_ids("orders")
    for key in "abc":
        local_streams.put("orders", item(key))
    numbers = [record["dynamodb"]["SequenceNumber"] for record in clients.all_records(arn)]
    early = clients.iterator(arn, shard)
    assert local_streams.trim("orders", shard, before=numbers[2]) == 2
    with pytest.raises(ClientError) as error:
        clients.streams.get_records(ShardIterator=early)
    assert code(error) == "TrimmedDataAccessException"
    with pytest.raises(ClientError) as error:
        clients.iterator(arn, shard, "AFTER_SEQUENCE_NUMBER", SequenceNumber=numbers[0])
    assert code(error) == "TrimmedDataAccessException"
    assert [record["dynamodb"]["SequenceNumber"] for record in clients.records(arn, shard)] == numbers[2:]


def test_retention_takes_records_and_then_their_closed_shard(local_streams: LocalStreams, clients: Clients) -> None:
    arn = local_streams.create_table("orders", shards=1)
    local_streams.put("orders", item("1"))
    local_streams.advance(80_000)
    local_streams.put("orders", item("2"))
    local_streams.rollover("orders")
    local_streams.advance(10_000)
    assert [record["dynamodb"]["Keys"] for record in clients.all_records(arn)] == [item("2")]
    local_streams.advance(80_000)
    assert [("ParentShardId" in shard) for shard in clients.shards(arn)] == [True]


def test_iterators_expire_after_fifteen_minutes_and_on_demand(local_streams: LocalStreams, clients: Clients) -> None:
    arn = local_streams.create_table("orders", shards=1)
    (shard,) = local_streams.shard_ids("orders")
    first = clients.iterator(arn, shard)
    local_streams.advance(890)
    clients.streams.get_records(ShardIterator=first)
    local_streams.advance(11)
    second = clients.iterator(arn, shard)
    clients.streams.get_records(ShardIterator=second)
    for spoiled in (first, second):
        with pytest.raises(ClientError) as error:
            clients.streams.get_records(ShardIterator=spoiled)
        assert code(error) == "ExpiredIteratorException"
        local_streams.expire_iterators()


# --- faults ------------------------------------------------------------------------------------------------------------


def test_a_throttle_lasts_as_often_as_asked_and_only_for_its_shard(
    local_streams: LocalStreams, clients: Clients
) -> None:
    arn = local_streams.create_table("orders", shards=2)
    one, two = local_streams.shard_ids("orders")
    iterators = {shard: clients.iterator(arn, shard) for shard in (one, two)}
    local_streams.throttle(shard_id=two, times=2)
    clients.streams.get_records(ShardIterator=iterators[one])
    for _ in range(2):
        with pytest.raises(ClientError) as error:
            clients.streams.get_records(ShardIterator=iterators[two])
        assert code(error) == "LimitExceededException"
    clients.streams.get_records(ShardIterator=iterators[two])


def test_errors_carry_the_code_and_status_of_aws(local_streams: LocalStreams, clients: Clients) -> None:
    arn = local_streams.create_table("orders")
    local_streams.fail_next("DescribeStream", code="InternalServerError")
    with pytest.raises(ClientError) as error:
        clients.shards(arn)
    assert code(error) == "InternalServerError"
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
    assert clients.shards(arn)


def test_a_lost_response_has_done_its_work_and_a_lost_request_has_not(
    local_streams: LocalStreams, clients: Clients
) -> None:
    arn = local_streams.create_table("orders")
    for key, lose in (("response", local_streams.lose_response), ("request", local_streams.lose_request)):
        lose("PutItem")
        with pytest.raises(ConnectionClosedError):
            clients.tables.put_item(TableName="orders", Item=item(key))
    assert [record["dynamodb"]["Keys"] for record in clients.all_records(arn)] == [item("response")]


def test_spoiled_bodies_are_the_traps_that_the_sdk_falls_into(local_streams: LocalStreams, clients: Clients) -> None:
    arn = local_streams.create_table("orders", shards=1)
    (shard,) = local_streams.shard_ids("orders")
    local_streams.put("orders", item("1"))
    iterator = clients.iterator(arn, shard)
    local_streams.truncate_body("GetRecords")
    assert clients.streams.get_records(ShardIterator=iterator).keys() == {"ResponseMetadata"}
    local_streams.corrupt_body("GetRecords")
    with pytest.raises(UnicodeDecodeError):
        clients.streams.get_records(ShardIterator=iterator)


def test_empty_pages_and_flapping_listings_lose_nothing(local_streams: LocalStreams, clients: Clients) -> None:
    arn = local_streams.create_table("orders", shards=2)
    local_streams.put("orders", item("1"))
    local_streams.empty_pages(times=2)
    assert clients.all_records(arn) == []
    assert len(clients.all_records(arn)) == 1
    one, two = local_streams.shard_ids("orders")
    local_streams.leave_out(one)
    assert [shard["ShardId"] for shard in clients.shards(arn)] == [two]
    assert [shard["ShardId"] for shard in clients.shards(arn)] == [one, two]


def test_latency_delays_answers_until_it_is_cleared(local_streams: LocalStreams, clients: Clients) -> None:
    local_streams.create_table("orders")
    local_streams.slow("*", 0.05)
    answer = clients.tables.describe_table(TableName="orders")
    assert answer["Table"]["TableStatus"] == "ACTIVE"
    assert local_streams.faults.latency_s("GetRecords") == 0.05
    local_streams.clear_faults()
    assert local_streams.faults.latency_s("GetRecords") == 0.0
    assert local_streams.requests == {"DescribeTable": 1}


# --- transport ---------------------------------------------------------------------------------------------------------


def post(url: str, body: bytes, **headers: str) -> tuple[int, Any]:
    request = urllib.request.Request(url, data=body, headers=headers, method="POST")
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, orjson.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, orjson.loads(error.read())


def test_a_request_without_authorization_is_refused(local_streams: LocalStreams) -> None:
    status, answer = post(local_streams.endpoint_url, b"{}", **{"X-Amz-Target": "DynamoDB_20120810.ListTables"})
    assert status == 400
    assert answer["__type"] == "com.amazon.coral.service#MissingAuthenticationTokenException"


def test_errors_of_dynamodb_carry_its_namespace(local_streams: LocalStreams) -> None:
    headers = {"X-Amz-Target": "DynamoDB_20120810.DescribeTable", "Authorization": "any"}
    status, answer = post(local_streams.endpoint_url, b'{"TableName":"orders"}', **headers)
    assert status == 400
    assert answer["__type"] == "com.amazonaws.dynamodb.v20120810#ResourceNotFoundException"


def test_only_known_access_keys_are_let_in_where_some_are_given(local_streams_factory: Any) -> None:
    streams = local_streams_factory(access_keys={"KEY": "secret"})
    assert Clients(streams, access_key="KEY").tables.list_tables()["TableNames"] == []
    with pytest.raises(ClientError) as error:
        Clients(streams, access_key="OTHER").tables.list_tables()
    assert code(error) == "UnrecognizedClientException"


def test_commands_over_http_do_what_the_methods_do(local_streams: LocalStreams, clients: Clients) -> None:
    arn = local_streams.create_table("orders", shards=1)
    status, answer = post(f"{local_streams.endpoint_url}/_local/split", b'{"table":"orders"}')
    assert status == 200
    assert sorted(answer["result"]) == list(local_streams.shard_ids("orders", open_only=True))
    post(f"{local_streams.endpoint_url}/_local/fail", b'{"operation":"DescribeStream","code":"LimitExceededException"}')
    with pytest.raises(ClientError, match="LimitExceeded"):
        clients.shards(arn)
    for name, body in (("split", b'{"tabel":"orders"}'), ("split", b"{"), ("merge", b"{}")):
        status, answer = post(f"{local_streams.endpoint_url}/_local/{name}", body)
        assert status == 400
        assert answer["message"]
    with urllib.request.urlopen(f"{local_streams.endpoint_url}/_local/state") as answer:
        (table,) = orjson.loads(answer.read())["tables"]
    assert table["stream_arn"] == arn
    assert [shard["open"] for shard in table["shards"]] == [False, True, True]
