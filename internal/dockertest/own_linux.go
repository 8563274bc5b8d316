package dockertest

import (
	"context"
	_ "embed"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// What a process of this package is told by the one that started it.
const (
	// variableFolder is where the engine keeps everything.
	variableFolder = "DOCKERTEST_FOLDER"
	// variableInit makes the process the first of its namespaces, and the parent of the test.
	variableInit = "DOCKERTEST_INIT"
)

// runcWithoutResource is an OCI runtime: runc, but for a capability that this sandbox lacks.
//
//go:embed runc.sh
var runcWithoutResource []byte

func isInside() bool { return os.Getenv(variableFolder) != "" }

// lacks says what an engine of one's own would take that is not here.
func lacks() string {
	if os.Geteuid() != 0 {
		return "that takes root: run the tests as root"
	}
	for command, from := range map[string]string{"dockerd": "docker.io", "docker": "docker.io", "ip": "iproute2"} {
		if _, err := exec.LookPath(command); err != nil {
			return "there is no " + command + "; `sudo apt-get install " + from + "`"
		}
	}
	return ""
}

// runInside runs the test that t is as another process, with namespaces for mounts, processes
// and the network: whatever it leaves ends with them.
func runInside(t *testing.T) {
	t.Helper()
	// Short, because the paths of sockets must be.
	folder, err := os.MkdirTemp("", "dockertest") //nolint:usetesting // see above
	require.NoError(t, err)
	// Folders that dockerd makes whatever it is told.
	made := missing("/etc/docker", "/run/docker")
	t.Cleanup(func() {
		for _, path := range append(made, folder) {
			require.NoError(t, os.RemoveAll(path))
		}
		removeCgroups(t, filepath.Base(folder))
	})
	program, err := os.Executable()
	require.NoError(t, err)
	args := []string{"-test.run", "^" + t.Name() + "$", "-test.v", "-test.count=1"}
	if deadline, ok := t.Deadline(); ok {
		args = append(args, "-test.timeout", time.Until(deadline).String())
	}
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env = append(os.Environ(), variableFolder+"="+folder, variableInit+"=1")
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET,
		Pdeathsig:  syscall.SIGKILL,
	}
	// The first process of a namespace for processes takes all others with it.
	err = cmd.Run()
	if _, failed := errors.AsType[*exec.ExitError](err); failed {
		t.Fatal("with an engine of its own, the test failed: see above")
	}
	require.NoError(t, err)
}

func missing(paths ...string) []string {
	var found []string
	for _, path := range paths {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			found = append(found, path)
		}
	}
	return found
}

// removeCgroups removes what an engine has left of the control groups of its containers.
func removeCgroups(t *testing.T, name string) {
	t.Helper()
	for _, pattern := range []string{"/sys/fs/cgroup/" + name, "/sys/fs/cgroup/*/" + name} {
		found, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, root := range found {
			var folders []string
			_ = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
				if err == nil && entry.IsDir() {
					folders = append(folders, path)
				}
				return nil
			})
			for _, folder := range slices.Backward(folders) {
				_ = os.Remove(folder)
			}
			require.NoDirExists(t, root)
		}
	}
}

// beInit prepares the namespaces, starts the test in them, and buries orphans until it ends.
func beInit(t *testing.T) {
	t.Helper()
	require.NoError(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	require.NoError(t, unix.Mount("proc", "/proc", "proc", 0, ""))
	// The machine's own containerd, which dockerd would take for its own.
	for _, folder := range []string{"/run/containerd", "/run/docker"} {
		if exists(folder) {
			require.NoError(t, unix.Mount("tmpfs", folder, "tmpfs", 0, ""))
		}
	}
	connect(t)
	program, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(program, os.Args[1:]...) //nolint:noctx,gosec // it is this very test, and ends with this process
	cmd.Env = append(os.Environ(), variableInit+"=")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	signal.Ignore(syscall.SIGINT) // the test has it too
	require.NoError(t, cmd.Start())
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		require.NoError(t, err)
		if pid == cmd.Process.Pid && (status.Exited() || status.Signaled()) {
			if status.ExitStatus() != 0 {
				os.Exit(1)
			}
			os.Exit(0)
		}
	}
}

// connect gives the namespace a network that leads nowhere: an API server wants an address of its
// own, and takes that of the default route.
func connect(t *testing.T) {
	t.Helper()
	for _, arguments := range []string{
		"link set lo up",
		"link add outside type veth peer name nowhere",
		"address add 198.18.0.1/30 dev outside", // a range for tests of networks
		"link set outside up",
		"link set nowhere up",
		"route add default via 198.18.0.2",
	} {
		out, err := exec.CommandContext(t.Context(), "ip", strings.Fields(arguments)...).CombinedOutput()
		require.NoError(t, err, "ip %s: %s", arguments, out)
	}
	// Whoever asks for a name is to be told at once that nobody answers.
	resolver := filepath.Join(os.Getenv(variableFolder), "resolv.conf")
	require.NoError(t, os.WriteFile(resolver, []byte("nameserver 127.0.0.1\n"), 0o644)) //nolint:gosec // everybody reads it
	require.NoError(t, unix.Mount(resolver, "/etc/resolv.conf", "", unix.MS_BIND, ""))
}

// ownEngine is a dockerd of the test.
type ownEngine struct {
	folder  string
	process *exec.Cmd
}

func startOwn(t *testing.T) *Engine {
	t.Helper()
	if os.Getenv(variableInit) != "" {
		beInit(t)
	}
	e := &ownEngine{folder: os.Getenv(variableFolder)}
	t.Setenv("DOCKER_HOST", "unix://"+e.path("docker.sock"))
	for _, name := range []string{"DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"} {
		t.Setenv(name, "")
		require.NoError(t, os.Unsetenv(name))
	}
	t.Setenv("DOCKER_CONFIG", e.path("client"))
	require.NoError(t, os.WriteFile(e.path("runc"), runcWithoutResource, 0o700)) //nolint:gosec // a program
	require.NoError(t, os.WriteFile(e.path("daemon.json"), []byte("{}"), 0o600))
	e.start(t)
	t.Cleanup(func() { e.stop(t) })
	return &Engine{own: e}
}

func answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return exec.CommandContext(ctx, "docker", "version", "--format", "{{.Server.Version}}").Run() == nil
}

func (e *ownEngine) path(name string) string { return filepath.Join(e.folder, name) }

func (e *ownEngine) start(t *testing.T) {
	t.Helper()
	log, err := os.OpenFile(e.path("dockerd.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	defer log.Close()
	args := []string{
		"--config-file", e.path("daemon.json"), "--data-root", e.path("data"), "--exec-root", e.path("exec"),
		"--pidfile", e.path("dockerd.pid"), "--host", "unix://" + e.path("docker.sock"),
		"--cgroup-parent", "/" + filepath.Base(e.folder), "--exec-opt", "native.cgroupdriver=cgroupfs",
	}
	if lacksResource() {
		args = append(args, "--add-runtime", "runc-without-resource="+e.path("runc"), "--default-runtime", "runc-without-resource")
	}
	e.process = exec.Command("dockerd", args...) //nolint:noctx // it is stopped in the end
	e.process.Stdout, e.process.Stderr = log, log
	require.NoError(t, e.process.Start())
	if !assert.Eventually(t, func() bool { return answers(t.Context()) }, time.Minute, 100*time.Millisecond) {
		t.Fatal("dockerd does not answer; it says:\n" + e.said())
	}
}

// stop has dockerd stop its containers, and remember which of them to start again.
func (e *ownEngine) stop(t *testing.T) {
	t.Helper()
	if e.process.ProcessState != nil {
		return // it was stopped already
	}
	require.NoError(t, e.process.Process.Signal(syscall.SIGTERM))
	impatient := time.AfterFunc(time.Minute, func() { _ = e.process.Process.Kill() })
	defer impatient.Stop()
	_ = e.process.Wait() // however it ends
}

// said is the end of what dockerd has logged.
func (e *ownEngine) said() string {
	content, err := os.ReadFile(e.path("dockerd.log"))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}

// lacksResource says whether this process may not give a container CAP_SYS_RESOURCE, which k3d's
// privileged ones would have.
func lacksResource() bool {
	bounded, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, unix.CAP_SYS_RESOURCE, 0, 0, 0)
	return err == nil && bounded == 0
}
