#!/usr/bin/env bash
# Sends one span with curl, as OTLP in JSON.
#
# Look at: the empty answer `{}` (everything was stored) with status 200, which is sent only after the span is on
# disk; then the trace in MLflow. Replace one digit of traceId by a letter that isn't hex, and read the error.
set -euo pipefail

url=${SIDESPAN_URL:-http://127.0.0.1:4318}
experiment=${EXPERIMENT_ID:-0}
trace=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
span=$(od -An -N8 -tx1 /dev/urandom | tr -d ' \n')
now=$(date +%s%N)

curl --silent --show-error --write-out '\n%{http_code}\n' "$url/v1/traces" \
  --header 'content-type: application/json' \
  --header "x-mlflow-experiment-id: $experiment" \
  --data @- <<JSON
{"resourceSpans": [{
  "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "curl"}}]},
  "scopeSpans": [{"spans": [{
    "traceId": "$trace", "spanId": "$span", "name": "hello from curl", "kind": 1,
    "startTimeUnixNano": "$now", "endTimeUnixNano": "$((now + 250000000))",
    "attributes": [{"key": "answer", "value": {"intValue": "42"}}]
  }]}]
}]}
JSON
echo "trace $trace"
