"""A client that outlives its credentials."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from scripted_clients import ScriptedContext, refusal
from streamflow.sdk import ConfigError, SinkBusyError
from streamflow_aws.clients import RENEWAL_INTERVAL_S, Target, open_client
from streamflow_aws.errors import AwsCallError

pytestmark = pytest.mark.anyio

TARGET = Target(name="sqs: the queue orders", permission="sqs:GetQueueAttributes", creation="aws sqs create-queue")


def expired_below(generation_min: int) -> ScriptedContext:
    """Credentials are refused in the clients before that one."""

    def answer(generation: int, operation: str, arguments: dict[str, Any]) -> Any:
        return refusal("ExpiredToken") if generation < generation_min else {"by": generation}

    return ScriptedContext(answer)


async def test_expired_credentials_are_renewed_and_the_call_is_made_once_more() -> None:
    context = expired_below(2)
    async with open_client(context, "sqs", aws=None) as client:
        assert await client.call("send", Body="a") == {"by": 2}
        assert await client.call("send", Body="b") == {"by": 2}
        assert context.calls == [("send", {"Body": "a"}), ("send", {"Body": "a"}), ("send", {"Body": "b"})]
        assert context.closed == []
    assert sorted(context.closed) == [1, 2]


async def test_many_calls_that_meet_the_same_expired_credentials_open_one_client() -> None:
    context = expired_below(2)
    async with open_client(context, "sqs", aws=None) as client, anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(client.call, "send")
    assert context.opened == 2


async def test_credentials_that_stay_expired_are_looked_up_once_in_a_while() -> None:
    context = expired_below(100)
    async with open_client(context, "sqs", aws=None) as client:
        for _ in range(3):
            with pytest.raises(AwsCallError, match="ExpiredToken"):
                await client.call("send")
        assert context.opened == 2
        context.clock.now_s += RENEWAL_INTERVAL_S
        with pytest.raises(AwsCallError, match="ExpiredToken"):
            await client.call("send")
        assert context.opened == 3
        assert context.closed == [1]
    assert sorted(context.closed) == [1, 2, 3]


async def test_no_other_error_is_repeated() -> None:
    context = ScriptedContext(lambda *_: refusal("InternalFailure", status=500))
    async with open_client(context, "sqs", aws=None) as client:
        with pytest.raises(AwsCallError, match="send: InternalFailure"):
            await client.call("send")
    assert len(context.calls) == 1


async def test_a_look_that_is_throttled_has_found_the_service() -> None:
    context = ScriptedContext(lambda *_: refusal("ThrottlingException"))
    async with open_client(context, "sqs", aws=None) as client:
        assert await client.look("get_queue_attributes", TARGET) == {}
        with pytest.raises(SinkBusyError):
            await client.call("send")


async def test_a_look_that_is_denied_names_the_permission() -> None:
    context = ScriptedContext(lambda *_: refusal("AccessDenied", "not authorized", status=403))
    async with open_client(context, "sqs", aws=None) as client:
        with pytest.raises(ConfigError, match=r"queue orders cannot be used: .*takes sqs:GetQueueAttributes"):
            await client.look("get_queue_attributes", TARGET)
