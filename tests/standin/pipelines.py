"""Where search stages may stand, and in which requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.standin.commands import STAGES, stages_of
from tests.standin.errors import CommandError, unsupported
from tests.standin.management import not_configured

if TYPE_CHECKING:
    from tests.standin.commands import Command
    from tests.standin.profiles import Profile

STAGES_NOT_CONFIGURED = (
    "Using $search and $vectorSearch aggregation stages requires additional configuration. Please connect to Atlas or "
    "an AtlasCLI local deployment to enable. For more information on how to connect, see "
    "https://dochub.mongodb.org/core/atlas-cli-deploy-local-reqs."
)
_SINCE = {"$rankFusion": (8, 0), "$scoreFusion": (8, 2), "$score": (8, 2), "$rerank": (8, 3)}
_NOT_MODELLED = {"$searchMeta", "$score"}
_FUSIONS = ("$rankFusion", "$scoreFusion")
_ASK_THE_SEARCH_PROCESS = {"$search", "$vectorSearch", "$searchMeta"}
_REQUESTS_NOT_MODELLED = ("collation", "hint", "explain")


def contains(pipeline: Any) -> bool:
    """Whether a pipeline has a search stage anywhere."""
    return any(name in STAGES for name in stages_of(pipeline))


def first_stage(pipeline: list[Any]) -> str:
    """The name of the first stage."""
    return next(iter(pipeline[0])) if pipeline and isinstance(pipeline[0], dict) and pipeline[0] else ""


def check_versions(names: list[str], version: tuple[int, int]) -> None:
    """Fail for a stage that this version does not have, or that is not modelled."""
    for name in names:
        if version < _SINCE.get(name, (0, 0)):
            raise CommandError(40324, f"Unrecognized pipeline stage name: '{name}'")
    for name in names:
        if name in _NOT_MODELLED and not (name == "$score" and set(_FUSIONS) & set(names)):
            raise unsupported(name)


def check_positions(pipeline: list[Any], *, within_facet: bool = False) -> None:
    """Fail for a search stage where it must not stand."""
    for number, stage in enumerate(pipeline):
        if not isinstance(stage, dict):
            continue
        for name, spec in stage.items():
            if name in STAGES and within_facet:
                raise CommandError(40600, f"{name} is not allowed to be used within a $facet stage")
            if name in STAGES and number and name != "$rerank":
                code = 10170100 if name in _FUSIONS else 40602
                raise CommandError(code, f"{name} is only valid as the first stage in a pipeline.")
            _check_nested(name, spec)


def _check_nested(name: str, spec: Any) -> None:
    if not isinstance(spec, dict):
        return
    if name == "$facet":
        for branch in spec.values():
            check_positions(branch if isinstance(branch, list) else [], within_facet=True)
    if name == "$lookup" and contains(spec.get("pipeline")):
        raise unsupported("search stages in $lookup")
    if name == "$unionWith" and contains(spec.get("pipeline")):
        if "$listSearchIndexes" in stages_of(spec["pipeline"]):
            raise unsupported("$listSearchIndexes in $unionWith")
        check_positions(spec["pipeline"])


def check_request(command: Command, profile: Profile) -> None:
    """Fail for a request that no search stage may be part of."""
    name = next(stage for stage in command.stages if stage in STAGES)
    if command.body.get("apiStrict"):
        version = command.body.get("apiVersion", "1")
        raise CommandError(323, f"{name} is not allowed with 'apiStrict: true' in API Version {version}")
    if command.in_transaction:
        text = f"Stage not supported inside of a multi-document transaction: {name}"
        raise CommandError(263, f"Operation not permitted in transaction :: caused by :: {text}")
    level = command.body.get("readConcern", {}).get("level", "local")
    if level != "local":
        text = f"Aggregation stage {name} cannot run with a readConcern other than 'local'."
        raise CommandError(72, f"{text} Current readConcern: {level}")
    if profile.search == "unconfigured" and "$listSearchIndexes" in command.stages:
        raise not_configured(profile)
    if profile.search == "unconfigured" and set(command.stages) & _ASK_THE_SEARCH_PROCESS:
        raise CommandError(31082, STAGES_NOT_CONFIGURED)
    for option in _REQUESTS_NOT_MODELLED:
        if command.body.get(option):
            raise unsupported(f"{option} with a search stage")
