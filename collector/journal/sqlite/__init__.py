"""The log in one SQLite file. Nobody else opens that file.

journal.py      how it opens; an object for each role
writer.py       the two threads that own the connections; group commit
reader.py       for processes beside the service: read only
opening.py      the file at the start; salvage.py: what to do with a broken one; lock.py: one process a folder
schema.py       the tables, and the way from earlier versions
statements.py   entries and cursors; reading.py: what waits for a consumer
letters.py, notes.py, ownership.py      dead letters, notes and claims
"""
