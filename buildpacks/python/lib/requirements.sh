# Reading and installing requirements.txt. Sourced by bin/build.

# requirements_files FILE: FILE and the files that it includes with -r and -c, each once.
requirements_files() {
    python3 - "$1" <<'END'
import os, re, sys

INCLUDE = re.compile(r"^\s*(?:-r|-c|--requirement|--constraint)[\s=]*(\S+)")

def visit(path, seen):
    path = os.path.normpath(path)
    if path in seen or not os.path.isfile(path):
        return
    seen.append(path)
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            if included := INCLUDE.match(line):
                visit(os.path.join(os.path.dirname(path), included.group(1)), seen)

seen = []
visit(sys.argv[1], seen)
print("\n".join(seen))
END
}

# The names and contents of all requirement files: what decides which packages are installed.
requirements_contents() {
    requirements_files requirements.txt | while IFS= read -r file; do
        [ -n "$file" ] || continue
        echo "== $file"
        cat "$file"
    done
}

# Whether a requirement is a folder or a file of the application itself, whose contents the key does not cover.
requirements_are_local() {
    requirements_contents | grep -Eq '^[[:space:]]*(-e[[:space:]=]|--editable|\.|/|file:)|@[[:space:]]*file:'
}

install_requirements() {
    echo "Installing the packages of requirements.txt"
    # pip runs from outside of the virtual environment, so that the image holds no package installer.
    if python3 -m pip --version >/dev/null 2>&1; then
        pip_python=python3
    else
        pip_home=$(mktemp -d)
        trap 'rm -rf "$pip_home"' EXIT
        python3 -m venv "$pip_home/venv"
        pip_python=$pip_home/venv/bin/python
    fi
    if [ -z "${PIP_CERT:-}" ] && [ -f /etc/ssl/certs/ca-certificates.crt ]; then
        export PIP_CERT=/etc/ssl/certs/ca-certificates.crt
    fi
    mkdir -p "$pip_cache"
    # The time goes into the archives of wheels that are built from source.
    SOURCE_DATE_EPOCH=315532801 PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1 \
        PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore PIP_CACHE_DIR="$pip_cache" \
        "$pip_python" -m pip --python "$venv/bin/python" install \
        --no-compile --progress-bar off --no-warn-script-location -r requirements.txt ||
        fail "pip could not install requirements.txt. Its message is above."
    # An editable install leaves its own path alone, but pip notes where each archive came from while building.
    find "$venv" -name __pycache__ -type d -prune -exec rm -rf {} +
}
