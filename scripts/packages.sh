#!/bin/sh
# packages.sh LIST...: makes sure that Debian packages are installed. The lists are below.
#
# Root installs what is missing; so does a user whose sudo asks for no password. Anyone else is told the command.
set -eu

# To build and to make base images.
BUILD="autoconf automake ca-certificates curl debian-archive-keyring gcc libc6-dev libtool make mmdebstrap nasm uidmap"
# The other side of the end-to-end tests: registries, clients, runtimes.
TEST="apache2-utils binutils busybox-static containerd docker-registry docker.io mount openssl passwd podman python3 python3-venv qemu-user runc skopeo util-linux zstd"
# libFuzzer is written in C++.
FUZZ="g++"
# The peers of the benchmark, and what watches Longshore in it.
BENCH="bubblewrap buildah linux-perf pigz strace tar umoci"

wanted=
for list in "$@"; do
    case $list in
        build) wanted="$wanted $BUILD" ;;
        test) wanted="$wanted $BUILD $TEST" ;;
        bench) wanted="$wanted $BUILD $TEST $BENCH" ;;
        fuzz) wanted="$wanted $BUILD $FUZZ" ;;
        *) echo "packages.sh: there is no list $list; there are build, test, bench and fuzz" >&2; exit 2 ;;
    esac
done

missing=
for package in $wanted; do
    if ! dpkg-query -W -f='${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed; then
        missing="$missing $package"
    fi
done
# Node.js may come from elsewhere than Debian, and then Debian's npm cannot be installed beside it.
case " $* " in
    *" test "* | *" bench "*) [ -x /usr/bin/node ] && [ -x /usr/bin/npm ] || missing="$missing nodejs npm" ;;
esac

if [ -z "$missing" ]; then
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "This machine has no apt-get. Install what these Debian packages have:$missing" >&2
    exit 1
fi
if [ "$(id -u)" = 0 ]; then
    as_root=
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    as_root="sudo -n"
else
    echo "Packages are missing. Run as root: apt-get install --no-install-recommends$missing" >&2
    exit 1
fi

echo "Installing:$missing"
# Tests start servers of their own; the ones of these packages should not start by themselves. Debian's way to say
# so is a policy, which is taken back afterwards.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod 755 "$policy"
    trap '$as_root rm -f "$policy"' EXIT
fi
apt() {
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@"
}
log=$(mktemp)
# An old list of packages names files that the archive may not have any more.
# shellcheck disable=SC2086 # it is a list
if ! { apt update && apt install -y --no-install-recommends $missing; } >"$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    echo "The packages could not be installed; apt's output is above." >&2
    exit 1
fi
rm -f "$log"
