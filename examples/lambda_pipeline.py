"""An unchanged Lambda function behind a table's stream: `streamflow run examples/lambda_pipeline.py:app`."""

from __future__ import annotations

import asyncio

import streamflow

app = streamflow.App(
    pipelines=(
        streamflow.Pipeline(
            name="orders-function",
            source=streamflow.DynamoDBStream(table="orders"),
            handler=streamflow.LambdaFunction(
                target="lambda_function:handler", timeout_s=30.0, report_batch_item_failures=True
            ),
            batch_size=100,
            starting_position="TRIM_HORIZON",
        ),
    ),
    store="sqlite:///orders-function.db",
)

if __name__ == "__main__":
    asyncio.run(streamflow.run(app))
