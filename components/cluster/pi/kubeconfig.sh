# The admin's kubeconfig, as k3s wrote it. It is a secret.
apply() {
  cat /etc/rancher/k3s/k3s.yaml 2>/dev/null ||
    fail "k3s's kubeconfig is not there; is k3s still installed? run pulumi up again"
}

main "$@" </dev/null
