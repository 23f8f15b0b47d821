#!/bin/sh
# Makes .venv and installs the project in it, editable, with the exact versions of requirements.lock.
# Does nothing where all of that is as it was. Settings: VENV (.venv), PYTHON (python3).
set -eu
cd "$(dirname "$0")/.."

VENV=${VENV:-.venv}
PYTHON=${PYTHON:-python3}
STAMP=$VENV/.easyq-setup
# make puts the environment first in PATH; it is to be made with the interpreter outside of it.
if [ -d "$VENV/bin" ]; then
    inside=$(cd "$VENV/bin" && pwd)
    PATH=$(printf '%s' ":$PATH:" | sed -e "s#:$inside:#:#g" -e 's#^:##' -e 's#:$##')
fi

say() { printf '%s\n' "setup: $*" >&2; }
die() { say "$*"; exit 1; }

command -v "$PYTHON" >/dev/null 2>&1 || die "$PYTHON is missing. On Debian: apt-get install python3 python3-venv"
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    die "EasyQ needs Python 3.11 or later; $PYTHON is $("$PYTHON" -V 2>&1). Say PYTHON=… to take another one."

# One at a time: two shells in one clone would install over each other.
if [ "${EASYQ_SETUP_LOCKED:-}" != 1 ] && command -v flock >/dev/null 2>&1; then
    EASYQ_SETUP_LOCKED=1 exec flock "$PWD/scripts/setup.sh" "$PWD/scripts/setup.sh"
fi

# What the environment was made from; where it differs, everything below is done again.
fingerprint() {
    { cat requirements.lock pyproject.toml clients/python/pyproject.toml scripts/setup.sh
      "$PYTHON" -c 'import sys; print(sys.version, sys.base_prefix)'
      pwd; } | "$PYTHON" -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())'
}
want=$(fingerprint)
if [ -f "$STAMP" ] && [ "$(cat "$STAMP")" = "$want" ] && [ -x "$VENV/bin/python" ]; then
    exit 0
fi

# Debian keeps ensurepip, and with it `python3 -m venv`, in a package of its own.
if ! "$PYTHON" -c 'import ensurepip, venv' >/dev/null 2>&1; then
    package=$("$PYTHON" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        say "installing $package"
        log=$(mktemp)
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$package"; } \
            >"$log" 2>&1 || { cat "$log" >&2; die "apt-get could not install $package"; }
        rm -f "$log"
    else
        die "Python's venv module is missing. On Debian: apt-get install $package"
    fi
fi

if [ ! -x "$VENV/bin/python" ] || ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
    say "making $VENV with $("$PYTHON" -V)"
    "$PYTHON" -m venv "$VENV"
fi

export PIP_DISABLE_PIP_VERSION_CHECK=1
say "installing what requirements.lock names"
# uv takes a tenth of pip's time, most of which goes into compiling what may never be imported. It doesn't know pip's own
# configuration, so pip does it where uv can't.
"$VENV/bin/python" -m pip install --quiet --no-deps --no-compile "$(grep '^uv==' requirements.lock)"
"$VENV/bin/uv" pip install --quiet --python "$VENV/bin/python" --no-deps -r requirements.lock || {
    say "uv can't get them; pip goes on, which takes longer"
    "$VENV/bin/python" -m pip install --quiet --no-deps -r requirements.lock
}
# The build back end comes from the lock as well, so that nothing unpinned is fetched.
say "installing easyq-client and easyq-server, editable"
"$VENV/bin/python" -m pip install --quiet --no-deps --no-build-isolation -e clients/python -e .
printf '%s\n' "$want" >"$STAMP"
say "done: $VENV/bin/easyq"
