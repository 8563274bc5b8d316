# An agent as a node of the cluster. Runs on the server.
apply() {
  lock
  answers "$ANSWER" || fail "the API server does not answer; see: sudo journalctl -u k3s -e"
  deadline=$(($(now) + WAIT))
  look
  until [ "$is_ready" = True ] && [ "$version" = "$RELEASE" ]; do
    [ "$(now)" -lt "$deadline" ] ||
      fail "$AGENT did not become ready with k3s $RELEASE within $WAIT s (ready: ${is_ready:-no node}, release: ${version:-none}); it says why in: sudo journalctl -u k3s-agent -e"
    sleep 2
    look
  done
  change label node "$AGENT" --overwrite node-role.kubernetes.io/worker=true
  key=node-role.kubernetes.io/control-plane
  if [ "$WORKLOADS" = yes ]; then
    kubectl taint node "$AGENT" "$key:NoSchedule-" >/dev/null || :
  else
    change taint node "$AGENT" --overwrite "$key=true:NoSchedule"
  fi
  change annotate node "$AGENT" --overwrite "$OURS/installation=$INSTALLATION"
  if [ -n "$ours" ]; then
    change uncordon "$AGENT"
    change annotate node "$AGENT" "$OURS/cordoned-"
  fi
}

remove() {
  lock
  if ! answers "$GONE"; then
    say "the API server does not answer; $AGENT stays a node of it, if it ever does again"
    return
  fi
  look
  [ -n "$exists" ] || return 0
  if [ "$is_ready" = True ]; then
    drain || say "$AGENT could not be drained: $problem; it leaves the cluster all the same"
  fi
  change delete node "$AGENT" --ignore-not-found
}

main "$@" </dev/null
