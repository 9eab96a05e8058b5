"""The channels of one service, from the settings."""

import ssl
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import assert_never

import aiohttp

from collector.alerts.channels.courier import Sends
from collector.alerts.channels.http import ALERTMANAGER_PATH, Alertmanager, HttpTarget, Slack, Webhook
from collector.alerts.channels.secrets import read_secret
from collector.alerts.channels.smtp import PORTS, Email
from collector.alerts.forms import webhook_key
from collector.model.errors import WrongSetting
from collector.settings.alerts import (
    AlertingSettings,
    AlertmanagerSettings,
    Channel,
    EmailSettings,
    SlackSettings,
    UrlChannelSettings,
    WebhookSettings,
    http_url,
)


def channels_from(
    settings: AlertingSettings, session: aiohttp.ClientSession, environment: Mapping[str, str]
) -> dict[str, Sends]:
    """The channels by name. Raises WrongSetting: a secret or a certificate can't be read."""
    return {
        name: _channel(f"alerting.channels.{name}", channel, settings, session, environment)
        for name, channel in settings.channels.items()
    }


def _channel(
    key: str,
    channel: Channel,
    settings: AlertingSettings,
    session: aiohttp.ClientSession,
    environment: Mapping[str, str],
) -> Sends:
    secret = partial(read_secret, environment=environment)
    if isinstance(channel, EmailSettings):
        password = secret(f"{key}.password", file=channel.password_file, variable=channel.password_env)
        return _email(key, channel, password, settings.timeout_seconds)
    url = channel.url or secret(f"{key}.url", file=channel.url_file, variable=channel.url_env) or ""
    target = HttpTarget(
        session=session,
        url=_address(key, channel, url),
        timeout_seconds=settings.timeout_seconds,
        tls=True if channel.ca_file is None else _tls(key, channel.ca_file),
    )
    match channel:
        case WebhookSettings(secret_file=file, secret_env=variable):
            given = secret(f"{key}.secret", file=file, variable=variable)
            return Webhook(target=target, key=None if given is None else _key(key, given))
        case SlackSettings():
            return Slack(target=target)
        case AlertmanagerSettings(token_file=file, token_env=variable):
            token = secret(f"{key}.token", file=file, variable=variable)
            return Alertmanager(
                target=HttpTarget(
                    session=session,
                    url=target.url.rstrip("/") + ALERTMANAGER_PATH,
                    timeout_seconds=target.timeout_seconds,
                    tls=target.tls,
                    token=token,
                ),
                resend_seconds=channel.resend_seconds,
            )
        case _ as never:
            assert_never(never)


def _email(key: str, channel: EmailSettings, password: str | None, timeout_seconds: float) -> Email:
    return Email(
        host=channel.host,
        port=channel.port or PORTS[channel.security],
        security=channel.security,
        tls=_tls(key, channel.ca_file),
        sender=channel.sender,
        to=channel.to,
        timeout_seconds=timeout_seconds,
        username=channel.username,
        password=password,
    )


def _address(key: str, channel: UrlChannelSettings, url: str) -> str:
    try:
        return http_url(url)
    except ValueError as error:
        place = channel.url_file or channel.url_env
        raise WrongSetting(f"{key}.url", str(place), f"what it holds {error}") from error


def _key(key: str, secret: str) -> bytes:
    try:
        return webhook_key(secret)
    except ValueError as error:
        raise WrongSetting(f"{key}.secret", "…", str(error)) from error


def _tls(key: str, ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except (OSError, ssl.SSLError) as error:
        raise WrongSetting(f"{key}.ca_file", str(ca_file), f"can't be read: {error}") from error
