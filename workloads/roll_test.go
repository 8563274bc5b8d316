package workloads

import (
	"testing"

	"github.com/stretchr/testify/assert"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/seal"
)

func ofPlaintext(secret *corev1.Secret) string { return seal.Digest([]byte("key"), secret) }

// readers are a workload of two Deployments: one reads a Secret and a ConfigMap, the other
// neither.
func readers(password, setting string) map[string]map[string]string {
	reader, bystander := app{name: "reader", secret: "creds", memory: "1Mi"}.deployment(), app{name: "bystander", memory: "1Mi"}.deployment()
	pod := &reader.Spec.Template.Spec
	pod.Containers[0].EnvFrom = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{
		LocalObjectReference: corev1.LocalObjectReference{Name: "settings"},
	}}}
	config := &corev1.ConfigMap{Data: map[string]string{"setting": setting}}
	config.Name = "settings"
	workload := Workload{Objects: []client.Object{
		reader, bystander, config, app{}.secretFile("creds", "password", password),
	}}
	rollOnChange(&workload, ofPlaintext)
	annotations := map[string]map[string]string{}
	for _, object := range workload.Objects {
		if deployment, ok := object.(*appsv1.Deployment); ok {
			annotations[deployment.Name] = deployment.Spec.Template.Annotations
		}
	}
	return annotations
}

func TestRollOnChange_RollsExactlyThePodsThatRead(t *testing.T) {
	before := readers("one", "one")
	assert.Equal(t, before, readers("one", "one"))
	assert.NotContains(t, before["bystander"], secretDigest)
	assert.NotContains(t, before["bystander"], configDigest)

	secretChanged := readers("two", "one")
	assert.NotEqual(t, before["reader"][secretDigest], secretChanged["reader"][secretDigest])
	assert.Equal(t, before["reader"][configDigest], secretChanged["reader"][configDigest])
	assert.Equal(t, before["bystander"], secretChanged["bystander"])

	configChanged := readers("one", "two")
	assert.Equal(t, before["reader"][secretDigest], configChanged["reader"][secretDigest])
	assert.NotEqual(t, before["reader"][configDigest], configChanged["reader"][configDigest])
}

func TestReads_SeesEveryWayToReadAConfigMapOrASecret(t *testing.T) {
	config := func(name string) corev1.LocalObjectReference { return corev1.LocalObjectReference{Name: name} }
	container := func(suffix string) corev1.Container {
		return corev1.Container{
			EnvFrom: []corev1.EnvFromSource{
				{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: config("env-from-" + suffix)}},
				{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: config("env-from-" + suffix)}},
			},
			Env: []corev1.EnvVar{
				{Name: "PLAIN", Value: "value"},
				{ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: config("env-" + suffix)}}},
				{ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: config("env-" + suffix)}}},
			},
		}
	}
	configs, secrets := reads(&corev1.PodSpec{
		InitContainers: []corev1.Container{container("init")},
		Containers:     []corev1.Container{container("main"), container("main")},
		Volumes: []corev1.Volume{
			{VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: config("volume")}}},
			{VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "volume"}}},
			{VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
				{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: config("projected")}},
				{Secret: &corev1.SecretProjection{LocalObjectReference: config("projected")}},
			}}}},
			{VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		},
	})
	want := []string{"env-from-init", "env-from-main", "env-init", "env-main", "projected", "volume"}
	assert.Equal(t, want, configs)
	assert.Equal(t, want, secrets)
}

func TestRollOnChange_RollsDaemonSetsAndStatefulSetsToo(t *testing.T) {
	template := app{name: "reader", secret: "creds", memory: "1Mi"}.deployment().Spec.Template
	daemons := &appsv1.DaemonSet{Spec: appsv1.DaemonSetSpec{Template: *template.DeepCopy()}}
	stateful := &appsv1.StatefulSet{Spec: appsv1.StatefulSetSpec{Template: *template.DeepCopy()}}
	workload := Workload{Objects: []client.Object{daemons, stateful, app{}.secretFile("creds", "password", "one")}}
	rollOnChange(&workload, ofPlaintext)
	assert.Contains(t, daemons.Spec.Template.Annotations, secretDigest)
	assert.Contains(t, stateful.Spec.Template.Annotations, secretDigest)
}
