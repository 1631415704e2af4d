#!/bin/sh
# What no compiler looks at: the shell scripts, the programs of buildpacks, the length of files.
set -eu

cd "$(dirname "$0")/.."
failed=0

for file in $(git ls-files 'scripts/*.sh' 'buildpacks/*/bin/*' .ci/run); do
    [ -x "$file" ] || { echo "$file is not executable" >&2; failed=1; }
    case $(head -n 1 "$file") in
        '#!/bin/sh') sh -n "$file" || failed=1 ;;
        '#!/bin/bash') bash -n "$file" || failed=1 ;;
        *) echo "$file: the first line is neither #!/bin/sh nor #!/bin/bash" >&2; failed=1 ;;
    esac
done
for file in $(git ls-files 'buildpacks/*/lib/*.sh'); do
    sh -n "$file" || failed=1
done

for file in $(git ls-files '*.rs'); do
    lines=$(wc -l <"$file")
    [ "$lines" -le 600 ] || { echo "$file has $lines lines; split files before they have 600" >&2; failed=1; }
done

# A lockfile that names a mirror would send everybody there.
if git ls-files '*package-lock.json' | xargs grep -n '"resolved"' /dev/null | grep -v 'https://registry.npmjs.org/'; then
    echo "a package-lock.json names another place than registry.npmjs.org" >&2
    failed=1
fi
exit "$failed"
