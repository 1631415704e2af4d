# How to start the application where no Procfile says so. Sourced by bin/build.

# write_process DESCRIPTION COMMAND...: the process `web` of launch.toml.
write_process() {
    echo "Start command: $1"
    shift
    command=
    for word in "$@"; do
        command="$command${command:+, }\"$(printf %s "$word" | sed 's/\\/\\\\/g; s/"/\\"/g')\""
    done
    printf '[[processes]]\ntype = "web"\ncommand = [%s]\ndefault = true\n' "$command" > "$CNB_LAYERS_DIR/launch.toml"
}

# application_variable FILE: the name of the module's WSGI or ASGI application.
application_variable() {
    sed -n 's/^\(application\|app\|server\)[[:space:]]*\(:[^=]*\)\{0,1\}=[^=].*$/\1/p' "$1" | head -n 1
}

installed() {
    [ -x "$venv/bin/$1" ]
}

# The first match wins: an application server that the requirements name, else the entry file itself.
write_start_command() {
    if [ -f manage.py ] && installed gunicorn; then
        for file in */wsgi.py; do
            [ -f "$file" ] || continue
            module=$(dirname "$file").wsgi
            write_process "gunicorn $module" gunicorn "$module"
            return
        done
    fi
    for file in asgi.py main.py app.py server.py; do
        [ -f "$file" ] && installed uvicorn || continue
        variable=$(application_variable "$file")
        [ -n "$variable" ] && grep -Eq 'FastAPI|Starlette|Quart|Litestar|asgi' "$file" || continue
        target=${file%.py}:$variable
        write_process "uvicorn $target" sh -c "exec uvicorn $target --host 0.0.0.0 --port \"\$PORT\""
        return
    done
    for file in wsgi.py app.py main.py server.py; do
        [ -f "$file" ] && installed gunicorn || continue
        variable=$(application_variable "$file")
        [ -n "$variable" ] || continue
        # gunicorn binds to 0.0.0.0:$PORT by itself when PORT is set.
        write_process "gunicorn ${file%.py}:$variable" gunicorn "${file%.py}:$variable"
        return
    done
    for file in app.py main.py server.py wsgi.py asgi.py; do
        [ -f "$file" ] || continue
        write_process "python $file" python "$file"
        return
    done
    if [ -f manage.py ]; then
        write_process "python manage.py runserver" sh -c 'exec python manage.py runserver "0.0.0.0:$PORT"'
        return
    fi
    echo "No start command found. Add a Procfile with a line such as: web: python your_file.py"
}
