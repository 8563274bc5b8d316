// Package config is a stack's configuration as Go types: decoded strictly, defaulted, and
// validated with every problem reported at once. It knows no engine: what comes in is the
// map of strings that Pulumi hands to a program, what goes out is a Config that the
// layers after it may trust.
package config

// Config is the whole of a stack file. Each field is one key under the project's name in
// Pulumi.<stack>.yaml; the doc and default tags are what Pulumi.yaml declares and what the
// documents' table shows.
type Config struct {
	Cluster       Cluster        `json:"cluster" doc:"the cluster that the stack runs on"`
	Delivery      Delivery       `json:"delivery" default:"direct" enum:"direct,flux" doc:"how workloads reach the cluster: direct, each object a Pulumi resource; flux, pulled from Git; change it on a running stack with make switch"`
	Handover      bool           `json:"handover" default:"false" doc:"set and removed by make switch: what is delivered now stays in the cluster when the delivery changes"`
	Suspend       []string       `json:"suspend" doc:"flux delivery: names of workloads that Flux leaves alone until they are off this list"`
	Git           Git            `json:"git" doc:"the repository that Flux pulls from; needed by flux delivery"`
	Domain        string         `json:"domain" required:"true" doc:"DNS suffix of every ingress host: service-intesis-v1.<domain>"`
	HVAC          HVAC           `json:"hvac" doc:"the air-conditioning apps"`
	SNMP          SNMP           `json:"snmp" doc:"the devices of the house whose metrics come by SNMP"`
	Observability Observability  `json:"observability" default:"local" enum:"local,cloud" doc:"local runs Prometheus and Grafana on the cluster; cloud ships metrics and logs away with Grafana Alloy"`
	Cloud         CloudEndpoints `json:"cloud" doc:"where observability: cloud ships to"`
	Images        string         `json:"images" default:"manifests/images/kustomization.yaml" doc:"the kustomize Component that lists every image and its tag, relative to the project"`
	Flux          Flux           `json:"flux" doc:"the Flux controllers"`
	Sealing       Sealing        `json:"sealing" doc:"the key pairs of sealed-secrets; flux delivery needs one, direct delivery none"`
	Secrets       Secrets        `json:"secrets" doc:"credentials; set each with pulumi config set --secret --path"`
	ReadyTimeout  Duration       `json:"readyTimeout" default:"10m" doc:"how long an update waits for one object to become ready"`
}

// ClusterKind says who makes the cluster.
type ClusterKind string

// The kinds of cluster.
const (
	K3d      ClusterKind = "k3d"
	Pi       ClusterKind = "pi"
	Existing ClusterKind = "existing"
)

// Cluster describes the cluster and the sizes of its nodes.
type Cluster struct {
	Kind        ClusterKind `json:"kind" required:"true" enum:"k3d,pi,existing" doc:"k3d makes one in Docker, pi one on Raspberry Pis, existing uses a kubeconfig"`
	Name        string      `json:"name" required:"true" doc:"name of the cluster: a DNS label"`
	K3s         string      `json:"k3s" doc:"k3s release, as v1.35.0+k3s1; needed by k3d and pi"`
	Flannel     Flannel     `json:"flannel" default:"vxlan" enum:"vxlan,host-gw,wireguard-native" doc:"k3d and pi: how k3s carries traffic between nodes; host-gw is the lightest and needs all of them on one network; wireguard-native encrypts"`
	Kubeconfig  string      `json:"kubeconfig" doc:"existing: path of a kubeconfig file, relative to the project"`
	Context     string      `json:"context" doc:"existing: context in that kubeconfig; empty means its current one"`
	MemoryCheck *bool       `json:"memoryCheck" default:"true" doc:"refuse pods that the nodes may have no room for; false leaves that to the scheduler"`
	SSH         SSH         `json:"ssh" doc:"pi: how its machines are reached"`
	Install     Install     `json:"install" doc:"pi: where k3s comes from, and what it must be"`
	Nodes       []Node      `json:"nodes" doc:"the machines, servers first; needed by k3d and pi"`
}

// SSH says how the machines of kind pi are reached; each node has its own host and user.
type SSH struct {
	Timeout       Duration `json:"timeout" default:"15s" doc:"how long one attempt to connect may take"`
	RebootTimeout Duration `json:"rebootTimeout" default:"10m" doc:"how long a machine may take to come back from a reboot"`
	Jump          Jump     `json:"jump" doc:"a host that all of them are reached through"`
}

// Jump is a host between here and the machines; empty means that there is none.
type Jump struct {
	Host    string `json:"host" doc:"its host name or address"`
	Port    int    `json:"port" default:"22" doc:"its SSH port"`
	User    string `json:"user" doc:"its user for SSH"`
	HostKey string `json:"hostKey" doc:"its host key, as ssh-ed25519 AAAA…; make trust writes it"`
}

// Install says where the files of a k3s release come from.
type Install struct {
	From   string `json:"from" doc:"a folder, relative to the project, or an http(s) URL with k3s-arm64 and install.sh in it; empty is k3s's own release at GitHub"`
	Binary string `json:"binary" doc:"SHA-256 of k3s-arm64, in hex; make pin writes it"`
	Script string `json:"script" doc:"SHA-256 of install.sh, in hex; make pin writes it"`
}

// Flannel is k3s's backend for traffic between nodes.
type Flannel string

// The backends of flannel that need nothing but k3s.
const (
	VXLAN           Flannel = "vxlan"
	HostGateway     Flannel = "host-gw"
	WireGuardNative Flannel = "wireguard-native"
)

// NodeRole is what k3s calls a machine's part in the cluster.
type NodeRole string

// The roles of a node.
const (
	Server NodeRole = "server"
	Agent  NodeRole = "agent"
)

// Node is one machine of the cluster. What pods may use is Memory less Reserved.
type Node struct {
	Name      string   `json:"name" required:"true" doc:"name of the node: a DNS label"`
	Role      NodeRole `json:"role" required:"true" enum:"server,agent" doc:"server runs the control plane, agent only workloads"`
	Arch      string   `json:"arch" default:"amd64" enum:"amd64,arm64" doc:"CPU architecture"`
	CPU       string   `json:"cpu" default:"4" quantity:"true" doc:"CPUs, as a Kubernetes quantity"`
	Memory    string   `json:"memory" default:"4Gi" quantity:"true" doc:"memory of the machine, as a Kubernetes quantity"`
	Reserved  string   `json:"reserved" default:"512Mi" quantity:"true" doc:"memory that k3s and the operating system take from it"`
	Workloads *bool    `json:"workloads" default:"true" doc:"whether workloads may run here; false taints the node"`
	Host      string   `json:"host" doc:"pi: host name or address for SSH"`
	User      string   `json:"user" doc:"pi: user for SSH"`
	Port      int      `json:"port" default:"22" doc:"pi: port for SSH"`
	HostKey   string   `json:"hostKey" doc:"pi: its SSH host key, as ssh-ed25519 AAAA…; make trust writes it"`
	Offline   bool     `json:"offline" default:"false" doc:"pi: an agent that is off, or lost: it is left as it is, and forgotten once it is off the list"`
}

// Delivery says how workloads reach the cluster.
type Delivery string

// The deliveries. Direct registers every object of a workload as a Pulumi resource; FluxCD has
// Flux pull them from Git.
const (
	Direct Delivery = "direct"
	FluxCD Delivery = "flux"
)

// Git is the repository that Flux pulls from, over SSH with secrets.deployKey.
type Git struct {
	URL        string `json:"url" doc:"its SSH address: ssh://git@github.com/OWNER/REPOSITORY.git"`
	Branch     string `json:"branch" default:"main" doc:"branch that is pulled, and that image automation pushes to"`
	KnownHosts string `json:"knownHosts" doc:"SSH host keys of the Git host, as lines of known_hosts; GitHub's are built in"`
	GitHubURL  string `json:"githubURL" doc:"URL of the GitHub API that registers the deploy key; of github.com it is built in, of another host without one the key is registered by hand"`
}

// HVAC configures the three apps around the air-conditioning unit.
type HVAC struct {
	Device          Text     `json:"device" required:"true" doc:"the Intesis device's number"`
	Interval        Duration `json:"interval" default:"2m" doc:"how often the unit is polled"`
	Location        string   `json:"location" required:"true" doc:"geohash of the weather observations"`
	WeatherInterval Duration `json:"weatherInterval" default:"2m" doc:"how often the observations are polled"`
	Mock            bool     `json:"mock" default:"false" doc:"run a mock of the Intesis cloud in the cluster; no secret is needed then"`
	SlackChannel    string   `json:"slackChannel" default:"hvac" doc:"Slack channel of the chat bot"`
}

// SNMP lists what is asked over SNMP.
type SNMP struct {
	Devices []Device `json:"devices" doc:"one entry per device; adding one is one line: {name: edgemax, address: 172.16.10.1, module: ubiquiti_edgemax}"`
}

// Device is one thing on the house's network that speaks SNMP version 2c.
type Device struct {
	Name    string `json:"name" required:"true" doc:"name of the device, the job label of its metrics: a DNS label"`
	Address string `json:"address" required:"true" doc:"its IPv4 address"`
	Module  string `json:"module" required:"true" enum:"ubiquiti_edgemax,vdsl" doc:"which metrics it has: a module of workloads/files/snmp-exporter/snmp.yml"`
}

// Observability says where metrics and logs go.
type Observability string

// Where metrics and logs go.
const (
	Local Observability = "local"
	Cloud Observability = "cloud"
)

// CloudEndpoints are where metrics and logs are shipped to; their token is a secret.
type CloudEndpoints struct {
	Metrics Endpoint `json:"metrics" doc:"Prometheus remote write"`
	Logs    Endpoint `json:"logs" doc:"Loki"`
}

// Endpoint is where something is pushed to.
type Endpoint struct {
	URL      string `json:"url" doc:"https URL that takes pushes; needed by observability: cloud"`
	Username Text   `json:"username" doc:"user name at that endpoint: in Grafana Cloud, the instance's number"`
}

// FluxProfile names a set of resources and arguments for Flux's controllers.
type FluxProfile string

// The profiles of Flux.
const (
	Standard  FluxProfile = "standard"
	LowMemory FluxProfile = "low-memory"
)

// Flux configures the Flux controllers.
type Flux struct {
	Version         string      `json:"version" doc:"if set, must equal the Flux release that manifests/flux-system was generated from, as v2.9.4"`
	Profile         FluxProfile `json:"profile" default:"standard" enum:"standard,low-memory" doc:"low-memory bounds every controller's heap and concurrency for a Pi"`
	Helm            bool        `json:"helm" default:"true" doc:"run helm-controller, which a chart as a workload needs"`
	Notifications   bool        `json:"notifications" default:"true" doc:"run notification-controller, which tells Slack and GitHub"`
	ImageAutomation bool        `json:"imageAutomation" default:"true" doc:"run the two image controllers, which commit new image tags to Git"`
	Interval        Duration    `json:"interval" default:"30m" doc:"flux delivery: how often Git is polled"`
	ImageInterval   Duration    `json:"imageInterval" default:"10m" doc:"flux delivery: how often image registries are scanned"`
	ImageRegistry   string      `json:"imageRegistry" doc:"registry that is scanned in place of ghcr.io, as 127.0.0.1:5000; for a rehearsal or a mirror"`
	SlackChannel    string      `json:"slackChannel" default:"cluster-status" doc:"Slack channel of Flux's messages; it needs secrets.notifications.slackWebhook"`
	CommitStatus    bool        `json:"commitStatus" default:"false" doc:"flux delivery: tell GitHub how each commit did; it needs secrets.notifications.githubToken"`
}

// Sealing holds the key pairs of sealed-secrets.
type Sealing struct {
	Keys    []SealingKey `json:"keys" doc:"RSA key pairs; the newest certificate seals, all of them open"`
	Protect bool         `json:"protect" default:"false" doc:"refuse to delete the keys, also on pulumi destroy"`
}

// SealingKey is one key pair, both halves PEM.
type SealingKey struct {
	Certificate string `json:"certificate" required:"true" doc:"the certificate, PEM"`
	PrivateKey  string `json:"privateKey" required:"true" secret:"true" doc:"its RSA private key, PEM"`
}

// Secrets are the credentials of the apps and of Flux.
type Secrets struct {
	DeployKey     string        `json:"deployKey" secret:"true" doc:"SSH private key that Flux pulls with, OpenSSH PEM; flux delivery needs it, and make keys makes it"`
	SSHKey        string        `json:"sshKey" secret:"true" doc:"pi: SSH private key that its machines let in, PEM without a passphrase; empty uses the SSH agent"`
	Notifications Notifications `json:"notifications" doc:"where Flux sends its messages; each is off without its secret"`
	Intesis       Intesis       `json:"intesis" doc:"account at the Intesis cloud; needed unless hvac.mock"`
	Slack         Slack         `json:"slack" doc:"tokens of the Slack app; needed unless hvac.mock, where the bot has no replica without them"`
	Grafana       GrafanaAdmin  `json:"grafana" doc:"Grafana's admin; without it there is none, and everyone is a viewer"`
	SNMP          SNMPAuth      `json:"snmp" doc:"how the devices of snmp.devices are asked"`
	Cloud         CloudAuth     `json:"cloud" doc:"how observability: cloud logs in"`
}

// Notifications are the credentials of whom Flux tells.
type Notifications struct {
	SlackWebhook string `json:"slackWebhook" secret:"true" doc:"incoming webhook of Slack, https://hooks.slack.com/services/…"`
	GitHubToken  string `json:"githubToken" secret:"true" doc:"GitHub token that may write commit statuses of the repository, and nothing else"`
}

// Intesis is an account at the Intesis cloud.
type Intesis struct {
	Username string `json:"username" secret:"true" doc:"user name at the Intesis cloud"`
	Password string `json:"password" secret:"true" doc:"password at the Intesis cloud"`
}

// Slack holds the tokens of a Slack app in socket mode.
type Slack struct {
	AppToken string `json:"appToken" secret:"true" doc:"app-level token, xapp-…"`
	BotToken string `json:"botToken" secret:"true" doc:"bot token, xoxb-…"`
}

// GrafanaAdmin is the account that may edit in Grafana.
type GrafanaAdmin struct {
	Username string `json:"username" secret:"true" doc:"user name of the admin"`
	Password string `json:"password" secret:"true" doc:"password of the admin, 8 characters or more"`
}

// SNMPAuth is what SNMP version 2c has for authentication.
type SNMPAuth struct {
	Community string `json:"community" secret:"true" doc:"read-only community of the devices; public, as they come from the shop, unless set"`
}

// CloudAuth is one token for both endpoints.
type CloudAuth struct {
	Token string `json:"token" secret:"true" doc:"token that may write metrics and logs; needed by observability: cloud"`
}
