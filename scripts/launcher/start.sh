#!/bin/sh
# Finds a Python and hands over to the launcher. People call `scripts/up` and its siblings instead.
root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd -P) || exit 1
MESSAGECORE_CALLER_DIR=$(pwd -P) || exit 1
export MESSAGECORE_CALLER_DIR

suitable() {
  "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

for candidate in ${MESSAGECORE_VENV:+"$MESSAGECORE_VENV/bin/python"} ${VIRTUAL_ENV:+"$VIRTUAL_ENV/bin/python"} \
  python3.14 python3.13 python3.12 python3.11 python3 python; do
  if suitable "$candidate"; then
    # A relative path would be lost with the change of directory.
    python=$("$candidate" -c 'import sys; print(sys.executable)')
    cd -- "$root" || exit 1
    exec "$python" -m scripts.launcher.bootstrap "$@"
  fi
done

echo "MessageCore needs Python 3.11 or newer, and none was found on PATH." >&2
if command -v python3 >/dev/null 2>&1; then
  echo "  python3 is $(python3 --version 2>&1)." >&2
fi
echo "  Install one (Debian, Ubuntu: apt install python3 python3-venv; macOS: brew install python) and try again." >&2
exit 1
