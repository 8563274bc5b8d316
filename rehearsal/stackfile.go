package rehearsal

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/nullify005/manager-cluster-state/config"
)

// stackFile is a Pulumi.<stack>.yaml as YAML nodes, so that what is not replaced stays as it
// is written, down to the digits of a number.
type stackFile struct {
	project string
	root    *yaml.Node
}

func parseStackFile(project string, data []byte) (*stackFile, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(data, &document); err != nil {
		return nil, fmt.Errorf("parsing YAML: %w", err)
	}
	root := &yaml.Node{Kind: yaml.MappingNode}
	if len(document.Content) > 0 {
		root = document.Content[0]
	}
	if root.Kind != yaml.MappingNode {
		return nil, errors.New("parsing YAML: a stack file is a map")
	}
	return &stackFile{project: project, root: root}, nil
}

func (s *stackFile) bytes() ([]byte, error) {
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := errors.Join(encoder.Encode(s.root), encoder.Close()); err != nil {
		return nil, fmt.Errorf("writing YAML: %w", err)
	}
	return out.Bytes(), nil
}

// get returns the node at a path of the config, as cluster.kind, or nil.
func (s *stackFile) get(path string) *yaml.Node {
	node := child(s.root, "config")
	for _, key := range s.keys(path) {
		node = child(node, key)
	}
	return node
}

// set replaces the value at a path of the config.
func (s *stackFile) set(path string, value any) error {
	node := &yaml.Node{}
	if ready, isNode := value.(*yaml.Node); isNode {
		node = ready
	} else if err := node.Encode(value); err != nil {
		return fmt.Errorf("setting %s: %w", path, err)
	}
	keys := append([]string{"config"}, s.keys(path)...)
	parent := s.root
	for _, key := range keys[:len(keys)-1] {
		next := child(parent, key)
		if next == nil || next.Kind != yaml.MappingNode {
			next = &yaml.Node{Kind: yaml.MappingNode}
			setChild(parent, key, next)
		}
		parent = next
	}
	setChild(parent, keys[len(keys)-1], node)
	return nil
}

// remove deletes the value at a path of the config.
func (s *stackFile) remove(path string) {
	keys := append([]string{"config"}, s.keys(path)...)
	parent := s.root
	for _, key := range keys[:len(keys)-1] {
		parent = child(parent, key)
	}
	removeChild(parent, keys[len(keys)-1])
}

func (s *stackFile) keys(path string) []string {
	keys := strings.Split(path, ".")
	keys[0] = s.project + ":" + keys[0]
	return keys
}

// dropSecrets removes every encrypted value, with the salt that belongs to them: they can't
// be decrypted here.
func (s *stackFile) dropSecrets() {
	for _, key := range []string{saltKey, "encryptedkey", "secretsprovider"} {
		removeChild(s.root, key)
	}
	dropSecure(child(s.root, "config"))
}

func dropSecure(node *yaml.Node) {
	if node == nil {
		return
	}
	if node.Kind == yaml.SequenceNode {
		node.Content = slices.DeleteFunc(node.Content, isSecure)
	}
	if node.Kind == yaml.MappingNode {
		for i := len(node.Content) - 2; i >= 0; i -= 2 {
			if isSecure(node.Content[i+1]) {
				node.Content = slices.Delete(node.Content, i, i+2)
			}
		}
	}
	for _, inner := range node.Content {
		dropSecure(inner)
	}
}

func isSecure(node *yaml.Node) bool {
	return node != nil && node.Kind == yaml.MappingNode && len(node.Content) == 2 && node.Content[0].Value == "secure"
}

func child(node *yaml.Node, key string) *yaml.Node {
	if node == nil || node.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == key {
			return node.Content[i+1]
		}
	}
	return nil
}

func setChild(node *yaml.Node, key string, value *yaml.Node) {
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == key {
			node.Content[i+1] = value
			return
		}
	}
	node.Content = append(node.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key}, value)
}

func removeChild(node *yaml.Node, key string) {
	if node == nil || node.Kind != yaml.MappingNode {
		return
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == key {
			node.Content = slices.Delete(node.Content, i, i+2)
			return
		}
	}
}

// sealingKeys is the one list with secrets in it. A rehearsal has a throw-away key pair of
// its own there: given none, the sealed-secrets controller would make one, which no
// destroy knows of.
const sealingKeys = "sealing.keys"

// placeholders gives every secret of the config that is not in a list a value of its own and of the
// right shape, by its path; those for the forge are such as it takes.
func placeholders(record *forgeRecord) map[string]string {
	found := map[string]string{}
	collectSecrets(reflect.TypeFor[config.Config](), "", found)
	maps.Copy(found, record.opening())
	found["secrets.notifications.slackWebhook"] = record.slackWebhook()
	return found
}

func collectSecrets(of reflect.Type, prefix string, found map[string]string) {
	for field := range of.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		path := strings.TrimPrefix(prefix+"."+name, ".")
		secret, _ := strconv.ParseBool(field.Tag.Get("secret"))
		switch {
		case secret:
			found[path] = placeholder(path)
		case field.Type.Kind() == reflect.Struct && field.Type.PkgPath() == of.PkgPath() && name != "":
			collectSecrets(field.Type, path, found)
		}
	}
}

// placeholder begins as Slack's own tokens do, where the config insists on that.
func placeholder(path string) string {
	prefixes := map[string]string{"secrets.slack.appToken": "xapp-", "secrets.slack.botToken": "xoxb-"}
	return prefixes[path] + "rehearsal-placeholder-" + strings.ReplaceAll(path, ".", "-")
}

// rehearsalFile makes the stack file of the rehearsal: the stack's own, with the cluster
// replaced and the encrypted values dropped. Of the file before it keeps the salt and the
// placeholders that were encrypted with it, unless the placeholders changed. It returns
// whether the placeholders are all there.
func (r *Rehearsal) rehearsalFile(source []byte, previous *stackFile) (data []byte, complete bool, err error) {
	file, err := parseStackFile(r.project, source)
	if err != nil {
		return nil, false, err
	}
	file.dropSecrets()
	file.remove(sealingKeys)
	overrides := map[string]any{
		"cluster.kind":       string(config.Existing),
		"cluster.kubeconfig": r.folder.kubeconfig(),
		"cluster.context":    r.contextName(),
		// Told within a minute, rather than Pulumi's ten.
		"readyTimeout": "60s",
	}
	record, err := r.forge()
	if err != nil {
		return nil, false, err
	}
	maps.Copy(overrides, record.overrides(file, r.project))
	to, err := r.switchedTo()
	if err != nil {
		return nil, false, err
	}
	if to != nil {
		overrides["delivery"], overrides["handover"] = string(to.Delivery), to.Handover
	}
	maps.Copy(overrides, r.overrides)
	for _, path := range slices.Sorted(maps.Keys(overrides)) {
		if err := file.set(path, overrides[path]); err != nil {
			return nil, false, err
		}
	}
	complete = true
	if _, overridden := overrides[sealingKeys]; !overridden {
		pair := previous.get(sealingKeys)
		if complete = hasSecure(pair); complete {
			if err := file.set(sealingKeys, pair); err != nil {
				return nil, false, err
			}
		}
	}
	if salt := child(previous.root, saltKey); salt != nil {
		setChild(file.root, saltKey, salt)
	}
	for _, path := range slices.Sorted(maps.Keys(placeholders(record))) {
		if _, overridden := overrides[path]; overridden {
			continue
		}
		encrypted := previous.get(path)
		if !isSecure(encrypted) {
			complete = false
			continue
		}
		if err := file.set(path, encrypted); err != nil {
			return nil, false, err
		}
	}
	data, err = file.bytes()
	return data, complete, err
}

// rehearsedValues is what the program will be given, placeholders in clear.
func (r *Rehearsal) rehearsedValues(source []byte) (values map[string]string, secretKeys []string, err error) {
	data, _, err := r.rehearsalFile(source, &stackFile{project: r.project, root: &yaml.Node{Kind: yaml.MappingNode}})
	if err != nil {
		return nil, nil, err
	}
	file, err := parseStackFile(r.project, data)
	if err != nil {
		return nil, nil, err
	}
	record, err := r.forge()
	if err != nil {
		return nil, nil, err
	}
	for path, value := range placeholders(record) {
		if _, overridden := r.overrides[path]; overridden {
			continue
		}
		if err := file.set(path, value); err != nil {
			return nil, nil, err
		}
		if key := file.keys(path)[0]; !slices.Contains(secretKeys, key) {
			secretKeys = append(secretKeys, key)
		}
	}
	if _, overridden := r.overrides[sealingKeys]; !overridden {
		pair := map[string]string{"certificate": config.Encrypted, "privateKey": config.Encrypted}
		if err := file.set(sealingKeys, []any{pair}); err != nil {
			return nil, nil, err
		}
		secretKeys = append(secretKeys, file.keys(sealingKeys)[0])
	}
	if data, err = file.bytes(); err != nil {
		return nil, nil, err
	}
	values, _, err = config.ReadStackFile(r.project, data)
	return values, secretKeys, err
}

func hasSecure(node *yaml.Node) bool {
	return node != nil && (isSecure(node) || slices.ContainsFunc(node.Content, hasSecure))
}

// writeStackFile writes the rehearsal's stack file, and says whether its placeholders are
// still to be set.
func (r *Rehearsal) writeStackFile() (complete bool, err error) {
	source, err := os.ReadFile(r.sourceFile())
	if err != nil {
		return false, fmt.Errorf("reading the stack file: %w", err)
	}
	before, err := os.ReadFile(r.folder.config(r.stack))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("reading the rehearsal's stack file: %w", err)
	}
	previous, err := parseStackFile(r.project, before)
	if err != nil {
		return false, fmt.Errorf("reading the rehearsal's stack file %s: %w", r.folder.config(r.stack), err)
	}
	current, err := r.placeholdersCurrent()
	if err != nil {
		return false, err
	}
	if !current {
		previous.dropSecureKeepingSalt()
	}
	data, complete, err := r.rehearsalFile(source, previous)
	if err != nil {
		return false, fmt.Errorf("making the rehearsal's stack file from %s: %w", r.sourceFile(), err)
	}
	if err := writePrivate(r.folder.config(r.stack), data); err != nil {
		return false, fmt.Errorf("writing the rehearsal's stack file: %w", err)
	}
	return complete, nil
}

func (s *stackFile) dropSecureKeepingSalt() { dropSecure(child(s.root, "config")) }

// placeholdersDigest tells whether the placeholders in the file are those of this version.
func placeholdersDigest(record *forgeRecord) string {
	values := placeholders(record)
	hash := sha256.New()
	for _, path := range slices.Sorted(maps.Keys(values)) {
		fmt.Fprintf(hash, "%s=%s\n", path, values[path])
	}
	return hex.EncodeToString(hash.Sum(nil))
}

func (r *Rehearsal) placeholdersCurrent() (bool, error) {
	record, err := r.forge()
	if err != nil {
		return false, err
	}
	digest, err := os.ReadFile(r.folder.join("placeholders"))
	return err == nil && string(digest) == placeholdersDigest(record), nil
}
