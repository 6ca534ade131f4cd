"""Every metric there is: what it means and what to do about it. docs/metrics.md is printed from here.

`python -m streamflow.observe.catalogue` prints the table. Label values come from closed sets, from names the user chose
(pipelines, drop reasons, capped) or are shard ids (capped, gauges only): never data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from streamflow.events import ShardClosing

Kind = Literal["counter", "gauge", "histogram", "info"]
Fold = Literal["max", "min", "sum"]

OTHER = "_other"
"""Label value that holds what a cap left out."""

# 1 ms to 131 s, doubling: a percentile read from it is wrong by less than a factor of two.
_DURATIONS_S = tuple(0.001 * 2**power for power in range(18))
# The service rounds creation times down to the second, so nothing below half a second means anything; 24 h is retention.
_LATENCIES_S = (0.5, 1, 2, 3, 5, 10, 20, 30, 60, 120, 300, 900, 3_600, 10_800, 21_600, 43_200, 86_400)
# Why records are given up: both of the words that Lambda has for streams, and ours.
CONDITIONS = ("RetryAttemptsExhausted", "RecordAgeExceeded", "RecordRefused", "SuspectedKiller")
# 10 000 is the largest batch an event source mapping allows.
_BATCH_RECORDS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000)
# 1 KiB to 16 MiB; an invocation takes 6 MB.
_BATCH_BYTES = tuple(1024 * 4**power for power in range(8))


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One line of the catalogue. `name` is as a scrape shows it (histograms without `_bucket`, `_sum`, `_count`).

    `values` is the closed set of the last label, where it has one. `fold` is set on the gauges with a shard label: how
    the shards beyond the cap become one series.
    """

    name: str
    kind: Kind
    unit: str
    labels: tuple[str, ...]
    meaning: str
    remedy: str
    values: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    fold: Fold | None = None


# --- reading ---------------------------------------------------------------------------------------------------------

RECORDS_POLLED = Metric(
    name="streamflow_records_polled_total",
    kind="counter",
    unit="records",
    labels=("pipeline",),
    meaning="Records read from the stream (Lambda's PolledEventCount). Polled = filtered + delivered + dropped + "
    "dead-lettered + lost + parked + abandoned + in flight, at every moment.",
    remedy="Flat while the table is written to: see poll errors, then whether this worker holds any shard.",
)
RECORDS_FILTERED = Metric(
    name="streamflow_records_filtered_total",
    kind="counter",
    unit="records",
    labels=("pipeline",),
    meaning="Records that match none of the pipeline's filters, and so never reach the handler (FilteredOutEventCount).",
    remedy="All of them, and you expect some: a pattern never matches, as numeric ones on N attributes do not in Lambda.",
)
BYTES_POLLED = Metric(
    name="streamflow_bytes_polled_total",
    kind="counter",
    unit="bytes",
    labels=("pipeline",),
    meaning="Size of the response bodies of polls.",
    remedy="Near 2 MB/s for one shard is the limit of the service: only more partitions of the table help.",
)
POLL_DURATION = Metric(
    name="streamflow_poll_duration_seconds",
    kind="histogram",
    unit="seconds",
    labels=("pipeline",),
    meaning="Time of one successful poll; its count is the number of polls.",
    remedy="Rising: the network to the service, a starved CPU, or a blocked event loop (see loop blocked seconds).",
    buckets=_DURATIONS_S,
)
POLL_ERRORS = Metric(
    name="streamflow_poll_errors_total",
    kind="counter",
    unit="polls",
    labels=("pipeline", "code"),
    meaning="Polls that failed and are repeated, by the service's error code or the error's name; throttles included.",
    remedy="AccessDenied: fix the role. ResourceNotFound: the stream is gone. Others: the service or the network.",
)
THROTTLES = Metric(
    name="streamflow_throttles_total",
    kind="counter",
    unit="polls",
    labels=("pipeline",),
    meaning="Polls that the service asked to slow down.",
    remedy="More than two readers on one stream (another consumer, Lambda, global tables)? Remove one, or poll less often.",
)
ITERATORS_EXPIRED = Metric(
    name="streamflow_iterators_expired_total",
    kind="counter",
    unit="iterators",
    labels=("pipeline",),
    meaning="Shard iterators that outlived their 15 minutes and were asked for again; nothing is lost.",
    remedy="Frequent: shards are not polled for minutes, because a handler is slow or the machine was suspended.",
)
TRIMMED_GAPS = Metric(
    name="streamflow_trimmed_gaps_total",
    kind="counter",
    unit="gaps",
    labels=("pipeline",),
    meaning="DATA LOSS: gaps where retention took records before they were read.",
    remedy="Restore the missing items from the table itself; then find out why the lag passed 24 h. Page on any increase.",
)

# --- delivering ------------------------------------------------------------------------------------------------------

RECORDS_DELIVERED = Metric(
    name="streamflow_records_delivered_total",
    kind="counter",
    unit="records",
    labels=("pipeline",),
    meaning="Records that the handler took.",
    remedy="Below the rate of polled records for long: the handler is the bottleneck; see its duration.",
)
BYTES_DELIVERED = Metric(
    name="streamflow_bytes_delivered_total",
    kind="counter",
    unit="bytes",
    labels=("pipeline",),
    meaning="Size of the delivered batches as Lambda events, dropped records included.",
    remedy="None by itself: sizes the network to the destination.",
)
RECORDS_INVOKED = Metric(
    name="streamflow_records_invoked_total",
    kind="counter",
    unit="records",
    labels=("pipeline",),
    meaning="Records of invocations that have ended, again for each retry (InvokedEventCount); not of attempts that never "
    "reached the handler.",
    remedy="Far above delivered: most of the work is retries; see failed records.",
)
RECORDS_FAILED = Metric(
    name="streamflow_records_failed_total",
    kind="counter",
    unit="records",
    labels=("pipeline",),
    meaning="Records of failed invocations, again for each retry, and all of them where only some were reported "
    "(FailedInvokeEventCount). A record that failed is not lost.",
    remedy="See the log for the kind of error, and failed attempts for the shards that stand still.",
)
ATTEMPTS_NOT_INVOKED = Metric(
    name="streamflow_attempts_not_invoked_total",
    kind="counter",
    unit="attempts",
    labels=("pipeline",),
    meaning="Attempts that never reached the handler: the sink was busy, or the event of one record was too large.",
    remedy="The line `batch failed` says which. Busy: the sink's destination is slow. Too large: see batch_bytes_max.",
)
RECORDS_DROPPED = Metric(
    name="streamflow_records_dropped_total",
    kind="counter",
    unit="records",
    labels=("pipeline", "reason"),
    meaning="Records that middleware left out aloud, by its reason (at most 50 reasons per pipeline, then `_other`).",
    remedy="A reason that should be rare and grows: look at the predicate of that layer.",
)
RECORDS_SUPPRESSED = Metric(
    name="streamflow_records_suppressed_total",
    kind="counter",
    unit="records",
    labels=("pipeline",),
    meaning="Records that changed nothing at the sink, because it had them, or newer ones, already; they count as delivered.",
    remedy="Many of them after a restart are repetitions. Many at all times: two pipelines write to one target.",
)
RECORDS_DEAD_LETTERED = Metric(
    name="streamflow_records_dead_lettered_total",
    kind="counter",
    unit="records",
    labels=("pipeline", "condition"),
    values=CONDITIONS,
    meaning="Records given up after their retries or their age, refused by a sink, or suspected of killing their process, and "
    "taken by every destination of on_failure (OnFailureDestinationDeliveredEventCount).",
    remedy="Look at them where on_failure says, mend the handler, and deliver them again. SuspectedKiller: mend it first; "
    "delivering it again may kill that process, too.",
)
RECORDS_LOST = Metric(
    name="streamflow_records_lost_total",
    kind="counter",
    unit="records",
    labels=("pipeline", "condition"),
    values=CONDITIONS,
    meaning='DATA LOSS: records given up that are in no destination, because on_failure is "drop" (DroppedEventCount).',
    remedy="Name a destination in on_failure.",
)
DESTINATION_FAILURES = Metric(
    name="streamflow_destination_failures_total",
    kind="counter",
    unit="sends",
    labels=("pipeline",),
    meaning="Sends that a destination of on_failure did not take (DestinationDeliveryFailures). They are repeated until it "
    "does: nothing is lost, and the shard waits.",
    remedy="The line `destination failed` names it: permissions, a queue that is gone, a full disk.",
)
RECORDS_PARKED = Metric(
    name="streamflow_records_parked_total",
    kind="counter",
    unit="records",
    labels=("pipeline",),
    meaning='Records set aside with their item (on_poison = "park_key"), later changes of parked items included.',
    remedy="Mend the handler, then release the parked items.",
)
PARKED_KEYS = Metric(
    name="streamflow_parked_keys",
    kind="gauge",
    unit="items",
    labels=("pipeline",),
    meaning="Items of the stream that are parked, as of the last record that this worker parked; absent before.",
    remedy="Near parked_keys_max: beyond it the shards block. So many failing items are a fault of the handler.",
)
PARKING_FAILURES = Metric(
    name="streamflow_parking_failures_total",
    kind="counter",
    unit="writes",
    labels=("pipeline",),
    meaning="Writes of records to be parked that the store refused. They are repeated, and the shard waits.",
    remedy="As for failed checkpoints: the store's disk is full, locked or unreachable.",
)
RECORDS_ABANDONED = Metric(
    name="streamflow_records_abandoned_total",
    kind="counter",
    unit="records",
    labels=("pipeline",),
    meaning="Records in hand when this worker let their shard go: whoever works on it next reads them again.",
    remedy="None for a stop. Without one: leases are lost (see lease changes), or the pipeline failed.",
)
RECORDS_IN_FLIGHT = Metric(
    name="streamflow_records_in_flight",
    kind="gauge",
    unit="records",
    labels=("pipeline",),
    meaning="Records read and not settled: buffered, being handled, waiting for the next attempt or for a destination.",
    remedy="High while lag rises: the handler is the bottleneck.",
)
RECORDS_UNACCOUNTED = Metric(
    name="streamflow_records_unaccounted",
    kind="gauge",
    unit="records",
    labels=("pipeline",),
    meaning="Polled less all that became of them: always 0. All terms are of one moment, which two series of a scrape need "
    "not be.",
    remedy="Anything but 0 is a fault of streamflow: please report it.",
)
LAST_PROCESSING_RESULT = Metric(
    name="streamflow_last_processing_result",
    kind="gauge",
    unit="",
    labels=("pipeline", "result"),
    values=("none", "ok", "function_error", "source_error"),
    meaning="1 for the result that holds now, 0 for the others (LastProcessingResult; /status has its text).",
    remedy="function_error: see the line `batch failed`. source_error: see the line `poll failed`.",
)
WINDOWS_CLOSED = Metric(
    name="streamflow_windows_closed_total",
    kind="counter",
    unit="windows",
    labels=("pipeline", "early"),
    values=("yes", "no"),
    meaning="Tumbling windows whose final invocation is done; early where the state had passed 1 MB.",
    remedy="Early: the handler keeps too much in its state; aggregate more, or make the window shorter.",
)
BATCH_RECORDS = Metric(
    name="streamflow_batch_records",
    kind="histogram",
    unit="records",
    labels=("pipeline",),
    meaning="Records in a delivered batch, or in the delivered part of one.",
    remedy="Always 1 while lagging: raise batch_size or maximum_batching_window_s. Always full: raise batch_size.",
    buckets=_BATCH_RECORDS,
)
BATCH_BYTES = Metric(
    name="streamflow_batch_bytes",
    kind="histogram",
    unit="bytes",
    labels=("pipeline",),
    meaning="Size of a delivered batch, or of the delivered part of one, as a Lambda event.",
    remedy="At batch_bytes_max: items are large, so batches are smaller than batch_size says.",
    buckets=_BATCH_BYTES,
)
HANDLER_DURATION = Metric(
    name="streamflow_handler_duration_seconds",
    kind="histogram",
    unit="seconds",
    labels=("pipeline", "outcome"),
    values=("delivered", "failed"),
    meaning="Time of one invocation in middleware and handler; one that delivered only a part counts as failed.",
    remedy="Rising: the destination is slow. Failed near handler_timeout_s: attempts run out of time.",
    buckets=_DURATIONS_S,
)
END_TO_END_LATENCY = Metric(
    name="streamflow_end_to_end_latency_seconds",
    kind="histogram",
    unit="seconds",
    labels=("pipeline",),
    meaning="Creation of the first record of a batch to the end of its handler; the service rounds creation down to 1 s.",
    remedy="Rising with iterator age: reading is late. Rising alone: the handler, or a long batching window.",
    buckets=_LATENCIES_S,
)

BATCH_ITERATOR_AGE = Metric(
    name="streamflow_batch_iterator_age_seconds",
    kind="histogram",
    unit="seconds",
    labels=("pipeline",),
    meaning="Age of the last record of a batch when it was handed to the handler, retries included (IteratorAge, in "
    "seconds). Nothing for a shard that is idle or stalled: see the iterator age of shards.",
    remedy="As for the iterator age of shards.",
    buckets=_LATENCIES_S,
)

# --- checkpoints and leases ------------------------------------------------------------------------------------------

CHECKPOINTS = Metric(
    name="streamflow_checkpoints_total",
    kind="counter",
    unit="writes",
    labels=("pipeline", "result"),
    values=("stored", "failed"),
    meaning="Checkpoint writes.",
    remedy="Failed: the lease store (disk full, locked, unreachable). Delivery goes on; a crash now repeats more.",
)
CHECKPOINT_DURATION = Metric(
    name="streamflow_checkpoint_duration_seconds",
    kind="histogram",
    unit="seconds",
    labels=("pipeline",),
    meaning="Time of one successful checkpoint write.",
    remedy="Rising: the disk or database of the lease store.",
    buckets=_DURATIONS_S,
)
LEASE_CHANGES = Metric(
    name="streamflow_lease_changes_total",
    kind="counter",
    unit="changes",
    labels=("pipeline", "kind"),
    values=("taken", "lost", "released", "asked_for", "handed_over"),
    meaning="Changes of ownership at this worker.",
    remedy="Lost outside of deployments: workers stall longer than lease_duration_s, or share a worker_id.",
)

LEASES_HELD = Metric(
    name="streamflow_leases_held",
    kind="gauge",
    unit="leases",
    labels=("pipeline",),
    meaning="Shards that this worker works on. The sum over all workers is the number of unfinished shards.",
    remedy="Unequal by more than one or a tenth for minutes: look at the log of the worker that has most.",
)
LEASES_UNOWNED = Metric(
    name="streamflow_leases_unowned",
    kind="gauge",
    unit="leases",
    labels=("pipeline",),
    meaning="Shards that may be worked on and that nobody alive owned after this worker's last look.",
    remedy="Above 0 for longer than the lease duration: the workers cannot write to the lease store; see its errors.",
)
WORKERS = Metric(
    name="streamflow_workers",
    kind="gauge",
    unit="workers",
    labels=("pipeline",),
    meaning="Workers of the pipeline that this worker sees alive, itself included.",
    remedy="Fewer than there are processes: some of them use another store, or do not reach it.",
)
READERS_STUCK = Metric(
    name="streamflow_readers_stuck_total",
    kind="counter",
    unit="shards",
    labels=("pipeline",),
    meaning="Shards that were let go because the source gave no answer.",
    remedy="The source's client hangs: look at its time limits and at the network.",
)
SHARDS_ISOLATED = Metric(
    name="streamflow_shards_isolated_total",
    kind="counter",
    unit="shards",
    labels=("pipeline",),
    meaning="Shards whose records are handed over one by one, because their owners died one after the other with the "
    "checkpoint where it was.",
    remedy="Processes are killed: look for their last lines, for the kernel's out-of-memory killer, and in dead letters for "
    "SuspectedKiller.",
)
KILLERS_HELD = Metric(
    name="streamflow_killers_held_total",
    kind="counter",
    unit="holds",
    labels=("pipeline",),
    meaning='Records that end every process that handles them, each of which holds its shard, as on_poison is "block"; '
    "counted once an hour.",
    remedy="The line `killer held` names it. Mend the handler and restart: after a clean stop it is tried again.",
)
CANCELLATIONS_IGNORED = Metric(
    name="streamflow_cancellations_ignored_total",
    kind="counter",
    unit="handlers",
    labels=("pipeline",),
    meaning="Handlers that went on for 5 s after they were cancelled, by their time limit, a lost lease or a shutdown.",
    remedy="The line `cancellation ignored` shows where it is: an `except BaseException` or `except CancelledError` that does "
    "not raise again. Each takes a whole core; only a restart ends it.",
)
HEARTBEAT_FAILURES = Metric(
    name="streamflow_heartbeat_failures_total",
    kind="counter",
    unit="writes",
    labels=(),
    meaning="Signs of life of this worker that the lease store did not take.",
    remedy="Rising: the lease store; if it goes on for most of the lease duration, all leases of the worker are lost.",
)
WORKERS_STRUCK = Metric(
    name="streamflow_workers_struck_total",
    kind="counter",
    unit="workers",
    labels=(),
    meaning="Other workers that this one saw silent for their lease duration, and whose leases are free since.",
    remedy="Each is a crash, or a worker that stood still: look at its log.",
)
TAKEN_FOR_DEAD = Metric(
    name="streamflow_taken_for_dead_total",
    kind="counter",
    unit="times",
    labels=(),
    meaning="How often this worker lost all its leases because others saw no sign of life of it.",
    remedy="The process or its machine stood still longer than lease_duration_s, or the lease store was out of reach.",
)

# --- shards and pipelines --------------------------------------------------------------------------------------------

PIPELINE_RUNNING = Metric(
    name="streamflow_pipeline_running",
    kind="gauge",
    unit="",
    labels=("pipeline",),
    meaning="1 from the moment the pipeline is ready to deliver until it stops, else 0.",
    remedy="0 on a live process: see /readyz and the log for the reason.",
)
PIPELINE_FAILURES = Metric(
    name="streamflow_pipeline_failures_total",
    kind="counter",
    unit="failures",
    labels=("pipeline",),
    meaning="Stops by an error that nothing here can mend.",
    remedy="The ERROR line in the log names the cause and the next step.",
)
STREAMS_ENDED = Metric(
    name="streamflow_streams_ended_total",
    kind="counter",
    unit="streams",
    labels=("pipeline",),
    meaning="Streams read to their very end: disabled, or their table deleted.",
    remedy="Not on purpose? Turn the stream on again: the new one has another ARN and starts anew.",
)
SHARDS = Metric(
    name="streamflow_shards",
    kind="gauge",
    unit="shards",
    labels=("pipeline", "state"),
    values=("reading", "read_failing", "blocked"),
    meaning="Shards this worker works on, each in one state: blocked (its batch failed and comes again, or waits for "
    "whoever is to take it), read_failing (its last poll failed), reading.",
    remedy="Blocked or read_failing: see the log.",
)
SHARDS_OPENED = Metric(
    name="streamflow_shards_opened_total",
    kind="counter",
    unit="shards",
    labels=("pipeline",),
    meaning="Shards this worker began to work on.",
    remedy="None by itself: DynamoDB rolls shards over about every four hours.",
)
SHARDS_CLOSED = Metric(
    name="streamflow_shards_closed_total",
    kind="counter",
    unit="shards",
    labels=("pipeline", "reason"),
    values=tuple(ShardClosing),
    meaning="Shards this worker stopped working on.",
    remedy="Failed: see the log. Lost: see lease changes.",
)
SHARDS_AWAITING_CHILDREN = Metric(
    name="streamflow_shards_awaiting_children_total",
    kind="counter",
    unit="shards",
    labels=("pipeline",),
    meaning="Shards read to their end before the service listed their children, which are asked for again.",
    remedy="Each should be followed by opened shards within minutes; if not, see discoveries.",
)
DISCOVERIES = Metric(
    name="streamflow_discoveries_total",
    kind="counter",
    unit="listings",
    labels=("pipeline", "result"),
    values=("done", "failed"),
    meaning="Listings of the stream's shards.",
    remedy="Failed for long: children of finished shards are not found; check the permission for DescribeStream.",
)
ITERATOR_AGE = Metric(
    name="streamflow_shard_iterator_age_seconds",
    kind="gauge",
    unit="seconds",
    labels=("pipeline", "shard"),
    meaning="How far reading is behind: age of the newest record read, 0 once a page came back empty, and growing again "
    "when no page came back for 15 s; 0 for a shard that is read to its end. Grain 1 s.",
    remedy="Rising: compare poll errors, failed attempts and handler duration, in this order.",
    fold="max",
)
CHECKPOINT_AGE = Metric(
    name="streamflow_shard_checkpoint_age_seconds",
    kind="gauge",
    unit="seconds",
    labels=("pipeline", "shard"),
    meaning="0 while everything read is stored; else seconds since the last checkpoint was stored, or since the first "
    "record was read after everything had been stored, whichever is later.",
    remedy="Rising: a batch is stuck in its handler (see failed attempts), or the lease store refuses writes.",
    fold="max",
)
PROGRESS_AGE = Metric(
    name="streamflow_shard_progress_age_seconds",
    kind="gauge",
    unit="seconds",
    labels=("pipeline", "shard"),
    meaning="Seconds since the shard last made progress: a page was read, even an empty one, or records were settled.",
    remedy="Rising: the handler is stuck (see failed attempts), or the source gives no answers.",
    fold="max",
)
BUFFERED_BYTES = Metric(
    name="streamflow_shard_buffered_bytes",
    kind="gauge",
    unit="bytes",
    labels=("pipeline", "shard"),
    meaning="Read ahead and not yet settled, as of the last page.",
    remedy="At buffer_bytes_max: reading waits for the handler.",
    fold="sum",
)
RETENTION_HEADROOM = Metric(
    name="streamflow_shard_retention_headroom_seconds",
    kind="gauge",
    unit="seconds",
    labels=("pipeline", "shard"),
    meaning="Time until unread records are trimmed: retention less iterator age. 0 means that data is being lost.",
    remedy="Below 6 h: a person must act now; take load off the handler, add workers, or skip on purpose.",
    fold="min",
)
FAILED_ATTEMPTS = Metric(
    name="streamflow_shard_failed_attempts",
    kind="gauge",
    unit="attempts",
    labels=("pipeline", "shard"),
    meaning="Failed attempts of the batch that the shard is waiting for; 0 while it flows.",
    remedy="Above 0 the shard stands still, in order: fix the handler or its destination.",
    fold="max",
)

# --- the process -----------------------------------------------------------------------------------------------------

LOOP_BLOCKED = Metric(
    name="streamflow_loop_blocked_seconds_total",
    kind="counter",
    unit="seconds",
    labels=(),
    meaning="Time the event loop stood still because some code did not await.",
    remedy="The log names the place. Make that handler a plain function (it then runs in a thread), or await in it.",
)
BUILD = Metric(
    name="streamflow_build_info",
    kind="info",
    unit="",
    labels=("version", "python"),
    meaning="1, with the versions of streamflow and Python.",
    remedy="Two versions for long: a rollout is stuck.",
)

# --- several workers below one supervisor ----------------------------------------------------------------------------

WORKER_UP = Metric(
    name="streamflow_worker_up",
    kind="gauge",
    unit="",
    labels=("worker",),
    meaning="1 for a worker of `run --workers N` that answered this scrape, else 0: its other series are absent then.",
    remedy="0: it is being started again, see restarts and the log; or it runs and is stuck, see /livez.",
)
WORKER_RESTARTS = Metric(
    name="streamflow_worker_restarts_total",
    kind="counter",
    unit="restarts",
    labels=("worker",),
    meaning="Processes that were started for a worker of `run --workers N` after its first one.",
    remedy="Rising: the line `worker ended` says how the one before ended, and what it wrote before that says why.",
)
SUPERVISOR = (WORKER_UP, WORKER_RESTARTS)
"""What the supervisor of several workers adds to their pages."""

# --- a fleet that is looked at -----------------------------------------------------------------------------------------

FLEET_LOOKS = Metric(
    name="streamflow_fleet_looks_total",
    kind="counter",
    unit="looks",
    labels=("result",),
    values=("done", "failed"),
    meaning="Looks of `leases watch` at the leases, and at the stream for lag; failed where any part of one failed.",
    remedy="Failed: stderr has the reason once. The figures are of the last look that read the leases.",
)
FLEET_LAST_LOOK = Metric(
    name="streamflow_fleet_last_look_timestamp_seconds",
    kind="gauge",
    unit="seconds",
    labels=(),
    meaning="Unix time of the last look of `leases watch` that read the leases; what all other figures are of.",
    remedy="Old: the store does not answer, and nothing that this page says is of now.",
)
FLEET_OWNER_SILENCE = Metric(
    name="streamflow_fleet_owner_silence_seconds",
    kind="gauge",
    unit="seconds",
    labels=("owner",),
    meaning="Seconds, at the last look, since a look first saw the newest thing that the owner wrote: its row or a lease. "
    "The 200 most silent owners, then `_other`, which has the longest of the rest.",
    remedy="Above its lease duration: it is gone, or cannot write to the store; others take its leases.",
)
FLEET_LEASES = Metric(
    name="streamflow_fleet_leases",
    kind="gauge",
    unit="leases",
    labels=("pipeline", "owner"),
    meaning="Unfinished shards of each owner, silent ones included. 200 owners with most, then `_other`: the sum of the rest.",
    remedy="Unequal by more than one or a tenth for minutes: look at the log of the worker that has most.",
)
FLEET_UNOWNED = Metric(
    name="streamflow_fleet_leases_unowned",
    kind="gauge",
    unit="leases",
    labels=("pipeline",),
    meaning="Shards that may be worked on and have no owner, or one that was silent for its lease duration.",
    remedy="Above 0 for longer than some lease durations: no worker runs, or none of them can write to the store.",
)
FLEET_WORKERS = Metric(
    name="streamflow_fleet_workers",
    kind="gauge",
    unit="workers",
    labels=("pipeline",),
    meaning="Workers of the pipeline that were not silent for their lease duration; of a fleet of the KCL, those that own "
    "a lease.",
    remedy="Fewer than there are processes: some of them use another store, do not reach it, or have no shard.",
)
FLEET_SHARDS = Metric(
    name="streamflow_fleet_shards",
    kind="gauge",
    unit="shards",
    labels=("pipeline", "state"),
    values=("active", "awaiting_children", "ended"),
    meaning="Shards with a lease: unfinished, read to the end before their children are known, and done.",
    remedy="Awaiting children for long: the worker that lists the shards fails; see its log.",
)
FLEET_LAG = Metric(
    name="streamflow_fleet_shard_lag_seconds",
    kind="gauge",
    unit="seconds",
    labels=("pipeline", "shard"),
    meaning="Age of the first record behind the checkpoint of an unfinished shard, 0 where the stream showed none; all of "
    "retention where records were trimmed. The 200 laggiest shards of the pipeline, then `_other`. Grain 1 s.",
    remedy="Rising: its owner is stuck, silent, or slower than the table is written to. Steady at some seconds: checkpoints.",
    fold="max",
)
FLEET_HEADROOM = Metric(
    name="streamflow_fleet_retention_headroom_seconds",
    kind="gauge",
    unit="seconds",
    labels=("pipeline",),
    meaning="Retention less the largest lag that was measured: the time until unread records are trimmed.",
    remedy="Below 6 h: a person must act now. 0 means that data is being lost.",
)
FLEET = (
    FLEET_LOOKS,
    FLEET_LAST_LOOK,
    FLEET_OWNER_SILENCE,
    FLEET_LEASES,
    FLEET_UNOWNED,
    FLEET_WORKERS,
    FLEET_SHARDS,
    FLEET_LAG,
    FLEET_HEADROOM,
)
"""What the page of `leases watch` has, and nothing else is on it."""

CATALOGUE: tuple[Metric, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
WORKER = tuple(metric for metric in CATALOGUE if metric not in (*SUPERVISOR, *FLEET))
"""What a worker's own page has."""


def table() -> str:
    """The catalogue as a Markdown table, one metric a line, in order."""
    lines = ["| Name | Kind | Unit | Labels | Meaning | What to do |", "|---|---|---|---|---|---|"]
    for metric in CATALOGUE:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        if metric.values:
            labels += f" ({', '.join(metric.values)})"
        cells = (f"`{metric.name}`", metric.kind, metric.unit, labels, metric.meaning, metric.remedy)
        lines.append(f"| {' | '.join(cell or '-' for cell in cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(), end="")  # noqa: T201 - printing is what it is for
