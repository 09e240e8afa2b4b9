#!/bin/sh
# D2I workbook @VERSION@, @TARGET@: makes a Python environment from the wheels beside this script.
# No network is asked, and every wheel is compared with its hash in requirements.txt.
#
#   ./install.sh FOLDER              such as /opt/d2i
#   PYTHON=/path/to/python@PYTHON@ ./install.sh FOLDER
#
# Exit codes: 0 installed; 2 wrong call; 3 this machine or Python does not fit; 4 pip failed.
set -eu
umask 022 # whoever runs the day may be another account than the one that installs

fail() {
    code=$1
    shift
    echo "install.sh: $*" >&2
    exit "$code"
}

[ $# -eq 1 ] || fail 2 "name the folder of the new environment: ./install.sh /opt/d2i"
case $1 in
    -*) fail 2 "name the folder of the new environment: ./install.sh /opt/d2i" ;;
    /*) target=$1 ;;
    *) target=$PWD/$1 ;;
esac
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)

wanted="@SYSTEM@ @MACHINE@"
found="$(uname -s) $(uname -m)"
[ "$found" = "$wanted" ] || fail 3 "this bundle is for $wanted, and this is $found."
libc=$(getconf GNU_LIBC_VERSION 2>/dev/null || true)
case "$(uname -s) $libc" in
    Darwin*) ;;
    "Linux glibc 2."[0-9] | "Linux glibc 2.1"[0-9] | "Linux glibc 2.2"[0-7])
        fail 3 "$libc is too old; glibc 2.28 or newer is needed (RHEL 8, Debian 10). docs/install.md says what else there is." ;;
    "Linux glibc "*) ;;
    *) fail 3 "this system has no glibc (musl?); the wheels need glibc 2.28 or newer." ;;
esac

python=${PYTHON:-}
if [ -z "$python" ]; then
    for name in python@PYTHON@ python3 python; do
        if command -v "$name" >/dev/null && [ "$("$name" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = "@PYTHON@" ]; then
            python=$name
            break
        fi
    done
fi
[ -n "$python" ] || fail 3 "no Python @PYTHON@ was found; name one: PYTHON=/path/to/python@PYTHON@ ./install.sh $1"
said=$("$python" -c 'import sys; print(sys.implementation.name, "%d.%d" % sys.version_info[:2])') || fail 3 "$python does not start."
[ "$said" = "cpython @PYTHON@" ] || fail 3 "$python is $said; this bundle is for cpython @PYTHON@. There is one for each Python from 3.11 to 3.14."
"$python" -c 'import ensurepip, venv' 2>/dev/null || fail 3 "$python has no module venv or ensurepip (on Debian and Ubuntu: the package python@PYTHON@-venv)."

if [ -e "$target" ] && [ ! -f "$target/pyvenv.cfg" ] && [ -n "$(ls -A "$target")" ]; then
    fail 2 "$target is not empty and no Python environment."
fi
[ -f "$target/pyvenv.cfg" ] || "$python" -m venv "$target" || fail 4 "the environment cannot be made in $target."
# settings of this machine (another index, a proxy) have no say: only the wheels here count
PIP_CONFIG_FILE=/dev/null "$target/bin/python" -m pip --isolated install --no-index --find-links "$here/wheels" \
    --only-binary :all: --require-hashes --no-cache-dir --disable-pip-version-check --quiet \
    -r "$here/requirements.txt" || fail 4 "pip could not install; what it says is above."
"$target/bin/python" -m pip --isolated check --disable-pip-version-check || fail 4 "the packages do not fit each other."
echo "Installed: $("$target/bin/d2i" --version) in $target"
echo "Next, as the account that works with it: $target/bin/d2i new FOLDER"
