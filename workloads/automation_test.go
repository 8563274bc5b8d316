package workloads_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	imagev1 "github.com/fluxcd/image-automation-controller/api/v1"
	reflectorv1 "github.com/fluxcd/image-reflector-controller/api/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/workloads"
)

// marker is the comment that Flux looks for: on the field's own line, in JSON.
var marker = regexp.MustCompile(`^\s+newTag: (\S+) # (\{"\$imagepolicy": "[^"]+"\})$`)

// markers are the fields of the list that a policy sets: by the policy's name, the image.
func markers(t *testing.T) map[string]string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", "manifests", "images", "kustomization.yaml"))
	require.NoError(t, err)
	found, image := map[string]string{}, ""
	for line := range strings.Lines(string(content)) {
		line = strings.TrimRight(line, "\n")
		if name, isName := strings.CutPrefix(strings.TrimSpace(line), "- name: "); isName {
			image = name
		}
		if !strings.Contains(line, "imagepolicy") {
			continue
		}
		match := marker.FindStringSubmatch(line)
		require.NotNil(t, match, "Flux would not see the marker in %q", line)
		var comment map[string]string
		require.NoError(t, json.Unmarshal([]byte(match[2]), &comment))
		policy, isTag := strings.CutSuffix(comment["$imagepolicy"], ":tag")
		require.True(t, isTag, "newTag takes a tag alone: %s", line)
		assert.NotContains(t, found, policy, "a policy sets one field")
		found[policy] = image
	}
	return found
}

func TestImageAutomation_EachMarkerNamesAPolicyAndEachPolicyHasAMarker(t *testing.T) {
	made := catalog(t, variants(t)["production"])
	scanned := map[string]string{}
	for _, repository := range of[*reflectorv1.ImageRepository](made) {
		scanned[repository.Name] = repository.Spec.Image
	}
	policies := map[string]string{}
	for _, policy := range of[*reflectorv1.ImagePolicy](made) {
		image := scanned[policy.Spec.ImageRepositoryRef.Name]
		require.NotEmpty(t, image, "the policy %s has no repository", policy.Name)
		policies[policy.Namespace+":"+policy.Name] = image
	}
	assert.Equal(t, policies, markers(t))
	assert.Len(t, policies, len(scanned), "each repository has a policy")
}

// What it is allowed to see is one folder, and that holds one file.
func TestImageAutomation_EditsTheListOfImagesAlone(t *testing.T) {
	cfg := variants(t)["production"]
	automations := of[*imagev1.ImageUpdateAutomation](catalog(t, cfg))
	require.Len(t, automations, 1)
	assert.Equal(t, "./manifests/images", automations[0].Spec.Update.Path)
	entries, err := os.ReadDir(filepath.Join("..", automations[0].Spec.Update.Path))
	require.NoError(t, err)
	require.Len(t, entries, 1)
	assert.Equal(t, cfg.Images, filepath.Join(automations[0].Spec.Update.Path, entries[0].Name()))
}

func TestImageAutomation_PushesToTheBranchThatIsPulled(t *testing.T) {
	cfg := variants(t)["production"]
	cfg.Git.Branch = "feature/tags"
	git := of[*imagev1.ImageUpdateAutomation](catalog(t, cfg))[0].Spec.GitSpec
	assert.Equal(t, "feature/tags", git.Checkout.Reference.Branch)
	assert.Equal(t, "feature/tags", git.Push.Branch)
	assert.Empty(t, git.Push.Refspec)
}

func TestImageAutomation_IsThereOnlyWhereSomethingIsPulledAndPushed(t *testing.T) {
	for name, change := range map[string]func(*config.Config){
		"direct delivery":      func(cfg *config.Config) { cfg.Delivery = config.Direct },
		"flux.imageAutomation": func(cfg *config.Config) { cfg.Flux.ImageAutomation = false },
	} {
		cfg := variants(t)["production"]
		change(cfg)
		assert.NotContains(t, workloadNames(catalog(t, cfg)), "image-automation", name)
		assert.False(t, cfg.Pushes(), "a deploy key may write without %s", name)
	}
}

func TestImageAutomation_ScansAnotherRegistryIfToldTo(t *testing.T) {
	for registry, want := range map[string]struct {
		image    string
		insecure bool
	}{
		"":                   {"ghcr.io/nullify005/chat-hvac", false},
		"127.0.0.1:5000":     {"127.0.0.1:5000/nullify005/chat-hvac", true},
		"mirror.example.net": {"mirror.example.net/nullify005/chat-hvac", false},
	} {
		cfg := variants(t)["production"]
		cfg.Flux.ImageRegistry = registry
		repositories := of[*reflectorv1.ImageRepository](catalog(t, cfg))
		at := slices.IndexFunc(repositories, func(r *reflectorv1.ImageRepository) bool { return r.Name == "chat-hvac" })
		require.GreaterOrEqual(t, at, 0)
		assert.Equal(t, want.image, repositories[at].Spec.Image)
		assert.Equal(t, want.insecure, repositories[at].Spec.Insecure, registry)
	}
}

// No more than what an app runs may decide: the list has each image that is scanned.
func TestImageAutomation_RefusesAnAppThatIsNotOnTheList(t *testing.T) {
	list := images(t)
	delete(list, "ghcr.io/nullify005/chat-hvac")
	_, err := workloads.Catalog(variants(t)["production"], list)
	assert.ErrorContains(t, err, "workload image-automation: the list of images has no ghcr.io/nullify005/chat-hvac")
}

func workloadNames(catalog []workloads.Workload) []string {
	names := make([]string, len(catalog))
	for i, workload := range catalog {
		names[i] = workload.Name
	}
	return names
}

func TestSuspend_RefusesWhatFluxDoesNotDeliver(t *testing.T) {
	cfg := variants(t)["production"]
	cfg.Suspend = []string{"chat-hvac", "chat-hvca", "flux-system", "grafana", "notifications"}
	_, err := workloads.Catalog(cfg, images(t))
	var delivered []string
	for _, workload := range catalog(t, variants(t)["production"]) {
		if !workload.Direct {
			delivered = append(delivered, workload.Name)
		}
	}
	slices.Sort(delivered)
	require.Subset(t, delivered, []string{"chat-hvac", "grafana", "sealed-secrets"})
	those := "those that can be suspended are " + strings.Join(delivered, ", ")
	require.EqualError(t, err, `suspend[1] is "chat-hvca": there is no such workload; `+those+"\n"+
		`suspend[2] is "flux-system": Pulumi delivers it, not Flux; `+those+"\n"+
		`suspend[4] is "notifications": Pulumi delivers it, not Flux; `+those)
	cfg.Suspend = []string{"chat-hvac", "grafana"}
	catalog(t, cfg)
}
