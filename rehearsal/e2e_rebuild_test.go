package rehearsal_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/nullify005/manager-cluster-state/rehearsal"
)

// TestRebuild loses what a home may lose, and runs the same pulumi up as ever.
func TestRebuild(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a control plane, Flux and pulumi for minutes; leave out -short")
	}
	s := newStage(t, "production")
	s.step("up", func(t *testing.T) { require.NoError(t, s.Up(t.Context(), rehearsal.UpOptions{})) })
	s.step("state gone, cluster kept: all of it is adopted", s.assertAdopted)
	s.step("what was adopted can be changed", func(t *testing.T) {
		s.Set("flux.interval", "20m")
		require.NoError(t, s.Up(t.Context(), rehearsal.UpOptions{}))
		s.assertReady(t)
	})
	s.step("a key that GitHub has with other rights is registered anew", s.assertKeyAdopted)
	s.step("both gone: a new cluster opens what is sealed in Git", func(t *testing.T) {
		head := s.head(t)
		require.NoError(t, s.StopCluster(t.Context()))
		s.lose(t, "state", "kwok", "cluster-id")
		require.NoError(t, s.Up(t.Context(), rehearsal.UpOptions{}))
		s.assertReady(t)
		s.assertPulled(t)
		assert.Equal(t, head, s.head(t), "nothing is sealed again")
		s.assertSettled(t)
	})
}

// TestRebuild_OfADirectStack is the same where Pulumi makes every object.
func TestRebuild_OfADirectStack(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a control plane and pulumi for minutes; leave out -short")
	}
	s := newStage(t, "development")
	require.NoError(t, s.Up(t.Context(), rehearsal.UpOptions{}))
	pods, managers := s.pods(t), s.managers(t)
	s.lose(t, "state")
	require.NoError(t, s.Up(t.Context(), rehearsal.UpOptions{}))
	s.assertReady(t)
	assert.Equal(t, pods, s.pods(t), "no pod is made anew")
	assert.Equal(t, managers, s.managers(t))
	s.assertSettled(t)

	s.Set("hvac.interval", unusual)
	require.NoError(t, s.Up(t.Context(), rehearsal.UpOptions{}), "nobody else owns the field")
	s.assertReady(t)
}

// lose removes what a broken disk would.
func (s *stage) lose(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		require.NoError(t, os.RemoveAll(filepath.Join(s.Folder(), name)))
	}
}

func (s *stage) assertAdopted(t *testing.T) {
	pods, managers, head := s.pods(t), s.managers(t), s.head(t)
	before, err := s.forge(t).DeployKeys(t.Context())
	require.NoError(t, err)
	require.Len(t, before, 1)
	s.lose(t, "state")
	require.NoError(t, s.Up(t.Context(), rehearsal.UpOptions{}))
	s.assertReady(t)
	s.assertPulled(t)
	assert.Equal(t, pods, s.pods(t), "no pod is made anew")
	assert.Equal(t, managers, s.managers(t), "nobody owns a field beside who does now")
	assert.Equal(t, head, s.head(t), "nothing is sealed again")
	after, err := s.forge(t).DeployKeys(t.Context())
	require.NoError(t, err)
	require.Len(t, after, 1)
	assert.Equal(t, before[0].ID, after[0].ID, "Flux's key was registered all the time")
	s.assertSettled(t)
}

// assertSettled: nothing is left to do, and doing it twice does no harm.
func (s *stage) assertSettled(t *testing.T) {
	t.Helper()
	changes, err := s.Preview(t.Context())
	require.NoError(t, err)
	assert.Empty(t, changes)
	require.NoError(t, s.Up(t.Context(), rehearsal.UpOptions{ExpectNoChanges: true}))
}

// assertKeyAdopted loses the state, and has the key pull alone from then on.
func (s *stage) assertKeyAdopted(t *testing.T) {
	before, err := s.forge(t).DeployKeys(t.Context())
	require.NoError(t, err)
	s.lose(t, "state")
	s.Set("flux.imageAutomation", false)
	require.NoError(t, s.Up(t.Context(), rehearsal.UpOptions{}))
	s.assertReady(t)
	after, err := s.forge(t).DeployKeys(t.Context())
	require.NoError(t, err)
	require.Len(t, after, 1)
	assert.NotEqual(t, before[0].ID, after[0].ID)
	assert.True(t, after[0].ReadOnly)
	s.assertSettled(t)

	s.Set("flux.imageAutomation", true)
	require.NoError(t, s.Up(t.Context(), rehearsal.UpOptions{}))
	s.assertPulled(t)
	s.assertSettled(t)
}

// managers are those of Pulumi's that own fields, by object.
func (s *stage) managers(t *testing.T) map[string][]string {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", s.Kubeconfig())
	require.NoError(t, err)
	asks, err := discovery.NewDiscoveryClientForConfig(config)
	require.NoError(t, err)
	lists, err := asks.ServerPreferredResources()
	require.NoError(t, err)
	c, err := s.Client()
	require.NoError(t, err)
	found := map[string][]string{}
	for _, list := range lists {
		version, err := schema.ParseGroupVersion(list.GroupVersion)
		require.NoError(t, err)
		for _, resource := range list.APIResources {
			if strings.Contains(resource.Name, "/") || !slices.Contains(resource.Verbs, "list") {
				continue
			}
			items := &metav1.PartialObjectMetadataList{}
			items.SetGroupVersionKind(version.WithKind(resource.Kind + "List"))
			if err := c.List(t.Context(), items); apierrors.IsNotFound(err) || apierrors.IsMethodNotSupported(err) {
				continue
			} else if err != nil {
				require.NoError(t, err)
			}
			for _, item := range items.Items {
				for _, entry := range item.ManagedFields {
					if strings.HasPrefix(entry.Manager, "pulumi") {
						key := strings.Join([]string{resource.Name, version.Group, item.Namespace, item.Name}, "/")
						found[key] = append(found[key], entry.Manager+" "+entry.Subresource)
					}
				}
			}
		}
	}
	require.NotEmpty(t, found)
	for object, managers := range found {
		if strings.HasPrefix(object, "customresourcedefinitions/") {
			delete(found, object) // replaced as a whole, whoever has a field of it
			continue
		}
		assert.Len(t, managers, 1, object)
	}
	return found
}
