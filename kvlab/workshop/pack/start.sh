#!/bin/sh
# Opens the workbook. The first start installs from the folder "wheels", without a network.
cd "$(dirname "$0")" || exit 1
if [ "$(cat .venv/.installed 2>/dev/null)" != "$PWD" ]; then
    python=
    for name in @COMMANDS@ python3 python; do
        if "$name" -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] not in "@PYTHONS@".split())' 2>/dev/null; then
            python=$name
            break
        fi
    done
    if [ -z "$python" ]; then
        echo "This folder needs one of these Pythons: @PYTHONS@" >&2
        exit 1
    fi
    echo "Installing into $PWD/.venv, a minute or two ..."
    rm -rf .venv
    "$python" -m venv .venv &&
        .venv/bin/python -m pip --isolated install --quiet --disable-pip-version-check \
            --no-index --find-links wheels "kvlab[lab]" &&
        echo "$PWD" >.venv/.installed || exit 1
fi
exec .venv/bin/kvlab lab "$@"
