package workloads

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func TestCheck_ListsEveryObjectThatIsNotCompleteOrTwice(t *testing.T) {
	secret := func(namespace, name string) *corev1.Secret {
		return &corev1.Secret{TypeMeta: typeMeta("v1", "Secret"), ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	}
	inOne := namespace("here", hvac)
	inOne.Namespace = "there"
	problems := check([]Workload{
		{Name: "a", Objects: []client.Object{secret("n", "fine"), secret("other", "fine"), secret("n", ""), secret("", "lost"), inOne}},
		{Name: "b", Objects: []client.Object{secret("n", "fine"), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "kindless"}}}},
	})
	err := errors.Join(problems...)
	assert.Len(t, problems, 5)
	for _, want := range []string{
		`workload a: an object lacks its apiVersion, kind or name: /v1, Kind=Secret ""`,
		"workload a: Secret lost has no namespace",
		"workload a: Namespace here has namespace there",
		"workload b: Secret n/fine is an object of a already",
		`workload b: an object lacks its apiVersion, kind or name: /, Kind= "kindless"`,
	} {
		assert.ErrorContains(t, err, want)
	}
}
