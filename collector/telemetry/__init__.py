"""What the service says of itself, and what keeps its tasks alive.

metrics.py      the table of metrics
logs.py         text on a terminal, JSON lines otherwise; fault_log.py: bugs, once an hour for each place
supervision.py  tasks and child processes, started again when they end
"""
