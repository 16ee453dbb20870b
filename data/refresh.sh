#!/bin/sh
# Fetches the current embedded country database and its licence from its npm package.
# Needs npm and tar. Run from anywhere; then update the version and checksum in README.md
# with the two lines it prints, and run `cargo test -p nearmost-broker geoip`.
set -eu

package='@ip-location-db/geo-whois-asn-country-mmdb'
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

(cd "$work" && npm pack --silent "$package" >name && tar -xzf "$(tail -n 1 name)")
for file in geo-whois-asn-country.mmdb NRO_LICENSE package.json; do
    [ -s "$work/package/$file" ] || { echo "$package has no $file" >&2; exit 1; }
done

# Renamed into place, so that a build never sees half a file.
for file in geo-whois-asn-country.mmdb NRO_LICENSE; do
    cp "$work/package/$file" "$here/$file.new"
    chmod 644 "$here/$file.new"
    mv "$here/$file.new" "$here/$file"
done

sed -n 's/^ *"version": *"\([^"]*\)".*/version \1/p' "$work/package/package.json"
(cd "$here" && sha256sum geo-whois-asn-country.mmdb)
