#!/bin/sh
# download.sh FOLDER FILE...: have the wheels that the FILEs name in FOLDER, for environments that tests build.
#
# A stamp with the digest of the FILEs makes a second run instant and offline.
set -eu

folder=$1
shift
digest=$(cat "$@" | sha256sum)
stamp=$folder/.downloaded
[ "$(cat "$stamp" 2>/dev/null || true)" != "$digest" ] || exit 0

printf '%s\n' "Downloading wheels into $folder (once; this needs the package index)" >&2
rm -rf "$folder"
for file in "$@"; do
    .venv/bin/python -m pip download --quiet --disable-pip-version-check --require-hashes --no-deps \
        --only-binary :all: --dest "$folder" --requirement "$file"
done
echo "$digest" >"$stamp"
