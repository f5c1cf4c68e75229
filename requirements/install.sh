#!/bin/sh
# install.sh FOLDER KIND FILE...: bring the virtual environment FOLDER to the state that the FILEs describe.
#
# KIND base:   Turnout itself, editable, with what it needs to run.
# KIND test:   the same, with what the tests and benches need.
# KIND compat: no Turnout, only the first FILE.
#
# A stamp with the digest of the FILEs makes a second run instant and offline. PYTHON names the interpreter.
set -eu

folder=$1 kind=$2
shift 2
python=${PYTHON:-python3}
here=$(dirname "$0")

say() { printf '%s\n' "$*" >&2; }
stop() { say "$*"; exit 1; }

command -v "$python" >/dev/null 2>&1 ||
    stop "Turnout needs Python 3.11 or newer, but there is no '$python'; install one, or name it: make PYTHON=/path/to/python3.11"
found=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) ||
    stop "Turnout needs Python 3.11 or newer, but '$python' does not run; name another: make PYTHON=/path/to/python3.11"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    stop "Turnout needs Python 3.11 or newer, but '$python' is $found; name a newer one: make PYTHON=/path/to/python3.11"

digest=$(cat "$@" | "$python" -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())')
stamp=$folder/.installed-$kind
if [ "$(cat "$stamp" 2>/dev/null || true)" = "$digest" ] && "$folder/bin/python" -c '' 2>/dev/null; then
    exit 0
fi

"$python" -c 'import ensurepip, venv' 2>/dev/null ||
    stop "'$python' has no venv module; on Debian and Ubuntu: apt-get install python3-venv"
# A checkout that was moved, or an interpreter that was removed, leaves an environment that does not start.
"$folder/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || rm -rf "$folder"

say "Installing into $folder (once; this needs the package index)"
hashed="--quiet --disable-pip-version-check --require-hashes"

with_uv() {
    # uv is several times faster, but reads no pip.conf: where only pip knows an index, pip does the work.
    [ -x .venv/bin/uv ] || return 1
    real=$("$python" -c 'import os, sys; print(os.path.realpath(sys.executable))')
    .venv/bin/uv venv --quiet --clear --python "$real" "$folder" 2>/dev/null &&
        .venv/bin/uv pip install --quiet --python "$folder/bin/python" --require-hashes -r "$1" 2>/dev/null
}

with_pip() {
    [ -x "$folder/bin/pip" ] || "$python" -m venv --clear "$folder"
    # shellcheck disable=SC2086
    "$folder/bin/python" -m pip install $hashed -r "$1"
}

case $kind in
compat)
    with_uv "$1" || with_pip "$1"
    ;;
base | test)
    with_pip "$1"
    with_pip "$here/build.txt"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
    ;;
*)
    stop "install.sh knows base, test and compat, not '$kind'"
    ;;
esac
echo "$digest" >"$stamp"
