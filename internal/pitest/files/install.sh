#!/bin/sh
# A stand-in for k3s's own install.sh: what the real one leaves behind, as far as anything here
# looks at it. Tests alone run it.
set -e
[ "$INSTALL_K3S_SKIP_DOWNLOAD" = true ] || { echo "the stand-in downloads nothing" >&2; exit 1; }
[ -x /usr/local/bin/k3s ] || { echo "Executable k3s binary not found at /usr/local/bin/k3s" >&2; exit 1; }
if [ -e /standin/drop ]; then
  # The fault that the test asked for: whoever is connected loses the connection.
  rm /standin/drop
  pkill -KILL -f 'sshd: pi' || :
  sleep 2
fi
case $INSTALL_K3S_EXEC in
  server*) service=k3s ;;
  agent*) service=k3s-agent ;;
  *) echo "server or agent?" >&2; exit 1 ;;
esac
if [ "$service" = k3s ]; then
  for link in kubectl crictl ctr; do
    [ -e "/usr/local/bin/$link" ] || ln -s k3s "/usr/local/bin/$link"
  done
fi
cat >/usr/local/bin/k3s-killall.sh <<'END'
#!/bin/sh
for unit in /etc/systemd/system/k3s*.service; do
  [ -e "$unit" ] && systemctl stop "$(basename "$unit")"
done
exit 0
END
cat >"/usr/local/bin/$service-uninstall.sh" <<END
#!/bin/sh
set -x
/usr/local/bin/k3s-killall.sh
systemctl disable $service
systemctl reset-failed $service
systemctl daemon-reload
rm -f /etc/systemd/system/$service.service /etc/systemd/system/$service.service.env
for link in kubectl crictl ctr; do
  if [ -L /usr/local/bin/\$link ]; then rm -f /usr/local/bin/\$link; fi
done
rm -rf /etc/rancher/k3s /run/k3s /run/flannel /var/lib/rancher/k3s /var/lib/kubelet
rm -f /usr/local/bin/k3s /usr/local/bin/k3s-killall.sh
rm -f /usr/local/bin/$service-uninstall.sh
END
chmod 0755 /usr/local/bin/k3s-killall.sh "/usr/local/bin/$service-uninstall.sh"
: >"/etc/systemd/system/$service.service.env"
chmod 0600 "/etc/systemd/system/$service.service.env"
cat >"/etc/systemd/system/$service.service" <<END
[Unit]
Description=Lightweight Kubernetes

[Install]
WantedBy=multi-user.target

[Service]
Type=notify
EnvironmentFile=-/etc/systemd/system/$service.service.env
KillMode=process
Restart=always
RestartSec=5s
ExecStart=/usr/local/bin/k3s \\
    $INSTALL_K3S_EXEC
END
systemctl enable "$service" >/dev/null
systemctl daemon-reload
[ "$INSTALL_K3S_SKIP_START" = true ] || systemctl restart "$service"
