"""The parts that an app names, opened: sources, handlers, destinations, and the AWS sessions that they share."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from streamflow import events
from streamflow.clock import SystemClock
from streamflow.delivery_options import DEAD_LETTERS, DROP
from streamflow.destinations.invocation_record import MappingIdentity
from streamflow.destinations.letters import LettersDestination
from streamflow.engine.flow import Flow, Surroundings
from streamflow.handlers.adapt import open_handler
from streamflow.handlers.context import Context
from streamflow.handlers.fitting import check_view, fitted
from streamflow.handlers.lambda_function import function_arn
from streamflow.middleware.chain import compose
from streamflow.pipeline import App, AwsOptions, DynamoDBStream, FanOut, LambdaFunction, Pipeline
from streamflow.rules.filters import compile_filters
from streamflow.sdk.declarations import DestinationDeclaration
from streamflow.sources.shared import SharedSource

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AsyncExitStack

    from streamflow.aws.session import Aws
    from streamflow.events import Event
    from streamflow.handlers.adapt import OpenHandler
    from streamflow.protocols import Destination, Source, StreamInfo
    from streamflow.sdk.settings import AwsSettings


class Opening:
    """Opens parts of `app`, and closes them in reverse when `stack` ends. `emit` hears what sinks have to tell."""

    def __init__(self, app: App, stack: AsyncExitStack, emit: Callable[[Event], None]) -> None:
        self._app = app
        self._stack = stack
        self._emit = emit
        self._sessions: dict[AwsOptions, Aws] = {}

    async def flows(self, around: Surroundings) -> list[Flow]:
        """Every pipeline, and of one that fans out every branch.

        Raises:
            ConfigError: a part of the declaration cannot be opened.
            SourceError: a stream cannot be reached.
        """
        flows: list[Flow] = []
        for pipeline in self._app.pipelines:
            source = await self._source(pipeline)
            opened = [await self._flow(flow, source, around) for flow in pipeline.flows]
            for branch in opened[1:]:
                branch.company = opened[0].name
            flows += opened
        return flows

    async def handler(self, pipeline: Pipeline, stack: AsyncExitStack | None = None) -> OpenHandler:
        """The pipeline's handler; it is closed with `stack`, by default with all the rest."""
        opened = open_handler(pipeline.handler, pipeline=pipeline.name, context=self._context(pipeline))
        return await (stack or self._stack).enter_async_context(opened)

    async def _flow(self, pipeline: Pipeline, source: Source, around: Surroundings) -> Flow:
        pipeline = fitted(pipeline)
        info = await source.describe()
        check_view(pipeline, info)
        handler = await self.handler(pipeline)
        return Flow(
            name=pipeline.name,
            options=pipeline,
            source=source,
            info=info,
            chain=compose(pipeline.middleware, handler.call),
            fence=handler.fence,
            around=around,
            accepts=compile_filters(pipeline.filters, extensions=pipeline.filter_extensions),
            destinations=[
                await self._destination(target, pipeline, info, around)
                for target in pipeline.on_failure
                if target != DROP
            ],
            event_bytes_max=pipeline.batch_bytes_max if isinstance(pipeline.handler, LambdaFunction) else None,
        )

    def _context(self, pipeline: Pipeline) -> Context:
        """What a sink of the pipeline is given: by default it reaches AWS as the pipeline reaches its stream."""

        async def open_session(settings: AwsSettings | None) -> Aws:
            return await self._aws(pipeline) if settings is None else await self._session(AwsOptions(**dict(settings)))

        def suppressed(records: int) -> None:
            self._emit(events.RecordsSuppressed(pipeline=pipeline.name, records=records))

        return Context(pipeline=pipeline.name, clock=SystemClock(), aws=open_session, suppressed=suppressed)

    async def _destination(
        self,
        target: str | Destination | DestinationDeclaration,
        pipeline: Pipeline,
        info: StreamInfo,
        around: Surroundings,
    ) -> Destination:
        if isinstance(target, DestinationDeclaration):
            return await self._stack.enter_async_context(target.open(self._context(pipeline)))
        if not isinstance(target, str):
            return target
        if target == DEAD_LETTERS:
            return LettersDestination(around.store)
        from streamflow.destinations.aws import open_destination

        # Like polling, this is done under the execution role.
        aws = await self._aws(pipeline)
        return await self._stack.enter_async_context(
            open_destination(target, aws=aws, identity=_identity(pipeline, info))
        )

    async def _source(self, pipeline: Pipeline) -> Source:
        """The pipeline's source, shared where several flows read it."""
        source: Source = pipeline.source
        if isinstance(pipeline.source, DynamoDBStream):
            from streamflow.sources.dynamodb import open_dynamodb_stream

            aws = await self._aws(pipeline)
            source = await self._stack.enter_async_context(
                open_dynamodb_stream(aws, pipeline.source, numbers=pipeline.numbers)
            )
        if isinstance(pipeline.handler, FanOut):
            return SharedSource(source, log_bytes_max=pipeline.buffer_bytes_max)
        return source

    async def _aws(self, pipeline: Pipeline) -> Aws:
        return await self._session(getattr(pipeline.source, "aws", None) or self._app.aws)

    async def _session(self, options: AwsOptions) -> Aws:
        """One session for each way to reach AWS, opened when the first part needs it."""
        from streamflow.aws.session import open_aws

        if options not in self._sessions:
            self._sessions[options] = await self._stack.enter_async_context(open_aws(options))
        return self._sessions[options]


def _identity(pipeline: Pipeline, info: StreamInfo) -> MappingIdentity:
    """What Lambda would call this mapping and its function; without a Lambda function, one named after the pipeline."""
    name = pipeline.name
    if isinstance(pipeline.handler, LambdaFunction):
        name = pipeline.handler.function_name or pipeline.handler.target.rpartition(":")[2]
    return MappingIdentity(
        uuid=pipeline.uuid or str(uuid.uuid5(uuid.NAMESPACE_URL, f"{info.stream_arn}#{pipeline.name}")),
        function_arn=function_arn(info.stream_arn, name),
    )
