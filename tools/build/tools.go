package main

// tool is one folder of tools/: a module of its own that pins a version.
type tool struct {
	// name of the folder.
	name string
	// module whose version in the folder's go.mod is the tool's.
	module string
	// release is the version to show and to stamp, where the module's own isn't it.
	release string
	// binaries that the build leaves, by the name go gives them; a different name to
	// install under, if any.
	binaries map[string]string
	// main is what to build: "tool" for go.mod's tool lines, "." for a main.go of ours.
	main string
	// ldflags stamp the version; {version} is v1.2.3 and {plain} is 1.2.3.
	ldflags string
	// patch changes a copy of the module, in the folder it is given, before the build.
	patch func(folder, version string) error
	// patchSource is the file that patch is in, where that isn't patches.go: a change of it concerns
	// this tool alone.
	patchSource []byte
	// installed is how to tell that the machine has the tool already.
	installed *installed
}

func same(names ...string) map[string]string {
	binaries := make(map[string]string, len(names))
	for _, name := range names {
		binaries[name] = name
	}
	return binaries
}

const (
	pulumiVersion = "-X github.com/pulumi/pulumi/sdk/v3/go/common/version.Version={version}"
	// Kubernetes' components compare versions with each other, so theirs are stamped as a
	// release's are.
	kubernetesVersion = "-X k8s.io/component-base/version.gitVersion={version} -X k8s.io/component-base/version.gitMajor=1 " +
		"-X k8s.io/component-base/version.gitMinor=35 -X k8s.io/component-base/version.gitTreeState=clean " +
		"-X k8s.io/component-base/version.buildDate=1970-01-01T00:00:00Z"
)

// tools lists every tool, the ones that a rehearsal waits for first.
func tools() []tool {
	return []tool{
		{
			name: "kwok", module: "sigs.k8s.io/kwok", binaries: same("kwok", "kwokctl"), main: "tool",
			ldflags: "-X sigs.k8s.io/kwok/pkg/consts.Version={version}",
		},
		{name: "etcd", module: "go.etcd.io/etcd/server/v3", binaries: same("etcd"), main: "."},
		{
			name: "kubernetes", module: "k8s.io/kubernetes", main: "tool", ldflags: kubernetesVersion,
			binaries: same("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"),
		},
		{
			name: "pulumi", module: "github.com/pulumi/pulumi/pkg/v3", binaries: same("pulumi"), main: "tool", ldflags: pulumiVersion,
			installed: &installed{command: []string{"pulumi", "version"}, from: "v3.250.0", below: "v4.0.0", beside: "pulumi-language-go"},
		},
		{
			name: "pulumi-language-go", module: "github.com/pulumi/pulumi/sdk/v3", binaries: same("pulumi-language-go"), main: "tool",
			ldflags: pulumiVersion, patch: keptProgram, patchSource: hostPatchSource,
			installed: &installed{command: []string{"pulumi", "version"}, from: "v3.250.0", below: "v4.0.0", beside: "pulumi-language-go"},
		},
		{
			name: "pulumi-kubernetes", module: "github.com/pulumi/pulumi-kubernetes/provider/v4", release: "v4.25.0", main: "tool",
			binaries: same("pulumi-resource-kubernetes"), patch: pluginSchema,
			ldflags: "-X github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/version.Version={version}",
		},
		{name: "flux", module: "github.com/fluxcd/source-controller", main: "tool", binaries: same(
			"source-controller", "kustomize-controller", "helm-controller",
			"notification-controller", "image-reflector-controller", "image-automation-controller")},
		{
			name: "sealed-secrets", module: "github.com/bitnami/sealed-secrets", main: "tool", ldflags: "-X main.VERSION={plain}",
			binaries: map[string]string{"controller": "sealed-secrets-controller", "kubeseal": "kubeseal"}, patch: kubeconfigToo,
		},
		{
			name: "k3d", module: "github.com/k3d-io/k3d/v5", binaries: same("k3d"), main: "tool",
			ldflags: "-X github.com/k3d-io/k3d/v5/version.Version={version}",
		},
		{
			name: "gotestsum", module: "gotest.tools/gotestsum", binaries: same("gotestsum"), main: "tool",
			ldflags: "-X gotest.tools/gotestsum/cmd.version={plain}",
		},
		{name: "gofumpt", module: "mvdan.cc/gofumpt", binaries: same("gofumpt"), main: "tool", ldflags: "-X main.version={version}"},
		{
			name: "golangci-lint", module: "github.com/golangci/golangci-lint/v2", binaries: same("golangci-lint"), main: "tool",
			ldflags: "-X main.version={plain}",
		},
		{
			name: "actionlint", module: "github.com/rhysd/actionlint", binaries: same("actionlint"), main: "tool",
			ldflags: "-X github.com/rhysd/actionlint.version={plain}",
		},
		{name: "govulncheck", module: "golang.org/x/vuln", binaries: same("govulncheck"), main: "tool"},
		{
			name: "kustomize", module: "sigs.k8s.io/kustomize/kustomize/v5", binaries: same("kustomize"), main: "tool",
			ldflags: "-X sigs.k8s.io/kustomize/api/provenance.version={version}",
		},
		{
			name: "kubeconform", module: "github.com/yannh/kubeconform", binaries: same("kubeconform"), main: "tool",
			ldflags: "-X main.version={version}",
		},
		{
			name: "flux-cli", module: "github.com/fluxcd/flux2/v2", binaries: same("flux"), main: "tool", patch: noManifests,
			ldflags: "-X main.VERSION={plain}",
		},
	}
}
