#!/bin/sh
# Runs the checks and every lane of tests, goes on where one fails, and tells at the end what did.
# Arguments go to pytest. JOBS: pytest's processes in the lanes that may run side by side (auto: one a core).
set -eu
cd "$(dirname "$0")/.."

VENV=${VENV:-.venv}
JOBS=${JOBS:-auto}
failed=
rm -f .coverage .coverage.*

# lane NAME SECONDS COMMAND…: a lane that takes longer than SECONDS is ended, so that CI always tells something.
lane() {
    name=$1
    limit=$2
    shift 2
    printf '\n=== %s\n' "$name"
    began=$(date +%s)
    if timeout --foreground --kill-after=30 "$limit" "$@"; then verdict=ok; else verdict="failed ($?)"; failed="$failed $name"; fi
    printf '=== %s: %s, %s s\n' "$name" "$verdict" "$(($(date +%s) - began))"
}

# tests NAME SECONDS PROCESSES ARGUMENTS…
tests() {
    folder=tests/$1
    name=$1
    limit=$2
    processes=$3
    shift 3
    if [ ! -d "$folder" ]; then
        printf '\n=== %s: there is no %s\n' "$name" "$folder"
        return
    fi
    lane "$name" "$limit" "$VENV/bin/pytest" "$folder" -q -n "$processes" --dist loadfile "$@"
}

# Coverage is measured where the code runs in the tests' own processes: services that e2e kills write none.
covered="--cov --cov-report="

lane lint 600 make --no-print-directory lint
# shellcheck disable=SC2086 # two options
{
    COVERAGE_FILE=.coverage.unit tests unit 600 "$JOBS" $covered "$@"
    COVERAGE_FILE=.coverage.contract tests contract 600 "$JOBS" $covered "$@"
    COVERAGE_FILE=.coverage.integration tests integration 1200 "$JOBS" $covered "$@"
}
# The system uses every core by itself, and its tests measure how long things take.
tests e2e 1200 0 "$@"
# Every kind of fault once; `make test-chaos FULL=1` has the sizes that EasyQ promises.
tests chaos 900 0 "$@"

# Everything at once under a seeded nemesis, judged from outside; what a run leaves stands in build/chaos. One seed, so that
# a change of verdict is one of the code; `make chaos` takes a new one each time.
if [ -n "${CI:-}" ] || { [ "$(id -u)" = 0 ] && PATH=$PATH:/usr/sbin:/sbin command -v dockerd >/dev/null; }; then
    lane nemesis 600 make --no-print-directory chaos MINUTES="${CHAOS_MINUTES:-5}" SEED="${CHAOS_SEED:-107959}"
else
    printf '\n=== nemesis: skipped; it needs root and a Docker Engine (docker.io)\n'
fi

lane coverage 120 scripts/coverage.sh

if [ -n "$failed" ]; then
    printf '\nfailed:%s\n' "$failed"
    exit 1
fi
printf '\nall lanes passed\n'
