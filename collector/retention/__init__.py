"""How long traces stay in MLflow: the archive, deletion, and the way back.

    MLflow -> rules -> protected? -> archive -> read back -> delete -> mark in the index        a run
    archive -> journal -> delivery -> MLflow -> tags, assessments, … of it                      a restore

rules.py      what a rule says of a trace                                    pure
frames.py     the format of the archive's files                              pure
source.py     MLflow, asked one thing at a time
spans_file.py MLflow's SQLite file, where it is at hand
pace.py       how fast, and behind whom
store.py      a folder, or what fsspec reaches
lease.py      which service writes to the archive
catalogue.py  what is archived, and how far each trace has come: SQLite
archive.py    files and catalogue together
cleaner.py    one batch of traces out of MLflow
cleanup.py    all rules: plan and run
restore.py    the way back, and late spans of archived traces
completing.py what MLflow said of restored traces
marks.py      what the index says of archived traces
keeper.py     runs, asked for or on schedule
opening.py    from the settings
"""
