package workloads

import (
	"testing"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	notificationv1 "github.com/fluxcd/notification-controller/api/v1beta3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/config"
)

// No wildcard stands for a namespace, so each that has a release is named.
func TestNotifications_HearOfReleasesInEveryNamespaceOnce(t *testing.T) {
	release := func(namespace, name string) client.Object {
		return &helmv2.HelmRelease{
			TypeMeta:   typeMeta(helmv2.GroupVersion.String(), helmv2.HelmReleaseKind),
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		}
	}
	cfg := &config.Config{Flux: config.Flux{Notifications: true}}
	cfg.Secrets.Notifications.SlackWebhook = "https://hooks.example.net/placeholder"
	made, err := notifications(cfg, []Workload{
		{Name: "b", Objects: []client.Object{namespace("b", hvac), release("b", "one"), release("b", "two")}},
		{Name: "a", Objects: []client.Object{release("a", "three")}},
	})
	require.NoError(t, err)
	var heard []string
	for _, object := range made.Objects {
		if alert, ok := object.(*notificationv1.Alert); ok {
			for _, source := range alert.Spec.EventSources {
				assert.Equal(t, "*", source.Name)
				heard = append(heard, source.Kind+" "+source.Namespace)
			}
		}
	}
	assert.Equal(t, []string{"GitRepository flux-system", "Kustomization flux-system", "HelmRelease a", "HelmRelease b"}, heard)
}
