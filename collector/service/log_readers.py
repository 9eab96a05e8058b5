"""Who reads the log: the consumers that the settings switch on, here or in other processes."""

from collector.delivery.logs.work import CONSUMER as LOGS
from collector.delivery.mlflow.window import CONSUMER as DELIVERY
from collector.delivery.otlp.opening import followers, holders
from collector.index.feed import CONSUMER as INDEX
from collector.journal.opening import LogReaders
from collector.model.batch import Signal
from collector.sampling.consumer import CONSUMER as SAMPLING
from collector.settings import Role, Settings


def readers_of(settings: Settings) -> LogReaders:
    """All of them. The index only follows; another backend does, unless its settings say otherwise."""
    spans = (DELIVERY,) if settings.sampling is None else (DELIVERY, SAMPLING)
    samples_scores = settings.sampling is not None and settings.sampling.scores
    records = (LOGS, SAMPLING) if samples_scores else (LOGS,)
    following = (INDEX,) if settings.index.enabled else ()
    delivering = {*spans, LOGS} if Role.DELIVER in settings.roles else set()
    indexing = set(following) if Role.INDEX in settings.roles else set()
    return LogReaders(
        consumers=(*spans, *holders(settings, Signal.TRACES)),
        followers=(*following, *followers(settings, Signal.TRACES)),
        log_consumers=(*records, *holders(settings, Signal.LOGS)),
        log_followers=(*following, *followers(settings, Signal.LOGS)),
        here=frozenset(delivering | indexing),
    )
