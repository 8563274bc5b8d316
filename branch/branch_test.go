package branch_test

import (
	"errors"
	"net"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nullify005/manager-cluster-state/branch"
	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/internal/gittest"
	"github.com/nullify005/manager-cluster-state/internal/stacktest"
	"github.com/nullify005/manager-cluster-state/render"
	"github.com/nullify005/manager-cluster-state/workloads"
)

const (
	projectDir = ".."
	// stackDir has the stack as it was set out, whatever an owner has set in the real one.
	stackDir = "../workloads/testdata"
	stack    = "production"
	bot      = "chat-hvac/sealedsecret-chat-hvac.yaml"
	poller   = "service-intesis/sealedsecret-service-intesis.yaml"
	agent    = "snmp-exporter/sealedsecret-snmp-exporter.yaml"
)

// production is the stack as its program has it, with a Git host of its own.
func production(t *testing.T) (*branch.Args, *gittest.Host) {
	t.Helper()
	host := gittest.Start(t)
	cfg := stacktest.Config(t, stackDir, stack)
	cfg.Git.URL, cfg.Git.Branch, cfg.Git.KnownHosts = host.URL(), "main", host.KnownHosts()
	cfg.Secrets.DeployKey = host.DeployKey(t)
	return &branch.Args{
		Config: cfg, Stack: stack, Images: stacktest.Images(t, projectDir, cfg), Catalog: stacktest.Catalog(t, projectDir, cfg),
	}, host
}

// files are what make seal render would write, by their paths in the repository.
func files(t *testing.T, args *branch.Args, catalog []workloads.Workload) map[string][]byte {
	t.Helper()
	sealed, err := render.Seal(catalog, args.Config.Sealing.Keys, nil)
	require.NoError(t, err)
	made, err := render.Render(&render.Args{Catalog: catalog, Images: args.Images, ImagesFile: args.Config.Images, Sealed: sealed})
	require.NoError(t, err)
	all := map[string][]byte{}
	for name, content := range made {
		all[in(name)] = content
	}
	all[args.Config.Images], err = os.ReadFile(filepath.Join(projectDir, args.Config.Images))
	require.NoError(t, err)
	return all
}

func in(name string) string { return path.Join(render.Folder(stack), name) }

// problems are those of a branch that was read.
func problems(t *testing.T, err error) []string {
	t.Helper()
	var notThere *branch.NotThereError
	require.ErrorAs(t, err, &notThere)
	assert.NotContains(t, err.Error(), stacktest.Canary)
	require.ErrorContains(t, err, "run make seal render STACK=production, commit and push")
	return notThere.Problems
}

func TestCheck_OfABranchThatHasItAllGivesItsRevision(t *testing.T) {
	args, host := production(t)
	commit := host.Push(t, "main", files(t, args, args.Catalog))
	revision, err := branch.Check(t.Context(), args)
	require.NoError(t, err)
	assert.Equal(t, "main@sha1:"+commit, revision)
}

func TestCheck_AnotherTagInTheListOfImagesIsFine(t *testing.T) {
	args, host := production(t)
	all := files(t, args, args.Catalog)
	const image = "ghcr.io/nullify005/service-intesis"
	_, tag, _ := strings.Cut(args.Images[image], ":")
	edited := strings.Replace(string(all[args.Config.Images]), "newTag: "+tag, "newTag: v9.9.9", 1)
	require.NotEqual(t, string(all[args.Config.Images]), edited)
	all[args.Config.Images] = []byte(edited)
	host.Push(t, "main", all)
	_, err := branch.Check(t.Context(), args)
	require.NoError(t, err, "image automation pushes so")
	images, err := branch.Images(t.Context(), args)
	require.NoError(t, err)
	assert.Equal(t, image+":v9.9.9", images[image])
}

func TestCheck_ReportsEveryProblemAtOnce(t *testing.T) {
	args, host := production(t)
	all := files(t, args, args.Catalog)
	list := args.Config.Images
	all[in("grafana/service-grafana.yaml")] = []byte("kind: Service\n")
	all[in("gone/service-gone.yaml")] = []byte("kind: Service\n")
	all[in("gone/sealedsecret-gone.yaml")] = []byte("kind: SealedSecret\n")
	all[list] = []byte("apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nimages: []\n")
	delete(all, in("prometheus/deployment-prometheus.yaml"))
	delete(all, in(bot))
	host.Push(t, "main", all)
	_, err := branch.Check(t.Context(), args)
	found := problems(t, err)
	assert.True(t, slices.IsSorted(found))
	for _, want := range []string{
		"prometheus/deployment-prometheus.yaml is missing",
		"grafana/service-grafana.yaml is stale",
		"gone/service-gone.yaml is of no use any more",
		"gone/sealedsecret-gone.yaml: no workload has that secret",
		bot + ": the sealed file of secret chat-hvac-v1/chat-hvac: it is missing",
		"chat-hvac/kustomization.yaml is stale",
		list + " lacks ghcr.io/nullify005/service-intesis",
	} {
		assert.True(t, slices.ContainsFunc(found, func(problem string) bool { return strings.HasPrefix(problem, want) }), "%s\nin\n%s", want, strings.Join(found, "\n"))
		require.ErrorContains(t, err, want)
	}
	_, err = branch.Images(t.Context(), args)
	assert.Len(t, problems(t, err), len(args.Images))
}

func TestCheck_OfABranchWithoutAnyOfItSaysSo(t *testing.T) {
	args, host := production(t)
	host.Push(t, "main", map[string][]byte{"README.md": []byte("x")})
	_, err := branch.Check(t.Context(), args)
	found := problems(t, err)
	assert.Contains(t, found, "prometheus/ is missing")
	assert.Contains(t, found, args.Config.Images+" is missing")
	_, err = branch.Images(t.Context(), args)
	assert.Equal(t, []string{args.Config.Images + " is missing"}, problems(t, err))
}

func TestCheck_SaysOfEachSealedSecretWhatIsWrong(t *testing.T) {
	args, host := production(t)
	all := files(t, args, args.Catalog)

	older := *args.Config
	older.Secrets.SNMP.Community = "canary-of-last-year"
	// The pods' digest differs as well, so only the sealed file is last year's.
	all[in(agent)] = files(t, args, stacktest.Catalog(t, projectDir, &older))[in(agent)]

	all[in(bot)] = []byte(strings.Replace(string(all[in(bot)]), "namespace: chat-hvac-v1", "namespace: elsewhere", 1))

	stranger := *args
	strangers := *args.Config
	strangers.Sealing.Keys = []config.SealingKey{stacktest.SealingKey(t, time.Now().Add(-time.Hour))}
	stranger.Config = &strangers
	all[in(poller)] = files(t, &stranger, args.Catalog)[in(poller)]

	host.Push(t, "main", all)
	_, err := branch.Check(t.Context(), args)
	found := problems(t, err)
	require.Len(t, found, 3, strings.Join(found, "\n"))
	assert.Contains(t, found[0], bot+": the sealed file of secret chat-hvac-v1/chat-hvac: it is for namespace \"elsewhere\"")
	assert.Contains(t, found[1], poller)
	assert.Contains(t, found[1], "which is not among sealing.keys")
	assert.Contains(t, found[2], agent)
	assert.Contains(t, found[2], "it holds another value than the stack's config")
}

func TestCheck_SaysWhichPodsWouldKeepAnOldSecret(t *testing.T) {
	args, host := production(t)
	host.Push(t, "main", files(t, args, args.Catalog))
	args.Config.Secrets.SNMP.Community = "canary-new"
	args.Catalog = stacktest.Catalog(t, projectDir, args.Config)
	_, err := branch.Check(t.Context(), args)
	found := problems(t, err)
	require.Len(t, found, 2)
	assert.Equal(t, "snmp-exporter/deployment-snmp-exporter.yaml is stale", found[0])
	assert.Contains(t, found[1], agent)
}

func TestCheck_SaysThatThereIsNoSuchBranch(t *testing.T) {
	args, host := production(t)
	host.Push(t, "main", files(t, args, args.Catalog))
	args.Config.Git.Branch = "another"
	_, err := branch.Check(t.Context(), args)
	assert.Equal(t, []string{"there is no such branch"}, problems(t, err))
	require.ErrorContains(t, err, "branch another does not have what stack production would run")
	_, err = branch.Images(t.Context(), args)
	assert.Equal(t, []string{"there is no such branch"}, problems(t, err))
}

func TestCheck_ReadsAsTheUserWhileTheDeployKeyIsNotRegistered(t *testing.T) {
	args, host := production(t)
	commit := host.Push(t, "main", files(t, args, args.Catalog))
	args.Config.Secrets.DeployKey, _ = gittest.Key(t)
	args.GitEnv = host.UserEnv(t)
	revision, err := branch.Check(t.Context(), args)
	require.NoError(t, err)
	assert.Equal(t, "main@sha1:"+commit, revision)
	args.Config.Git.Branch = "another"
	_, err = branch.Check(t.Context(), args)
	assert.Equal(t, []string{"there is no such branch"}, problems(t, err))
}

func TestCheck_SaysThatNobodyIsLetIn(t *testing.T) {
	args, host := production(t)
	host.Push(t, "main", files(t, args, args.Catalog))
	private, _ := gittest.Key(t)
	args.Config.Secrets.DeployKey = private
	args.GitEnv = []string{"GIT_SSH_COMMAND=false"}
	_, err := branch.Check(t.Context(), args)
	unreachable(t, err, private)
	require.ErrorContains(t, err, "the Git host doesn't accept the deploy key")
	require.ErrorContains(t, err, "with git")
}

// unreachable wants an error that says that the branch could not be read, and shows no key.
func unreachable(t *testing.T, err error, privateKey string) {
	t.Helper()
	var cause *branch.UnreachableError
	require.ErrorAs(t, err, &cause)
	require.Error(t, errors.Unwrap(cause))
	assert.NotContains(t, err.Error(), stacktest.Canary)
	for line := range strings.Lines(privateKey) {
		assert.NotContains(t, err.Error(), strings.TrimSpace(line))
	}
}

func TestCheck_OfAHostThatIsNotThereOrAnotherIsToldQuickly(t *testing.T) {
	args, host := production(t)
	host.Push(t, "main", files(t, args, args.Catalog))
	key := args.Config.Secrets.DeployKey
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	down := listener.Addr().String()
	require.NoError(t, listener.Close())

	right := args.Config.Git
	for says, wrong := range map[string]config.Git{
		down: {URL: "ssh://git@" + down + "/a/b.git", Branch: "main", KnownHosts: right.KnownHosts},
		"shows a host key that is not pinned": {
			URL: right.URL, Branch: "main",
			KnownHosts: "[other.example.net]:22 " + strings.SplitN(right.KnownHosts, " ", 2)[1],
		},
	} {
		args.Config.Git = wrong
		began := time.Now()
		_, err := branch.Check(t.Context(), args)
		unreachable(t, err, key)
		require.ErrorContains(t, err, says)
		_, err = branch.Images(t.Context(), args)
		unreachable(t, err, key)
		assert.Less(t, time.Since(began), 10*time.Second)
	}
}

func TestCheck_RefusesACatalogThatCannotBeRendered(t *testing.T) {
	args, host := production(t)
	host.Push(t, "main", files(t, args, args.Catalog))
	args.Catalog = slices.Clone(args.Catalog)
	i := slices.IndexFunc(args.Catalog, func(w workloads.Workload) bool { return !w.Direct })
	args.Catalog[i].Objects = append(slices.Clone(args.Catalog[i].Objects), args.Catalog[i].Objects[0])
	_, err := branch.Check(t.Context(), args)
	require.ErrorContains(t, err, "two objects would be written to")
}
