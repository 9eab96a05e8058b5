"""Traces as they come: one look at the index for all who follow, and a bounded backlog for each of them.

    index: what changed? -> chunks (frames.py) -> a backlog for each reader (backlog.py) -> its connection
           one question, for all readers together (feed.py)

A reader that is slow fills its own backlog only, and is told how many events it missed. What it may see is
part of the question, so filters and rights are those of `/-/traces`.
"""
