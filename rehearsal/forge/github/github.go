// Package github is a local stand-in for the part of GitHub's REST API that this project asks:
// repositories, deploy keys, commit statuses. It is for rehearsals and tests, and it is not
// GitHub: what it answers follows GitHub's documentation and the answers that GitHub's users
// report, in status codes, headers and error bodies. It can be told to fail as GitHub does.
//
// The API is served under / and under /api/v3/, where clients look for it at any host but
// github.com. Routes under /-/ are the stand-in's own, for whoever steers the rehearsal: they
// take no token and answer to this machine alone.
package github

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// Options are what a Server is made of.
type Options struct {
	// Token is the only one that is let in.
	Token string
	// Repositories are those that exist, as owner/name.
	Repositories []string
	// File keeps deploy keys and statuses over a restart; empty keeps them in memory.
	File string
	// HasCommit says whether a repository has a commit; nil takes any for one that it has.
	HasCommit func(ctx context.Context, repository, sha string) bool
}

// DeployKey is a key that may read one repository, and write it too unless it is ReadOnly.
type DeployKey struct {
	ID         int64     `json:"id"`
	Repository string    `json:"repository"`
	Title      string    `json:"title"`
	Key        string    `json:"key"` // as in authorized_keys, without its comment
	ReadOnly   bool      `json:"readOnly"`
	CreatedAt  time.Time `json:"createdAt"`
	LastUsed   time.Time `json:"lastUsed,omitzero"`
}

// Status is what somebody said about a commit.
type Status struct {
	ID          int64     `json:"id"`
	Repository  string    `json:"repository"`
	SHA         string    `json:"sha"`
	State       string    `json:"state"`
	Context     string    `json:"context"`
	Description string    `json:"description"`
	TargetURL   string    `json:"targetUrl"`
	CreatedAt   time.Time `json:"createdAt"`
}

// state is what outlives a restart, oldest first.
type state struct {
	LastID   int64       `json:"lastId"`
	Keys     []DeployKey `json:"keys"`
	Statuses []Status    `json:"statuses"`
}

// Server is the stand-in.
type Server struct {
	options Options
	handler http.Handler

	mutex  sync.Mutex
	state  state
	faults []Fault
}

var (
	_ http.Handler = (*Server)(nil)

	repositoryName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+$`)
)

// New makes a server of what its file holds.
func New(options Options) (*Server, error) {
	var problems []error
	if options.Token == "" {
		problems = append(problems, errors.New("the GitHub stand-in has no token: it would let nobody in"))
	}
	for _, name := range options.Repositories {
		if !repositoryName.MatchString(name) {
			problems = append(problems, fmt.Errorf("the repository %q is no owner/name", name))
		}
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	s := &Server{options: options}
	if err := s.load(); err != nil {
		return nil, err
	}
	s.handler = s.routes()
	return s, nil
}

// ServeHTTP answers as GitHub's API does.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// DeployKeys are those of one repository, or of all for an empty name; oldest first.
func (s *Server) DeployKeys(repository string) []DeployKey {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return filter(s.state.Keys, func(k DeployKey) bool {
		return repository == "" || strings.EqualFold(k.Repository, repository)
	})
}

// Statuses are those of one commit, or of all for an empty SHA; of one repository, or of all
// for an empty name; oldest first.
func (s *Server) Statuses(repository, sha string) []Status {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return filter(s.state.Statuses, func(st Status) bool {
		return (repository == "" || strings.EqualFold(st.Repository, repository)) && (sha == "" || st.SHA == sha)
	})
}

// MarkUsed notes that a deploy key has just logged in.
func (s *Server) MarkUsed(id int64) error {
	return s.change(func(st *state) {
		for i := range st.Keys {
			if st.Keys[i].ID == id {
				st.Keys[i].LastUsed = now()
			}
		}
	})
}

// The reasons for which GitHub takes no key, in its own words.
var (
	errKeyInUse   = errors.New("key is already in use")
	errKeyInvalid = errors.New("key is invalid. You must supply a key in OpenSSH public key format")
)

// addKey registers a key that is registered nowhere yet.
func (s *Server) addKey(repository, title, text string, readOnly bool) (DeployKey, error) {
	public, _, _, rest, err := ssh.ParseAuthorizedKey([]byte(text))
	if err != nil || len(strings.TrimSpace(string(rest))) > 0 {
		return DeployKey{}, errKeyInvalid
	}
	key := DeployKey{
		Repository: repository,
		Title:      title,
		Key:        strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public))),
		ReadOnly:   readOnly,
		CreatedAt:  now(),
	}
	inUse := false
	err = s.change(func(st *state) {
		inUse = slices.ContainsFunc(st.Keys, func(k DeployKey) bool { return k.Key == key.Key })
		if !inUse {
			st.LastID++
			key.ID = st.LastID
			st.Keys = append(st.Keys, key)
		}
	})
	if inUse {
		return DeployKey{}, errKeyInUse
	}
	return key, err
}

// removeKey says whether there was such a key.
func (s *Server) removeKey(repository string, id int64) (found bool, err error) {
	err = s.change(func(st *state) {
		before := len(st.Keys)
		st.Keys = slices.DeleteFunc(st.Keys, func(k DeployKey) bool {
			return k.ID == id && strings.EqualFold(k.Repository, repository)
		})
		found = len(st.Keys) < before
	})
	return found, err
}

func (s *Server) addStatus(status Status) (Status, error) {
	status.CreatedAt = now()
	err := s.change(func(st *state) {
		st.LastID++
		status.ID = st.LastID
		st.Statuses = append(st.Statuses, status)
	})
	return status, err
}

// change keeps what edit makes of the state, unless it can't be written.
func (s *Server) change(edit func(*state)) error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	next := state{LastID: s.state.LastID, Keys: slices.Clone(s.state.Keys), Statuses: slices.Clone(s.state.Statuses)}
	edit(&next)
	if err := s.save(next); err != nil {
		return err
	}
	s.state = next
	return nil
}

func (s *Server) load() error {
	if s.options.File == "" {
		return nil
	}
	text, err := os.ReadFile(s.options.File)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the GitHub stand-in's state: %w", err)
	}
	if err := json.Unmarshal(text, &s.state); err != nil {
		return fmt.Errorf("reading the GitHub stand-in's state from %s: %w", s.options.File, err)
	}
	return nil
}

// save leaves the old file or the new one, never a half of either.
func (s *Server) save(next state) error {
	if s.options.File == "" {
		return nil
	}
	text, err := json.MarshalIndent(next, "", "  ")
	if err != nil {
		return fmt.Errorf("writing the GitHub stand-in's state: %w", err)
	}
	file, err := os.CreateTemp(filepath.Dir(s.options.File), filepath.Base(s.options.File)+".*")
	if err != nil {
		return fmt.Errorf("writing the GitHub stand-in's state: %w", err)
	}
	_, err = file.Write(append(text, '\n'))
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("writing the GitHub stand-in's state: %w", errors.Join(err, os.Remove(file.Name())))
	}
	if err := os.Rename(file.Name(), s.options.File); err != nil {
		return fmt.Errorf("writing the GitHub stand-in's state: %w", err)
	}
	return nil
}

// repository is the name as it was declared: GitHub finds names in any case.
func (s *Server) repository(name string) (string, bool) {
	i := slices.IndexFunc(s.options.Repositories, func(known string) bool { return strings.EqualFold(known, name) })
	if i < 0 {
		return "", false
	}
	return s.options.Repositories[i], true
}

func filter[T any](all []T, keep func(T) bool) []T {
	kept := []T{}
	for _, one := range all {
		if keep(one) {
			kept = append(kept, one)
		}
	}
	return kept
}

// now is in whole seconds, as GitHub gives times.
func now() time.Time { return time.Now().UTC().Truncate(time.Second) }
