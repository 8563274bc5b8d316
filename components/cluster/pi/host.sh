# The machine under k3s: boot flags, no swap, a journal in memory, iptables as k3s wants them.
FLAGS='cgroup_memory=1 cgroup_enable=memory cgroup_enable=cpuset'
JOURNAL=/etc/systemd/journald.conf.d
DROP_IN=$JOURNAL/manager-cluster-state.conf

apply() {
  lock
  open_state
  boot_flags
  swap_off
  journal_in_memory
  legacy_iptables
  sync
  printf 'boot %s\n' "$(cat /proc/sys/kernel/random/boot_id)"
  [ -n "$(cmdline)" ] || return 0
  for flag in $FLAGS; do
    if ! has_word "$flag" /proc/cmdline; then
      echo reboot
      break
    fi
  done
}

# remove also removes a k3s whose installation failed, which nobody else knows of.
remove() {
  lock
  remove_k3s
  remove_files
  restore_boot_flags
  restore_swap
  restore_journal
  restore_iptables
  tidy_state
  sync
}

has_word() { tr -s ' \t\n' '\n' <"$2" | grep -qxF -e "$1"; }

# replace FILE CONTENT: as the file was, whole or not at all. FAT knows no modes.
replace() {
  if cat "$2" >"$1.new" 2>/dev/null; then
    chmod --reference="$1" "$1.new" 2>/dev/null || :
    chown --reference="$1" "$1.new" 2>/dev/null || :
    mv -f "$1.new" "$1" 2>/dev/null && return
  fi
  rm -f "$1.new" 2>/dev/null || :
  fail "$1 could not be written, with $(free_mb "$(dirname "$1")") MB free; is it mounted read-only? mend it with: sudo mount -o remount,rw $(dirname "$1")"
}

boot_flags() {
  file=$(cmdline)
  if [ -z "$file" ]; then
    counts_memory || fail "there is no /boot/firmware/cmdline.txt and no /boot/cmdline.txt: is it a Raspberry Pi with its boot partition mounted?"
    return
  fi
  missing=
  for flag in $FLAGS; do
    has_word "$flag" "$file" || missing="$missing $flag"
  done
  [ -n "$missing" ] || return 0
  say "adding to $file:$missing"
  # Which flags are ours is known before the first of them is there. The second time somebody
  # else has changed the file, and what it was the first time is no longer of use.
  ours=$(cat "$STATE/flags" 2>/dev/null) || ours=
  if [ -n "$ours" ]; then
    rm -f "$STATE/cmdline"
  else
    put 0644 "$STATE/cmdline" <"$file"
  fi
  # shellcheck disable=SC2086 # words
  printf '%s\n' $ours $missing | put 0644 "$STATE/flags"
  sed "1s/[[:space:]]*\$/$missing/" "$file" | put 0644 "$STATE/cmdline.ours"
  replace "$file" "$STATE/cmdline.ours"
}

# restore_boot_flags: byte for byte, unless somebody else has changed the file since.
restore_boot_flags() {
  file=$(cmdline)
  if [ -e "$STATE/flags" ] && [ -n "$file" ]; then
    if [ ! -e "$STATE/cmdline" ] || ! cmp -s "$file" "$STATE/cmdline.ours"; then
      sed 's/$/ /' "$file" >"$STATE/cmdline"
      while read -r flag; do
        sed "s/ $flag / /g" "$STATE/cmdline" >"$STATE/cmdline.less"
        mv -f "$STATE/cmdline.less" "$STATE/cmdline"
      done <"$STATE/flags"
      sed 's/[[:space:]]*$//' "$STATE/cmdline" >"$STATE/cmdline.less"
      mv -f "$STATE/cmdline.less" "$STATE/cmdline"
    fi
    replace "$file" "$STATE/cmdline"
    say "the boot flags are off $file; they go at the next boot"
  fi
  rm -f "$STATE/flags" "$STATE/cmdline" "$STATE/cmdline.ours"
}

# swap_off: what switches it on is remembered as lines of kind and name.
swap_off() {
  for service in dphys-swapfile zramswap; do
    if within 60 systemctl is-enabled --quiet "$service" 2>/dev/null; then
      say "switching $service off"
      remember_swap service "$service"
      within 300 systemctl disable --now "$service" >/dev/null 2>&1 ||
        fail "$service could not be switched off; see: systemctl status $service"
    fi
  done
  # What is left is of a generator (zram of newer systems) or of fstab: a mask is stronger than both.
  swaps | while read -r device; do
    unit=$(systemd-escape --path --suffix=swap "$device" 2>/dev/null) || unit=
    if [ -n "$unit" ]; then
      say "switching the swap on $device off"
      remember_swap unit "$unit"
      within 300 systemctl mask --now "$unit" >/dev/null 2>&1 || :
    fi
    ! swaps | grep -qxF -e "$device" || within 300 swapoff "$device" 2>/dev/null || :
  done
  [ -z "$(swaps)" ] || fail "there is still swap on $(swaps | tr '\n' ' '): see what uses it with free -m, and switch it off with swapoff"
}

swaps() { awk 'NR > 1 { print $1 }' /proc/swaps; }

remember_swap() {
  if ! grep -qxF -e "$1 $2" "$STATE/swap" 2>/dev/null; then
    echo "$1 $2" >>"$STATE/swap" || fail "$STATE/swap could not be written; free some space"
  fi
}

restore_swap() {
  [ -e "$STATE/swap" ] || return 0
  while read -r kind name; do
    if [ "$kind" = service ]; then
      within 300 systemctl enable --now "$name" >/dev/null 2>&1 || say "$name could not be switched on again; see: systemctl status $name"
    else
      within 60 systemctl unmask "$name" >/dev/null 2>&1 || say "$name could not be unmasked"
      within 300 systemctl start "$name" >/dev/null 2>&1 || say "the swap of $name comes back at the next boot"
    fi
  done <"$STATE/swap"
  rm -f "$STATE/swap"
}

journal_in_memory() {
  if [ ! -d "$JOURNAL" ]; then
    mkdir -p "$JOURNAL"
    : >"$STATE/journal"
  fi
  wanted='[Journal]
Storage=volatile
RuntimeMaxUse=32M'
  if [ "$(cat "$DROP_IN" 2>/dev/null)" = "$wanted" ] && [ ! -e "$STATE/journal.restart" ]; then
    return
  fi
  say "keeping the journal in memory"
  : >"$STATE/journal.restart"
  printf '%s\n' "$wanted" | put 0644 "$DROP_IN"
  restart_journal
  rm -f "$STATE/journal.restart"
}

restart_journal() {
  within 120 systemctl restart systemd-journald >/dev/null 2>&1 || fail "systemd-journald did not restart; see: systemctl status systemd-journald"
}

restore_journal() {
  if [ -e "$DROP_IN" ]; then
    rm -f "$DROP_IN"
    restart_journal
  fi
  if [ -e "$STATE/journal" ]; then
    rmdir "$JOURNAL" 2>/dev/null || :
  fi
  rm -f "$STATE/journal" "$STATE/journal.restart"
}

legacy_iptables() {
  for name in iptables ip6tables; do
    legacy=/usr/sbin/$name-legacy
    [ -x "$legacy" ] || continue
    status=$(within 60 update-alternatives --query "$name" 2>/dev/null) || continue
    before=$(printf '%s\n' "$status" | sed -n 's/^Value: //p')
    [ "$before" != "$legacy" ] || continue
    if printf '%s\n' "$status" | grep -q '^Status: auto'; then
      before=auto
    fi
    say "setting $name to $legacy"
    [ -e "$STATE/$name" ] || printf '%s\n' "$before" | put 0644 "$STATE/$name"
    within 60 update-alternatives --set "$name" "$legacy" >/dev/null 2>&1 ||
      fail "$name could not be set to $legacy; see: update-alternatives --display $name"
  done
}

restore_iptables() {
  for name in iptables ip6tables; do
    [ -e "$STATE/$name" ] || continue
    before=$(cat "$STATE/$name")
    if [ "$before" = auto ]; then
      set -- --auto "$name"
    else
      set -- --set "$name" "$before"
    fi
    within 60 update-alternatives "$@" >/dev/null 2>&1 || say "$name could not be set back to $before; do it with: update-alternatives --config $name"
    rm -f "$STATE/$name"
  done
}

main "$@" </dev/null
