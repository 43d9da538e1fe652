#!/bin/sh
# The built wheel, installed with its `local` extra where there is no checkout, does what the checkout does.
set -eu
cd "$(dirname "$0")/.."
uv="$(command -v uv || echo "$PWD/.venv/bin/uv")"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
echo "Building the wheel and installing it in an environment of its own" >&2
"$uv" build --quiet --wheel --out-dir "$work/dist"
"$uv" venv --quiet --python .venv/bin/python "$work/venv"
grep -v '^ *# via' requirements.lock > "$work/constraints.txt"
"$uv" pip install --quiet --python "$work/venv/bin/python" --constraint "$work/constraints.txt" \
  "lkmongo[local] @ file://$(ls "$work"/dist/lkmongo-*.whl)"
cd "$work"
export HOME="$work/home" LKMONGO_HOME="$work/data"
mkdir -p "$HOME"
lkmongo="$work/venv/bin/lkmongo"
said="$(printf 'my name is Robin\nwhere is order 1001\nwhat is your return policy\n' | "$lkmongo" agent console --user u-100)"
printf '%s\n' "$said" | grep -q 'agent> .*Robin'
printf '%s\n' "$said" | grep -q 'agent> .*1001 is'
printf '%s\n' "$said" | grep -qi 'agent> .*return'
"$lkmongo" db seed --json | grep -q '"kept": 0'
echo "1 passed, 0 failed"
