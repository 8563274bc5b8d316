# k3s as server or agent: installed, upgraded, or configured anew; and uninstalled.
CONFIG_FILE=/etc/rancher/k3s/config.yaml
TOKEN_FILE=/etc/rancher/k3s/manager-cluster-state
: "${WAIT:=600}" "${DOWNLOAD:=3600}" "${SPACE:=500}"

apply() {
  lock
  booted_with_flags
  settle_config
  case $ROLE in
    server) service=k3s other=k3s-agent ;;
    agent) service=k3s-agent other=k3s ;;
  esac
  open_state
  fresh=$(why_anew)
  fetch_missing
  install
  start
  if [ "$ROLE" = server ]; then
    ready
    taint_server
  fi
  printf '%s %s %s\n' "$ROLE" "$BINARY" "$SCRIPT" | put 0644 "$STATE/k3s"
  rm -f "$STATE/restart" "$STATE/fetching" "$STATE/install.log"
  # Last: whoever finds it may trust that the rest is there.
  printf '%s\n' "$INSTALLATION" | put 0600 "$TOKEN_FILE"
  rm -rf "$(copies)"
}

remove() {
  lock
  remove_k3s
  remove_files
  tidy_state
}

booted_with_flags() {
  if [ -z "$(cmdline)" ] && counts_memory; then
    return
  fi
  tr -s ' \t\n' '\n' </proc/cmdline | grep -qxF cgroup_enable=memory ||
    fail "it was not booted with cgroup_enable=memory, without which no pod has a memory limit: reboot it, and see that the cmdline.txt that it boots from has the flag"
}

# settle_config: pods get what the stack file says, however much the kernel leaves of the memory.
settle_config() {
  total=$(awk '$1 == "MemTotal:" { print $2 }' /proc/meminfo)
  reserved=$((total - ALLOCATABLE))
  [ "$reserved" -gt 0 ] ||
    fail "it has $((total / 1024))Mi of memory, and the stack file leaves $((ALLOCATABLE / 1024))Mi of it to pods: raise reserved of this node in cluster.nodes"
  config=$(printf '%s\n' "$CONFIG" | sed "s/@SYSTEM_RESERVED@/${reserved}Ki/")
}

# why_anew: what is installed is of no use to what is wanted.
why_anew() {
  if [ -e "/etc/systemd/system/$other.service" ]; then
    echo "it was installed as $other"
    return
  fi
  before=
  [ ! -e "$CONFIG_FILE" ] || before=$(authority <"$CONFIG_FILE")
  wanted=$(printf '%s\n' "$CONFIG" | authority)
  if [ -n "$before" ] && [ "$before" != "$wanted" ]; then
    echo "its server is another cluster now"
  fi
}

# authority: the hash of the cluster's CA, which a token begins with.
authority() { sed -n 's/^token: *"\{0,1\}K10\([0-9a-f]*\)::.*/\1/p'; }

# fetch_missing: everything that is needed is here and checked before anything is changed.
fetch_missing() {
  script=$STATE/install.sh
  run_script=yes
  if [ -z "$fresh" ] && [ -e "/etc/systemd/system/$service.service" ] && [ -x "/usr/local/bin/$service-uninstall.sh" ] &&
    [ "$(cat "$STATE/k3s" 2>/dev/null)" = "$ROLE $BINARY $SCRIPT" ]; then
    run_script=
  fi
  if [ "$(sum "$K3S_BINARY")" != "$BINARY" ]; then
    run_script=yes
    enough_space
  fi
  # The small one first: what is wrong with both is soon known.
  [ -z "$run_script" ] || [ "$(sum "$script")" = "$SCRIPT" ] || fetch install.sh "$SCRIPT_URL" "$SCRIPT" "$script.next"
  new_binary=
  if [ "$(sum "$K3S_BINARY")" != "$BINARY" ]; then
    new_binary=yes
    fetch k3s-arm64 "$BINARY_URL" "$BINARY" "$K3S_NEXT"
    is_release
  elif [ -n "$fresh" ]; then
    new_binary=yes
    rm -f "$K3S_NEXT"
    cp "$K3S_BINARY" "$K3S_NEXT" 2>/dev/null || spoiled "$K3S_NEXT"
  fi
  [ ! -e "$script.next" ] || mv -f "$script.next" "$script"
}

# forget: nothing stays of files that are not what they should be.
forget() {
  rm -f "$K3S_NEXT" "$script.next" "$STATE/fetching"
  tidy_state
}

# enough_space: for the binary, and for what it unpacks when it starts.
enough_space() {
  free=$(free_mb /usr/local/bin)
  if [ "$free" -lt "$SPACE" ] && [ "$(sum "$K3S_NEXT")" != "$BINARY" ]; then
    forget
    fail "only $free MB are free at /usr/local/bin, and k3s takes $SPACE MB to install; nothing was changed; free some space, for example with: sudo apt clean"
  fi
}

spoiled() {
  left=$(free_mb "$(dirname "$1")")
  rm -f "$1"
  fail "$1 could not be written, with $left MB free before it was deleted; free some space, and run this again"
}

# fetch NAME URL SUM FILE
fetch() {
  [ "$(sum "$4")" != "$3" ] || return 0
  if [ -n "$2" ]; then
    from=$2
    # What is there already may be of another release.
    [ "$(cat "$STATE/fetching" 2>/dev/null)" = "$3" ] || rm -f "$4"
    printf '%s\n' "$3" | put 0644 "$STATE/fetching"
    say "fetching $1 from $from"
    download "$2" "$4"
  else
    from=$(copies)/$1
    [ -f "$from" ] || fail "$1 was not copied here; copy it again with pulumi up and --replace of the step that copies it"
    rm -f "$4"
    cp "$from" "$4" 2>/dev/null || spoiled "$4"
  fi
  got=$(sum "$4")
  if [ "$got" != "$3" ]; then
    forget
    fail "$1 from $from has the wrong checksum, and nothing was changed: wanted $3, got $got; see that cluster.k3s and cluster.install are of one release, which make pin sees to"
  fi
}

# download URL FILE: goes on where a line that dropped has ended.
download() {
  deadline=$(($(now) + DOWNLOAD))
  try=0
  while :; do
    try=$((try + 1))
    left=$((deadline - $(now)))
    [ "$left" -gt 0 ] || fail "fetching $1 took longer than $DOWNLOAD s; run this again, and it goes on where it was"
    code=0
    if command -v curl >/dev/null; then
      problem=$(within "$left" curl -fsSL --connect-timeout 15 --speed-limit 512 --speed-time 60 -C - -o "$2" "$1" 2>&1) || code=$?
    elif command -v wget >/dev/null; then
      problem=$(within "$left" wget -q -c -t 1 -T 60 -O "$2" "$1" 2>&1) || code=$?
    else
      fail "it has neither curl nor wget; install one with: sudo apt install curl"
    fi
    [ "$code" -ne 0 ] || return 0
    case $code in
      23) spoiled "$2" ;;
      33) rm -f "$2" ;; # that server can't go on in the middle
    esac
    # The first answer of HTTP that says no is the last one.
    if [ "$code" -eq 22 ] || [ "$try" -ge 5 ]; then
      # What came of it is of use to the next run, unless it was no file at all.
      if [ ! -s "$2" ] || [ "$code" -eq 22 ]; then
        forget
      fi
      fail "fetching $1 failed: $(printf '%s' "$problem" | tail -n 1) (exit $code); see whether the machine can reach it, or set cluster.install.from to a folder with the files"
    fi
    sleep $((try * 2))
  done
}

# is_release: the checksum may be right, and the release another.
is_release() {
  chmod 0755 "$K3S_NEXT"
  is=$(within 60 "$K3S_NEXT" --version 2>/dev/null | sed -n 's/^k3s version \([^ ]*\).*/\1/p') || is=
  [ "$is" = "$RELEASE" ] && return
  forget
  [ -n "$is" ] || fail "k3s-arm64 does not run here; nothing was changed; is the system a 64-bit one? see: uname -m"
  fail "k3s-arm64 is of release $is, and cluster.k3s is $RELEASE; nothing was changed; make pin writes the checksums of a release"
}

install() {
  if [ -n "$fresh" ]; then
    say "installing it anew: $fresh"
    remove_k3s
  fi
  mkdir -p /etc/rancher/k3s
  new_config=
  [ "$(cat "$CONFIG_FILE" 2>/dev/null)" = "$config" ] || new_config=yes
  if [ -z "$new_binary$new_config$run_script" ]; then
    return
  fi
  # Should this run end here, the next one knows that k3s doesn't run what is installed.
  : >"$STATE/restart"
  if [ -n "$new_binary" ]; then
    chmod 0755 "$K3S_NEXT"
    mv -f "$K3S_NEXT" "$K3S_BINARY"
  fi
  if [ -n "$new_config" ]; then
    printf '%s\n' "$config" | put 0600 "$CONFIG_FILE"
  fi
  if [ -n "$run_script" ]; then
    say "installing k3s $RELEASE as $ROLE"
    within 300 env INSTALL_K3S_SKIP_DOWNLOAD=true INSTALL_K3S_SKIP_START=true INSTALL_K3S_EXEC="$ROLE" \
      sh "$script" >"$STATE/install.log" 2>&1 ||
      fail "k3s's own install.sh failed: $(tail -n 1 "$STATE/install.log"); all that it said is in $STATE/install.log"
  fi
}

start() {
  if [ ! -e "$STATE/restart" ] && within 60 systemctl is-active --quiet "$service"; then
    return
  fi
  say "starting $service"
  deadline=$(($(now) + WAIT))
  started=yes
  within "$WAIT" systemctl restart "$service" >/dev/null 2>&1 || started=
  while [ -n "$started" ] && ! within 60 systemctl is-active --quiet "$service"; do
    [ "$(now)" -lt "$deadline" ] || started=
    sleep 2
  done
  [ -n "$started" ] || fail "$service did not start within $WAIT s; it says why in: sudo journalctl -u $service -e"
}

kubectl() { within 60 "$K3S_BINARY" kubectl --request-timeout=30s "$@" 2>/dev/null; }

# wait_for WHAT COMMAND…
wait_for() {
  what=$1
  shift
  until "$@" >/dev/null; do
    [ "$(now)" -lt "$deadline" ] || fail "$what did not come within $WAIT s; k3s says why in: sudo journalctl -u k3s -e"
    sleep 2
  done
}

ready() {
  deadline=$(($(now) + WAIT))
  wait_for "the API server's readiness" kubectl get --raw /readyz
}

# taint_server: k3s itself sets it only when the node is new.
taint_server() {
  key=node-role.kubernetes.io/control-plane
  wait_for "the node $NODE" kubectl get node "$NODE"
  if [ "$WORKLOADS" = yes ]; then
    kubectl taint node "$NODE" "$key:NoSchedule-" >/dev/null || :
  else
    kubectl taint node "$NODE" --overwrite "$key=true:NoSchedule" >/dev/null ||
      fail "the node could not be tainted; run this again, and see: sudo k3s kubectl describe node $NODE"
  fi
}

main "$@" </dev/null
