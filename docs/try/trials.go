package main

// trial says how a command of the pages is tried.
type trial struct {
	// command is as a page has it.
	command string
	// as is what is typed, where a page leaves a word open.
	as string
	// answer is what it reads on standard input.
	answer string
	// why it isn't run in the clone, and in which tests it is instead. Both are empty for what is run.
	why   string
	tests []string
}

func typed(command string) trial       { return trial{command: command, as: command} }
func typedAs(command, as string) trial { return trial{command: command, as: as} }
func answered(command, answer string) trial {
	return trial{command: command, as: command, answer: answer}
}

func tested(command, why string, tests ...string) trial {
	return trial{command: command, why: why, tests: tests}
}

// Reasons not to run a command in the clone.
const (
	realCluster = "acts on a real cluster"
	docker      = "makes a cluster in Docker"
	pis         = "acts on Pis"
	long        = "takes most of an hour; it is what CI runs"
	hours       = "takes an hour or more; its page has what it wrote"
	fault       = "is for a fault that has to be made first"
	elsewhere   = "is not ours"
)

// trials has every command of the pages once.
var trials = []trial{
	typed("make graph STACK=production"),
	typed("make help"),
	typed("make tools"),
	typed("make path"),
	typed("export PATH=$(make path):$PATH"),

	// The rehearsal.
	typed("make up"),
	typed("export KUBECONFIG=$PWD/.rehearsal/development/kubeconfig"),
	typed("kubectl get pods -A"),
	typed("make up STACK=production"),
	typed("make up STACK=lab"),
	typed("make preview"),
	typed("make status"),
	typed("make suspend WORKLOAD=chat-hvac STACK=production"),
	typed("make resume WORKLOAD=chat-hvac STACK=production"),
	typed("make reconcile STACK=production"),
	typed("make down"),

	// A stack's own file and state, in the clone.
	typed("pulumi login --local"),
	typed("pulumi login 'file://~?metadata=skip'"),
	typed("pulumi stack init development"),
	typed("pulumi stack init lab"),
	typedAs("pulumi stack init production", "pulumi stack select production || pulumi stack init production"),
	typed("pulumi stack select production"),
	typedAs("export PULUMI_CONFIG_PASSPHRASE=…", "export PULUMI_CONFIG_PASSPHRASE=$PULUMI_CONFIG_PASSPHRASE"),
	answered("pulumi config set --secret --path secrets.slack.appToken -s development", "xapp-trial"),
	answered("pulumi config set --secret --path secrets.slack.botToken -s development", "xoxb-trial"),
	answered("pulumi config set --secret --path secrets.snmp.community", "trial"),
	answered("pulumi config set --secret --path secrets.snmp.community -s production", "trial"),
	answered("pulumi config set --secret --path secrets.grafana.username", "trial"),
	answered("pulumi config set --secret --path secrets.grafana.password", "trial-trial"),
	answered("pulumi config set --secret --path secrets.cloud.token", "trial"),
	answered("pulumi config set --secret --path secrets.notifications.slackWebhook", "https://hooks.slack.com/services/trial"),
	{command: "pulumi config set --secret --path", as: "pulumi config set --secret --path secrets.intesis.username", answer: "trial"},
	{command: "pulumi config set --secret --path secrets.…", as: "pulumi config set --secret --path secrets.intesis.password", answer: "trial"},
	typedAs("pulumi config set --secret --path secrets.sshKey < ~/.ssh/id_ed25519",
		"ssh-keygen -q -t ed25519 -N '' -f key && pulumi config set --secret --path secrets.sshKey < key; rm key key.pub"),
	typed("pulumi config set --path hvac.interval 60s -s production"),
	typed("pulumi config set --path git.branch my-branch"),
	typed("pulumi config set --path git.branch my-branch -s development"),
	typed("git switch -c my-branch"),
	typed("pulumi config set --path sealing.protect false -s production"),
	typed("pulumi config set observability cloud"),
	typed("pulumi config set --path cloud.metrics.url https://prometheus.example.net/api/prom/push"),
	typed("pulumi config set --path cloud.metrics.username 123456"),
	typed("pulumi config set --path cloud.logs.url https://logs.example.net/loki/api/v1/push"),
	typed("pulumi config set --path cloud.logs.username 654321"),
	{command: "pulumi config set --secret github:token", as: "pulumi config set --secret github:token", answer: "trial"},
	typed("make keys STACK=production"),
	typed("make seal STACK=production"),
	typed("make render"),
	typed("make seal render STACK=production"),
	{command: "pulumi config set --secret --path X -s production", as: "pulumi config set --secret --path secrets.intesis.password -s production", answer: "another"},
	typed("pulumi config rm --path 'sealing.keys[0]' -s production"),
	typed("make keys seal render"),
	answered("make rotate-deploy-key STACK=production", "y"),
	answered("make rotate-sealing-key STACK=production", "y"),
	typed("git pull --rebase --autostash"),
	typed("git add Pulumi.production.yaml manifests && git commit -m 'What changed' && git push"),
	typedAs("git add Pulumi.production.yaml manifests && git commit -m 'Production from Git' && git push",
		"git add Pulumi.production.yaml manifests && (git diff --cached --quiet || git commit -m 'Production from Git') && git push"),
	typed("git push"),
	typedAs("export GITHUB_TOKEN=…", "export GITHUB_TOKEN=trial"),

	// The code.
	typed("go run ./tools/build k3d"),
	typedAs("go run ./tools/build -v TOOL", "go run ./tools/build -v kwok"),
	typed("make golden render generate"),
	typed("make test-unit"),
	typed("sed 's/development/lab/' Pulumi.development.yaml > Pulumi.lab.yaml"),
	typedAs("make manifests-diff", "make manifests-diff BASE=HEAD"),
	typed("git diff"),
	typed("git log"),
	typed("make generate"),
	typed("make lint"),
	typed("make vuln"),
	typed("make bench ONLY=preview RUNS=1"),
	typedAs("make chaos CHAOS='--faults kill --points 4'", "make chaos CHAOS='--faults kill --points 1'"),
	typedAs("make fuzz FUZZTIME=10m", "make fuzz FUZZTIME=500x"),

	tested("make rehearsal", "is make up, once more and make down, which are run by themselves"),
	tested("make rehearsal STACK=production", "is make up, once more and make down, which are run by themselves"),
	tested("make regenerate", "tidies each tool's module; its other parts are run by themselves"),
	tested("make bench", hours),
	tested("make bench ONLY=growth WRITE=1", hours),
	tested("make chaos", hours),
	tested("make chaos CHAOS='--write --resume'", hours),
	tested("kubectl diff", "is what make bench runs"),
	tested("kubectl apply", "is what make bench runs"),
	tested("flux reconcile kustomization --with-source", "is what make bench runs"),
	tested("pulumi refresh --clear-pending-creates", fault),

	tested("make test", long),
	tested("make test-root", "is make test, as root"),
	tested("make generate golden", "what it does is the same as make golden render generate"),
	tested("make test-packages", "installs Debian packages, as root; CI does"),
	tested("make clean", "removes the tools that the other commands need"),
	tested("MCS_COMMAND_PLUGIN=/path go test ./rehearsal/plugins/command", "needs the official plugin"),
	tested("pulumi login", elsewhere),
	tested("pulumi stack export -s production > state.json", elsewhere),
	tested("pulumi stack import -s production < state.json", elsewhere),
	tested("flux suspend", elsewhere, "TestDayTwo_OfAWorkloadThatFluxDelivers"),
	tested("flux suspend hr", elsewhere),
	tested("flux resume hr", elsewhere),

	tested("pulumi up -s development", docker, "TestK3d_Development"),
	tested("pulumi destroy -s development", docker, "TestK3d_Development"),
	tested("pulumi up -s lab", docker, "TestK3d"),
	tested("pulumi up", realCluster, "TestK3d", "TestPis", "TestFlux", "TestRebuild"),
	tested("pulumi destroy", realCluster, "TestK3d", "TestPis", "TestFlux", "TestRehearsal"),
	tested("make bootstrap", realCluster, "TestBootstrap", "TestRebuild"),
	tested("make bootstrap STACK=production DRY_RUN=1", pis, "TestPis", "TestBootstrap_ADryRunRunsTheOtherCommandsDry"),
	tested("make bootstrap STACK=production", pis, "TestPis", "TestBootstrap"),
	tested("pulumi destroy -s production", pis, "TestPis"),
	tested("pulumi preview", realCluster, "TestK3d", "TestRehearsal"),
	tested("pulumi stack change-secrets-provider passphrase -s production", "asks for a passphrase at a terminal"),
	tested("git revert", "what to take back is not known here"),
	tested("make pin STACK=production", "asks GitHub for a release", "TestPin_WritesWhatAReleaseIs"),
	tested("pulumi up -s production", pis, "TestPis", "TestBootstrap"),
	tested("make check-hosts STACK=production", pis, "TestHosts_TellWhatIsWrongAndGoOnWithTheOthers"),
	tested("make trust STACK=production", pis, "TestHostsTrust_KeepsWhatAPersonHasLookedAt"),
	tested("make trust STACK=production REPLACE=orangepi.lan", pis, "TestHostsTrust_AKeyThatDiffersIsReplacedOnlyWhenItsHostIsNamed"),
	tested("make trust STACK=production REPLACE=…", pis, "TestHostsTrust_AKeyThatDiffersIsReplacedOnlyWhenItsHostIsNamed"),
	tested("make pin STACK=production K3S=v1.35.1+k3s1", "asks GitHub for a release", "TestPin_WritesWhatAReleaseIs"),
	tested("make pin STACK=production DOWNLOAD=downloads/k3s", "downloads from GitHub", "TestPin_DownloadsOnceForEveryMachine"),

	tested("kubectl describe", fault),
	tested("make reconcile STACK=production REAL=1", realCluster, "TestDayTwo_OfAWorkloadThatFluxDelivers"),
	tested("make suspend", realCluster, "TestDayTwo_OfAWorkloadThatFluxDelivers"),
	tested("make resume", realCluster, "TestDayTwo_OfAWorkloadThatFluxDelivers"),
	tested("make switch", realCluster, "TestSwitch"),
	tested("make switch DELIVERY=flux REAL=1", realCluster, "TestSwitch"),
	tested("make switch DELIVERY=direct REAL=1", realCluster, "TestSwitch"),
	tested("make reconcile WORKLOAD=…", fault, "TestDayTwo_AWedgedKustomizationTakesTheMendedRevision"),
	tested("make reconcile WORKLOAD=… RESET=1", fault, "TestDayTwo_AStuckReleaseIsTriedAgainOnceItsCauseIsGone"),
	tested("kubectl -n flux-system get pods", fault),
	tested("make clear-finalizers", fault, "TestDayTwo_OfAWorkloadThatFluxDelivers", "TestFlux"),
	tested("make restore-state STACK=production", fault, "TestRestoreState_PutsBackWhatAFullDiskHasCutOff", "TestRehearsal"),
	tested("pulumi cancel", fault, "TestRehearsal"),
}

// stage is what the sections of a heading need before their commands, once, as a person would do it
// who reads them, and what some of them must say. Its other blocks are files, in $BLOCKS/1, 2 and so on.
type stage struct {
	before string
	says   map[string]string
}

var stages = map[string]stage{
	// What make bootstrap asks a person for, and what make trust and make pin would write.
	"From Git": {before: `pulumi login --local
pulumi stack select production || pulumi stack init production
for key in intesis.username intesis.password slack.appToken slack.botToken notifications.githubToken; do
  case $key in slack.app*) value=xapp-trial;; slack.bot*) value=xoxb-trial;; *) value=trial;; esac
  echo $value | pulumi config set --secret --path secrets.$key -s production
done
for i in 0 1 2; do
  ssh-keygen -q -t ed25519 -N '' -C '' -f key
  pulumi config set --path "cluster.nodes[$i].hostKey" "$(cat key.pub)" -s production
  rm key key.pub
done
for file in binary script; do
  pulumi config set --path cluster.install.$file "$(echo $file | sha256sum | cut -d' ' -f1)" -s production
done
make keys STACK=production`},
	"Day by day": {says: map[string]string{"make status": "chat-hvac", "make help": "make bootstrap"}},
	"Add an app": {before: `cp $BLOCKS/1 workloads/hello.go
sed -i 's/chatHVAC}/chatHVAC, hello}/' workloads/catalog.go
sed -i 's|^	everywhere := .*|&\n		"hello-v1/name=hello < " + traefik + " TCP8080",|' workloads/network_test.go
cat $BLOCKS/2 >> manifests/images/kustomization.yaml`, says: map[string]string{"make up": "http://hello.localtest.me"}},
	"Add a device": {
		before: `line=$(grep -- '- {name: switch' $BLOCKS/1)
sed -i "/name: edgemax/i\\$line" Pulumi.development.yaml Pulumi.production.yaml`,
		says: map[string]string{"make render": "/prometheus/"},
	},
	"Add a stack": {says: map[string]string{"make render": "manifests/lab/", "make up STACK=lab": "chat-hvac"}},
}
