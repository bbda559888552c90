#!/usr/bin/env bash
# From a plain clone to a working srpipe, in .venv; safe to repeat.
#   ./setup.sh          set up and enlarge an example clip that it makes itself
#   ./setup.sh test     set up and run every check
set -euo pipefail
cd "$(dirname "$0")"

what=${1:-example}
case "$what" in
    example) extras="" ;;
    test) extras="[all]" ;;
    *) echo "usage: ./setup.sh [example|test]" >&2; exit 2 ;;
esac

# The napari plugin's form is tested in a window, on a screen in memory that Mesa draws on. Without
# one those tests are skipped, and say so.
make_screen() {
    local packages="xvfb xauth libgl1 libgl1-mesa-dri libegl1 libglib2.0-0 libfontconfig1
        libdbus-1-3 libxkbcommon-x11-0 libxcb-cursor0 libxcb-glx0 libxcb-icccm4 libxcb-image0
        libxcb-keysyms1 libxcb-randr0 libxcb-render-util0 libxcb-shape0 libxcb-xkb1"
    # elsewhere than on Debian it is not known what is missing
    if ! command -v dpkg >/dev/null || dpkg -s $packages &>/dev/null ||
        grep -qxF screen .venv/ready; then
        return
    fi
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -q &&
        DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $packages; then
        echo screen >> .venv/ready
    else
        echo "Tests of the napari plugin's form are left out; for them:" >&2
        echo "sudo apt-get install" $packages >&2
    fi
}

python=""
for each in python3.11 python3.12 python3.13 python3; do
    if "$each" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$each
        break
    fi
done
if [ -z "$python" ]; then
    echo "srpipe needs Python 3.11 or newer; on Debian: sudo apt-get install python3 python3-venv" >&2
    exit 1
fi

if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    package="$("$python" -c 'import sys; print(f"python{sys.version_info[0]}.{sys.version_info[1]}-venv")')"
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -q && apt-get install -q -y "$package"
    else
        echo "Python's venv is missing; install it first: sudo apt-get install $package" >&2
        exit 1
    fi
fi

# An environment that was moved, or whose making was cut short, is made anew.
if [ "$(cat .venv/place 2>/dev/null)" != "$PWD" ] || ! .venv/bin/python -c '' 2>/dev/null; then
    rm -rf .venv
    "$python" -m venv .venv
    pwd > .venv/place
fi

state="$(cat pyproject.toml constraints.txt | sha256sum | cut -c1-16) $extras"
if ! grep -qxF "$state" .venv/ready 2>/dev/null; then
    .venv/bin/python -m pip install --quiet --constraint constraints.txt --editable ".$extras"
    echo "$state" >> .venv/ready
fi
export PATH="$PWD/.venv/bin:$PATH"

if [ "$what" = example ]; then
    python examples/make_clip.py example.mp4
    srpipe upscale example.mp4 --model eagcl
else
    ruff format --check .
    ruff check .
    mypy
    lint-imports
    screen=""
    if [ -z "${DISPLAY:-}" ]; then
        make_screen
        if command -v xvfb-run >/dev/null; then screen="xvfb-run -a"; fi
    fi
    $screen python -m pytest
fi
