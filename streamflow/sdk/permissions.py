"""What a plugin calls at AWS, and on what: the lines of a policy that lets it do that and nothing else."""

from __future__ import annotations

import re
from dataclasses import dataclass

_ACTION = re.compile(r"[a-z0-9-]+:[A-Za-z0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Permission:
    """Actions of IAM on resources. `purpose` says in a few words what for: `write messages to orders`.

    Resources are ARNs; `{partition}`, `{region}` and `{account}` in them stand for those where the plugin runs. An action
    that knows no resources has `*`.

    Raises:
        ValueError: an action is none, or has a wildcard; a resource is no ARN.
    """

    purpose: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]

    def __post_init__(self) -> None:
        wrong = [action for action in self.actions if not _ACTION.fullmatch(action)]
        wrong += [each for each in self.resources if each != "*" and not each.startswith("arn:")]
        if wrong or not self.actions or not self.resources:
            raise ValueError(f"no permission: {', '.join(wrong) or 'it has no actions or no resources'}")


def resource_arn(service: str, prefix: str, name: str) -> str:
    """The ARN of something in the region and account where the plugin runs; `name` may be its ARN already."""
    return name if name.startswith("arn:") else f"arn:{{partition}}:{service}:{{region}}:{{account}}:{prefix}{name}"


def placed(resource: str, *, partition: str, region: str, account: str) -> str:
    """The resource with its places filled."""
    values = {"{partition}": partition, "{region}": region, "{account}": account}
    for place, value in values.items():
        resource = resource.replace(place, value)
    return resource


def nothing_at_aws(_: object) -> tuple[Permission, ...]:
    """The permissions of a sink that calls nothing there."""
    return ()
