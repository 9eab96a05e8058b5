"""The service in a pod of a namespace that has a Service named as it is."""

from tests.support.kubernetes import service_links
from tests.support.sidespan import Sidespan


def test_it_starts_with_the_variables_of_its_own_service(sidespan: Sidespan) -> None:
    sidespan.environment = service_links("sidespan", ports={"otlp-http": ("TCP", 4318)})
    sidespan.environment |= service_links("sidespan-eu", ports={"": ("UDP", 53)})
    sidespan.start()
    assert sidespan.health()["ready"]
