package workloads

import (
	"testing"

	"github.com/stretchr/testify/assert"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

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
	rollOnChange(&workload)
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

func TestGuarded_SaysTooLittleToConfirmAGuess(t *testing.T) {
	assert.Len(t, guarded([]byte("secret"), "one"), 8, "32 bits in hex")
	assert.NotEqual(t, guarded([]byte("secret"), "one"), guarded([]byte("secret"), "two"), "the salt counts")
}
