package flux_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
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

// shared is the one control plane of this package's tests, started by the first that needs it.
// It has Flux's definitions and no controller: what Flux says, the tests write.
var shared cluster

type cluster struct {
	once       sync.Once
	rehearsal  *rehearsal.Rehearsal
	folder     string
	kubeconfig []byte
	client     client.Client
	err        error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if err := shared.stop(); err != nil {
		fmt.Fprintln(os.Stderr, "clearing up:", err)
		code = 1
	}
	os.Exit(code)
}

// live is a client of the shared control plane, and a namespace of the test's own.
func live(t *testing.T) (c client.Client, namespace string) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a control plane; leave out -short")
	}
	shared.once.Do(func() { shared.err = shared.start(context.Background()) })
	if missing := (*rehearsal.MissingToolsError)(nil); errors.As(shared.err, &missing) {
		t.Skip(missing)
	}
	require.NoError(t, shared.err)
	own := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "flux-"}}
	require.NoError(t, shared.client.Create(t.Context(), own))
	return shared.client, own.Name
}

func (s *cluster) start(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	if s.folder, err = os.MkdirTemp("", "flux-test-"); err != nil {
		return err
	}
	s.rehearsal, err = rehearsal.New(rehearsal.Options{
		Project: filepath.Join("..", ".."), Stack: "development", Folder: filepath.Join(s.folder, "cluster"),
		// No program runs here that would use them.
		Overrides: map[string]any{"secrets.deployKey": "", "secrets.notifications.slackWebhook": ""},
	})
	if err != nil {
		return err
	}
	if err := s.rehearsal.StartCluster(ctx); err != nil {
		return err
	}
	if s.kubeconfig, err = os.ReadFile(s.rehearsal.Kubeconfig()); err != nil {
		return err
	}
	if s.client, err = flux.NewClient(s.kubeconfig, ""); err != nil {
		return err
	}
	return s.define(ctx)
}

// define installs Flux's definitions, and waits until they are served.
func (s *cluster) define(ctx context.Context) error {
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
			return err
		}
	}
	for {
		var all apiextensionsv1.CustomResourceDefinitionList
		if err := s.client.List(ctx, &all); err != nil {
			return err
		}
		served := 0
		for _, definition := range all.Items {
			for _, c := range definition.Status.Conditions {
				if c.Type == apiextensionsv1.Established && c.Status == apiextensionsv1.ConditionTrue {
					served++
				}
			}
		}
		if served == len(all.Items) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (s *cluster) stop() error {
	if s.rehearsal == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	_, err := s.rehearsal.Down(ctx)
	if errors.Is(err, rehearsal.ErrNothing) {
		err = nil
	}
	return errors.Join(err, os.RemoveAll(s.folder))
}
