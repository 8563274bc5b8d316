package workloads

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/seal"
)

// configDigest and secretDigest are annotations of a pod template. A change of what the
// pods read changes them, and so rolls the pods.
const (
	configDigest = "manager-cluster-state/config-digest"
	secretDigest = "manager-cluster-state/secret-digest"
)

// readLive marks a ConfigMap whose reader notices a change by itself, so that its pods, and what
// they hold, stay.
const readLive = "manager-cluster-state/read-live"

// rollOnChange annotates every Secret of a workload with its digest, and every pod template with
// digests of the workload's ConfigMaps and Secrets that its pods read.
func rollOnChange(workload *Workload, digest func(*corev1.Secret) string) {
	configs, secrets := map[string]*corev1.ConfigMap{}, map[string]*corev1.Secret{}
	for _, object := range workload.Objects {
		switch o := object.(type) {
		case *corev1.ConfigMap:
			if o.Annotations[readLive] == "true" {
				continue
			}
			configs[o.Namespace+"/"+o.Name] = o
		case *corev1.Secret:
			annotate(&o.ObjectMeta, seal.DigestAnnotation, digest(o))
			secrets[o.Namespace+"/"+o.Name] = o
		}
	}
	for _, object := range workload.Objects {
		template := podTemplate(object)
		if template == nil {
			continue
		}
		readConfigs, readSecrets := reads(&template.Spec)
		var public, private []byte
		for _, name := range readConfigs {
			if config, ours := configs[object.GetNamespace()+"/"+name]; ours {
				public = append(public, canonical([]any{name, config.Data, config.BinaryData})...)
			}
		}
		for _, name := range readSecrets {
			if secret, ours := secrets[object.GetNamespace()+"/"+name]; ours {
				private = append(private, canonical([]any{name, secret.Annotations[seal.DigestAnnotation]})...)
			}
		}
		if public != nil {
			annotate(&template.ObjectMeta, configDigest, short(public))
		}
		if private != nil {
			annotate(&template.ObjectMeta, secretDigest, short(private))
		}
	}
}

// podTemplate is what a controller of long-running pods makes them from; nil for any other
// object.
func podTemplate(object client.Object) *corev1.PodTemplateSpec {
	switch o := object.(type) {
	case *appsv1.Deployment:
		return &o.Spec.Template
	case *appsv1.DaemonSet:
		return &o.Spec.Template
	case *appsv1.StatefulSet:
		return &o.Spec.Template
	default:
		return nil
	}
}

// reads lists the ConfigMaps and Secrets that a pod mounts or takes its environment from.
func reads(pod *corev1.PodSpec) (configs, secrets []string) {
	for _, volume := range pod.Volumes {
		if volume.ConfigMap != nil {
			configs = append(configs, volume.ConfigMap.Name)
		}
		if volume.Secret != nil {
			secrets = append(secrets, volume.Secret.SecretName)
		}
		if volume.Projected == nil {
			continue
		}
		for _, source := range volume.Projected.Sources {
			if source.ConfigMap != nil {
				configs = append(configs, source.ConfigMap.Name)
			}
			if source.Secret != nil {
				secrets = append(secrets, source.Secret.Name)
			}
		}
	}
	envConfigs, envSecrets := readByEnvironment(pod)
	configs, secrets = append(configs, envConfigs...), append(secrets, envSecrets...)
	slices.Sort(configs)
	slices.Sort(secrets)
	return slices.Compact(configs), slices.Compact(secrets)
}

func readByEnvironment(pod *corev1.PodSpec) (configs, secrets []string) {
	for _, container := range slices.Concat(pod.InitContainers, pod.Containers) {
		for _, from := range container.EnvFrom {
			if from.ConfigMapRef != nil {
				configs = append(configs, from.ConfigMapRef.Name)
			}
			if from.SecretRef != nil {
				secrets = append(secrets, from.SecretRef.Name)
			}
		}
		for _, variable := range container.Env {
			if variable.ValueFrom == nil {
				continue
			}
			if variable.ValueFrom.ConfigMapKeyRef != nil {
				configs = append(configs, variable.ValueFrom.ConfigMapKeyRef.Name)
			}
			if variable.ValueFrom.SecretKeyRef != nil {
				secrets = append(secrets, variable.ValueFrom.SecretKeyRef.Name)
			}
		}
	}
	return configs, secrets
}

// canonical is JSON, whose maps are written in the order of their keys.
func canonical(value any) []byte {
	content, err := json.Marshal(value)
	if err != nil {
		panic(err) // maps of strings and bytes always encode
	}
	return content
}

func short(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:8])
}

func annotate(meta *metav1.ObjectMeta, key, value string) {
	if meta.Annotations == nil {
		meta.Annotations = map[string]string{}
	}
	meta.Annotations[key] = value
}
