"""Variables that Kubernetes makes of a Service's name are no settings, and no typo hides among them."""

import pytest

from collector.model.errors import Misconfigured
from collector.settings import Settings, load
from tests.support.kubernetes import service_links

OTLP = {"otlp-http": ("TCP", 4318)}


@pytest.mark.parametrize(
    "environment",
    [
        service_links("sidespan", ports=OTLP),
        service_links("sidespan", ports={"": ("TCP", 80)}),
        service_links("sidespan", ports={"a": ("UDP", 53), "b-1": ("SCTP", 9), "c": ("TCP", 4318)}),
        service_links("sidespan", address="fd00:10:96::b", ports=OTLP),
        service_links("sidespan-eu-2", ports=OTLP),
        service_links("sidespan-server", ports=OTLP),
        service_links("sidespan-service", ports=OTLP),
        service_links("sidespan-port", ports=OTLP),
        service_links("sidespan-data", ports=OTLP) | service_links("sidespan", ports=OTLP),
    ],
    ids=[
        "named_port",
        "nameless_port",
        "three_protocols",
        "ipv6",
        "name_with_a_tail",
        "name_of_a_section",
        "name_like_a_variable",
        "name_like_the_other_variable",
        "two_services",
    ],
)
def test_what_a_service_makes_is_passed_over(environment: dict[str, str]) -> None:
    assert load(environment=environment) == Settings()
    assert load(environment=environment | {"SIDESPAN_SERVER__PORT": "7"}).server.port == 7


@pytest.mark.parametrize(
    "environment",
    [
        {"SIDESPAN_PORT": "4318"},
        {"SIDESPAN_PORT": "http://10.0.0.1:4318"},
        {"SIDESPAN_PORT": "tcp://10.0.0.1:4318/path"},
        {"SIDESPAN_PORT": "tcp://localhost:4318"},
        {"SIDESPAN_PORT": "tcp://10.0.0.1"},
        {"SIDESPAN_PORT_4318_TCP": "tcp://10.0.0.1:4319"},
        {"SIDESPAN_PORT_4318_UDP": "tcp://10.0.0.1:4318"},
        {"SIDESPAN_PORT_4318_TCP_PORT": "4319"},
        {"SIDESPAN_PORT_4318_TCP_NAME": "tcp"},
        {"SIDESPAN_SERVER_PORT": "4318"},
        {"SIDESPAN_SERVICE_PORT": "4318"},
        {"SIDESPAN_SERVER_HOST": "10.0.0.1"},
        {"SIDESPAN_SERVICE_HOST": "0.0.0.0"},
        {"SIDESPAN_SERVICE_HOST": "example.com"},
        {"SIDESPAN_SERVICE_HOST": "10.0.0.1", "SIDESPAN_SERVICE_PORT": "tcp"},
        {"SIDESPAN_SERVICE_HOST": "10.0.0.1", "SIDESPAN_SERVICE_TARGET": "4318"},
        {"SIDESPAN_SERVER__SERVICE_HOST": "10.0.0.1"},
        {"SIDESPAN_SERVER__PORT": "tcp://10.0.0.1:4318"},
        {"SIDESPAN_PROXY__PORT": "tcp://10.0.0.1:4318"},
        {"SIDESPANS_PORT": "x", "SIDESPAN_HOST": "10.0.0.1"},
    ],
    ids=lambda environment: "=".join(next(reversed(environment.items()))),
)
def test_a_misspelt_setting_is_still_refused(environment: dict[str, str]) -> None:
    with pytest.raises(Misconfigured, match=next(reversed(environment))):
        load(environment=environment)
