# shellcheck shell=bash
# Sourced by run and soak: named steps with their time, background builds, a real cluster, and an end that leaves nothing running.

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$project" || exit
shared=${EXITCODE_SHARED:-$project/../shared}
cluster=${EXITCODE_CLUSTER:-$shared/cluster}
# shellcheck disable=SC2034 # used by who sources this
tools=${EXITCODE_TOOLS:-$shared/tools}
cluster_state=${EXITCODE_CLUSTER_DIR:-$HOME/.cache/exitcode-cluster}
out=${EXITCODE_E2E_OUTPUT:-$(mktemp -d -t exitcode-ci-XXXXXX)}
mkdir -p "$out"
rm -f "$out"/background-*.status
export EXITCODE_E2E_OUTPUT=$out EXITCODE_CLUSTER=$cluster PYTHONDONTWRITEBYTECODE=1
passed=0 failed=0 skipped=0
failures=() backgrounds=() our_cluster=no current=
began=$SECONDS

say() { printf '%s\n' "$*"; }

# step NAME COMMAND...: runs it with its output in a file, and shows the end of that if it fails.
step() {
  local name=$1 log status=0 from=$SECONDS; shift
  log=$out/$(printf '%s' "$name" | tr -c 'a-zA-Z0-9' '-').log
  printf '%-58s ' "$name"
  # A process group of its own, so that everything it started can be ended by its id.
  if [ "$(type -t "$1")" = file ]; then setsid "$@" >"$log" 2>&1 </dev/null & else "$@" >"$log" 2>&1 </dev/null & fi
  current=$!
  wait "$current" || status=$?
  # What it left behind.
  kill -- "-$current" 2>/dev/null || true
  current=
  if [ "$status" = 0 ]; then
    passed=$((passed + 1)); printf 'ok      %4d s\n' $((SECONDS - from))
  else
    failed=$((failed + 1)); failures+=("$name"); printf 'FAILED  %4d s (exit status %d, %s)\n' $((SECONDS - from)) "$status" "$log"
    tail -n 60 "$log" | sed 's/^/    /'
  fi
}

skip() { skipped=$((skipped + 1)); printf '%-58s skipped: %s\n' "$1" "$2"; }

# background NAME COMMAND...: starts it with low priority beside the steps, one at a time; `await NAME` waits for it.
background() {
  local name=$1; shift
  # shellcheck disable=SC2016 # expanded by the inner shell
  setsid nice -n 15 bash -c '"${@:2}" && echo 0 >"$1" || echo 1 >"$1"' - "$out/background-$name.status" "$@" \
    >"$out/background-$name.log" 2>&1 </dev/null &
  backgrounds+=("$!")
}
await() {
  until [ -s "$out/background-$1.status" ] || ! kill -0 "${backgrounds[-1]}" 2>/dev/null; do sleep 1; done
  tail -n 20 "$out/background-$1.log"
  [ "$(cat "$out/background-$1.status" 2>/dev/null)" = 0 ]
}

# Ends what was started here, by process id, and the cluster if it was started here.
finish() {
  local status=$?
  trap - EXIT
  if [ -n "$current" ]; then
    kill -- "-$current" 2>/dev/null || kill "$current" 2>/dev/null || true
    wait "$current" 2>/dev/null || true
  fi
  for pid in "${backgrounds[@]}"; do kill -- "-$pid" 2>/dev/null || true; done
  if [ "$our_cluster" = yes ]; then "$cluster/down" >"$out/cluster-down.log" 2>&1 || true; fi
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# The exporter with points at which tests end it, as $faulty: not optimised, which costs a minute less than it takes longer.
faulty=$out/exitcode-exporter-faults
# shellcheck disable=SC2034 # used by who sources this
simulated=$project/target/debug/examples/simulated-api-server
build_faulty() {
  cargo build --locked --features fault-points --bin exitcode-exporter --example simulated-api-server &&
    cp target/debug/exitcode-exporter "$faulty"
}

# Why no real cluster can be had here; empty if it can.
no_cluster_because() {
  if [ ! -x "$cluster/up" ]; then echo "there is no $cluster/up"
  elif [ "$(id -u)" != 0 ]; then echo "it needs root"
  elif ! command -v go >/dev/null; then echo "it needs Go"
  fi
}

cluster_runs() { [ -s "$cluster_state/run/kubelet.pid" ] && kill -0 "$(cat "$cluster_state/run/kubelet.pid")" 2>/dev/null; }

# cluster_up VERSION: the cluster of that version, ours to stop; one that already runs with it is used and left alone.
cluster_up() {
  if cluster_runs && [ "$(cat "$cluster_state/run/kubernetes")" = "$1" ]; then say "already up: left running at the end"; return; fi
  if cluster_runs; then say "another version is up: cluster/down first"; return 1; fi
  EXITCODE_CLUSTER_KUBERNETES=$1 "$cluster/up"
}

# debian_package NAME BINARY: prints the path of a binary of a Debian package, unpacked and not installed, so that no service starts.
debian_package() {
  local place=${XDG_CACHE_HOME:-$HOME/.cache}/exitcode-e2e
  if [ ! -x "$place/usr/bin/$2" ]; then
    mkdir -p "$place/packages"
    apt-get update -q >&2
    (cd "$place/packages" && apt-get download -q "$1" >&2 && dpkg -x "$1"_*.deb "$place")
  fi
  echo "$place/usr/bin/$2"
}
debian_prometheus() { debian_package prometheus prometheus; }

# Debian's Alertmanager reads its templates from one place only; promtool and amtool of Debian are beside it.
debian_alertmanager() {
  local binary templates=/usr/share/prometheus/alertmanager
  debian_prometheus >/dev/null
  binary=$(debian_package prometheus-alertmanager prometheus-alertmanager)
  if [ ! -e $templates ]; then
    mkdir -p "$(dirname $templates)"
    cp -r "$(dirname "$binary")/../share/prometheus/alertmanager" $templates
  fi
  echo "$binary"
}

# chromium_installed: whether there is a Chromium, installed with a Korean font where that is possible.
chromium_installed() {
  command -v chromium >/dev/null && return
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
  { apt-get update -q && apt-get install -q -y --no-install-recommends chromium fonts-nanum; } >"$out/chromium.log" 2>&1 </dev/null
}

python_is_new() { python3 -c 'import tomllib' 2>/dev/null; }

# audit: what cargo-deny knows, as far as it can know it here. The advisories need their database, which is on GitHub.
audit() {
  if ! command -v cargo-deny >/dev/null; then
    skip "licences, bans, sources (cargo-deny)" "cargo-deny is not installed (.ci/soak installs it)"
    skip "advisories" "cargo-deny is not installed (.ci/soak installs it)"
    return
  fi
  step "licences, bans, sources (cargo-deny)" cargo deny --locked check licenses bans sources
  if timeout 20 git ls-remote -q https://github.com/RustSec/advisory-db HEAD >/dev/null 2>&1; then
    step "advisories" cargo deny --locked check advisories
  else
    skip "advisories" "their database can't be reached from here (the workflow audit asks daily)"
  fi
}

# lint_scripts: shell scripts by shellcheck, workflows by actionlint, which reads their scripts with shellcheck too.
lint_scripts() {
  local actionlint scripts=()
  if ! command -v shellcheck >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    { apt-get update -q && apt-get install -q -y --no-install-recommends shellcheck; } >"$out/shellcheck.log" 2>&1 </dev/null || true
  fi
  if command -v shellcheck >/dev/null; then
    mapfile -t scripts < <(git ls-files | xargs -d '\n' grep -lE '^(#!.*\b(ba)?sh$|# shellcheck shell=)')
    step "shell scripts" shellcheck -x "${scripts[@]}"
  else
    skip "shell scripts" "shellcheck is not installed"
  fi
  actionlint=$(PATH="$PATH:${EXITCODE_TOOLS_DIR:-$HOME/.cache/exitcode-tools}" command -v actionlint || true)
  if [ -n "$actionlint" ]; then
    step "workflows" "$actionlint"
  else
    skip "workflows" "actionlint is not installed (.ci/build-tools builds it)"
  fi
}

summary() {
  say ""
  say "$passed passed, $failed failed, $skipped skipped in $(((SECONDS - began) / 60)) min $(((SECONDS - began) % 60)) s; logs in $out"
  for name in "${failures[@]}"; do say "failed: $name"; done
  [ "$failed" = 0 ]
}
