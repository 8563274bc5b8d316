#!/bin/sh
# A stand-in for k3s's install.sh, which leaves a unit and an uninstall script.
set -e
[ "$INSTALL_K3S_SKIP_DOWNLOAD" = true ] && [ -x /usr/local/bin/k3s ]
service=k3s
[ "$INSTALL_K3S_EXEC" = server ] || service=k3s-agent
echo "install.sh $INSTALL_K3S_EXEC" >>/standin/log
mkdir -p /etc/systemd/system
ln -sf k3s /usr/local/bin/crictl
echo "$service" >"/etc/systemd/system/$service.service"
cat >"/usr/local/bin/$service-uninstall.sh" <<END
#!/bin/sh
rm -rf /etc/rancher/k3s /usr/local/bin/k3s /etc/systemd/system/$service.service /standin/active/$service "\$0"
END
chmod 755 "/usr/local/bin/$service-uninstall.sh"
