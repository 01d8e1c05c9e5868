#!/usr/bin/env bash
# Starts LocalStack (S3 only, in memory) without Docker, one process for each region:
#
#     eval "$(localstack/start.sh)"        one region on [::1]:4566
#     eval "$(localstack/start.sh 3)"      three regions, on ports 4566, 4567 and 4568
#     localstack/stop.sh                   ends what this script started
#
# (In a script, take the output first, since eval hides a failure: settings=$(localstack/start.sh) && eval "$settings")
#
# It installs LocalStack into localstack/.venv the first time, keeps logs and pid files in localstack/.run, and prints
# the environment to use as export lines; everything else goes to standard error.
#
# BRIGADE_PYTHON            the Python to use (default: the newest of 3.13, 3.12 and 3.11 that is found)
# BRIGADE_LOCALSTACK_PORT   first port (default 4566)
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
count=${1:-1}
first_port=${BRIGADE_LOCALSTACK_PORT:-4566}
venv=$here/.venv
run=$here/.run

say() { echo "localstack: $*" >&2; }
die() { say "$*"; exit 1; }

case $count in
    [1-9]) ;;
    *) die "the number of regions must be from 1 to 9, not '$count'" ;;
esac
case $first_port in
    '' | *[!0-9]*) die "BRIGADE_LOCALSTACK_PORT must be a number, not '$first_port'" ;;
esac

# Prints a Python that runs and can make a virtual environment. A name on the path proves nothing: it may be a shim.
find_python() {
    local version candidate
    if [ -n "${BRIGADE_PYTHON:-}" ]; then
        "$BRIGADE_PYTHON" -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
            die "BRIGADE_PYTHON=$BRIGADE_PYTHON is no Python 3.11 or newer with venv"
        echo "$BRIGADE_PYTHON"
        return
    fi
    for version in 3.13 3.12 3.11; do
        for candidate in "python$version" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python \
            "/opt/homebrew/bin/python$version" "/usr/local/bin/python$version" python3; do
            if "$candidate" -c "import ensurepip, sys; sys.exit('%d.%d' % sys.version_info[:2] != '$version')" \
                >/dev/null 2>&1; then
                echo "$candidate"
                return
            fi
        done
    done
    die "no Python 3.11 to 3.13 with venv found; install one (Debian: apt-get install python3-venv) or set BRIGADE_PYTHON"
}

install() {
    local python wanted
    # An environment made from these very requirements is good, whatever Python made it.
    wanted=$(cksum <"$here/requirements.txt")
    if [ -x "$venv/bin/python" ] && [ "$(cat "$venv/brigade-requirements" 2>/dev/null)" = "$wanted" ] &&
        "$venv/bin/python" -c 'import localstack' 2>/dev/null; then
        return
    fi
    python=$(find_python)
    say "installing with $("$python" --version 2>&1) into $venv (once, about 20 seconds)"
    rm -rf "$venv"
    "$python" -m venv "$venv"
    if ! "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        -r "$here/requirements.txt" >&2; then
        rm -rf "$venv"
        die "installing failed, see above"
    fi
    echo "$wanted" >"$venv/brigade-requirements"
}

# Whether a pid file names a LocalStack that is still running.
is_ours() {
    local pid
    pid=$(cat "$1" 2>/dev/null) && [ -n "$pid" ] && ps -p "$pid" -o args= 2>/dev/null | grep -q 'localstack.runtime.main'
}

start() {
    local port=$1 pid_file=$run/$1.pid
    if is_ours "$pid_file"; then
        say "port $port: already running, process $(cat "$pid_file")"
        return
    fi
    # LocalStack itself would go on without its port and only look healthy.
    "$venv/bin/python" - "$port" 2>/dev/null <<'PYTHON' || die "cannot listen on [::1]:$port: the port is taken, or there is no IPv6 loopback"
import socket, sys
with socket.socket(socket.AF_INET6) as s:
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("::1", int(sys.argv[1])))
PYTHON
    rm -rf "${run:?}/$port"
    mkdir -p "$run/$port"
    # [::1] and not 127.0.0.1, with which its server would listen on every address of the machine.
    (
        cd "$run/$port"
        SERVICES=s3 STRICT_SERVICE_LOADING=1 EAGER_SERVICE_LOADING=1 DISABLE_EVENTS=1 SKIP_SSL_CERT_DOWNLOAD=1 \
            DNS_ADDRESS=0 ALLOW_NONSTANDARD_REGIONS=1 LS_LOG=warning GATEWAY_WORKER_COUNT=64 \
            GATEWAY_LISTEN="[::1]:$port" \
            nohup "$venv/bin/python" -m localstack.runtime.main >"$run/$port.log" 2>&1 </dev/null &
        echo $! >"$pid_file"
    )
    say "port $port: started, process $(cat "$pid_file")"
}

wait_healthy() {
    local port=$1
    "$venv/bin/python" - "$port" "$(cat "$run/$port.pid")" <<'PYTHON' || { tail -20 "$run/$port.log" >&2; die "port $port did not become healthy"; }
import json, os, sys, time, urllib.request
port, pid = sys.argv[1], int(sys.argv[2])
deadline = time.monotonic() + 120
while time.monotonic() < deadline:
    try:
        with urllib.request.urlopen(f"http://[::1]:{port}/_localstack/health", timeout=2) as answer:
            if json.load(answer)["services"].get("s3") in ("running", "available"):
                sys.exit(0)
    except Exception:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        sys.exit("the process ended")
    time.sleep(0.1)
sys.exit("no answer within 120 seconds")
PYTHON
}

mkdir -p "$run"
install
for ((i = 0; i < count; i++)); do start $((first_port + i)); done
endpoints=
for ((i = 0; i < count; i++)); do
    wait_healthy $((first_port + i))
    endpoints="$endpoints${endpoints:+ }http://[::1]:$((first_port + i))"
done
say "ready: $endpoints"

cat <<EXPORTS
export BRIGADE_TEST_S3_ENDPOINT='${endpoints%% *}'
export BRIGADE_TEST_S3_ENDPOINTS='$endpoints'
export AWS_ENDPOINT_URL='${endpoints%% *}'
export AWS_REGION='us-east-1'
export AWS_ACCESS_KEY_ID='test'
export AWS_SECRET_ACCESS_KEY='test'
EXPORTS
