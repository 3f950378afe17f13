#!/bin/sh
# build_sqlite.sh APP: fetch or build Kuma's SQLite module in the npm project APP.
#
# node-gyp cannot build below a path with a space in it, so there it builds in a copy elsewhere.
set -eu
module=node_modules/@louislam/sqlite3

rebuild() {
    npm rebuild --prefix "$1" --foreground-scripts --loglevel=error @louislam/sqlite3
}

case $1 in
*[[:space:]]*)
    elsewhere=$(mktemp -d)
    trap 'rm -rf "$elsewhere"' EXIT
    trap 'exit 1' HUP INT TERM
    cp -R "$1/package.json" "$1/package-lock.json" "$1/node_modules" "$elsewhere/"
    rebuild "$elsewhere"
    cp -R "$elsewhere/$module/lib/binding" "$1/$module/lib/"
    ;;
*) rebuild "$1" ;;
esac
