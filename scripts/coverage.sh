#!/bin/sh
# Shows what the unit tests of the last `make test` covered; fails where a branch of a domain is not.
set -eu
cd "$(dirname "$0")/.."

COVERAGE=${VENV:-.venv}/bin/coverage
if [ ! -f .coverage ]; then
    echo "coverage: nothing was measured yet; run make test" >&2
    exit 1
fi
"$COVERAGE" report
printf '\nDomains, which have to be covered wholly, branches too:\n'
"$COVERAGE" report --include='*/domain/*' --fail-under=100
