#!/bin/sh
# An OCI runtime for a sandbox that lacks CAP_SYS_RESOURCE: takes it out of what a privileged
# container, or a process in one, is to have, and goes on as runc.
set -eu
previous= bundle=. process=
for argument in "$@"; do
	case "$previous" in
	--bundle | -b) bundle=$argument ;;
	--process | -p) process=$argument ;;
	esac
	case "$argument" in
	--bundle=*) bundle=${argument#*=} ;;
	--process=*) process=${argument#*=} ;;
	esac
	previous=$argument
done
for file in "$bundle/config.json" "$process"; do
	if [ -f "$file" ]; then
		sed -i -e 's/"CAP_SYS_RESOURCE",//g' -e 's/,"CAP_SYS_RESOURCE"//g' "$file"
	fi
done
exec runc "$@"
