#!/usr/bin/env bash
# Ends the LocalStack processes that start.sh started, and no others. What they stored is gone: it was in memory.
set -euo pipefail

run=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/.run

running() { ps -p "$1" -o args= 2>/dev/null | grep -q 'localstack.runtime.main'; }

shopt -s nullglob
# All are told first, so that they shut down at the same time.
for pid_file in "$run"/*.pid; do
    pid=$(cat "$pid_file")
    if running "$pid"; then kill "$pid" || true; fi
done
for pid_file in "$run"/*.pid; do
    pid=$(cat "$pid_file")
    port=$(basename "$pid_file" .pid)
    if running "$pid"; then
        for _ in {1..100}; do
            running "$pid" || break
            sleep 0.1
        done
        if running "$pid"; then kill -9 "$pid"; fi
        echo "localstack: port $port: stopped process $pid" >&2
    fi
    rm -rf "$pid_file" "${run:?}/$port"
done
