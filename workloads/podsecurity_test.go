package workloads_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"

	"github.com/nullify005/manager-cluster-state/workloads"
)

// exceptions are the workloads that the restricted standard refuses, and what for.
func exceptions() map[string][]string {
	return map[string][]string{"external-mdns": {"host namespaces"}}
}

// refused is what a level of the standard has against a pod, as the API server judges it.
func refused(t *testing.T, level api.Level, template *corev1.PodTemplateSpec) []string {
	t.Helper()
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	require.NoError(t, err)
	var reasons []string
	for _, result := range evaluator.EvaluatePod(api.LevelVersion{Level: level, Version: api.LatestVersion()}, &template.ObjectMeta, &template.Spec) {
		if !result.Allowed {
			reasons = append(reasons, result.ForbiddenReason)
		}
	}
	return reasons
}

func TestPods_PassTheRestrictedStandardButForTheNamedExceptions(t *testing.T) {
	eachStack(t, func(t *testing.T, catalog []workloads.Workload) {
		for _, deployment := range of[*appsv1.Deployment](catalog) {
			assert.Equal(t, exceptions()[deployment.Name], refused(t, api.LevelRestricted, &deployment.Spec.Template), deployment.Name)
			for _, container := range slices.Concat(deployment.Spec.Template.Spec.InitContainers, deployment.Spec.Template.Spec.Containers) {
				assert.Equal(t, new(true), container.SecurityContext.ReadOnlyRootFilesystem, "not of the standard, but of ours")
			}
		}
	})
}

// kube-system is the cluster's own, and not ours to label.
func TestNamespaces_EnforceTheRestrictedStandardButForTheNamedExceptions(t *testing.T) {
	eachStack(t, func(t *testing.T, catalog []workloads.Workload) {
		levels := map[string]api.Level{}
		for _, namespace := range of[*corev1.Namespace](catalog) {
			enforced, problems := api.PolicyToEvaluate(namespace.Labels, api.Policy{})
			require.Empty(t, problems)
			assert.Contains(t, namespace.Labels, "pod-security.kubernetes.io/enforce")
			assert.True(t, enforced.Enforce.Latest())
			levels[namespace.Name] = enforced.Enforce.Level
			want := api.LevelRestricted
			if namespace.Name == "service-mdns-v1" {
				want = api.LevelPrivileged
			}
			assert.Equal(t, want, enforced.Enforce.Level, namespace.Name)
		}
		for _, deployment := range of[*appsv1.Deployment](catalog) {
			if deployment.Namespace == "kube-system" {
				continue
			}
			require.Contains(t, levels, deployment.Namespace)
			assert.Empty(t, refused(t, levels[deployment.Namespace], &deployment.Spec.Template), deployment.Name)
		}
	})
}
