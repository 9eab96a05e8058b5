"""An export that came another way than over HTTP or gRPC: by a topic that another program writes."""

from collections.abc import Callable, Mapping, Sequence

from collector.mlflow.headers import HEADERS
from collector.model.batch import Draft
from collector.otlp.media import Encoding
from collector.receivers.prepare import Prepared, Rules, prepare_whole


def foreign_drafts(
    rules: Rules, *, count: Callable[[Prepared], None]
) -> Callable[[bytes, Mapping[str, str]], Sequence[Draft]]:
    """What reads a message's value (`otlp_proto`) with its headers: the drafts of its spans.

    The headers route it as those of a request do, else its resource attributes. `count` is told of each, for
    metrics. The reader raises Rejected: it is no export, or none of its spans can be stored.
    """

    def drafts(value: bytes, headers: Mapping[str, str]) -> Sequence[Draft]:
        routing = {name: headers[name] for name in HEADERS if name in headers}
        prepared = prepare_whole([value], Encoding.PROTOBUF, None, routing, rules)
        count(prepared)
        return [draft for _, draft in prepared.drafts]

    return drafts
