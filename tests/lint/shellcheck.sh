#!/bin/sh
# Checks every shell script that git knows or would add: by its name, or by its first line where it has no extension.
set -eu
command -v shellcheck >/dev/null || { echo 'lint: shellcheck is missing; install it with: apt-get install shellcheck' >&2; exit 1; }
cd "$(dirname "$0")/../.."

is_script() {
  case ${1##*/} in
    *.sh | *.bash) true ;;
    *.*) false ;;
    *) head -n 1 "$1" | grep -Eaq '^#! */(usr/)?bin/(env +)?(ba|da)?sh|^# shellcheck shell=' ;;
  esac
}

set --
found=$(mktemp)
trap 'rm -f "$found"' EXIT
git ls-files --cached --others --exclude-standard >"$found"
while IFS= read -r file; do
  # A file may be deleted or moved in the work tree and still stand in the index.
  if [ -f "$file" ] && is_script "$file"; then set -- "$@" "$file"; fi
done <"$found"
[ $# -gt 0 ] || { echo 'lint: found no shell script' >&2; exit 1; }
shellcheck --external-sources "$@"
echo "shellcheck: $# scripts"
