"""The faults: what goes wrong, and what is expected then; where streamflow does otherwise, and why; what no test here shows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One fault. Each text but `fault` is a sentence or more; the last two are empty where there is nothing to say."""

    number: str
    fault: str
    expected: str
    differs: str = ""
    """What streamflow does instead, on purpose, and why."""
    untested: str = ""
    """What of it cannot be, or is not, tested here, and why."""


ROWS = (
    Row(
        number="F1",
        fault="Unknown keys, wrong types, several mistakes in a pipeline file",
        expected="Refuse, all mistakes at once, each with its line, its key and what was probably meant.",
    ),
    Row(
        number="F2",
        fault="An environment variable that is not set, or whose value looks like configuration",
        expected="Refuse. Values are put in after the file is parsed, and are never parsed themselves.",
    ),
    Row(
        number="F3",
        fault="Limits that contradict each other",
        expected="Refuse, with the options that contradict each other.",
        differs="How often a lease is renewed is no option: it follows from its duration. The grace of a supervisor is not "
        "known to a worker; the deployment examples are checked instead.",
    ),
    Row(
        number="F4",
        fault="A plugin that is missing, cannot be imported, is for another version, or has the name of another",
        expected="Refuse where it is named; others are listed and work. Nothing stands in for it.",
    ),
    Row(
        number="F5",
        fault="Other filters or other parallelism over the checkpoints of the ones before",
        expected="The pipeline starts and goes on at its checkpoints.",
        differs="A change of filters needs no other name and no consent: as with Lambda's mappings, it counts from the "
        "checkpoint on.",
    ),
    Row(
        number="F6",
        fault="A record without keys, with an unknown type of attribute, or without a sequence number",
        expected="It is malformed: retried, and given up as the pipeline says, with its bytes. The shard goes on behind it.",
    ),
    Row(
        number="F7",
        fault="Base64 that is nearly right, text that is no UTF-8",
        expected="It is malformed; decoding is strict.",
    ),
    Row(
        number="F8",
        fault="A record that is no JSON, before a filter that looks into it",
        expected="It is left out and counted, as Lambda does with payloads of Kinesis.",
        differs="Records of DynamoDB are JSON by definition, so one that is not is damaged, and not one that nobody wants: it "
        "passes the filter, and is malformed.",
    ),
    Row(
        number="F9",
        fault="Numbers of 38 digits, and exponents beyond all reason",
        expected="Every digit is kept up to what DynamoDB holds; far beyond that the record is malformed, before anybody "
        "makes a whole number of a million digits of it.",
    ),
    Row(
        number="F10",
        fault="NaN, infinity, a name twice in one item, whole numbers beyond 53 and 64 bits",
        expected="What is no number is malformed; of a name that is there twice every form has the same value; whole numbers "
        "keep their digits in every form.",
    ),
    Row(
        number="F11",
        fault="Nesting beyond what DynamoDB allows, or any parser bears",
        expected="Whatever is decoded can be encoded again; deeper records are malformed, and go as they came to who takes "
        "them as they came. Nothing crashes.",
    ),
    Row(
        number="F12",
        fault="A record that is larger than its target takes",
        expected="It is never sent and never retried; it is given up, and the others of its batch are written once.",
        differs="The drawer of the state store holds the whole record, so that it can be delivered again after retention; "
        "queues and topics are told where it was.",
    ),
    Row(
        number="F13",
        fault="A small answer that unpacks to a huge one, or one without end",
        expected="It is unpacked and read up to a limit, and is corrupt beyond that.",
        differs="Values of items are never unpacked: they are what the application wrote.",
    ),
    Row(
        number="F14",
        fault="A record that its handler can never bear, also as the last of a shard and as the first after a start",
        expected="Its retries are used up, it is isolated and given up; its neighbours are delivered once, and the shard ends.",
    ),
    Row(
        number="F15",
        fault="A record that kills the process",
        expected="What was handed over when several lives ended is delivered alone, and given up as the suspect.",
    ),
    Row(
        number="F16",
        fault="A handler that never returns",
        expected="Its time limit cancels it, and the batch counts as failed.",
        differs="Without `handler_timeout_s` nothing limits a handler: only its author knows how long it may take.",
    ),
    Row(
        number="F17",
        fault="A handler that swallows its cancellation",
        expected="It is told once with its stack, and when the worker stops, the process ends all the same.",
    ),
    Row(
        number="F18",
        fault="A handler that blocks the event loop",
        expected="The watchdog names it and the line; leases are kept from a loop of their own, and are lost only after a "
        "limit.",
    ),
    Row(
        number="F19",
        fault="A handler that holds Python's lock",
        expected="The process ends with the stack, and whoever supervises it starts another.",
    ),
    Row(
        number="F20",
        fault="A thread of a handler that never ends",
        expected="Neither its caller nor the exit of the process waits for it.",
    ),
    Row(
        number="F21",
        fault="A handler or sink that gives back something that it should not",
        expected="A body that did not run, and answers for records that were not asked about, fail their batch by name.",
        differs="Anything else that a handler returns means nothing, because many functions return something that nobody asked "
        "for. Nothing halts after the first time: the options of the pipeline say what becomes of a batch that fails.",
    ),
    Row(
        number="F22",
        fault="A list of failures with unknown or empty ids",
        expected="The whole batch has failed, as with Lambda.",
    ),
    Row(
        number="F23",
        fault="A sink that takes a part of a batch, in any order",
        expected="The checkpoint stays below the lowest record that is not settled; only what failed is tried again where the "
        "sink tells records apart.",
    ),
    Row(
        number="F24",
        fault="A sink that hangs while it is closed",
        expected="It is left after a deadline of its own.",
    ),
    Row(
        number="F25",
        fault="A sink that is down for an hour",
        expected="Reading stops when the buffer is full, iterators expire and are replaced; nothing is given up or lost.",
    ),
    Row(
        number="F26",
        fault="A destination of what is given up that is down, full or forbidden",
        expected="The shard waits, and the checkpoint with it; readiness says so.",
        differs="The shard does not end: it goes on as soon as the destination takes the batch.",
    ),
    Row(
        number="F27",
        fault="SIGTERM at any time, and twice",
        expected="In-flight work is finished up to the deadline; a second signal ends at once and says what will repeat.",
    ),
    Row(
        number="F28",
        fault="SIGKILL in every window between an effect and its record",
        expected="Nothing is lost; what repeats was not stored.",
        untested="The kernel's killer for want of memory: it kills with the same signal.",
    ),
    Row(
        number="F29",
        fault="A process that is stopped for longer than its leases last, and goes on",
        expected="Its checkpoints are refused, it begins no other batch, and at most the batch in flight has an effect.",
    ),
    Row(
        number="F30",
        fault="An answer that is lost after its effect, on any write of a lease",
        expected="The row is read back and the own write recognised; otherwise the lease is lost.",
    ),
    Row(
        number="F31",
        fault="The same, hidden by a retry of the SDK that meets its own write as a conflict",
        expected="The SDK sends each write of a lease once.",
    ),
    Row(
        number="F32",
        fault="Throttles, 500 and 503",
        expected="Retry with jitter; a throttled write certainly did not happen, another may have.",
    ),
    Row(
        number="F33",
        fault="Refused requests, denied permissions, things that are not there",
        expected="A refused request ends the run; a denied permission is asked for again at a capped rate.",
        differs="A permission that stays denied never halts the pipeline by itself: Lambda keeps polling too, and readiness "
        "says why. At the start everything that is missing is refused.",
    ),
    Row(
        number="F34",
        fault="Credentials that expire in mid-run, no credentials, a clock that is wrong",
        expected="Renewed once and tried again, then at a capped rate; a wrong clock is corrected by the service's, or blamed.",
    ),
    Row(
        number="F35",
        fault="Answers that are cut, corrupt, or something else altogether",
        expected="A read that failed, a write with an unknown outcome; never an empty answer, and never the end of a shard.",
    ),
    Row(
        number="F36",
        fault="TLS: unknown authority, expired, another name, a port without TLS",
        expected="Refuse; nothing is said in the clear, and nothing turns verification off.",
    ),
    Row(
        number="F37",
        fault="Names that are not known, slow, or lead elsewhere",
        expected="Retry; nobody else waits for the resolver.",
        untested="A name whose address changes: aiohttp keeps an address for ten seconds, and no setting of ours is involved.",
    ),
    Row(
        number="F38",
        fault="A connection on which nothing is said any more",
        expected="Every call has a deadline: 30 s for a page, 5 s for a write to DynamoDB; no unknown outcome extends a lease.",
        differs="A deadline of 5 s is more than a third of the default lease of 10 s: a worker whose store is silent loses its "
        "leases rather than guess.",
    ),
    Row(
        number="F39",
        fault="A full disk under a SQLite file",
        expected="Writes fail loudly and whole, reads go on, the file stays good; dispatching stops when the leases run out.",
        untested="A file system that is really full: SQLite's own limit on pages raises the same error at the same place.",
    ),
    Row(
        number="F40",
        fault="A disk that fails to write or to flush",
        expected="A commit that failed half-way is an unknown outcome, and the row is read back.",
        untested="The kernel's error itself: what injects it, libfiu, is no package for Python. The error is injected at "
        "SQLite's connection instead.",
    ),
    Row(
        number="F41",
        fault="A SQLite file that is corrupt, empty, somebody else's or of a newer version",
        expected="Refuse, say what it is, and leave it as it was.",
    ),
    Row(
        number="F42",
        fault="A checkpoint that cannot be read, is of another stream, or where there is nothing any more",
        expected="What cannot be read is named and not guessed; where records are gone, halt, or note the gap and go on.",
    ),
    Row(
        number="F43",
        fault="A wall clock that jumps",
        expected="Leases, order and checkpoints are unaffected: they go by monotonic time.",
        differs="The age of records is told by this machine's wall clock: with `maximum_record_age_s`, a clock that is an hour "
        "ahead gives up records that are an hour younger. Keep clocks synchronised where that option is set.",
    ),
    Row(
        number="F44",
        fault="A machine that is suspended and goes on",
        expected="As F29: validity counts from before the last sign of life was sent, by a clock that goes on meanwhile.",
        untested="The suspension of a real machine.",
    ),
    Row(
        number="F45",
        fault="A table or stream that is deleted, or made again under its name",
        expected="Read to its end while that is possible; what is lost is told and halts. A stream that is made again "
        "inherits no checkpoint.",
        differs="When the service says that the stream is gone, it is believed at once; a listing that leaves shards out is "
        "looked at twice.",
    ),
    Row(
        number="F46",
        fault="A stream that is disabled, or has another view",
        expected="Read to its end, and then the run ends; a sink that writes images refuses a stream without them.",
        differs="Filters on an image that the stream does not carry are not refused: as with Lambda they match nothing, or "
        "everything with `exists: false`.",
    ),
    Row(
        number="F47",
        fault="Two deployments under one name by mistake",
        expected="Over another stream they share nothing, or are refused; over the same stream they are one fleet.",
        differs="Other filters of the second deployment are not noticed: an upgrade looks the same while it rolls out.",
    ),
    Row(
        number="F48",
        fault="Two workers with one id, as from a restored image",
        expected="The one that started later takes the place; the other goes on under another id.",
    ),
    Row(
        number="F49",
        fault="A lease table that is deleted in mid-run",
        expected="Every call says so, nothing is made anew by itself, and no shard is begun again.",
    ),
    Row(
        number="F50",
        fault="Rows that are edited or deleted by hand, with attributes of others, or of foreign fleets",
        expected="A conflict loses the lease, a row that is gone comes back by the next audit, and what others noted stays.",
    ),
    Row(
        number="F51",
        fault="A store that loses its last writes in a fail-over",
        expected="Seen where it can be: by epochs and versions. The documentation of each store says what it may lose.",
        untested="Whole fleets over such a store are the simulation's.",
    ),
    Row(
        number="F52",
        fault="Listings that go in circles, repeat, contradict themselves, or have tens of thousands of shards",
        expected="Bounded, looked at again before anything counts as missing, and then given up aloud.",
    ),
    Row(
        number="F53",
        fault="Thousands of shards in one process",
        expected="Idle shards are polled less often and within a limit; a shard costs as much with many as with few.",
        untested="Ten thousand shards of a real service: see the figures in [performance](performance.md).",
    ),
    Row(
        number="F54",
        fault="A thousand shards that roll over at once, while the lease store throttles",
        expected="What the store takes, it takes once; the fleet gets on by as much as that, and everything is read in order.",
        untested="More than five hundred shards: the test would take long and show the same.",
    ),
    Row(
        number="F55",
        fault="A scrape of the metrics of ten thousand shards",
        expected="Series are capped, no histogram has a shard label, and pages are rendered off the loop.",
    ),
    Row(
        number="F56",
        fault="Slow, large and many clients of the admin server",
        expected="Headers, bodies, connections and time are limited.",
    ),
    Row(
        number="F57",
        fault="Logs and output that nobody reads, or that are closed",
        expected="Work goes on, or the sink whose output it was says so.",
    ),
    Row(
        number="F58",
        fault="Limits on open files and on memory, and forks behind threads",
        expected="As many files may be opened as the system allows, and too few are told at the start; processes are spawned, "
        "never forked.",
        untested="A limit on memory: the kernel kills, as in F28. What is read ahead is bounded: see F25.",
    ),
    Row(
        number="F59",
        fault="An upgrade and its way back, with both versions side by side",
        expected="Each goes on where the other stopped, and a clean hand-over repeats nothing.",
    ),
    Row(
        number="F60",
        fault="A handler that changes the records it is given",
        expected="Another branch never sees it, and nothing is lost by it.",
    ),
)
