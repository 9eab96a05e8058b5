"""May this client do this, in this experiment? Pure.

    client -> roles -> rules;  a rule allows or denies `resource:action`, everywhere or in some experiments

Deny wins; where no rule matches, the answer is no. A rule with experiments says nothing about what belongs
to the whole server. Every decision names the rule it comes from.

`spend` was part of `write` or `admin` in version 0.1 (BEFORE_SPEND). A rule of that time that denies the one
still denies the other; one that allowed just that must say what is meant now.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Literal

from proxy.catalog import Action, Operation
from proxy.presets import PRESET_ROWS, PRESETS, RESOURCES
from proxy.reading import CANONICAL_ID

ANONYMOUS = "anonymous"
NO_RULE = "no rule allows it"

EVERYTHING = frozenset((resource, action) for resource in RESOURCES for action in Action)

Mode = Literal["enforce", "observe"]

# what the operations that spend were called in version 0.1
BEFORE_SPEND: Mapping[str, Action] = {
    "assistant": Action.ADMIN,
    "gateway.invoke": Action.WRITE,
    "gateway.legacy-proxy": Action.ADMIN,
    "jobs": Action.ADMIN,
    "prompt-optimization": Action.WRITE,
    "scorers": Action.WRITE,
}
# of these that is what the word is for; `scorers:write` is about registering scorers too
_MUST_SAY = frozenset(BEFORE_SPEND) - {"scorers"}

# what reads and writes at once is `write` in the catalog; who is denied the reading is denied it too
_READS_AS_WELL: Mapping[str, str] = {"label-schemas": "GET /3.0/mlflow/label-schemas/list"}


class BadPolicy(ValueError):
    """A policy that can't be right; the message names the place, the value and what is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyExperiment:
    """An experiment as rules see it. `name` None: nobody had to ask MLflow for it."""

    id: str
    name: str | None = None


@dataclass(frozen=True, slots=True)
class ExperimentPatterns:
    """Which experiments a rule is about: ids (digits only), names, `*` for any text in a name."""

    patterns: tuple[str, ...]

    @property
    def ids(self) -> frozenset[str]:
        return frozenset(pattern for pattern in self.patterns if CANONICAL_ID.match(pattern))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(pattern for pattern in self.patterns if not CANONICAL_ID.match(pattern))

    def match(self, experiment: PolicyExperiment) -> bool:
        """Whether it is one of these; by id alone if no name is known."""
        return experiment.id in self.ids or (experiment.name is not None and self.match_name(experiment.name))

    def match_name(self, name: str) -> bool:
        """Whether an experiment of this name, whatever its id, is one of these."""
        return any(
            fnmatchcase(name, pattern.replace("[", "[[]").replace("?", "[?]")) for pattern in self.names
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What is allowed or denied, and where. `grants` are (resource, action), `rows` rows of the catalog."""

    name: str
    allow: bool
    grants: frozenset[tuple[str, Action]]
    rows: frozenset[str] = frozenset()
    experiments: ExperimentPatterns | None = None

    def covers(self, operation: Operation) -> bool:
        """Whether it speaks of this operation at all."""
        return (operation.resource, operation.action) in self.grants or operation.row in self.rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Whether an operation passes, and the rule that says so."""

    allow: bool
    rule: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Who asks. `source` says how that is known: token, oidc, header, or nothing."""

    name: str
    roles: tuple[str, ...]
    source: str = "none"


@dataclass(frozen=True, slots=True)
class Rights:
    """The rules of all roles of one client."""

    rules: tuple[Rule, ...]
    # nothing is denied and everything that the catalog knows is allowed, in every experiment
    unlimited: bool = False

    def everywhere(self, operation: Operation) -> Decision | None:
        """The decision if it is the same for each experiment and for the whole server; None: it depends."""
        rules = [rule for rule in self.rules if rule.covers(operation)]
        denying = next((rule for rule in rules if not rule.allow and rule.experiments is None), None)
        if denying is not None:
            return Decision(allow=False, rule=denying.name)
        if not any(rule.allow for rule in rules):
            return Decision(allow=False, rule=NO_RULE)
        everywhere = next((rule for rule in rules if rule.allow and rule.experiments is None), None)
        if everywhere is not None and all(rule.allow for rule in rules):
            return Decision(allow=True, rule=everywhere.name)
        if operation.reach.free or operation.reach.server:
            return self.on_server(operation)
        return None

    def on_server(self, operation: Operation) -> Decision:
        """The decision on what is of no experiment. What is harmless, any rule allows."""
        for rule in self.rules:
            if not rule.covers(operation):
                continue
            if rule.allow and (rule.experiments is None or operation.reach.free):
                return Decision(allow=True, rule=rule.name)
        return Decision(allow=False, rule=NO_RULE)

    def within(self, operation: Operation, experiment: PolicyExperiment) -> Decision:
        """The decision on an operation in one experiment."""
        allowed: Rule | None = None
        for rule in self.rules:
            if not rule.covers(operation):
                continue
            if rule.experiments is not None and not rule.experiments.match(experiment):
                continue
            if not rule.allow:
                return Decision(allow=False, rule=rule.name)
            allowed = allowed or rule
        return Decision(allow=allowed is not None, rule=NO_RULE if allowed is None else allowed.name)

    def named(self, operation: Operation, name: str) -> Decision:
        """The decision for an experiment that has this name, or is to get it."""
        return self.within(operation, PolicyExperiment(id="", name=name))

    def by_name_only(self, operation: Operation) -> bool:
        """Whether a name that is allowed is allowed whatever id it has: no rule denies an id."""
        return all(
            not rule.experiments.ids
            for rule in self.rules
            if not rule.allow and rule.experiments is not None and rule.covers(operation)
        )

    def by_id_only(self, operation: Operation) -> bool:
        """Whether no rule on this operation needs an experiment's name."""
        return all(
            not rule.experiments.names
            for rule in self.rules
            if rule.experiments is not None and rule.covers(operation)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Roles, and who has which."""

    roles: Mapping[str, tuple[Rule, ...]]
    clients: Mapping[str, tuple[str, ...]]
    default_roles: tuple[str, ...] = ()
    mode: Mode = "enforce"
    # storage that sources and locations may name beside MLflow's own, as `s3://bucket/mlflow`
    artifact_roots: tuple[str, ...] = ()

    def roles_of(self, name: str) -> tuple[str, ...]:
        """The roles that the policy gives to a client."""
        return self.clients.get(name, () if name == ANONYMOUS else self.default_roles)

    def rights(self, client: Client) -> Rights:
        """What a client may do. A role that the policy doesn't have gives nothing."""
        return _rights(tuple(self.roles.get(role, ()) for role in client.roles))


@lru_cache(maxsize=1024)
def _rights(roles: tuple[tuple[Rule, ...], ...]) -> Rights:
    rules = tuple(rule for rules in roles for rule in rules)
    return Rights(rules, unlimited=_allow_everything(rules))


def _allow_everything(rules: Sequence[Rule]) -> bool:
    granted = {grant for rule in rules if rule.allow and rule.experiments is None for grant in rule.grants}
    return all(rule.allow for rule in rules) and granted >= EVERYTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleText:
    """A rule as it is written; one of `preset`, `allow` and `deny` is set."""

    preset: str | None = None
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    experiments: tuple[str, ...] | None = None


def build_policy(
    *,
    roles: Mapping[str, Sequence[RuleText]],
    clients: Mapping[str, Sequence[str]],
    default_roles: Sequence[str] = (),
    mode: Mode = "enforce",
    artifact_roots: Sequence[str] = (),
) -> Policy:
    """The policy from its text; each preset is a role of its own name.

    Raises BadPolicy: an unknown resource, action, preset or role, a rule that can never decide anything, and
    one of version 0.1 that allowed what is `spend` now.
    """
    built: dict[str, tuple[Rule, ...]] = {name: (_preset(name, f"preset {name}"),) for name in PRESETS}
    for name, rules in roles.items():
        if name in PRESETS:
            raise BadPolicy(f"policy.roles.{name}: this is the name of a preset; choose another")
        if not rules:
            raise BadPolicy(f"policy.roles.{name}: has no rules; give it some, or remove it")
        read = tuple(_rule(text, f"policy.roles.{name}[{index}]") for index, text in enumerate(rules))
        _check_spending(rules, read, f"policy.roles.{name}")
        _check_reachable(read)
        built[name] = read
    for place, names in [
        *((f"policy.clients.{n}", r) for n, r in clients.items()),
        ("policy.default_roles", default_roles),
    ]:
        check_roles(names, built, place)
    return Policy(
        roles=built,
        clients={name: tuple(names) for name, names in clients.items()},
        default_roles=tuple(default_roles),
        mode=mode,
        artifact_roots=tuple(artifact_roots),
    )


def check_roles(names: Iterable[str], known: Iterable[str], place: str) -> None:
    """Raises BadPolicy for a role that isn't there."""
    for name in names:
        if name not in known:
            raise BadPolicy(f"{place}: unknown role {name!r}; known are {', '.join(sorted(known))}")


def _rule(text: RuleText, place: str) -> Rule:
    given = [name for name in ("preset", "allow", "deny") if getattr(text, name)]
    if len(given) != 1:
        raise BadPolicy(f"{place}: give one of preset, allow and deny, not {' and '.join(given) or 'none'}")
    experiments = _experiments(text.experiments, place)
    if text.preset:
        if text.preset not in PRESETS:
            raise BadPolicy(f"{place}: unknown preset {text.preset!r}; known are {', '.join(PRESETS)}")
        return _preset(text.preset, f"{place} (preset {text.preset})", experiments)
    patterns = text.allow or text.deny
    grants = frozenset(grant for pattern in patterns for grant in _grants(pattern, place))
    if text.allow:
        name = f"{place} (allow {', '.join(patterns)})"
        return Rule(name=name, allow=True, grants=grants, experiments=experiments)
    grants |= {(name, Action.SPEND) for name, before in BEFORE_SPEND.items() if (name, before) in grants}
    rows = frozenset(row for name, row in _READS_AS_WELL.items() if (name, Action.READ) in grants)
    name = f"{place} (deny {', '.join(patterns)})"
    return Rule(name=name, allow=False, grants=grants, rows=rows, experiments=experiments)


def _preset(preset: str, name: str, experiments: ExperimentPatterns | None = None) -> Rule:
    grants = frozenset(
        (resource, action) for resource, actions in PRESETS[preset].items() for action in actions
    )
    rows = PRESET_ROWS.get(preset, frozenset())
    return Rule(name=name, allow=True, grants=grants, rows=rows, experiments=experiments)


def _experiments(patterns: Sequence[str] | None, place: str) -> ExperimentPatterns | None:
    if patterns is None:
        return None
    if not patterns or not all(pattern.strip() for pattern in patterns):
        raise BadPolicy(
            f"{place}: experiments = {list(patterns)!r} is empty or has an empty name, so it never applies; "
            "give ids, names or globs, or leave experiments out for all"
        )
    return ExperimentPatterns(tuple(patterns))


def _grants(pattern: str, place: str) -> set[tuple[str, Action]]:
    resource, colon, action = pattern.partition(":")
    if not colon or action not in ("*", *Action):
        raise BadPolicy(
            f"{place}: {pattern!r} must be resource:action, with an action of {', '.join(Action)} or *"
        )
    resources = {known for known in RESOURCES if fnmatchcase(known, resource.replace("[", "[[]"))}
    if not resources:
        raise BadPolicy(f"{place}: {pattern!r} names no resource; known are {', '.join(sorted(RESOURCES))}")
    actions = frozenset(Action) if action == "*" else frozenset({Action(action)})
    return {(resource, action) for resource in resources for action in actions}


def _check_spending(texts: Sequence[RuleText], rules: Sequence[Rule], place: str) -> None:
    """Raises BadPolicy for a pattern that let spend in version 0.1, in a role that says nothing of it."""
    decided = {resource for rule in rules for resource, action in rule.grants if action is Action.SPEND}
    for index, text in enumerate(texts):
        for pattern in text.allow:
            resource, _, action = pattern.partition(":")
            if action == "*" or resource == "*":
                continue
            granted = {name for name, granted in _grants(pattern, place) if granted is BEFORE_SPEND.get(name)}
            for name in sorted(granted & _MUST_SAY - decided):
                raise BadPolicy(
                    f"{place}[{index}]: {pattern!r} no longer allows calls to models, which need an action "
                    f'of their own: write "{name}:spend" beside it to allow that, or the rule '
                    f'deny = ["{name}:spend"] to leave it out'
                )


def _check_reachable(rules: Sequence[Rule]) -> None:
    """Raises BadPolicy for a rule that others of the same role always decide before it."""
    for index, rule in enumerate(rules):
        for position, other in enumerate(rules):
            if position == index:
                continue
            covers = rule.grants <= other.grants and rule.rows <= other.rows
            everywhere = other.experiments is None
            earlier = position < index
            if not (covers and everywhere):
                continue
            if not other.allow and (rule.allow or earlier):
                raise BadPolicy(
                    f"{rule.name}: can never apply, because {other.name} denies all of it everywhere"
                )
            if other.allow and rule.allow and (earlier or rule.experiments is not None):
                raise BadPolicy(
                    f"{rule.name}: can never apply, because {other.name} allows all of it everywhere"
                )
