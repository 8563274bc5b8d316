# What the program asks a machine before it changes anything there: one NAME=value line each, for
# sh -s. It changes nothing. Without root it says what it can.
PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH LC_ALL=C

say() { printf '%s=%s\n' "$1" "$2"; }
yes_if() { if "$@" >/dev/null 2>&1; then echo yes; else echo no; fi; }
first_line() { if [ -r "$1" ]; then head -n 1 "$1"; fi; }

cgroup_memory() {
  if [ -r /sys/fs/cgroup/cgroup.controllers ]; then
    grep -qw memory /sys/fs/cgroup/cgroup.controllers
  else
    # name, hierarchy, groups, enabled
    awk '$1 == "memory" && $4 == 1 { found = 1 } END { exit !found }' /proc/cgroups
  fi
}

boot_file() {
  for file in /boot/firmware/cmdline.txt /boot/cmdline.txt; do
    if [ -f "$file" ] && [ -w "$file" ]; then
      echo "$file"
      return
    fi
  done
}

# Nothing but the kernel need be there to ask; 192B is 6443, 0A is LISTEN.
listening() {
  cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk '$2 ~ /:192B$/ && $4 == "0A" { found = 1 } END { exit !found }'
}

fetcher() {
  for program in curl wget; do
    if command -v "$program" >/dev/null 2>&1; then
      echo "$program"
      return
    fi
  done
}

k3s_version() {
  if [ -x /usr/local/bin/k3s ]; then
    version=$(/usr/local/bin/k3s --version 2>/dev/null </dev/null | awk 'NR == 1 && $1 == "k3s" { print $3 }')
    echo "${version:-unknown}"
  fi
}

say ROOT "$(yes_if test "$(id -u)" = 0)"
say CLOCK "$(date -u +%s)"
say MACHINE "$(uname -m)"
say KERNEL "$(uname -r)"
say MEMORY_KIB "$(awk '$1 == "MemTotal:" { print $2 }' /proc/meminfo)"
say DISK_KIB "$(df -Pk / | awk 'NR == 2 { print $4 }')"
say BOOT_ID "$(cat /proc/sys/kernel/random/boot_id)"
say CGROUP_MEMORY "$(yes_if cgroup_memory)"
say BOOT_FILE "$(boot_file)"
say SYSTEMD "$(yes_if command -v systemctl)"
say FETCHER "$(fetcher)"
say PORT_6443 "$(yes_if listening)"
say K3S "$(k3s_version)"
# There from the first change to the machine until the last is taken back.
say BEGUN "$(yes_if test -d /var/lib/manager-cluster-state)"
# There when all of k3s is.
say INSTALLATION "$(first_line /etc/rancher/k3s/manager-cluster-state)"
say END yes
