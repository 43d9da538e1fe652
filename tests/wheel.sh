#!/bin/sh
# The built wheel, installed where there is no checkout: alone it answers and names each extra that is missing, and with
# its `local` extra it does what the checkout does. Takes a wheel that is there already; PYTHON is who runs it.
set -eu
wheel="$(realpath "${1:-.}")"
cd "$(dirname "$0")/.."
uv="$(command -v uv || echo "$PWD/.venv/bin/uv")"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
if [ ! -f "$wheel" ]; then
  echo "Building the wheel" >&2
  "$uv" build --quiet --wheel --build-constraints requirements-build.lock --require-hashes --out-dir "$work/dist"
  wheel="$(ls "$work"/dist/lkmongo-*.whl)"
fi
echo "Installing the wheel in an environment of its own" >&2
"$uv" venv --quiet --python "${PYTHON:-.venv/bin/python}" "$work/venv"
python="$work/venv/bin/python"
# The locks pin what is installed and by which hash, whatever the extras; uv reads it as constraints.
cat requirements.lock requirements-voice.lock | grep -v '^ *# via' > "$work/constraints.txt"
install() {
  "$uv" pip install --quiet --python "$python" --constraint "$work/constraints.txt" "lkmongo$1 @ file://$wheel"
}
scenarios="$PWD/docs/examples/scenarios"
cd "$work"
export HOME="$work/home" LKMONGO_HOME="$work/data"
mkdir -p "$HOME"
lkmongo="$work/venv/bin/lkmongo"

fail() {
  echo "$1" >&2
  exit 1
}

# refused EXTRA CODE COMMAND...: the command ends with that code, and says how to install the extra.
refused() {
  extra="$1" expected="$2"
  shift 2
  code=0
  said="$("$@" 2>&1 </dev/null)" || code=$?
  case "$code $said" in
    "$expected "*"pip install \"lkmongo[$extra]\""*) ;;
    *) fail "without the extra $extra, $* ended with $code and said: $said" ;;
  esac
}

"$python" - "$wheel" <<'EOF'
import sys, zipfile
top = {name.partition("/")[0] for name in zipfile.ZipFile(sys.argv[1]).namelist()}
sys.exit(0 if top == {"lkmongo", next(name for name in top if name.endswith(".dist-info"))} else f"it installs {top}")
EOF

install ""
# On PyPI the README stands alone: each of its links has to be whole.
"$python" - <<'EOF'
import re
from importlib.metadata import metadata

readme = metadata("lkmongo").get_payload()
assert "](https://" in readme and not re.search(r"\]\((?!https://)", readme), "the README has relative links"
EOF
"$lkmongo" --version >/dev/null
"$lkmongo" --help | grep -q ' knowledge '
"$lkmongo" agent run --help >/dev/null
printf 'x' > leaflet.pdf
printf 'x' > page.html
refused pdf 2 "$lkmongo" knowledge add leaflet.pdf
refused html 2 "$lkmongo" knowledge add page.html
refused local 1 env PATH="$work/venv/bin" "$lkmongo" memory list u-100
# livekit-agents brings these two; that they are named matters once it no longer does.
"$uv" pip uninstall --quiet --python "$python" sounddevice opentelemetry-exporter-otlp-proto-http
refused voice 1 env LKMONGO_SPEECH=local "$lkmongo" doctor --only speech
refused audio 2 "$lkmongo" agent console --list-devices
refused telemetry 2 env OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:9 "$lkmongo" memory list u-100

install "[local]"
said="$(printf 'my name is Robin\nwhere is order 1001\nwhat is your return policy\n' | "$lkmongo" agent console --user u-100)"
printf '%s\n' "$said" | grep -q 'agent> .*Robin'
printf '%s\n' "$said" | grep -q 'agent> .*1001 is'
printf '%s\n' "$said" | grep -qi 'agent> .*return'
"$lkmongo" agent test "$scenarios/survives-a-kill.yaml" >/dev/null
"$lkmongo" db seed --json | grep -q '"kept": 0'
refused parquet 2 "$lkmongo" sessions export -O calls.parquet
refused openai 2 env LKMONGO_LLM_BASE_URL=http://127.0.0.1:9/v1 "$lkmongo" agent console
install "[local,voice]"
"$lkmongo" doctor --only speech | grep -q 'the engines on this machine'
echo "1 passed, 0 failed"
