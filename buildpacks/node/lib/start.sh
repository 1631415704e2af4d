# How to start the application where no Procfile says so. Sourced by bin/build.

# write_process COMMAND...: the process `web` of launch.toml.
write_process() {
    echo "Start command: $*"
    command=
    for word in "$@"; do
        command="$command${command:+, }\"$(printf %s "$word" | sed 's/\\/\\\\/g; s/"/\\"/g')\""
    done
    printf '[[processes]]\ntype = "web"\ncommand = [%s]\ndefault = true\n' "$command" > "$CNB_LAYERS_DIR/launch.toml"
}

# The command behind `npm start`. The image that runs has no npm, so scripts that only call another one are followed.
start_script() {
    package '(() => {
        const scripts = manifest.scripts || {};
        let script = scripts.start;
        for (let depth = 0; depth < 8; depth++) {
            const call = /^npm (?:run(?:-script)? )?([\w:.-]+)$/.exec((script || "").trim());
            if (!call || !(call[1] in scripts)) break;
            script = scripts[call[1]];
        }
        return script;
    })()'
}

write_start_command() {
    if [ -f Procfile ]; then
        echo "The Procfile says how to start the application"
        return
    fi
    start=$(start_script)
    if [ -n "$start" ]; then
        case $start in
            npm\ * | npx\ * | yarn\ * | *" npm "* | *" npx "* | *" yarn "*)
                echo "WARNING: the start script calls a package manager, which the image that runs does not have" >&2
                ;;
        esac
        if printf %s "$start" | grep -Eq '^[A-Za-z0-9@%+=:,./ _-]+$' && ! printf %s "$start" | grep -q '^[A-Z_]*='; then
            # Words without a meaning to the shell need no shell.
            set -f
            # shellcheck disable=SC2086 # it is to be split
            write_process $start
            set +f
        else
            write_process sh -c "$start"
        fi
        return
    fi
    for file in "$(package 'manifest.main')" server.js index.js app.js; do
        if [ -n "$file" ] && [ -f "$file" ]; then
            write_process node "$file"
            return
        fi
    done
    echo "No start command found. Add a start script to package.json or a Procfile"
}
