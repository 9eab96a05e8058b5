"""What `sidespan doctor` says of one thing that it has looked at."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorCheck:
    """The result of one check. `way_out` says what to do if it is not ok."""

    name: str
    ok: bool
    finding: str
    way_out: str = ""

    def to_json(self) -> dict[str, str | bool]:
        return asdict(self)
