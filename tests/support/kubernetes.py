"""What Kubernetes puts into the environment of a pod."""


def service_links(
    name: str, *, address: str = "10.96.0.11", ports: dict[str, tuple[str, int]]
) -> dict[str, str]:
    """The variables of one Service; `ports` by name ("" has none): (protocol, number).

    Source: https://github.com/kubernetes/kubernetes/blob/master/pkg/kubelet/envvars/envvars.go
    """
    prefix = name.upper().replace("-", "_")
    host = f"[{address}]" if ":" in address else address
    first_protocol, first = next(iter(ports.values()))
    found = {
        f"{prefix}_SERVICE_HOST": address,
        f"{prefix}_SERVICE_PORT": str(first),
        f"{prefix}_PORT": f"{first_protocol.lower()}://{host}:{first}",
    }
    for port_name, (protocol, number) in ports.items():
        if port_name:
            found[f"{prefix}_SERVICE_PORT_{port_name.upper().replace('-', '_')}"] = str(number)
        of_port = f"{prefix}_PORT_{number}_{protocol}"
        found |= {
            of_port: f"{protocol.lower()}://{host}:{number}",
            f"{of_port}_PROTO": protocol.lower(),
            f"{of_port}_PORT": str(number),
            f"{of_port}_ADDR": address,
        }
    return found
