# The layer `dependencies`, which holds the folder node_modules. Sourced by bin/build.

has_build_script() {
    [ -n "$(package 'manifest.scripts && manifest.scripts.build')" ]
}

# Everything that decides what ends up in node_modules.
packages_key() {
    {
        cat "$buildpack_dir/buildpack.toml" package-lock.json
        [ ! -f .npmrc ] || cat .npmrc
        node --version
        uname -m
        has_build_script && echo "with development packages"
        package '["preinstall", "install", "postinstall", "prepare"].map(name => (manifest.scripts || {})[name])'
    } | sha256sum | cut -d ' ' -f 1
}

install_packages() {
    layer=$CNB_LAYERS_DIR/dependencies
    if [ ! -f package-lock.json ]; then
        if [ -n "$(package 'Object.keys({ ...manifest.dependencies, ...manifest.devDependencies })[0]')" ]; then
            fail "package.json names dependencies but there is no package-lock.json. Run: npm install --package-lock-only, and commit the file."
        fi
        echo "No dependencies: nothing to install"
        rm -rf "$layer" "$layer.toml"
        return
    fi
    if [ -e node_modules ] || [ -L node_modules ]; then
        echo "Leaving out the application's own node_modules: package-lock.json decides"
        rm -rf node_modules
    fi
    key=$(packages_key)
    if [ "$(previous_key dependencies)" = "$key" ] && [ -d "$layer/node_modules" ]; then
        echo "package-lock.json is unchanged: keeping the installed packages"
    else
        echo "Installing the packages of package-lock.json"
        rm -rf "$layer" "$layer.toml"
        mkdir -p "$layer"
        if has_build_script; then omit=; else omit=--omit=dev; fi
        npm ci $omit || fail "npm could not install package-lock.json. Its message is above."
        mkdir -p node_modules
        mv node_modules "$layer/node_modules"
        # Programs of the packages, for start scripts that name one.
        mkdir -p "$layer/node_modules/.bin"
        ln -s node_modules/.bin "$layer/bin"
    fi
    write_layer dependencies "$key"
    # A link and not NODE_PATH, which ECMAScript modules do not look at.
    ln -s "$layer/node_modules" node_modules
}

build_application() {
    if has_build_script; then
        echo "Running the build script of package.json"
        npm run build || fail "the build script of package.json failed. Its message is above."
    fi
}
