# What follows the settings cluster, installation and config, a function that prints k3d's config
# file. It runs on the user's machine, so it keeps to what every POSIX shell has, and may be run
# again after it was cut off anywhere. It is on standard input itself: nothing else may read that.
set -eu
ours=manager-cluster-state.installation

containers() {
	docker ps --all --filter "label=k3d.cluster=$cluster" "$@" </dev/null
}

# k3d makes the network and the volume first: of one that was cut off they may be all there is,
# and k3d itself, which looks for containers, would never remove them.
remove() {
	k3d cluster delete "$cluster" </dev/null
	if [ "$(docker network inspect --format '{{index .Labels "app"}}' "k3d-$cluster" 2>/dev/null </dev/null)" = k3d ]; then
		docker network rm "k3d-$cluster" </dev/null
	fi
	docker volume ls --quiet --filter label=app=k3d --filter "label=k3d.cluster=$cluster" </dev/null | while read -r volume; do
		docker volume rm "$volume" </dev/null
	done
}

create() {
	made=$(containers --filter label=k3d.role=server --format "installation={{.Label \"$ours\"}}")
	if printf '%s\n' "$made" | grep -qx 'installation='; then
		echo "a k3d cluster $cluster is there that this program did not make: remove it with k3d cluster delete $cluster" >&2
		exit 1
	fi
	if printf '%s\n' "$made" | grep -qx "installation=$installation"; then
		echo "cluster $cluster is there already" >&2
		return
	fi
	remove
	config | k3d cluster create --config -
}

delete() {
	# One at a time: of an assignment, a Docker that doesn't answer is noticed.
	all=$(containers --quiet)
	mine=$(containers --quiet --filter "label=$ours=$installation")
	if [ -z "$all" ] || [ -n "$mine" ]; then
		remove
	else
		echo "installation $installation of cluster $cluster is gone already; another one is left as it is" >&2
	fi
}

"$1"
