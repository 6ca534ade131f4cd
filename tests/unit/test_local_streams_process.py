"""LocalStreams opened from async code, and as a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
import urllib.request

import aiohttp
import orjson
import pytest

from streamflow.testing import LocalStreams


@pytest.mark.anyio
async def test_it_opens_in_the_loop_of_its_caller_and_stops_listening_with_it() -> None:
    async with LocalStreams() as streams, aiohttp.ClientSession() as session:
        streams.create_table("orders")
        async with session.get(f"{streams.endpoint_url}/_local/state") as answer:
            assert len((await answer.json())["tables"][0]["shards"]) == 4
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(f"{streams.endpoint_url}/_local/state")


@pytest.mark.anyio
async def test_a_port_that_is_taken_is_an_error() -> None:
    async with LocalStreams() as streams:
        port = int(streams.endpoint_url.rpartition(":")[2])
        with pytest.raises(OSError, match="in use"):
            async with LocalStreams(port=port):
                pass


def test_the_process_says_where_it_listens_and_stops_on_sigterm() -> None:
    command = [sys.executable, "-W", "error", "-m", "streamflow.testing.local_streams", "--shards", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        endpoint_url = orjson.loads(process.stdout.readline())["endpoint_url"]
        with urllib.request.urlopen(f"{endpoint_url}/_local/state") as answer:
            assert orjson.loads(answer.read()) == {"tables": [], "requests": {}}
        process.send_signal(signal.SIGTERM)
        rest, errors = process.communicate(timeout=20)
    assert (process.returncode, rest, errors) == (0, b"", b"")
