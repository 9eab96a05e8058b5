"""What is done to spans on their way, by the settings' list `processors`.

    client -> redact -> JOURNAL -> keep -> harmonise -> limit, slim, tag, drop in the list's order -> MLflow

Redaction alone runs before the journal, so that nothing secret touches the disk; everything else works on
the copy that goes to MLflow. A processor that fails on a span lets it pass unchanged and is counted;
where redaction fails, the span is rejected.
"""
