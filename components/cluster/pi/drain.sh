# Before an agent gets another release: its pods go elsewhere. Runs on the server.
apply() {
  lock
  answers "$ANSWER" || fail "the API server does not answer; see: sudo journalctl -u k3s -e"
  look
  if [ -z "$exists" ]; then
    say "$AGENT is not in the cluster yet"
  elif [ "$installation" != "$INSTALLATION" ] && { [ -n "$installation" ] || [ "$is_ready" != True ]; }; then
    # k3s would not let it in: it has forgotten the password that its node was made with.
    say "$AGENT is installed anew: the node of before is deleted"
    change delete node "$AGENT" --ignore-not-found
  elif [ "$version" != "$RELEASE" ]; then
    empty_node
  fi
}

empty_node() {
  if [ "$is_ready" != True ]; then
    say "$AGENT is not ready: nothing there can be drained"
    return
  fi
  # Who cordoned it before us is the one to uncordon it.
  if [ "$cordoned" != true ]; then
    change annotate node "$AGENT" --overwrite "$OURS/cordoned=true"
    change cordon "$AGENT"
  fi
  drain || fail "$AGENT could not be drained: $problem; it is still cordoned; mend that, and run this again"
}

main "$@" </dev/null
