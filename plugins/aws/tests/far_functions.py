"""Functions that MiniStack runs."""

from __future__ import annotations

import io
import zipfile

from far_messages import client


class Function:
    """A Python function whose module is `code`, with `handler(event, context)` in it."""

    def __init__(self, endpoint: str, name: str, code: str, **variables: str) -> None:
        self._lambda = client("lambda", endpoint)
        self._name = name
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("function.py", code)
        self._lambda.create_function(
            FunctionName=name,
            Runtime="python3.11",
            Role="arn:aws:iam::000000000000:role/orders",
            Handler="function.handler",
            Code={"ZipFile": archive.getvalue()},
            Environment={"Variables": variables},
        )

    def close(self) -> None:
        self._lambda.delete_function(FunctionName=self._name)
        self._lambda.close()
