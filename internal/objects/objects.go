// Package objects turns typed Kubernetes objects into what is sent to a cluster or written to
// a file.
package objects

import (
	"encoding/base64"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Unstructured copies an object, and leaves out what only a cluster sets, and moves a Secret's stringData to
// data, which the API server reads back as it was written.
func Unstructured(o client.Object) (*unstructured.Unstructured, error) {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		return nil, fmt.Errorf("converting %s %s: %w", o.GetObjectKind().GroupVersionKind().Kind, o.GetName(), err)
	}
	// The conversion may share maps with o; what follows must not change the catalog.
	u := (&unstructured.Unstructured{Object: content}).DeepCopy()
	if u.GetAPIVersion() == "" || u.GetKind() == "" || u.GetName() == "" {
		return nil, fmt.Errorf("an object lacks its apiVersion, kind or name: %q %q %q", u.GetAPIVersion(), u.GetKind(), u.GetName())
	}
	delete(u.Object, "status")
	dropNulls(u.Object)
	if u.GetKind() != "Secret" {
		return u, nil
	}
	data, _, err := unstructured.NestedStringMap(u.Object, "data")
	if err != nil {
		return nil, fmt.Errorf("reading the data of Secret %s: %w", u.GetName(), err)
	}
	if data == nil {
		data = map[string]string{}
	}
	plain, _, err := unstructured.NestedStringMap(u.Object, "stringData")
	if err != nil {
		return nil, fmt.Errorf("reading the stringData of Secret %s: %w", u.GetName(), err)
	}
	for key, value := range plain {
		data[key] = base64.StdEncoding.EncodeToString([]byte(value))
	}
	delete(u.Object, "stringData")
	return u, unstructured.SetNestedStringMap(u.Object, data, "data")
}

// dropNulls removes every field that is null: typed objects write their unset times so.
func dropNulls(value any) {
	switch v := value.(type) {
	case map[string]any:
		for key, item := range v {
			if item == nil {
				delete(v, key)
				continue
			}
			dropNulls(item)
		}
	case []any:
		for _, item := range v {
			dropNulls(item)
		}
	}
}
