#!/usr/bin/env bash
# Reads an archive with the engines that docs/archive.md names:
#
#     tests/engines/run.sh DIRECTORY URL
#
# DIRECTORY has expected.json; URL is that of a region's store. The first time, it makes a Python environment of
# tests/engines/requirements.txt in target/engines. It ends with 77 if there is no Python, or the engines cannot be
# installed.
#
# BRIGADE_PYTHON    the Python to use (default: the newest of 3.13, 3.12 and 3.11 that is found)
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv=$here/../../target/engines

say() { echo "engines: $*" >&2; }
missing() { say "$*"; exit 77; }

# Prints a Python that runs and can make a virtual environment. A name on the path proves nothing: it may be a shim.
find_python() {
    local candidate
    for candidate in "${BRIGADE_PYTHON:-python3.13}" python3.13 python3.12 python3.11 python3; do
        if "$candidate" -c 'import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
            >/dev/null 2>&1; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

install() {
    local python wanted
    # An environment made from these very requirements is good, whatever Python made it.
    wanted=$(cksum <"$here/requirements.txt")
    if [ -x "$venv/bin/python" ] && [ "$(cat "$venv/brigade-requirements" 2>/dev/null)" = "$wanted" ]; then
        return
    fi
    python=$(find_python) || missing "no Python 3.11 to 3.13 with venv found; install one or set BRIGADE_PYTHON"
    say "installing with $("$python" --version 2>&1) into target/engines (once, about a minute)"
    rm -rf "$venv"
    "$python" -m venv "$venv"
    if ! "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --retries 1 --timeout 15 \
        -r "$here/requirements.txt" >&2; then
        rm -rf "$venv"
        missing "the engines could not be installed, see above"
    fi
    echo "$wanted" >"$venv/brigade-requirements"
}

mkdir -p "$(dirname "$venv")"
install
exec "$venv/bin/python" "$here/check.py" "$@"
