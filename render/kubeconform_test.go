package render_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/internal/objects"
	"github.com/nullify005/manager-cluster-state/internal/stacktest"
	"github.com/nullify005/manager-cluster-state/manifests"
	"github.com/nullify005/manager-cluster-state/render"
)

// schemas writes a JSON schema for each kind, strict: of the pinned Kubernetes's own from its
// OpenAPI, of the others from their definitions. It returns where kubeconform finds them.
func schemas(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	builtIn(t, folder)
	for _, definitions := range [][]byte{manifests.FluxCRDs, manifests.SealedSecretCRDs} {
		custom(t, folder, definitions)
	}
	return filepath.Join(folder, "{{.Group}}", "{{.ResourceKind}}_{{.ResourceAPIVersion}}.json")
}

func writeSchema(t *testing.T, folder string, kind schema.GroupVersionKind, content any) {
	t.Helper()
	text, err := json.Marshal(content)
	require.NoError(t, err)
	group := kind.Group
	if group == "" {
		group = kind.Version // as kubeconform has it for the core group
	}
	path := filepath.Join(folder, group, fmt.Sprintf("%s_%s.json", strings.ToLower(kind.Kind), kind.Version))
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o750))
	require.NoError(t, os.WriteFile(path, text, 0o600))
}

const draft = "http://json-schema.org/draft-07/schema#"

func builtIn(t *testing.T, folder string) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(kubernetes(t), "api", "openapi-spec", "swagger.json"))
	require.NoError(t, err)
	var swagger struct {
		Definitions map[string]map[string]any `json:"definitions"`
	}
	require.NoError(t, json.Unmarshal(content, &swagger))
	for name, definition := range swagger.Definitions {
		strict(definition)
		switch {
		case strings.HasSuffix(name, ".pkg.api.resource.Quantity"):
			swagger.Definitions[name] = map[string]any{"type": []any{"string", "number"}}
		case strings.HasSuffix(name, ".pkg.util.intstr.IntOrString"):
			swagger.Definitions[name] = map[string]any{"type": []any{"string", "integer"}}
		}
	}
	for name, definition := range swagger.Definitions {
		kinds, _ := definition["x-kubernetes-group-version-kind"].([]any)
		if len(kinds) != 1 { // the others are parts of requests, of every group
			continue
		}
		kind, _ := kinds[0].(map[string]any)
		text := func(key string) string { value, _ := kind[key].(string); return value }
		needed := map[string]any{}
		closure(swagger.Definitions, name, needed)
		writeSchema(t, folder, schema.GroupVersionKind{Group: text("group"), Version: text("version"), Kind: text("kind")}, map[string]any{
			"$schema": draft, "allOf": []any{map[string]any{"$ref": definitionPath + name}}, "definitions": needed,
		})
	}
}

const definitionPath = "#/definitions/"

// closure collects a definition and all that it refers to.
func closure(definitions map[string]map[string]any, name string, into map[string]any) {
	if _, there := into[name]; there {
		return
	}
	into[name] = definitions[name]
	var walk func(value any)
	walk = func(value any) {
		switch v := value.(type) {
		case map[string]any:
			if reference, isText := v["$ref"].(string); isText {
				closure(definitions, strings.TrimPrefix(reference, definitionPath), into)
			}
			for _, inner := range v {
				walk(inner)
			}
		case []any:
			for _, inner := range v {
				walk(inner)
			}
		}
	}
	walk(definitions[name])
}

// strict refuses fields that a schema doesn't name.
func strict(node map[string]any) {
	properties, _ := node["properties"].(map[string]any)
	for _, property := range properties {
		if inner, isSchema := property.(map[string]any); isSchema {
			strict(inner)
		}
	}
	for _, key := range []string{"items", "additionalProperties"} {
		if inner, isSchema := node[key].(map[string]any); isSchema {
			strict(inner)
		}
	}
	if node["nullable"] == true {
		node["type"] = []any{node["type"], "null"}
	}
	_, open := node["additionalProperties"]
	if open = open || node["x-kubernetes-preserve-unknown-fields"] == true; properties != nil && !open {
		node["additionalProperties"] = false
	}
}

func custom(t *testing.T, folder string, definitions []byte) {
	t.Helper()
	for _, u := range decode(t, definitions) {
		content, err := json.Marshal(u.Object)
		require.NoError(t, err)
		var definition apiextensionsv1.CustomResourceDefinition
		require.NoError(t, json.Unmarshal(content, &definition))
		require.Equal(t, "CustomResourceDefinition", definition.Kind)
		for _, version := range definition.Spec.Versions {
			content, err := json.Marshal(version.Schema.OpenAPIV3Schema)
			require.NoError(t, err)
			var root map[string]any
			require.NoError(t, json.Unmarshal(content, &root))
			root["$schema"] = draft
			strict(root)
			writeSchema(t, folder, schema.GroupVersionKind{
				Group: definition.Spec.Group, Version: version.Name, Kind: definition.Spec.Names.Kind,
			}, root)
		}
	}
}

// kubernetes is the folder of the module that tools/ pins.
func kubernetes(t *testing.T) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", "k8s.io/kubernetes")
	cmd.Dir = filepath.Join(projectDir, "tools", "kubernetes")
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=readonly", "GOSUMDB=off")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var found struct {
		Dir   string `json:"Dir"`
		Error string `json:"Error"`
	}
	_ = json.Unmarshal(out, &found) // what isn't JSON has no Dir
	why := found.Error + stderr.String()
	if err != nil && noNetwork.MatchString(why) {
		t.Skipf("needs the pinned Kubernetes's OpenAPI, which go could not download: %s; run: cd tools/kubernetes && go mod download k8s.io/kubernetes", why)
	}
	require.NoError(t, err, why)
	require.NotEmpty(t, found.Dir)
	return found.Dir
}

// noNetwork is how go says that it could not download a module because of where it runs.
var noNetwork = regexp.MustCompile(`dial tcp|i/o timeout|TLS handshake timeout|GOPROXY=off`)

// verdict is what kubeconform says of all that it was given.
type verdict struct {
	Resources []struct {
		Kind   string `json:"kind"`
		Name   string `json:"name"`
		Status string `json:"status"`
		Msg    string `json:"msg"`
	} `json:"resources"`
	Summary struct {
		Valid   int `json:"valid"`
		Invalid int `json:"invalid"`
		Errors  int `json:"errors"`
		Skipped int `json:"skipped"`
	} `json:"summary"`
}

// says is what it complains of.
func (v *verdict) says() string {
	var lines []string
	for _, r := range v.Resources {
		lines = append(lines, fmt.Sprintf("%s %s: %s: %s", r.Kind, r.Name, r.Status, r.Msg))
	}
	return strings.Join(lines, "\n")
}

func kubeconform(t *testing.T, program, location string, content []byte) *verdict {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, "-strict", "-summary", "-output", "json", "-schema-location", location, "-")
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(content), &stderr
	out, err := cmd.Output() // it fails when it refuses
	said := &verdict{}
	require.NoError(t, json.Unmarshal(out, said), "%v %s", err, stderr.String())
	refused := said.Summary.Invalid + said.Summary.Errors
	require.Equal(t, refused == 0, err == nil, "%v %s", err, said.says())
	return said
}

func TestKubeconform_AcceptsAllThatIsDelivered(t *testing.T) {
	program := tool(t, "kubeconform", "kubeconform")
	location := schemas(t)
	eachStack(t, func(t *testing.T, stack string) {
		cfg := stacktest.Config(t, projectDir, stack)
		cfg.Delivery = config.FluxCD
		catalog := stacktest.Catalog(t, projectDir, cfg)
		sealed := sealedProject(t, stack, cfg, catalog)
		for _, workload := range catalog {
			var content []byte
			if !workload.Direct {
				folder := filepath.Join(render.Folder(stack), workload.Name)
				content = bytes.Join([][]byte{build(t, sealed, folder), build(t, projectDir, folder)}, []byte("---\n"))
			} else {
				for _, object := range workload.Objects {
					u, err := objects.Unstructured(object)
					require.NoError(t, err)
					text, err := yaml.Marshal(u.Object)
					require.NoError(t, err)
					content = append(append(content, "---\n"...), text...)
				}
			}
			said := kubeconform(t, program, location, content)
			assert.Zero(t, said.Summary.Invalid+said.Summary.Errors+said.Summary.Skipped, "%s:\n%s", workload.Name, said.says())
			assert.Equal(t, len(decode(t, content)), said.Summary.Valid, workload.Name)
		}
	})
}

func TestKubeconform_RefusesWhatIsBroken(t *testing.T) {
	program := tool(t, "kubeconform", "kubeconform")
	location := schemas(t)
	_, have := committed(t, "production")
	good := string(have["chat-hvac/deployment-chat-hvac.yaml"])
	const sealedSecret = `apiVersion: bitnami.com/v1alpha1
kind: SealedSecret
metadata: {name: a, namespace: b}
spec: {encryptedData: {a: b}}
`
	for _, whole := range []string{good, sealedSecret} {
		require.Equal(t, 1, kubeconform(t, program, location, []byte(whole)).Summary.Valid)
	}
	for name, content := range map[string]string{
		"an unknown field":               strings.Replace(good, "replicas:", "replica:", 1),
		"an unknown field of a pod":      strings.Replace(good, "imagePullPolicy:", "imagePulPolicy:", 1),
		"a text for a number":            regexp.MustCompile(`replicas: \d`).ReplaceAllString(good, "replicas: none"),
		"an unknown kind":                strings.Replace(good, "kind: Deployment", "kind: Deploymint", 1),
		"a version that is gone":         strings.Replace(good, "apps/v1", "apps/v1beta1", 1),
		"a required field that isn't":    strings.Replace(good, "  selector:", "  selektor:", 1),
		"an unknown field of our CRD":    strings.Replace(sealedSecret, "encryptedData", "encryptedDate", 1),
		"a required field of our CRD":    strings.Replace(sealedSecret, "{encryptedData: {a: b}}", "{}", 1),
		"an unknown version of our CRD":  strings.Replace(sealedSecret, "v1alpha1", "v1", 1),
		"a number for a text in our CRD": strings.Replace(sealedSecret, "{a: b}", "{a: 1}", 1),
	} {
		require.NotContains(t, []string{good, sealedSecret}, content, name)
		said := kubeconform(t, program, location, []byte(content))
		assert.Equal(t, 1, said.Summary.Invalid+said.Summary.Errors, name)
	}
}
