#!/bin/sh
# Runs the checks and every lane of tests, goes on where one fails, and tells at the end what did.
# Arguments go to pytest. JOBS: pytest's processes in the lanes that may have several (auto: one a core).
# ROWS: rows of lanes side by side, since most tests wait more than they work: those of the whole system and the nemesis (from
# four cores on a row for what breaks it), and all others, most of which give way to them. What the lanes of those rows say is
# shown whole when they have ended, between two of the others.
set -eu
cd "$(dirname "$0")/.."

VENV=${VENV:-.venv}
JOBS=${JOBS:-auto}
cores=$(nproc)
ROWS=${ROWS:-$(if [ "$cores" -gt 3 ]; then echo 3; elif [ "$cores" -gt 1 ]; then echo 2; else echo 1; fi)}
kept=$(mktemp -d)
export EASYQ_TEST_FAILURES="$kept/failures"
beside=
running=
rm -f .coverage .coverage.*

# lane NAME SECONDS COMMAND…: a lane that takes longer than SECONDS is ended, so that CI always tells something.
lane() {
    name=$1
    limit=$2
    shift 2
    printf '\n=== %s\n' "$name"
    began=$(date +%s)
    if limited "$limit" "$@"; then verdict=ok; else verdict="failed ($?)"; echo "$name" >>"$kept/failed"; fi
    printf '=== %s: %s, %s s\n' "$name" "$verdict" "$(($(date +%s) - began))"
}

# limited SECONDS COMMAND…: an interrupt lets pytest tell what has failed until then.
limited() { timeout --foreground --signal=INT --kill-after=60 "$@"; }

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

# ------------------------------------------------------------------------------------------------ of the whole system
# It uses every core by itself.
e2e() { tests e2e 1800 0 "$@"; }

# Every kind of fault once; `make test-chaos FULL=1` has the sizes that EasyQ promises.
chaos() { tests chaos 1200 0 "$@"; }

# Everything at once under a seeded nemesis, judged from outside; what a run leaves stands in build/chaos. One seed, so that
# a change of verdict is one of the code; `make chaos` takes a new one each time.
nemesis() {
    if [ -n "${CI:-}" ] || { [ "$(id -u)" = 0 ] && PATH=$PATH:/usr/sbin:/sbin command -v dockerd >/dev/null; }; then
        lane nemesis 600 make --no-print-directory chaos ARGS= MINUTES="${CHAOS_MINUTES:-5}" SEED="${CHAOS_SEED:-107959}"
    else
        printf '\n=== nemesis: skipped; it needs root and a Docker Engine (docker.io)\n'
    fi
}

# row LANES ARGUMENTS…: one after the other. What a lane says goes into a file, whose name ends with .done once it is complete.
row() {
    # A shell lets what it starts in the background ignore an interrupt, and so would each program that a test starts.
    # timeout makes a group of its own here and ends all of it, also where this row is ended.
    limited() {
        env --default-signal=INT,QUIT timeout --signal=INT --kill-after=60 "$@" &
        running=$!
        wait "$running"
    }
    trap 'kill "$running" 2>/dev/null; wait; exit 143' TERM
    lanes=$1
    shift
    for one in $lanes; do
        "$one" "$@" >"$kept/$one.out" 2>&1
        mv "$kept/$one.out" "$kept/$one.done"
    done
}

# start_row LANES ARGUMENTS…: beside the others.
start_row() {
    printf '\n=== %s: beside the others, into %s\n' "$1" "$kept"
    row "$@" &
    beside="$beside $!"
}

show_what_is_done() {
    for done in "$kept"/*.done; do
        if [ -e "$done" ]; then
            cat "$done"
            rm "$done"
        fi
    done
}

finish() {
    for one in $beside; do
        kill "$one" 2>/dev/null && wait "$one" || true
    done
    if [ -n "$beside" ]; then
        show_what_is_done
        cat "$kept"/*.out 2>/dev/null || true
    fi
    rm -rf "$kept"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

last=
case $ROWS in
1) last='e2e chaos nemesis' ;;
2) start_row 'e2e nemesis' "$@" && last=chaos ;;
*) start_row e2e "$@" && start_row 'chaos nemesis' "$@" ;;
esac
if [ -n "$beside" ]; then
    limited() { nice -n 4 timeout --foreground --signal=INT --kill-after=60 "$@"; }
fi

# --------------------------------------------------------------------------------------------------------- all others
# ARGS are pytest's.
lane lint 600 make --no-print-directory lint ARGS=
# Only here: it is pure code that has to be covered wholly, by tests that are as pure; measuring nearly doubles a lane's work.
tests unit 900 "$JOBS" --cov --cov-report= "$@"
show_what_is_done
tests contract 600 "$JOBS" "$@"
show_what_is_done
tests integration 1500 "$JOBS" "$@"
show_what_is_done
# One process: what may be made up is found while the tests are collected. `make fuzz` has more of it.
tests fuzz 900 0 "$@"
show_what_is_done
# These give way to nobody.
limited() { timeout --foreground --signal=INT --kill-after=60 "$@"; }
for one in $last; do
    "$one" "$@"
done

for one in $beside; do
    wait "$one" || true
    show_what_is_done
done
beside=

lane coverage 120 scripts/coverage.sh

if [ -e "$kept/failed" ]; then
    cat "$kept/failures" 2>/dev/null || true
    printf '\nfailed: %s\n' "$(paste -sd ' ' "$kept/failed")"
    exit 1
fi
printf '\nall lanes passed\n'
