#!/usr/bin/env bash
# Builds a virtual environment with the pinned dependencies and this package: scripts/setup.sh [FOLDER]
# PYTHON=... names the interpreter; otherwise the first suitable one is taken. Needs no sudo.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv}
venv=${venv%/} # the lock lies beside it

# Prints nothing for a suitable interpreter, or what it lacks.
# reasoning_gym needs pycosat, which is compiled on installation: hence Python.h.
lacks() {
    "$1" - <<'PYTHON' 2>/dev/null || echo "does not start"
import importlib.util, os, platform, sys, sysconfig
version = ".".join(map(str, sys.version_info[:3]))
header = os.path.join(sysconfig.get_path("include"), "Python.h")
if not (3, 10) <= sys.version_info[:2] <= (3, 13):
    print("is Python %s, not 3.10 to 3.13" % version)
elif sys.platform == "darwin" and platform.machine() != "arm64":
    print("is for Intel Macs, for which PyTorch is built no more")
elif not (importlib.util.find_spec("ensurepip") and importlib.util.find_spec("venv")):
    print("has no venv (Debian, Ubuntu: apt install python3-venv)")
elif not os.path.exists(header):
    print("has no Python.h (Debian, Ubuntu: apt install python3-dev)")
PYTHON
}

# Prints 3.11 for Python 3.11.9.
version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])'; }

if ! command -v cc >/dev/null; then
    echo "setup: no C compiler 'cc', and one dependency is compiled on installation;" \
        "install one (Debian, Ubuntu: apt install build-essential; macOS: xcode-select --install)." >&2
    exit 1
fi

# The version that is tested most comes first.
python=""
refused=""
for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3.10 python3}; do
    if ! command -v "$candidate" >/dev/null; then
        [ -z "${PYTHON:-}" ] || refused=" $candidate is not there;"
        continue
    fi
    reason=$(lacks "$candidate")
    if [ -z "$reason" ]; then
        python=$candidate
        break
    fi
    refused="$refused $candidate $reason;"
done
if [ -z "$python" ]; then
    echo "setup: found no Python 3.10 to 3.13 to work with:${refused:- none is on PATH;}" \
        "install what is missing (where the system's packages have none of these versions:" \
        "uv python install 3.13), or name another one: make setup PYTHON=/path/to/python3" >&2
    exit 1
fi

# Takes the lock, or says by its code that another set-up has it. The kernel drops it with the last
# process that has the file open, so none is left behind. Some file systems of a network know none,
# and where the file cannot be made there is none either.
lock() {
    "$python" -c "
import fcntl, sys
try:
    fcntl.flock(9, fcntl.$1)
except BlockingIOError:
    sys.exit(1)
except OSError:
    pass"
}

# Of two terminals, one with `make train` and one with `make test`, the second one waits.
mkdir -p "$(dirname "$venv")"
{ exec 9>"$venv.lock"; } 2>/dev/null || true
if ! lock "LOCK_EX | fcntl.LOCK_NB"; then
    echo "setup: another set-up is at work on $venv, which is waited for"
    lock LOCK_EX
    # Somebody works with it by now.
    if [ "$venv/.ready" -nt "$venv.lock" ]; then exit; fi
fi

# An environment that works is brought up to date, whatever else is on PATH by now.
if "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    echo "setup: $venv is there, with $("$venv/bin/python" --version)"
    if [ "$(version "$venv/bin/python")" != "$(version "$python")" ]; then
        echo "setup: it keeps that Python; make clean first for one from" \
            "$("$python" --version) ($python)" >&2
    fi
else
    echo "setup: $venv from $("$python" --version) ($python); the first time takes some minutes"
    "$python" -m venv --clear "$venv"
fi
pip="$venv/bin/python -m pip --disable-pip-version-check --quiet"
# torch by itself and first: it is the biggest, and the likeliest to fail.
$pip install "$(grep '^torch==' requirements.txt)"
$pip install --requirement requirements.txt
# The build needs setuptools and nothing else: no second environment for it.
$pip install 'setuptools>=77'
$pip install --no-deps --no-build-isolation --editable .
# Written last, so that make starts an interrupted set-up again.
touch "$venv/.ready"
