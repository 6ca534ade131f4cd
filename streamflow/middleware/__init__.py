"""The chain and the layers that come with it; each layer is a page of its own.

Layers are imported here and not on first use: a layer and its module have the same name, and whoever imports a module
first puts it into the package under that name; the imports below put the layer there for good.
"""

from streamflow.middleware.concurrency_limit import concurrency_limit
from streamflow.middleware.dedupe import dedupe
from streamflow.middleware.drop import drop
from streamflow.middleware.log_batches import log_batches
from streamflow.middleware.timeout import timeout

__all__ = ["concurrency_limit", "dedupe", "drop", "log_batches", "timeout"]
