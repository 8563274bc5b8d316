#!/bin/sh
# A stand-in of k3s's install.sh, for tests. It was written from what that one is known to do, and
# does this part of it: a unit and its environment, the scripts that stop and uninstall k3s, links
# for kubectl, crictl and ctr; it enables and starts the service, unless it is told not to.
set -e

info() { echo "[INFO] " "$@"; }

fatal() {
  echo "[ERROR] " "$@" >&2
  exit 1
}

quoted() {
  for word; do
    printf " \\\\\n\t'%s'" "$(printf '%s' "$word" | sed "s/'/'\\\\''/g")"
  done
}

[ "$(id -u)" = 0 ] || fatal "the stand-in of install.sh wants root"
bin=${INSTALL_K3S_BIN_DIR:-/usr/local/bin}
units=${INSTALL_K3S_SYSTEMD_DIR:-/etc/systemd/system}

# The arguments are of k3s, after those of INSTALL_K3S_EXEC. Without a command it is an agent if
# there is a server to join.
eval "set -- ${INSTALL_K3S_EXEC:-} $(quoted "$@" | tr -d '\\\n')"
case ${1:-} in
  "" | -*)
    if [ -n "${K3S_URL:-}" ]; then
      command=agent
    else
      command=server
    fi
    ;;
  server | agent)
    command=$1
    shift
    ;;
  *) fatal "the stand-in of install.sh knows no k3s $1" ;;
esac
name=k3s
type=notify
if [ "$command" = agent ]; then
  name=k3s-agent
  type=exec
fi
[ -z "${INSTALL_K3S_NAME:-}" ] || name=k3s-$INSTALL_K3S_NAME
type=${INSTALL_K3S_TYPE:-$type}
unit=$units/$name.service
uninstall=$bin/$name-uninstall.sh

case ${INSTALL_K3S_SKIP_DOWNLOAD:-} in
  true | binary) info "Skipping k3s download and verify" ;;
  *) fatal "the stand-in of install.sh downloads nothing: set INSTALL_K3S_SKIP_DOWNLOAD=true" ;;
esac
[ -x "$bin/k3s" ] || fatal "Executable k3s binary not found at $bin/k3s"

sums() { sha256sum "$bin/k3s" "$unit" "$unit.env" 2>/dev/null || :; }
before=$(sums)

if [ "${INSTALL_K3S_SYMLINK:-}" != skip ]; then
  for link in kubectl crictl ctr; do
    if [ ! -e "$bin/$link" ] && { [ "${INSTALL_K3S_SYMLINK:-}" = force ] || ! command -v "$link" >/dev/null 2>&1; }; then
      info "Creating $bin/$link symlink to k3s"
      ln -sf k3s "$bin/$link"
    fi
  done
fi

info "Creating killall script $bin/k3s-killall.sh"
cat >"$bin/k3s-killall.sh" <<END
#!/bin/sh
[ "\$(id -u)" = 0 ] || exec sudo "\$0" "\$@"
for service in $units/k3s*.service; do
  [ ! -s "\$service" ] || systemctl stop "\$(basename "\$service")"
done
rm -rf /run/k3s
END

info "Creating uninstall script $uninstall"
cat >"$uninstall" <<END
#!/bin/sh
[ "\$(id -u)" = 0 ] || exec sudo "\$0" "\$@"
$bin/k3s-killall.sh
systemctl disable $name
systemctl reset-failed $name
systemctl daemon-reload
rm -f $unit $unit.env
trap 'rm -f "$uninstall"' EXIT
if ls $units/k3s*.service >/dev/null 2>&1; then
  echo "Additional k3s services installed, skipping uninstall of k3s"
  exit
fi
for link in kubectl crictl ctr; do
  if [ -L "$bin/\$link" ]; then
    rm -f "$bin/\$link"
  fi
done
rm -rf /etc/rancher/k3s /run/k3s /run/flannel /var/lib/rancher/k3s /var/lib/kubelet
rm -f $bin/k3s $bin/k3s-killall.sh
END
chmod 755 "$bin/k3s-killall.sh" "$uninstall"

info "env: Creating environment file $unit.env"
(
  umask 077
  env | grep -E '^(K3S|CONTAINERD)_|^(http|https|no)_proxy=|^(HTTP|HTTPS|NO)_PROXY=' >"$unit.env" || :
)
info "systemd: Creating service file $unit"
cat >"$unit" <<END
[Unit]
Description=Lightweight Kubernetes (a stand-in)
Wants=network-online.target
After=network-online.target

[Install]
WantedBy=multi-user.target

[Service]
Type=$type
EnvironmentFile=-/etc/default/%N
EnvironmentFile=-/etc/sysconfig/%N
EnvironmentFile=-$unit.env
KillMode=process
Delegate=yes
TimeoutStartSec=0
Restart=always
RestartSec=5s
ExecStart=$bin/k3s \\
    $command$(quoted "$@")

END

[ "${INSTALL_K3S_SKIP_ENABLE:-}" != true ] || exit 0
info "systemd: Enabling $name unit"
systemctl enable "$name" >/dev/null
systemctl daemon-reload >/dev/null
[ "${INSTALL_K3S_SKIP_START:-}" != true ] || exit 0
if [ "$before" = "$(sums)" ] && [ "${INSTALL_K3S_FORCE_RESTART:-}" != true ]; then
  info "No change detected so skipping service start"
  exit 0
fi
info "systemd: Starting $name"
systemctl restart "$name"
