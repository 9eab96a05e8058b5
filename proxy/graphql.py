"""What a GraphQL request asks MLflow for: its root fields, with their ids. Pure.

MLflow's schema has seven fields with data, each the twin of an endpoint; a field that isn't among them is
refused. Bounds on size, depth and number of fields come before MLflow's own.
Source: https://github.com/mlflow/mlflow/blob/master/mlflow/server/graphql/graphql_schema_extensions.py
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
    parse,
    value_from_ast_untyped,
)

from proxy.catalog import Action, Operation
from proxy.errors import bad_request
from proxy.locations import ObjectKind, Reach, find

MAX_DOCUMENT_CHARACTERS = 64 * 1024
MAX_TOKENS = 4000
MAX_DEPTH = 12
MAX_ROOT_FIELDS = 10
MAX_FIELDS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class RootField:
    """One root field: what it does, and the ids in its input."""

    operation: Operation
    ids: tuple[tuple[ObjectKind, str], ...]


def _operation(field: str, resource: str, reach: Reach) -> Operation:
    return Operation(
        resource=resource, action=Action.READ, route="/graphql", row=f"graphql {field}", reach=reach
    )


_RUN = ((("run_id",), ObjectKind.RUN), (("run_uuid",), ObjectKind.RUN))
_EXPERIMENTS = ((("experiment_ids[]",), ObjectKind.EXPERIMENT),)
# field -> resource, where its ids are
FIELDS: Mapping[str, tuple[str, tuple[tuple[tuple[str, ...], ObjectKind], ...]]] = {
    "mlflowGetExperiment": ("experiments", ((("experiment_id",), ObjectKind.EXPERIMENT),)),
    "mlflowGetRun": ("runs", _RUN),
    "mlflowListArtifacts": ("artifacts", _RUN),
    "mlflowGetMetricHistoryBulkInterval": ("runs", ((("run_ids[]",), ObjectKind.RUN),)),
    "mlflowSearchRuns": ("runs", _EXPERIMENTS),
    "mlflowSearchDatasets": ("runs", _EXPERIMENTS),
    "mlflowSearchModelVersions": ("model-versions", ()),
}
HARMLESS = frozenset({"test", "testMutation", "__typename", "__schema", "__type"})


def read_graphql(document: Mapping[str, Any]) -> list[RootField]:
    """The root fields of {"query", "variables", "operationName"}.

    Raises Refusal (400): not GraphQL, too large, more than one operation, a field that isn't known.
    """
    text, variables = document.get("query"), document.get("variables") or {}
    if not isinstance(text, str) or not isinstance(variables, dict):
        raise bad_request("a GraphQL request needs `query`, a text, and `variables`, an object")
    if len(text) > MAX_DOCUMENT_CHARACTERS:
        raise bad_request(f"the GraphQL document is over {MAX_DOCUMENT_CHARACTERS} characters")
    try:
        parsed = parse(text, no_location=True, max_tokens=MAX_TOKENS)
    except (GraphQLError, RecursionError) as error:
        raise bad_request(f"the GraphQL document can't be read: {str(error)[:200]}") from None
    fragments = {d.name.value: d for d in parsed.definitions if isinstance(d, FragmentDefinitionNode)}
    operations = [d for d in parsed.definitions if isinstance(d, OperationDefinitionNode)]
    if len(operations) != 1 or len(operations) + len(fragments) != len(parsed.definitions):
        raise bad_request("a GraphQL document must have exactly one operation, and may have fragments")
    _check_size(operations[0].selection_set, fragments)
    defaults = {
        definition.variable.name.value: value_from_ast_untyped(definition.default_value)
        for definition in operations[0].variable_definitions or ()
        if definition.default_value is not None
    }
    roots = list(_fields(operations[0].selection_set, fragments, depth=0))
    if len(roots) > MAX_ROOT_FIELDS:
        raise bad_request(f"over {MAX_ROOT_FIELDS} fields in one GraphQL request")
    return [asked for field in roots if (asked := _asked(field, defaults | variables))]


def _asked(field: FieldNode, variables: dict[str, Any]) -> RootField | None:
    name = field.name.value
    if name in HARMLESS:
        return None
    if name not in FIELDS:
        raise bad_request(f"the GraphQL field {name[:80]!r} is unknown to this version of Sidespan")
    resource, places = FIELDS[name]
    given = {a.name.value: value_from_ast_untyped(a.value, variables) for a in field.arguments or ()}
    source = given.get("input") or {}
    ids = tuple((kind, id) for keys, kind in places for id in find(source, keys))
    return RootField(operation=_operation(name, resource, Reach(server=not places)), ids=ids)


def _fields(
    selected: SelectionSetNode, fragments: Mapping[str, FragmentDefinitionNode], *, depth: int
) -> Iterator[FieldNode]:
    """The fields of a selection, those of its fragments included."""
    if depth > MAX_DEPTH:
        raise bad_request(f"the GraphQL document is nested over {MAX_DEPTH} deep")
    for node in selected.selections:
        if isinstance(node, FieldNode):
            yield node
        elif isinstance(node, InlineFragmentNode):
            yield from _fields(node.selection_set, fragments, depth=depth + 1)
        elif isinstance(node, FragmentSpreadNode):
            fragment = fragments.get(node.name.value)
            if fragment is None:
                raise bad_request(f"the GraphQL fragment {node.name.value[:80]!r} is not defined")
            yield from _fields(fragment.selection_set, fragments, depth=depth + 1)


def _check_size(selected: SelectionSetNode, fragments: Mapping[str, FragmentDefinitionNode]) -> None:
    """Raises Refusal (400) for a document that unfolds to too many fields or too deep."""
    count = 0
    waiting = [(selected, 1)]
    while waiting:
        current, depth = waiting.pop()
        for field in _fields(current, fragments, depth=0):
            count += 1
            if count > MAX_FIELDS or depth > MAX_DEPTH:
                raise bad_request(f"over {MAX_FIELDS} fields or {MAX_DEPTH} levels in a GraphQL request")
            if field.selection_set is not None:
                waiting.append((field.selection_set, depth + 1))
