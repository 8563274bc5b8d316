# What an agent joins with. It is a secret.
apply() {
  cat /var/lib/rancher/k3s/server/node-token 2>/dev/null ||
    fail "k3s's join token is not there; is k3s still installed? run pulumi up again"
}

main "$@" </dev/null
