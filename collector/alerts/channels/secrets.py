"""Addresses, keys and passwords of channels, from files and from the environment. Read once, at the start."""

from collections.abc import Mapping
from pathlib import Path

from collector.model.errors import WrongSetting


def read_secret(
    key: str, *, file: Path | None, variable: str | None, environment: Mapping[str, str]
) -> str | None:
    """The one line in a file or a variable; None if neither is named. `key` is where the settings name it.

    Raises WrongSetting, which never has the secret itself.
    """
    if variable is not None:
        text = environment.get(variable, "").strip()
        if not text or "\n" in text:
            raise WrongSetting(
                f"{key}_env", variable, "the environment variable must hold the secret, one line"
            )
        return text
    if file is None:
        return None
    try:
        text = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise WrongSetting(f"{key}_file", str(file), f"can't be read: {error}") from error
    if not text or "\n" in text:
        raise WrongSetting(f"{key}_file", str(file), "must hold one line with the secret")
    return text
