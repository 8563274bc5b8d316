package cluster

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"sigs.k8s.io/yaml"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/internal/k3s"
)

// setting is a shell variable of a step.
type setting struct{ name, value string }

// script is a step as a plain text.
func script(settings []setting, parts ...string) pulumi.String {
	return pulumi.String(settled(settings, parts...))
}

// settled is what a shell reads: the settings, what all steps share, and the step itself.
func settled(settings []setting, parts ...string) string {
	var text strings.Builder
	for _, s := range settings {
		text.WriteString(s.name + "=" + quoted(s.value) + "\n")
	}
	for _, part := range append([]string{"lib"}, parts...) {
		content, err := piScripts.ReadFile("pi/" + part + ".sh")
		if err != nil {
			panic(err) // it is embedded
		}
		text.Write(content)
	}
	return text.String()
}

// quoted is one word of a shell, whatever is in it.
func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

// k3sSettings are those of k3s on a node; the token is what an agent joins with.
func (p *Pi) k3sSettings(node config.Node, token string) ([]setting, error) {
	file, err := p.configFile(node, token)
	if err != nil {
		return nil, err
	}
	install := p.args.Cluster.Install
	binaryURL, scriptURL := k3s.URLs(install.From, p.args.Cluster.K3s)
	const kibi = 1024
	allocatable := node.Allocatable()
	return []setting{
		{"NODE", node.Name},
		{"LOGIN", node.User},
		{"ROLE", string(node.Role)},
		{"RELEASE", p.args.Cluster.K3s},
		{"BINARY", strings.ToLower(install.Binary)},
		{"SCRIPT", strings.ToLower(install.Script)},
		{"BINARY_URL", binaryURL},
		{"SCRIPT_URL", scriptURL},
		{"WORKLOADS", yesNo(node.RunsWorkloads())},
		{"ALLOCATABLE", strconv.FormatInt(allocatable.Value()/kibi, 10)},
		{"INSTALLATION", p.args.Installations[node.Name]},
		{"CONFIG", file},
	}, nil
}

// k3sFile is the part of k3s's config.yaml that is used here.
type k3sFile struct {
	Server         string   `json:"server,omitempty"`
	Token          string   `json:"token,omitempty"`
	NodeName       string   `json:"node-name"`
	NodeTaint      []string `json:"node-taint,omitempty"`
	KubeletArg     []string `json:"kubelet-arg"`
	TLSSAN         []string `json:"tls-san,omitempty"`
	FlannelBackend string   `json:"flannel-backend,omitempty"`
	KubeconfigMode string   `json:"write-kubeconfig-mode,omitempty"`
}

// configFile is k3s's configuration. How much is reserved of the memory is for the machine to say:
// pods get what the stack file has, whatever the kernel leaves.
func (p *Pi) configFile(node config.Node, token string) (string, error) {
	file := k3sFile{
		NodeName: node.Name,
		KubeletArg: []string{
			// An SD card is small, and hates writes.
			"image-gc-high-threshold=70",
			"image-gc-low-threshold=50",
			"container-log-max-size=5Mi",
			"container-log-max-files=2",
			"system-reserved=memory=@SYSTEM_RESERVED@",
		},
	}
	if !node.RunsWorkloads() {
		file.NodeTaint = []string{k3s.ControlPlaneRole + "=true:NoSchedule"}
	}
	if node.Role == config.Server {
		file.TLSSAN, file.KubeconfigMode = []string{node.Host}, "0600"
		file.FlannelBackend = string(p.args.Cluster.Flannel)
	} else {
		file.Server, file.Token = p.apiURL(), token
	}
	content, err := yaml.Marshal(file)
	if err != nil {
		return "", fmt.Errorf("writing k3s's configuration of %s", node.Name) // not what is in it
	}
	return strings.TrimSpace(string(content)), nil
}

// folder is where the files of the release lie on this machine, or empty.
func (a *PiArgs) folder() string {
	from := a.Cluster.Install.From
	if from == "" || strings.Contains(from, "://") {
		return ""
	}
	return from
}

// inFolder is the path of one of them; a relative folder counts from the project.
func (a *PiArgs) inFolder(name string) string {
	path := filepath.Join(a.folder(), name)
	if !filepath.IsAbs(path) {
		path = filepath.Join(a.ProjectDir, path)
	}
	return path
}

// validateFiles: what is here can be judged before it is copied.
func (a *PiArgs) validateFiles() error {
	if a.folder() == "" {
		return nil
	}
	var problems []error
	for _, file := range []struct{ name, key, sum string }{
		{k3s.BinaryFile, "binary", a.Cluster.Install.Binary}, {k3s.ScriptFile, "script", a.Cluster.Install.Script},
	} {
		sum, err := checksum(a.inFolder(file.name))
		switch {
		case errors.Is(err, os.ErrNotExist):
			problems = append(problems, fmt.Errorf("cluster.install.from is %q: there is no %s in it; make pin fetches it, or set another folder",
				a.Cluster.Install.From, file.name))
		case err != nil:
			problems = append(problems, fmt.Errorf("reading the files of cluster.install.from: %w", err))
		case !strings.EqualFold(sum, file.sum):
			problems = append(problems, fmt.Errorf("cluster.install.%s is %s, and %s in %s has %s; they are to be of one release: run make pin",
				file.key, file.sum, file.name, a.Cluster.Install.From, sum))
		}
	}
	return errors.Join(problems...)
}

func checksum(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }() // it was only read
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}
