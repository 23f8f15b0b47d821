#!/bin/sh
# Sees to the real servers that the tests start: Docker Engine, Redis, a registry, busybox, FerretDB, Chromium, to the tools
# grpcurl, promtool and compose_spec, and to what the examples in Go and Node need. As root on a Debian-like system, or with INSTALL=1, installs what is missing; with Go,
# builds what Debian has not, into the user's cache. What is missing then is said, with how to get it and what is skipped for that; with CI=true
# it is an error.
set -eu
cd "$(dirname "$0")/.."

FERRETDB=v1.24.2
GRPCURL=v1.9.3
COMPOSE_SPEC=v2.16.2
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/easyq
PATH=$PATH:/usr/sbin:/sbin:/usr/local/go/bin
export PATH

say() { printf '%s\n' "servers: $*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }
static_busybox() { have busybox && ! grep -q -e /ld-linux -e /ld-musl "$(command -v busybox)"; }

# ------------------------------------------------------------------------------------------------- Debian's packages
wanted() {
    { have dockerd && have containerd; } || echo docker.io
    have redis-server || echo redis-server
    static_busybox || echo busybox-static
    have docker-registry || echo docker-registry
    have ip || echo iproute2
    have curl || echo curl
    have chromium || echo chromium
    have node || echo nodejs
    have npm || echo npm
    have promtool || echo prometheus
    fc-list 2>/dev/null | grep -q DejaVu || echo fonts-dejavu-core
}

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

install_packages() {
    packages=$(wanted | tr '\n' ' ')
    [ -n "$packages" ] || return 0
    have apt-get || return 0
    [ "$(id -u)" = 0 ] || [ "${INSTALL:-}" = 1 ] || return 0
    say "installing $packages"
    # The tests start each daemon themselves: keep Debian from starting them at their installation.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod 755 "$policy"
        trap 'as_root rm -f "$policy"' EXIT
        trap 'exit 130' INT TERM
    fi
    log=$(mktemp)
    # shellcheck disable=SC2086 # a list of names
    {
        as_root apt-get update -qq
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $packages
    } >"$log" 2>&1 || { say "apt-get could not install all of them:"; tail -n 20 "$log" >&2; }
    rm -f "$log"
}

# ------------------------------------------------------------------------------------------------- programs built with Go
# FerretDB looks for a file with its version beside its source and does not start without it, so it is built from a
# vendored copy to which that file is added; scripts/ferretdb.patch, which says why, is applied to it as well.
PATCH=$PWD/scripts/ferretdb.patch

build_ferretdb() (
    cd "$1" &&
        go mod init easyq.invalid/tools &&
        go get -tool "github.com/FerretDB/FerretDB/cmd/ferretdb@$FERRETDB" &&
        go mod vendor &&
        echo "$FERRETDB" >vendor/github.com/FerretDB/FerretDB/build/version/version.txt &&
        GIT_CEILING_DIRECTORIES=$1 git -C vendor/github.com/FerretDB/FerretDB apply "$PATCH" &&
        go build -mod=vendor -trimpath -o ferretdb github.com/FerretDB/FerretDB/cmd/ferretdb &&
        mv ferretdb "$CACHE/bin/ferretdb"
)

build_grpcurl() (
    cd "$1" &&
        GOBIN=$1 go install "github.com/fullstorydev/grpcurl/cmd/grpcurl@$GRPCURL" &&
        mv grpcurl "$CACHE/bin/grpcurl"
)

# What `docker compose config` checks with, for machines without that plugin.
build_compose_spec() (
    cd "$1" &&
        GOBIN=$1 go install "github.com/compose-spec/compose-go/v2/cmd@$COMPOSE_SPEC" &&
        mv cmd "$CACHE/bin/compose_spec"
)

# build NAME VERSION: where the cache has no NAME of that version.
build() {
    stamp=$CACHE/bin/.$1-$2
    [ -x "$CACHE/bin/$1" ] && [ -e "$stamp" ] && return 0
    say "building $1 $2 into $CACHE/bin (a minute or two, once)"
    scratch=$(mktemp -d)
    if (unset GOFLAGS GOBIN; "build_$1" "$scratch") >"$scratch.log" 2>&1; then
        rm -f "$CACHE/bin/.$1-"*
        : >"$stamp"
    else
        say "building $1 failed:"
        tail -n 20 "$scratch.log" >&2
    fi
    chmod -R u+w "$scratch"
    rm -rf "$scratch" "$scratch.log"
}

build_programs() {
    have go || return 0
    mkdir -p "$CACHE/bin"
    build ferretdb "$FERRETDB-$(cksum <"$PATCH" | cut -d " " -f 1)"
    build grpcurl "$GRPCURL"
    build compose_spec "$COMPOSE_SPEC"
}

# ------------------------------------------------------------------------------------------------- modules of the examples
# Into the caches of Go and npm, so that the tests that build the examples find them there.
fetch_go() { cd examples/go && go mod download; }
fetch_node() (
    cp examples/node/package.json examples/node/package-lock.json examples/node/.npmrc "$1" &&
        cd "$1" && npm ci --ignore-scripts --no-audit --no-fund --no-update-notifier
)

# fetch LANGUAGE PROGRAM LOCK: where that was not done for this lock file.
fetch() {
    have "$2" || return 0
    mkdir -p "$CACHE"
    stamp=$CACHE/.examples-$1-$(cksum <"$3" | cut -d " " -f 1)
    [ -e "$stamp" ] && return 0
    scratch=$(mktemp -d)
    if ("fetch_$1" "$scratch") >"$scratch.log" 2>&1; then
        rm -f "$CACHE/.examples-$1-"*
        : >"$stamp"
    else
        say "fetching the modules of examples/$1 failed; their test tries again:"
        tail -n 5 "$scratch.log" >&2
    fi
    rm -rf "$scratch" "$scratch.log"
}

# ------------------------------------------------------------------------------------------------- what is missing
lacking=0
lack() { # WHAT, HOW, SKIPPED
    lacking=1
    say "missing: $1"
    say "    to get it: $2"
    say "    skipped for that: $3"
}

report() {
    { have dockerd && have containerd; } ||
        lack "a Docker Engine" "apt-get install docker.io" "every test that runs a container"
    [ "$(id -u)" = 0 ] ||
        lack "root" "run the tests as root" "every test that starts a Docker Engine of its own"
    have redis-server || lack redis-server "apt-get install redis-server" "tests with the real Redis (Valkey is bundled)"
    static_busybox || lack "a static busybox" "apt-get install busybox-static" "every test that runs a container"
    have docker-registry || lack docker-registry "apt-get install docker-registry" "tests that pull images"
    have ip || lack ip "apt-get install iproute2" "tests that cut a network"
    have curl || lack curl "apt-get install curl" "tests that run the README's lines"
    have promtool || lack promtool "apt-get install prometheus" "the tests of the alert rules"
    have chromium || lack chromium "apt-get install chromium" "tests of the pages in a browser"
    have go || lack Go "https://go.dev/dl, 1.25 or later" "the test of examples/go"
    { have node && have npm; } || lack "Node.js with npm" "apt-get install nodejs npm" "the test of examples/node"
    [ -x "$CACHE/bin/ferretdb" ] || have ferretdb ||
        lack FerretDB "install Go 1.24 or later, then: make servers" "the store on MongoDB's protocol"
    [ -x "$CACHE/bin/grpcurl" ] || have grpcurl ||
        lack grpcurl "install Go 1.24 or later, then: make servers" "tests of reflection from outside"
    [ -x "$CACHE/bin/compose_spec" ] || docker compose version >/dev/null 2>&1 ||
        lack "docker compose" "install Docker's compose plugin, or Go 1.24 and then: make servers" \
            "the check of docker-compose.yml"
}

install_packages
build_programs
fetch go go examples/go/go.sum
fetch node npm examples/node/package-lock.json
report
if [ "$lacking" = 1 ] && [ "${CI:-}" = true ]; then
    say "CI runs with everything"
    exit 1
fi
[ "$lacking" = 1 ] || say "all there"
