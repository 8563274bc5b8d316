package fluxtest

import (
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// Controllers runs controllers of Flux, as administrators, until stop is called or the test ends.
// Each is known to the rehearsal as one of its processes.
func (s *Cluster) Controllers(t *testing.T, names ...string) (stop func()) {
	t.Helper()
	var stops []func()
	for _, name := range names {
		stops = append(stops, s.controller(t, name))
	}
	return func() {
		for _, stop := range stops {
			stop()
		}
	}
}

func (s *Cluster) controller(t *testing.T, name string) (stop func()) {
	t.Helper()
	program := filepath.Join(s.Folder(), "bin", name)
	if _, err := os.Stat(program); err != nil {
		t.Skipf("%s is not built: build it with make tools", name)
	}
	health, storage := freeAddress(t), freeAddress(t)
	args := []string{
		"--enable-leader-election=false", "--events-addr=", "--log-level=info",
		"--health-addr=" + health, "--metrics-addr=" + freeAddress(t),
	}
	if name == "kustomize-controller" { // as the catalog has it
		args = append(args, "--feature-gates=CancelHealthCheckOnNewRevision=true")
	}
	if name == "source-controller" {
		args = append(args, "--storage-path="+t.TempDir(), "--storage-addr="+storage, "--storage-adv-addr="+storage)
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), program, args...) // stopped in good order below
	cmd.Env = append(os.Environ(), "KUBECONFIG="+s.Kubeconfig(), "RUNTIME_NAMESPACE=flux-system", "HOME="+t.TempDir())
	log, err := os.Create(filepath.Join(t.TempDir(), name+".log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	stop = func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
	}
	t.Cleanup(func() {
		stop()
		if said, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			const end = 5000
			t.Logf("%s said at the end:\n%s", name, said[max(0, len(said)-end):])
		}
		_ = log.Close()
	})
	waitHealthy(t, "http://"+health+"/readyz", ended)
	return stop
}

func waitHealthy(t *testing.T, url string, ended <-chan struct{}) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if response, err := http.DefaultClient.Do(request); err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-ended:
			t.Fatal("the controller ended")
		case <-ctx.Done():
			t.Fatalf("%s didn't say that the controller is healthy", url)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}
