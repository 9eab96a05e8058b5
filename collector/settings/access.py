"""Who may connect and what they may do there, as it is written in the settings."""

from ipaddress import ip_network
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from collector.settings.section import Section
from proxy.policy import ANONYMOUS, RuleText, build_policy, check_roles
from proxy.policy import Policy as BuiltPolicy

Names = tuple[str, ...]


class AuthSettings(Section):
    """Who may connect."""

    mode: Literal["loopback", "none", "clients"] = "loopback"
    """`loopback`: only programs on this machine. `none`: anyone who reaches the port. `clients`: clients with
    a token (`sidespan token create`), a JSON Web Token (`oidc`) or an auth proxy in front
    (`trusted_header`)."""
    tokens_file: Path | None = None
    """File with the hashes of the tokens; by default `tokens.json` in the data folder."""


class OidcSettings(Section):
    """Sign-in with the JSON Web Tokens of an OpenID provider; needs `auth.mode = "clients"`."""

    issuer: str | None = None
    """The provider's issuer, as in its tokens. If set, the provider's tokens are accepted."""
    audience: str | None = None
    """Audience that a token's `aud` must contain."""
    jwks_url: str | None = None
    """Address of its keys; by default from the issuer's discovery document."""
    client_claim: str = "sub"
    """The claim that names the client."""
    roles_claim: str = "groups"
    """The claim that gives roles: a list, or a text of words."""
    roles: dict[str, Names] = Field(default_factory=dict)
    """Maps a value of that claim to roles. Without a match the client has its roles in `policy.clients`."""
    leeway_seconds: float = Field(30.0, ge=0)
    """How far the clocks may differ."""

    @model_validator(mode="after")
    def _is_whole(self) -> "OidcSettings":
        if bool(self.issuer) != bool(self.audience):
            raise ValueError("issuer and audience must be set together: tokens for others are not accepted")
        for url in (self.issuer, self.jwks_url):
            if url is not None and not url.startswith(("https://", "http://127.0.0.1", "http://localhost")):
                raise ValueError(f"{url!r} must begin with https://")
        return self


class TrustedHeaderSettings(Section):
    """Sign-in by an auth proxy in front of us; needs `auth.mode = "clients"`."""

    name: str | None = None
    """The header that names the client, such as `X-Forwarded-User`. It is trusted from `addresses`."""
    addresses: Names = ()
    """Addresses or networks of the auth proxy (`10.0.0.5`, `10.1.0.0/16`); from others it is ignored."""
    roles_name: str | None = None
    """The header with the client's groups, separated by commas."""
    roles: dict[str, Names] = Field(default_factory=dict)
    """Maps a group to roles. Without a match the client has its roles in `policy.clients`."""

    @field_validator("addresses")
    @classmethod
    def _are_networks(cls, value: Names) -> Names:
        for address in value:
            ip_network(address)
        return value

    @model_validator(mode="after")
    def _is_whole(self) -> "TrustedHeaderSettings":
        if bool(self.name) != bool(self.addresses):
            raise ValueError("name and addresses must be set together: only the auth proxy may name a client")
        return self


class RuleSettings(Section):
    """One rule of a role: one of `preset`, `allow` and `deny`."""

    preset: str | None = None
    """`open-trusted`, `open`, `standard`, `read-only`, `no-delete` or `ingest-only`."""
    allow: Names = ()
    """Patterns `resource:action`, as `traces:read`, `runs:*`, `*:read`; an action is `read`, `write`,
    `delete`, `admin` or `spend` (MLflow's host calls a model)."""
    deny: Names = ()
    """The same, denied; deny wins."""
    experiments: Names | None = None
    """Where it holds: ids (digits), names, globs on names (`team-a/*`). Without it everywhere."""


class PolicySettings(Section):
    """Who may do what."""

    mode: Literal["enforce", "observe"] = "enforce"
    """With `observe`, requests that would be denied pass and are logged, if the preset `open` allows them."""
    roles: dict[str, tuple[RuleSettings, ...]] = Field(default_factory=dict)
    """Roles, each a list of rules. Every preset is a role of its own name."""
    clients: dict[str, Names] = Field(default_factory=dict)
    """Maps clients to roles. `anonymous` is a client without credentials; unless `auth.mode = "clients"`,
    that is every client, by default with the role `standard`."""
    default_roles: Names = ()
    """Roles of authenticated clients that are not in `clients`."""
    artifact_roots: Names = ()
    """Storage other than MLflow's own that experiments and model versions may use, such as
    `s3://bucket/mlflow`."""

    def build(self, auth: AuthSettings) -> BuiltPolicy:
        """The policy itself. Raises BadPolicy."""
        clients = dict(self.clients)
        if auth.mode != "clients":
            clients.setdefault(ANONYMOUS, ("standard",))
        return build_policy(
            roles={
                name: [RuleText(**rule.model_dump()) for rule in rules] for name, rules in self.roles.items()
            },
            clients=clients,
            default_roles=self.default_roles,
            mode=self.mode,
            artifact_roots=self.artifact_roots,
        )


def check_access(
    auth: AuthSettings, oidc: OidcSettings, header: TrustedHeaderSettings, policy: PolicySettings
) -> None:
    """Raises ValueError for what can't be right together, or would do nothing."""
    built = policy.build(auth)
    for place, groups in (("oidc.roles", oidc.roles), ("trusted_header.roles", header.roles)):
        for group, names in groups.items():
            check_roles(names, built.roles, f"{place}.{group}")
    if auth.mode == "clients":
        return
    given = [
        name
        for name, there in (
            ("oidc.issuer", oidc.issuer),
            ("trusted_header.name", header.name),
            ("auth.tokens_file", auth.tokens_file),
            ("policy.default_roles", policy.default_roles),
            ("policy.clients", set(policy.clients) - {ANONYMOUS}),
        )
        if there
    ]
    if given:
        raise ValueError(
            f'{" and ".join(given)} has no effect while auth.mode = "{auth.mode}", '
            'because clients are not authenticated: set auth.mode = "clients"'
        )
