// Package fluxtest gives the tests of a package one control plane with Flux's definitions, and
// real controllers of Flux and a Git host where a test asks for them.
package fluxtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/internal/flux"
	"github.com/nullify005/manager-cluster-state/manifests"
	"github.com/nullify005/manager-cluster-state/rehearsal"
)

const startBound = 3 * time.Minute

// Cluster is a control plane that the first test that needs it starts. Its TestMain stops it.
type Cluster struct {
	// Project is the folder of Pulumi.yaml.
	Project string

	once      sync.Once
	err       error
	folder    string
	rehearsal *rehearsal.Rehearsal
	client    client.Client
}

// Start starts the control plane, unless it runs; a test on a machine that can't is skipped.
func (s *Cluster) Start(t *testing.T) client.Client {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a control plane; leave out -short")
	}
	s.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), startBound)
		defer cancel()
		s.err = s.start(ctx)
	})
	if missing := (*rehearsal.MissingToolsError)(nil); errors.As(s.err, &missing) {
		t.Skip(missing)
	}
	if s.err != nil {
		t.Fatal(s.err)
	}
	return s.client
}

// Namespace makes a namespace of the test's own.
func (s *Cluster) Namespace(t *testing.T) string {
	t.Helper()
	own := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "flux-"}}
	if err := s.client.Create(t.Context(), own); err != nil {
		t.Fatal(err)
	}
	return own.Name
}

// Folder is the rehearsal's folder.
func (s *Cluster) Folder() string { return s.rehearsal.Folder() }

// Kubeconfig is the path of the file that points at the control plane.
func (s *Cluster) Kubeconfig() string { return s.rehearsal.Kubeconfig() }

func (s *Cluster) start(ctx context.Context) (err error) {
	if s.folder, err = os.MkdirTemp("", "flux-test-"); err != nil {
		return fmt.Errorf("making a folder: %w", err)
	}
	s.rehearsal, err = rehearsal.New(rehearsal.Options{
		Project: s.Project, Stack: "development", Folder: filepath.Join(s.folder, "cluster"),
		// No program runs here that would use them.
		Overrides: map[string]any{"secrets.deployKey": "", "secrets.notifications.slackWebhook": ""},
	})
	if err != nil {
		return err
	}
	if err := s.rehearsal.StartCluster(ctx); err != nil {
		return err
	}
	kubeconfig, err := os.ReadFile(s.Kubeconfig())
	if err != nil {
		return err
	}
	if s.client, err = flux.NewClient(kubeconfig, ""); err != nil {
		return err
	}
	return s.define(ctx)
}

// define installs Flux's definitions, and waits until they are served.
func (s *Cluster) define(ctx context.Context) error {
	documents := utilyaml.NewYAMLToJSONDecoder(bytes.NewReader(manifests.FluxCRDs))
	for {
		definition := &unstructured.Unstructured{}
		err := documents.Decode(&definition.Object)
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil && len(definition.Object) > 0 {
			err = s.client.Create(ctx, definition)
		}
		if err != nil {
			return fmt.Errorf("installing Flux's definitions: %w", err)
		}
	}
	for {
		var all apiextensionsv1.CustomResourceDefinitionList
		if err := s.client.List(ctx, &all); err != nil {
			return fmt.Errorf("asking for Flux's definitions: %w", err)
		}
		if !slices.ContainsFunc(all.Items, func(d apiextensionsv1.CustomResourceDefinition) bool { return !established(&d) }) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func established(definition *apiextensionsv1.CustomResourceDefinition) bool {
	return slices.ContainsFunc(definition.Status.Conditions, func(c apiextensionsv1.CustomResourceDefinitionCondition) bool {
		return c.Type == apiextensionsv1.Established && c.Status == apiextensionsv1.ConditionTrue
	})
}

// Main runs the tests, and stops the control plane after them.
func (s *Cluster) Main(m *testing.M) int {
	code := m.Run()
	if err := s.stop(); err != nil {
		fmt.Fprintln(os.Stderr, "clearing up:", err)
		return 1
	}
	return code
}

func (s *Cluster) stop() error {
	if s.rehearsal == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), startBound)
	defer cancel()
	_, err := s.rehearsal.Down(ctx)
	if errors.Is(err, rehearsal.ErrNothing) {
		err = nil
	}
	return errors.Join(err, os.RemoveAll(s.folder))
}
