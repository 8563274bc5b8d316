# What all steps on a Pi share. It comes after a step's settings, which are shell variables, and
# before the step itself; all of it is one script on the standard input of sudo sh.
set -eu
PATH=${PATH:-/bin}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# What was there before, to be put back, and what is to be finished.
STATE=/var/lib/manager-cluster-state
K3S_BINARY=/usr/local/bin/k3s
# The next one of it, on the same disk, so that one rename installs it.
K3S_NEXT=/usr/local/bin/.k3s.manager-cluster-state
# Where copied files lie, in the home of the user who logs in.
COPIES=.manager-cluster-state

# kubectl would keep what it has discovered in root's home.
KUBECACHEDIR=/run/manager-cluster-state
export KUBECACHEDIR

# Standard output is what the program reads; all else goes to standard error.
say() { printf '%s: %s\n' "$NODE" "$*" >&2; }

fail() {
  say "$*"
  exit 1
}

# within SECONDS COMMAND…: bounded, and without our lock, which would live on in a daemon.
within() {
  seconds=$1
  shift
  timeout -k 10 "$seconds" "$@" 9<&- </dev/null
}

# lock: a connection that drops leaves its run behind. A folder that is always there needs no file.
lock() {
  exec 9</var/lib
  flock -n 9 && return
  say "waiting for a run that still works here"
  flock -w "${LOCK:-600}" 9 || fail "another run still works here after ${LOCK:-600} s; look for it with: ps ax | grep 'sh -s', and run this again when it has ended"
}

now() { date +%s; }

free_mb() { df -Pk "$1" | awk 'NR == 2 { print int($4 / 1024) }'; }

# put MODE FILE: standard input becomes the file, whole or not at all.
put() {
  next=$2.manager-cluster-state
  if (umask 077 && cat >"$next" && chmod "$1" "$next" && mv -f "$next" "$2") 2>/dev/null; then
    return
  fi
  rm -f "$next"
  fail "$2 could not be written, with $(free_mb "$(dirname "$2")") MB free; free some space, or see whether its disk is read-only"
}

# On newer systems /boot/cmdline.txt only says where the other one is.
cmdline() {
  for file in /boot/firmware/cmdline.txt /boot/cmdline.txt; do
    if [ -f "$file" ]; then
      echo "$file"
      return
    fi
  done
}

# counts_memory: whether the kernel has memory cgroups on, by itself or by its boot flags.
counts_memory() {
  grep -qw memory /sys/fs/cgroup/cgroup.controllers 2>/dev/null ||
    awk '$1 == "memory" && $4 == 1 { found = 1 } END { exit !found }' /proc/cgroups 2>/dev/null
}

sum() { sha256sum "$1" 2>/dev/null | cut -c1-64; }

open_state() { mkdir -p "$STATE" 2>/dev/null || fail "$STATE could not be made: is the disk full or read-only? see: df -h / and mount"; }

# The folder goes with the last thing that is kept in it.
tidy_state() { rmdir "$STATE" 2>/dev/null || :; }

# copies: the folder that files are copied to.
copies() {
  home=$(getent passwd "$LOGIN" | cut -d: -f6)
  [ -n "$home" ] || fail "the user $LOGIN has no home; set another user for this node in cluster.nodes"
  printf '%s/%s\n' "$home" "$COPIES"
}

unmounted() {
  # Not through a mount that k3s's own script could not take away.
  rm -rf --one-file-system "$@" 2>/dev/null || fail "$* could not be removed: something is mounted or running there; reboot the machine, and run this again"
}

# remove_k3s: k3s's own uninstall, whichever it was installed as, then what that leaves.
remove_k3s() {
  for service in k3s k3s-agent; do
    uninstall=/usr/local/bin/$service-uninstall.sh
    if [ -x "$uninstall" ]; then
      say "uninstalling $service"
      within "${UNINSTALL:-600}" "$uninstall" >/dev/null 2>&1 || say "$uninstall ended with an error; what it left is removed"
    fi
    # An installation that ended half-way has no such script, or left what it knows nothing of.
    unit=/etc/systemd/system/$service.service
    if [ -e "$unit" ]; then
      within 120 systemctl disable --now "$service" >/dev/null 2>&1 || :
      rm -f "$unit" "$unit.env"
      within 60 systemctl daemon-reload >/dev/null 2>&1 || :
    fi
    rm -f "$uninstall"
  done
  for link in kubectl crictl ctr; do
    if [ -L "/usr/local/bin/$link" ] && [ "$(readlink "/usr/local/bin/$link")" = k3s ]; then
      rm -f "/usr/local/bin/$link"
    fi
  done
  rm -f "$K3S_BINARY" /usr/local/bin/k3s-killall.sh
  unmounted /var/lib/rancher/k3s /etc/rancher/k3s /etc/rancher/node
  rmdir /var/lib/rancher /etc/rancher 2>/dev/null || :
  rm -f "$STATE/k3s" "$STATE/restart"
  rm -rf "$KUBECACHEDIR"
}

# remove_files: what an installation has fetched, or was copied.
remove_files() {
  rm -f "$K3S_NEXT" "$STATE/fetching" "$STATE/install.sh" "$STATE/install.sh.next" "$STATE/install.log"
  rm -rf "$(copies)"
}

# main runs a step: the last line of it, so that half a script does nothing.
main() {
  case ${1:-} in
    apply) apply ;;
    remove) remove ;;
    *) fail "a step is to apply or to remove" ;;
  esac
}
