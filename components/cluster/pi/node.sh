# What the steps that run on the server for an agent share: how its node is looked at.
: "${WAIT:=600}" "${DRAIN:=300}" "${ANSWER:=120}" "${GONE:=60}"
OURS=manager-cluster-state

kubectl() { within 60 "$K3S_BINARY" kubectl --request-timeout=30s "$@" 2>/dev/null; }

# answers SECONDS: whether the API server does, within them.
answers() {
  deadline=$(($(now) + $1))
  until kubectl get --raw /readyz >/dev/null; do
    if [ ! -x "$K3S_BINARY" ] || [ "$(now)" -ge "$deadline" ]; then
      return 1
    fi
    sleep 2
  done
}

# look: version is empty where there is no such node.
look() {
  seen=$(kubectl get node "$AGENT" --ignore-not-found -o \
    "jsonpath={.status.nodeInfo.kubeletVersion}|{.status.conditions[?(@.type=='Ready')].status}|{.spec.unschedulable}|{.metadata.annotations.$OURS/installation}|{.metadata.annotations.$OURS/cordoned}|") ||
    fail "the API server did not say how $AGENT is; run this again, and see: sudo journalctl -u k3s -e"
  IFS='|' read -r version is_ready cordoned installation ours rest <<END
$seen
END
  exists=
  [ -z "$seen" ] || exists=yes
}

change() {
  kubectl "$@" >/dev/null || fail "kubectl $* failed; run this again, and see: sudo journalctl -u k3s -e"
}

# drain: problem is what kubectl said last, if that failed.
drain() {
  say "draining $AGENT"
  problem=$(within $((DRAIN + 60)) "$K3S_BINARY" kubectl drain "$AGENT" --ignore-daemonsets --delete-emptydir-data --force \
    --timeout="${DRAIN}s" 2>&1 >/dev/null) && return
  problem=$(printf '%s\n' "$problem" | grep -iv '^warning' | tail -n 1)
  problem=${problem:-"kubectl drain did not end within $((DRAIN + 60)) s"}
  return 1
}
