"""What went wrong in a store, and what to do about it. NATS quotes no entry in its errors, so their texts are passed on."""

from __future__ import annotations

import re
import ssl
from typing import Any

from streamflow.errors import StoreError

_OFF = "JetStream is off, or off for this account: switch it on, jetstream {} in the configuration of the server"
_GONE = (
    "a bucket that is gone has to be restored from a backup: one that is made anew when a worker starts begins every pipeline "
    "at its starting position"
)
_ROOM = "make room, or raise the limit; until then no checkpoint is stored, and nothing is lost"

NOT_FOUND, NO_MESSAGE, NAME_TAKEN = 10_059, 10_037, 10_058
CONFLICTS = frozenset({10_071, 10_164})
"""Another revision than the expected one; another write on the same key is on its way."""
_NEXT_STEP = {
    NOT_FOUND: _GONE,
    10_002: f"the account has used up what it may store: {_ROOM}",
    10_005: "fewer servers than replicas have room for it: ask for fewer replicas, or add servers",
    10_008: "the cluster has no leader: most of its servers must be up, and reach each other",
    10_009: "the cluster is choosing a leader: try again",
    10_023: f"the servers are short of storage: {_ROOM}",
    10_026: f"the account has as many streams as it may: {_ROOM}",
    10_028: f"the servers have used up their memory: {_ROOM}",
    10_035: "a bucket of another kind has that name: name another one in the URL, ?bucket=…",
    10_039: _OFF,
    10_047: f"the disk, or what JetStream may use of it, is full: {_ROOM}",
    10_054: "the bucket or the server takes smaller messages only: leave max_msg_size open, and max_payload at 256 KiB or more",
    10_065: "another stream stores the keys of the bucket: name another bucket in the URL, ?bucket=…",
    10_074: "a single server holds one replica: ask for replicas=1, or make it a cluster",
    10_076: _OFF,
    10_077: f"the bucket is full: {_ROOM}",
    10_167: "the server has more to do than it takes: try again",
    10_174: "the bucket takes no atomic batches: give it allow_atomic",
    10_210: "too many atomic batches are on their way: try again",
}
_VIOLATION = re.compile(r'permissions violation for (publish|subscription) to "([^"]+)"')


class JetStreamError(StoreError):
    """JetStream's own refusal, with its code: nothing happened."""

    def __init__(self, shown: str, code: int, description: str) -> None:
        self.code = code
        step = _NEXT_STEP.get(code)
        super().__init__(f"lease store {shown}: JetStream says: {description} ({code}){f' ({step})' if step else ''}")


def refusal(error: Any, shown: str) -> JetStreamError:
    """Of the `error` in an answer of JetStream."""
    return JetStreamError(shown, int(error.get("err_code") or error.get("code") or 0), str(error.get("description")))


def nobody(shown: str, bucket: str) -> StoreError:
    """No part of the server, or of the cluster, takes requests for the bucket."""
    return StoreError(
        f"lease store {shown}: nobody answers for the bucket {bucket} (JetStream is off for this account, or the bucket is "
        f"gone, or has no leader: look with nats stream info KV_{bucket}; {_GONE})"
    )


def violation(error: Exception) -> tuple[str, str] | None:
    """Whether "publish" or "subscription" is forbidden, and the subject in lower case, where `error` says so."""
    found = _VIOLATION.search(str(error).lower())
    return None if found is None else (found[1], found[2])


def forbidden(shown: str, what: str, subject: str) -> str:
    return (
        f"lease store {shown}: this user has no permission for {what} to {_family(subject)} (give it; the README of "
        "streamflow-engine-nats lists what a store needs)"
    )


def obstacle(error: BaseException, shown: str, *, timeout_s: float) -> StoreError:
    """Why there is no connection; nothing was sent."""
    step = "look at the host and port in the URL, and whether the server runs"
    text = str(error)
    match error:
        case TimeoutError():
            what = f"no connection within {timeout_s:g} s"
        case ssl.SSLError():
            what = f"TLS failed: {error.reason or type(error).__name__}"
            step = (
                "the certificate must be for the host in the URL, and from somebody whom the system or ?ca=FILE trusts"
            )
        case FileNotFoundError():
            what = "a file that the URL names is not there"
            step = "look at creds, ca, cert and key in it"
        case OSError():
            what = f"no connection: {error.strerror or type(error).__name__}"
        case _:
            what = text or type(error).__name__
            if "authorization" in text.lower():
                step = "look at user and password, token, or ?creds=FILE in the URL"
            elif "TLS" in text:
                step = "give the server a certificate, or leave tls=true out of the URL"
    return StoreError(f"lease store {shown}: {what} ({step})")


def _family(subject: str) -> str:
    """A subject without the names in it: `$KV.streamflow.>` for the key of a row."""
    tokens = subject.split(".")
    return subject if tokens[0].lower() != "$kv" else ".".join([*tokens[:2], ">"])
