package main

import (
	"bufio"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	port  = "6443"
	pause = time.Second
	// lost is how long a node may be silent before it counts as not ready.
	lost = 4 * time.Second
	// tlsHandshake is how TLS begins, and nothing of HTTP does.
	tlsHandshake = 0x16
	// shortBound is for one question to somebody who runs.
	shortBound = 5 * time.Second
)

// server is `k3s server`.
type server struct {
	upstream *upstream
	token    token
	cluster  *cluster

	// up says that nodes are let in.
	up atomic.Bool

	mutex sync.Mutex
	// passwords are digests by the names of nodes.
	passwords map[string]string
	heard     map[string]time.Time

	// silent are the nodes that were marked so.
	silent map[string]bool
}

func serve(ctx context.Context, args []string) error {
	read, err := readSettings(args)
	if err != nil {
		return err
	}
	if read.last("server") != "" {
		return errors.New("the stand-in of k3s has one server: it can't join " + read.last("server"))
	}
	s := &server{heard: map[string]time.Time{}, silent: map[string]bool{}}
	if s.upstream, err = readUpstream(); err != nil {
		return err
	}
	sayf("level=info msg=%q", "Starting k3s "+release+" (standin)")
	var fresh bool
	if s.token, fresh, err = clusterToken(read.last("token")); err != nil {
		return err
	}
	if err := s.load(); err != nil {
		return err
	}
	kubeconfig, err := s.writeKubeconfig(read)
	if err != nil {
		return err
	}
	if s.cluster, err = newCluster(kubeconfig, ""); err != nil {
		return err
	}
	if err := s.listen(ctx); err != nil {
		return err
	}
	if err := s.cluster.wait(ctx); err != nil {
		return err
	}
	if fresh {
		if err := s.cluster.removeNodes(ctx); err != nil {
			return err
		}
	}
	return s.run(ctx, read)
}

// run is a server that is up: a node itself, and the one who sees which of the others still are.
func (s *server) run(ctx context.Context, read settings) error {
	node, err := newNode(read, true)
	if err != nil {
		return err
	}
	own, err := password()
	if err != nil {
		return err
	}
	if err := s.admit(ctx, node.Name, digest(own)); err != nil {
		return err
	}
	if err := s.cluster.register(ctx, node); err != nil {
		return err
	}
	s.up.Store(true)
	sayf("level=info msg=%q", "k3s is up and running")
	notify("READY=1")
	for {
		s.look(ctx)
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), shortBound)
			defer cancel()
			_ = s.cluster.setReady(last, node.Name, false) // the control plane may be gone
			return nil
		case <-time.After(pause):
		}
	}
}

// look marks the agents that have fallen silent, or are heard again.
func (s *server) look(ctx context.Context) {
	s.mutex.Lock()
	silent := map[string]bool{}
	for name, at := range s.heard {
		silent[name] = time.Since(at) > lost
	}
	s.mutex.Unlock()
	for name, is := range silent {
		if is || s.silent[name] {
			if err := s.mark(ctx, name, !is); err != nil {
				sayf("level=error msg=%q", "node "+name+": "+err.Error())
				continue
			}
		}
		s.silent[name] = is
	}
}

// mark sets what is not so already: kwok may have had the last word.
func (s *server) mark(ctx context.Context, name string, ready bool) error {
	is, err := s.cluster.isReady(ctx, name)
	if err == nil && is != ready {
		err = s.cluster.setReady(ctx, name, ready)
	}
	if errors.Is(err, errGone) {
		return nil
	}
	return err
}

func (s *server) passwordFile() string {
	return filepath.Join(dataFolder, "server", "cred", "node-passwd.json")
}

func (s *server) load() error {
	s.passwords = map[string]string{}
	content, err := os.ReadFile(s.passwordFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(content, &s.passwords)
	}
	if err != nil {
		return fmt.Errorf("reading the nodes' passwords: %w", err)
	}
	own, _ := os.Hostname()
	for name := range s.passwords {
		if name != own {
			s.heard[name] = time.Now()
		}
	}
	return nil
}

var errRejected = errors.New("Node password rejected, duplicate hostname or contents of '" + nodePassword + //nolint:staticcheck // k3s's words
	"' may not match server node-passwd entry, try enabling a unique node name with the --with-node-id flag")

// admit lets a node in that is new, or that has the password of before.
func (s *server) admit(ctx context.Context, name, password string) error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if before, found := s.passwords[name]; found && before != password {
		exists, err := s.cluster.exists(ctx, name)
		if err != nil {
			return err
		}
		if exists {
			return errRejected
		}
	}
	s.passwords[name] = password
	content, err := json.Marshal(s.passwords)
	if err != nil {
		return fmt.Errorf("writing the nodes' passwords: %w", err)
	}
	return write(s.passwordFile(), string(content), 0o600)
}

// listen answers on k3s's one port: TLS is for the API, and plain HTTP from agents.
func (s *server) listen(ctx context.Context) error {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", ":"+port)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	agents := &handed{Listener: listener, connections: make(chan net.Conn)}
	asked := &http.Server{Handler: s.agents(), ReadHeaderTimeout: dialBound}
	go func() { _ = asked.Serve(agents) }()
	context.AfterFunc(ctx, func() { _ = asked.Close() })
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go s.sort(ctx, connection, agents)
		}
	}()
	return nil
}

func (s *server) sort(ctx context.Context, connection net.Conn, agents *handed) {
	peeked := &peekable{Conn: connection, reader: bufio.NewReader(connection)}
	first, err := peeked.reader.Peek(1)
	if err != nil {
		_ = connection.Close()
		return
	}
	if first[0] != tlsHandshake {
		select {
		case agents.connections <- peeked:
		case <-ctx.Done():
		}
		return
	}
	api, err := s.upstream.dial(ctx)
	if err != nil {
		sayf("level=error msg=%q", "passing on to the control plane: "+err.Error())
		_ = connection.Close()
		return
	}
	context.AfterFunc(ctx, func() { _ = connection.Close() })
	pass(peeked, api)
}

// peekable is a connection of which the first bytes were looked at.
type peekable struct {
	net.Conn

	reader *bufio.Reader
}

func (p *peekable) Read(into []byte) (int, error) { return p.reader.Read(into) }

func (p *peekable) CloseWrite() error {
	if half, can := p.Conn.(interface{ CloseWrite() error }); can {
		return half.CloseWrite()
	}
	return nil
}

// handed is a listener whose connections somebody else has accepted.
type handed struct {
	net.Listener

	connections chan net.Conn
}

func (h *handed) Accept() (net.Conn, error) { return <-h.connections, nil }

// greeting is what an agent says of itself.
type greeting struct {
	Node     string `json:"node"`
	Token    string `json:"token"`    // a digest
	Password string `json:"password"` // a digest
}

func (s *server) agents() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /authority", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(s.token.authority)) })
	mux.HandleFunc("POST /join", func(w http.ResponseWriter, r *http.Request) {
		agent, ok := s.greeted(w, r)
		if !ok {
			return
		}
		if !s.up.Load() {
			http.Error(w, "server is not ready", http.StatusServiceUnavailable)
			return
		}
		err := s.admit(r.Context(), agent.Node, agent.Password)
		switch {
		case errors.Is(err, errRejected):
			http.Error(w, err.Error(), http.StatusForbidden)
		case err != nil:
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		default:
			s.hear(agent.Node)
		}
	})
	mux.HandleFunc("POST /alive", func(w http.ResponseWriter, r *http.Request) {
		if agent, ok := s.greeted(w, r); ok {
			s.hear(agent.Node)
		}
	})
	return mux
}

func (s *server) greeted(w http.ResponseWriter, r *http.Request) (agent greeting, ok bool) {
	if err := json.NewDecoder(r.Body).Decode(&agent); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return agent, false
	}
	if subtle.ConstantTimeCompare([]byte(agent.Token), []byte(s.token.digest())) != 1 {
		http.Error(w, "401 Unauthorized", http.StatusUnauthorized)
		return agent, false
	}
	return agent, true
}

func (s *server) hear(name string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.heard[name] = time.Now()
}

// writeKubeconfig writes the admin's kubeconfig where it is asked for.
func (s *server) writeKubeconfig(read settings) ([]byte, error) {
	kubeconfig, err := s.upstream.kubeconfigFor("https://127.0.0.1:" + port)
	if err != nil {
		return nil, err
	}
	path, mode := defaultKubeconfig, fs.FileMode(0o600)
	if other := read.last("write-kubeconfig"); other != "" {
		path = other
	}
	if text := read.last("write-kubeconfig-mode"); text != "" {
		bits, err := strconv.ParseUint(text, 8, 9)
		if err != nil {
			return nil, fmt.Errorf("reading write-kubeconfig-mode: %w", err)
		}
		mode = fs.FileMode(bits)
	}
	return kubeconfig, write(path, string(kubeconfig), mode)
}

// notify tells systemd, if that started us.
func notify(state string) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	connection, err := net.Dial("unixgram", path) //nolint:noctx,gosec // a datagram, to who started us
	if err != nil {
		sayf("level=error msg=%q", "telling systemd: "+err.Error())
		return
	}
	_, _ = connection.Write([]byte(state))
	_ = connection.Close()
}
