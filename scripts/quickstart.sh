#!/bin/bash
# From a clone of the repository to an HTTP answer of an app that Longshore built. Can be run again: what is there
# already is kept.
set -euo pipefail

cd "$(dirname "$0")/.."
root=$PWD
base=longshore/debian
builder=longshore/debian-builder
image=longshore/python-web
report=
server=

stop_server() {
    if [ -n "$server" ] && kill -0 "$server" 2>/dev/null; then
        kill "$server"
        wait "$server" || true
    fi
}
trap stop_server EXIT

# phase NAME COMMAND...: runs a command under a headline and notes how long it took.
phase() {
    local name=$1 start end
    shift
    printf '\n==> %s\n' "$name"
    start=$(date +%s%N)
    "$@"
    end=$(date +%s%N)
    report+=$(printf '%-44s %6d.%d s' "$name" $(((end - start) / 1000000000)) $(((end - start) / 100000000 % 10)))$'\n'
}

create_base() {
    # The base images take the longest and change only with base.toml.
    local mark
    mark=$data/quickstart-base-$(sha256sum "$root/fixtures/builders/debian/base.toml" | cut -c -16)
    if [ -e "$mark" ] && "$longshore" image ls | grep -q "$base-run"; then
        echo "$base-build and $base-run are there"
        return
    fi
    "$longshore" base create "$base" --config "$root/fixtures/builders/debian/base.toml"
    touch "$mark"
}

create_builder() {
    "$longshore" builder create "$builder" --config "$root/fixtures/builders/debian/builder.toml"
}

build_app() {
    "$longshore" build "$image" --path "$root/fixtures/apps/python-web" --builder "$builder"
}

# A port that nobody listens on: 8080 if it can be had.
free_port() {
    local port
    for port in 8080 8081 8082 $((20000 + RANDOM % 20000)) $((20000 + RANDOM % 20000)); do
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            echo "$port"
            return
        fi
    done
    echo "there is no free port" >&2
    return 1
}

run_app() {
    local port
    port=$(free_port)
    "$longshore" run "$image" --env "PORT=$port" &
    server=$!
    for _ in $(seq 150); do
        if answer=$(curl --silent --fail --noproxy '*' "http://127.0.0.1:$port/"); then
            printf '\n$ curl http://127.0.0.1:%s/\n%s\n' "$port" "$answer"
            return
        fi
        kill -0 "$server" 2>/dev/null || { echo "the app has ended" >&2; return 1; }
        sleep 0.2
    done
    echo "the app does not answer on port $port" >&2
    return 1
}

scripts/toolchain.sh
host=$(rustc -vV | sed -n 's/^host: //p')
longshore=$root/target/$host/release/longshore
data=${XDG_DATA_HOME:-$HOME/.local/share}/longshore
mkdir -p "$data"

phase "Debian packages" scripts/packages.sh build
phase "Longshore itself, cargo build --release" scripts/build.sh --quiet
phase "Base images, longshore base create" create_base
phase "Builder, longshore builder create" create_builder
phase "App, longshore build" build_app
phase "Answer, longshore run" run_app

printf '\n%s' "$report"
cat <<END

The image is in the local store. What to try next:
  $longshore run $image --env PORT=8080
  $longshore build my-app --path DIR --builder $builder
  $longshore build registry.example.com/my-app --path DIR --builder $builder --publish
END
