# shellcheck shell=bash
# The virtual environment that the start-up scripts of this checkout run in.
#
#     . "$(dirname "${BASH_SOURCE[0]}")/scripts/environment.sh"
#     prepare_environment cyborg test
#     "$environment_python" ...
#
# prepare_environment makes .venv beside the scripts and installs this checkout into it, with the extras named
# and every version pinned by constraints.txt. For each extra it leaves .venv/installed-<extra>, a copy of what
# was installed from. As long as that copy is true nothing is installed again and no network is needed; a
# changed requirement, a changed pin or a moved checkout makes it untrue. The copies are removed before an
# installation and written after it, so an interrupted one leaves none and the next start installs again.
#
# Written for bash 3.2, which macOS still ships.
set -euo pipefail

checkout=$(CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
environment=$checkout/.venv
environment_python=$environment/bin/python

prepare_environment() {
    is_installed "$@" && return
    (
        cd "$checkout"
        wait_for_other_starts
        is_installed "$@" || install "$@"
    ) 9<>"$checkout/constraints.txt" # opened for the lock alone; reading and writing, as NFS wants it
}

is_installed() {
    local extra
    [ -x "$environment_python" ] || return 1
    for extra in "$@"; do
        [ "$(cat "$environment/installed-$extra" 2>/dev/null)" = "$(installed_from)" ] || return 1
    done
}

installed_from() {
    echo "$checkout" # the editable installation holds this path
    cat "$checkout/pyproject.toml" "$checkout/constraints.txt"
}

install() {
    local extras source
    extras=$(IFS=, && echo "$*")
    source=$(installed_from) # before pip reads the same files: an edit meanwhile must not count as installed
    make_environment
    rm -f "$environment"/installed-*
    say "installing into $environment, once: a few minutes and 1.6 GB, more with a CUDA build of torch"
    # The build tool comes first and is used as it is, so that it is pinned like everything else.
    pip_install setuptools
    pip_install --no-build-isolation --editable ".[$extras]"
    record_installation "$source" "$@"
}

make_environment() {
    local python
    if ! "$environment_python" -c '' 2>/dev/null; then
        python=$(find_python)
        "$python" -m venv --clear "$environment" >&2 || fail "venv could not make $environment" 1
    elif ! fits "$environment_python"; then
        fail "Python 3.11 or newer is needed, but $environment holds $(version_of "$environment_python"); delete it"
    fi
    # Missing when the making of .venv was interrupted, or when another tool than venv made it.
    "$environment_python" -m pip --version >/dev/null 2>&1 || "$environment_python" -m ensurepip >/dev/null
}

find_python() {
    local candidate
    for candidate in "$environment_python" python3 python3.11 python3.12 python3.13 python3.14; do
        if fits "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    fail "Python 3.11 or newer is needed, but python3 is $(version_of python3)"
}

fits() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

version_of() {
    "$1" -c 'import platform; print(platform.python_version())' 2>/dev/null || echo "not there"
}

# Two --quiet leave pip's errors. When pip finds no version at all of a package, it could not reach its index.
pip_install() {
    "$environment_python" -m pip --quiet --quiet --disable-pip-version-check --no-input \
        install --constraint constraints.txt "$@" ||
        fail "the installation failed; once the network is there, start again to repeat it" 1
}

record_installation() {
    local source=$1 extra
    shift
    for extra in "$@"; do
        echo "$source" >"$environment/installed-$extra"
    done
}

# Holds file descriptor 9 of the calling subshell locked until that subshell ends. Python takes the lock because
# flock(1) is not on every system; the lock belongs to the open file and outlives the process that asked for it.
wait_for_other_starts() {
    local python
    python=$(find_python)
    if ! "$python" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)' 2>/dev/null; then
        say "another start is installing into $environment; waiting for it"
        # Fails where the file system knows no locks; taking turns is then up to the user.
        "$python" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)' 2>/dev/null || true
    fi
}

say() {
    echo "${0##*/}: $1" >&2
}

fail() {
    say "$1"
    exit "${2:-2}"
}
