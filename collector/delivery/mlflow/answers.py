"""What MLflow's answer to a delivery request means. Pure; the one table of its statuses.

MLflow is not a well-behaved OTLP server: an integrity race between two requests is a 400, an unforeseen
exception 500 or 422, and one bad span fails its whole batch. So 400, 422 and 500 are suspects, not verdicts,
and the request is re-sent a few times, then bisected. This departs on purpose from OTLP's "MUST NOT retry";
spans are upserted, so a re-send is harmless.
Source: https://opentelemetry.io/docs/specs/otlp/#failures-1.
"""

from collector.delivery.verdicts import Verdict

VERDICTS: dict[int, Verdict] = {
    400: Verdict.SUSPECT,
    401: Verdict.PASSING,  # our credentials: the operator's trouble, not the data's
    403: Verdict.PASSING,
    404: Verdict.NO_EXPERIMENT,
    408: Verdict.PASSING,
    413: Verdict.TOO_LARGE,
    422: Verdict.SUSPECT,
    425: Verdict.PASSING,
    429: Verdict.PASSING,
    500: Verdict.SUSPECT,
}


def verdict_of(status: int, error_code: str | None = None) -> Verdict:
    """The meaning of a status; a redirect is a failure of the set-up, other 5xx pass.

    `error_code` is MLflow's own, if it sent one: INVALID_PARAMETER_VALUE is its considered word on the
    data (a session id over 250 characters, say), where other 400s may be a race.
    """
    if 200 <= status < 300:
        return Verdict.TAKEN
    if status == 400 and error_code == "INVALID_PARAMETER_VALUE":
        return Verdict.REFUSED
    if status in VERDICTS:
        return VERDICTS[status]
    return Verdict.REFUSED if 400 <= status < 500 else Verdict.PASSING
