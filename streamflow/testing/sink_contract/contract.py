"""All scenarios in one class."""

from __future__ import annotations

from streamflow.testing.sink_contract.concurrency import ConcurrencyScenarios
from streamflow.testing.sink_contract.declaration import DeclarationScenarios
from streamflow.testing.sink_contract.failures import FailureScenarios
from streamflow.testing.sink_contract.lifecycle import LifecycleScenarios
from streamflow.testing.sink_contract.order import OrderScenarios
from streamflow.testing.sink_contract.outages import OutageScenarios
from streamflow.testing.sink_contract.pipelines import PipelineScenarios
from streamflow.testing.sink_contract.repetition import RepetitionScenarios
from streamflow.testing.sink_contract.transactions import TransactionScenarios
from streamflow.testing.sink_contract.writing import WritingScenarios


class SinkContract(
    DeclarationScenarios,
    LifecycleScenarios,
    WritingScenarios,
    OrderScenarios,
    RepetitionScenarios,
    FailureScenarios,
    ConcurrencyScenarios,
    OutageScenarios,
    PipelineScenarios,
    TransactionScenarios,
):
    """Inherit, and give a fixture `sink`, `kind` and `read_back`: see `SinkHooks` for those and for the hooks."""
