"""Which faults there are, how often each strikes in a run, and how often it did.

A run draws a rate for each kind, none for a third of them: runs with few kinds reach what runs with all kinds drown.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamflow.testing.simulation.draws import NUMBERS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from random import Random

    from streamflow.testing.simulation.draws import Address, Draws

NONE_OF_A_KIND = 1 / 3
"""In so many runs a kind of fault does not exist."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault. `rate_max` is the greatest probability, in any run, that it strikes at one call of its site."""

    site: str
    rate_max: float
    says: str


KINDS: dict[str, Kind] = {
    # -- the network between a node and what it calls ------------------------------------------------------------------
    "network.refused": Kind("network", 0.02, "the connection is refused: nothing was sent"),
    "network.clog": Kind("network", 0.01, "this request takes 1 to 12 s longer"),
    "network.request_lost": Kind("network", 0.02, "the connection breaks before the request has arrived"),
    "network.answer_lost": Kind("network", 0.02, "the connection breaks when the request has been carried out"),
    "network.delayed": Kind("network", 0.005, "the connection breaks, and the request is carried out up to 60 s later"),
    "network.twice": Kind("network", 0.01, "the request is carried out twice"),
    # -- what the history does to nodes and their links, asked for each of them every ten seconds -----------------------
    "node.crash": Kind("node", 0.3, "a worker is killed, and started again"),
    "node.stop": Kind("node", 0.2, "a worker is stopped gracefully, and started again"),
    "node.stop_now": Kind("node", 0.1, "a worker is told to stop, and then to stop now"),
    "node.pause": Kind("node", 0.2, "a worker stands still, for up to three lease durations"),
    "node.suspend": Kind(
        "node", 0.05, "a worker's machine is suspended, for up to an hour; its monotonic clock stands"
    ),
    "node.block": Kind("node", 0.1, "a worker's handlers' loop is blocked, for up to two minutes"),
    "node.clock_jump": Kind("node", 0.1, "a worker's wall clock jumps, by up to an hour"),
    "node.clock_skew": Kind(
        "clock", 1.0, "a worker's wall clock is wrong by up to ten minutes, and drifts by up to 2 %"
    ),
    "node.twin": Kind("node", 0.03, "another worker is started under a name that is taken"),
    "node.pause_asking": Kind(
        "moment", 0.2, "a worker stands still with an answer of the store on its way, for up to 1.5 lease durations"
    ),
    "node.stop_hung": Kind("moment", 0.2, "a worker is stopped while its handlers hang, for 1 to 10 minutes"),
    "node.renamed": Kind("restart", 0.5, "a worker comes back under another name"),
    "node.upgrade": Kind("restart", 0.5, "a worker comes back with another configuration"),
    "node.dies_young": Kind("restart", 1.0, "a worker is killed in the first seconds of its life"),
    "node.away": Kind("restart", 0.3, "a worker stays away for up to ten minutes"),
    "link.cut": Kind("link", 0.06, "nothing gets through between a worker and the store, or the stream"),
    "link.deaf": Kind(
        "link", 0.06, "requests get through between a worker and the store, or the stream, but no answers"
    ),
    "link.clogged": Kind(
        "link", 0.1, "everything between a worker and the store, or the stream, arrives late together"
    ),
    "lineage.split": Kind("reshape", 0.2, "a shard is split"),
    "lineage.roll_over": Kind("reshape", 0.3, "a shard is rolled over"),
    "lineage.roll_over_all": Kind("reshape", 0.08, "all shards are rolled over in one moment"),
    "lineage.trimmed": Kind("reshape", 0.05, "retention takes the oldest records of a shard"),
    "lineage.forgotten": Kind("reshape", 0.1, "retention takes a closed shard that was read to its end"),
    # -- the stream: how shards change, and what DescribeStream shows ---------------------------------------------------
    "lineage.children_late": Kind("lineage", 0.5, "the children of a closed shard are listed up to 300 s later"),
    "lineage.empty_shard": Kind("lineage", 0.3, "new shards are closed before a record is in them"),
    "listing.stale": Kind("listing", 0.3, "a host answers that is up to 30 s behind"),
    "listing.page_cut": Kind("listing", 0.2, "a page has fewer shards than it might, and goes on"),
    "listing.left_out": Kind("listing", 0.05, "one shard is missing in a page"),
    "listing.parents_late": Kind("listing", 0.05, "a page lacks the shards that are parents"),
    "listing.empty": Kind("listing", 0.02, "a page has no shards"),
    "listing.shard_twice": Kind("listing", 0.5, "a page begins with the shard that ended the one before"),
    "listing.token_expired": Kind("listing", 0.1, "the token for the next page is refused"),
    "listing.token_repeats": Kind("listing", 0.05, "the pages go in circles"),
    # -- the stream: what readers are answered --------------------------------------------------------------------------
    "iterator.expired": Kind("iterator", 0.01, "an iterator has expired"),
    "iterator.border": Kind("iterator", 0.01, "an iterator expires at the end of the moment in which it was given out"),
    "read.empty_pages": Kind("read", 0.02, "1 to 1000 pages in a row are empty, although there are records"),
    "read.page_cut": Kind("read", 0.1, "a page has fewer records than it might, often one"),
    "read.page_twice": Kind("read", 0.03, "the next page is the same one again"),
    "read.end_later": Kind("read", 0.5, "the end of a shard shows on an empty page behind the last record"),
    "read.hangs": Kind("read", 0.002, "a request for a page is neither answered nor refused for up to 10 minutes"),
    "read.trimmed": Kind("read", 0.02, "retention takes records that the reader is about to read"),
    # -- the stream: why it does not serve a request --------------------------------------------------------------------
    "refused.throttled": Kind("refused", 0.05, "the service asks for a pause, by any of its codes"),
    "refused.server_error": Kind("refused", 0.02, "the service fails: 500, 502 or 503"),
    "refused.validation": Kind("refused", 0.0002, "the service calls the request malformed"),
    "refused.access_denied": Kind("refused", 0.005, "the service denies access"),
    "refused.token_expired": Kind("refused", 0.005, "the session token has expired"),
    "refused.key": Kind("refused", 0.005, "the key that encrypts the stream cannot be used"),
    "outage.all": Kind("outage", 0.002, "the service fails for everybody, for up to 60 s"),
    "answer.corrupt": Kind("answer", 0.01, "an answer is cut off, or is no UTF-8"),
    # -- the store ------------------------------------------------------------------------------------------------------
    "store.throttled": Kind("store", 0.02, "the store asks for a pause"),
    "store.read_only": Kind("store", 0.003, "the store takes no writes for up to 60 s"),
    "store.stale_scan": Kind("store", 0.3, "rows are listed as they were up to 5 s ago, each at a time of its own"),
    "store.part_of_letters": Kind("store", 0.3, "of several letters only the first are stored, and nobody says which"),
    "store.rolled_back": Kind("failover", 0.003, "a fail-over loses the last 1 to 20 acknowledged writes"),
    "store.row_deleted": Kind("row", 0.001, "a row is deleted by hand, or by its time to live"),
    "store.row_edited": Kind("row", 0.001, "the owner of a lease is taken away by hand"),
    "store.counter_restarted": Kind(
        "row", 0.001, "a row is deleted and made again by hand, its version at the beginning"
    ),
    # -- inside of a worker, at the points of `streamflow.failpoints` -----------------------------------------------------
    "worker.dawdles": Kind("point", 0.5, "a worker takes up to 3 s between an effect and its record"),
    # -- handlers and destinations --------------------------------------------------------------------------------------
    "sink.slow": Kind("delay", 0.8, "the handler takes up to 20 s"),
    "sink.hangs": Kind("sink", 0.05, "the handler takes 1 to 10 minutes, and fails"),
    "sink.fails_before": Kind("sink", 0.3, "the handler fails, and nothing is written"),
    "sink.fails_after": Kind("sink", 0.2, "the handler fails, and everything is written"),
    "sink.fails_from": Kind("sink", 0.2, "the handler fails from a record on: what is before it is written"),
    "sink.fails_some": Kind("sink", 0.2, "the handler fails for some records, and tells which"),
    "sink.refuses": Kind("sink", 0.1, "the target will never take one of the records"),
    "sink.busy": Kind("sink", 0.1, "the target asks for a pause"),
    "sink.nonsense": Kind("sink", 0.1, "what the handler raises or returns means nothing"),
    "sink.seen_newer": Kind("fence", 0.1, "the target has seen an owner of which the store has lost every trace"),
    "sink.goes_on": Kind("cancelled", 1.0, "a handler that is cancelled is at work for up to two minutes more"),
    "sink.poison": Kind("item", 0.5, "the handler fails for each batch with this item"),
    "destination.fails_before": Kind("destination", 0.5, "a destination fails, and takes nothing"),
    "destination.fails_after": Kind("destination", 0.3, "a destination fails, and has taken the batch"),
    "destination.hangs": Kind("destination", 0.05, "a destination takes 1 to 10 minutes, and fails"),
    "destination.nonsense": Kind("destination", 0.05, "a destination raises an error that is none of its contract"),
}

_SITES = {
    site: [name for name, kind in KINDS.items() if kind.site == site] for site in {kind.site for kind in KINDS.values()}
}
assert max(map(len, _SITES.values())) <= NUMBERS, "a site has more kinds than a draw has numbers"


class Faults:
    """The faults of one run. `without` are kinds, or whole sites, that the run is to do without: to shrink a failure.

    `rates` are the only kinds there are, with their probabilities, where they are not to be drawn.
    """

    def __init__(
        self, draws: Draws, *, without: Collection[str] = (), rates: Mapping[str, float] | None = None
    ) -> None:
        self.quiet = False
        """Nothing strikes any more: the run is to converge now."""
        self.injected: Counter[str] = Counter()
        """How often each kind has struck."""
        self._draws = draws
        self.rates: dict[str, float] = {
            name: _rate(draws, name, kind) if rates is None else rates.get(name, 0.0)
            for name, kind in KINDS.items()
            if name not in without and kind.site not in without
        }
        """Kind to the probability with which it strikes; 0 and absent are the same."""

    def strikes(self, kind: str, *address: Address) -> bool:
        """Whether a kind strikes at this address; counted if it does. An address is to be asked once.

        Raises:
            KeyError: there is no such kind.
        """
        rate = self.rates.get(kind, 0.0)
        if rate <= 0.0:
            KINDS[kind]  # a misspelt kind would never strike
            return False
        if self.quiet or self._draws.uniform(kind, *address) >= rate:
            return False
        self.injected[kind] += 1
        return True

    def at(self, site: str, *address: Address) -> str | None:
        """The kind that strikes at one call of a site, if any: for sites that every call passes, for one draw.

        Of several that would strike the first in `KINDS` does. Raises `KeyError` for a site without kinds.
        """
        kinds, rates = _SITES[site], self.rates
        if self.quiet or not any(map(rates.get, kinds)):
            return None
        # Each kind looks at a number of its own, whichever others there are.
        for kind, drawn in zip(kinds, self._draws.uniforms(site, *address), strict=False):
            if drawn < rates.get(kind, 0.0):
                self.injected[kind] += 1
                return kind
        return None

    def rng(self, kind: str, *address: Address) -> Random:
        """For how hard it strikes: how long, how many."""
        return self._draws.rng("how", kind, *address)


def _rate(draws: Draws, name: str, kind: Kind) -> float:
    """Small rates are as likely as great ones: two draws multiplied lean to the small."""
    none, first, second, *_ = draws.uniforms("rate", name)
    return 0.0 if none < NONE_OF_A_KIND else kind.rate_max * first * second
