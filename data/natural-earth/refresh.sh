#!/bin/sh
# Fetches the current outlines and their licence from their npm package. Needs npm and tar. Run from
# anywhere; then update the version and checksum in README.md with the two lines it prints, and run
# `cargo test -p nearmost-broker page`.
set -eu

package='world-atlas'
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

(cd "$work" && npm pack --silent "$package" >name && tar -xzf "$(tail -n 1 name)")
for file in countries-110m.json LICENSE package.json; do
    [ -s "$work/package/$file" ] || { echo "$package has no $file" >&2; exit 1; }
done

# Renamed into place, so that a build never sees half a file.
put() {
    cp "$work/package/$1" "$here/$2.new"
    chmod 644 "$here/$2.new"
    mv "$here/$2.new" "$here/$2"
}
put countries-110m.json countries-110m.json
put LICENSE LICENSE-world-atlas

sed -n 's/^ *"version": *"\([^"]*\)".*/version \1/p' "$work/package/package.json"
(cd "$here" && sha256sum countries-110m.json)
