"""The log in Apache Kafka, for replicas without state.

    receivers --> NAME-spans, NAME-logs      by trace id; acknowledged by min.insync.replicas copies
                        |
                  group NAME-deliver         delivery, sampling, logs: a partition's owner does all three
                  group NAME-index           each follower is a group of its own
                        |  one transaction
         offsets, NAME-state, NAME-dead-letters, NAME-follow-ups

A lane is spread over partitions; an owner merges the partitions that it has. How far each consumer is in
each lane is a record in NAME-state (compacted), so a lane that waits holds up no other: the group's offset is
the lowest of all, from which a new owner reads again. Notes and claims are there, too; NAME-follow-ups has
what one consumer alone is to see (retries, and what follows from an entry).

What differs from SQLite's form: of an append that fails, parts may be stored (see `Log`), and what everybody
has passed is deleted by `sweep`, not by the commit.
"""

from collector.journal.kafka.journal import KafkaJournal, open_kafka_journal

__all__ = ["KafkaJournal", "open_kafka_journal"]
