"""Our processes load none of pydantic's plugins; a program that `sidespan run` starts keeps its own."""

import os
import subprocess
import sys

import pytest

SWITCH = "PYDANTIC_DISABLE_PLUGINS"
PRINT_IT = ("sh", "-c", f'echo "${{{SWITCH}-not set}}"')


def sidespan(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name != SWITCH}
    return subprocess.run(
        [sys.executable, *arguments], env=clean | environment, capture_output=True, text=True, check=True
    )


def test_the_service_loads_without_logfire() -> None:
    switching = "from collector.cli.plugins import disable_plugins; disable_plugins()"
    asking = "import sys; print('pydantic' in sys.modules, 'logfire' in sys.modules)"
    done = sidespan("-c", f"{switching}; import collector.service.app; {asking}")
    assert done.stdout.split() == ["True", "False"]


@pytest.mark.parametrize(
    ("set_by_user", "seen"),
    [({}, "not set"), ({SWITCH: "__all__"}, "__all__"), ({SWITCH: "some-plugin"}, "some-plugin")],
    ids=["nothing", "all_of_them", "one"],
)
def test_a_program_that_is_run_has_the_plugins_that_its_user_wants(
    set_by_user: dict[str, str], seen: str
) -> None:
    done = sidespan("-m", "collector", "run", "--", *PRINT_IT, **set_by_user)
    assert done.stdout.strip() == seen
