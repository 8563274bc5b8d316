package github

import (
	"cmp"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	rateLimit      = 5000
	maxBody        = 1 << 20
	maxDescription = 140
	documentation  = "https://docs.github.com/rest"
)

// answer is a response before it is written.
type answer struct {
	status int
	body   any
	header http.Header
}

// failed is GitHub's body of an error.
func failed(status int, message, page string) answer {
	return answer{status: status, body: map[string]any{
		"message": message, "documentation_url": documentation + page, "status": strconv.Itoa(status),
	}}
}

// invalid is GitHub's body for a field that it won't take.
func invalid(resource, field, message, page string) answer {
	a := failed(http.StatusUnprocessableEntity, "Validation Failed", page)
	a.body.(map[string]any)["errors"] = []map[string]string{ //nolint:forcetypeassert // made by failed
		{"resource": resource, "code": "custom", "field": field, "message": message},
	}
	return a
}

func notFound() answer       { return failed(http.StatusNotFound, "Not Found", "") }
func badCredentials() answer { return failed(http.StatusUnauthorized, "Bad credentials", "") }
func broken(err error) answer {
	return failed(http.StatusInternalServerError, err.Error(), "")
}

func (s *Server) routes() http.Handler {
	api := http.NewServeMux()
	route := func(pattern string, handle func(r *http.Request) answer) {
		api.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { handle(r).write(w, r) })
	}
	repository := func(pattern string, handle func(r *http.Request, repository string) answer) {
		method, path, _ := strings.Cut(pattern, " ")
		route(method+" /repos/{owner}/{repo}"+path, func(r *http.Request) answer {
			name, ok := s.repository(r.PathValue("owner") + "/" + r.PathValue("repo"))
			if !ok {
				return notFound()
			}
			return handle(r, name)
		})
	}
	route("/", func(*http.Request) answer { return notFound() })
	route("GET /user", func(*http.Request) answer { return answer{status: http.StatusOK, body: user()} })
	repository("GET ", s.getRepository)
	repository("POST /keys", s.createKey)
	repository("GET /keys", s.listKeys)
	repository("GET /keys/{id}", s.getKey)
	repository("DELETE /keys/{id}", s.deleteKey)
	repository("POST /statuses/{sha}", s.createStatus)
	repository("GET /commits/{sha}/statuses", s.listStatuses)
	repository("GET /commits/{sha}/status", s.combinedStatus)

	all := http.NewServeMux()
	all.Handle("/", s.failing(s.authenticated(api)))
	all.Handle("/api/v3/", http.StripPrefix("/api/v3", s.failing(s.authenticated(api))))
	all.Handle("/-/", s.admin())
	return all
}

// failing lets a fault come before everything else.
func (s *Server) failing(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fault, struck := s.strike(r)
		if struck && fault.AnswerLost {
			next.ServeHTTP(httptest.NewRecorder(), r)
		}
		if struck {
			fault.answer().write(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) authenticated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		switch {
		case scheme == "":
			failed(http.StatusUnauthorized, "Requires authentication", "").write(w, r)
		case !strings.EqualFold(scheme, "bearer") && !strings.EqualFold(scheme, "token"),
			subtle.ConstantTimeCompare([]byte(strings.TrimSpace(token)), []byte(s.options.Token)) != 1:
			badCredentials().write(w, r)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// write sends the answer with the headers that GitHub puts on every one.
func (a answer) write(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("X-Ratelimit-Limit", strconv.Itoa(rateLimit))
	header.Set("X-Ratelimit-Remaining", strconv.Itoa(rateLimit-1))
	header.Set("X-Ratelimit-Used", "1")
	header.Set("X-Ratelimit-Reset", strconv.FormatInt(time.Now().Add(time.Hour).Unix(), 10))
	header.Set("X-Ratelimit-Resource", "core")
	header.Set("X-Github-Media-Type", "github.v3; format=json")
	maps.Copy(header, a.header)
	if a.body == nil {
		w.WriteHeader(a.status)
		return
	}
	text, err := json.Marshal(a.body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	header.Set("Content-Type", "application/json; charset=utf-8")
	if r.Method == http.MethodGet && a.status == http.StatusOK {
		tag := fmt.Sprintf(`W/"%x"`, sha256.Sum256(text))
		header.Set("ETag", tag)
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(text) // the client has gone: nobody is left to tell
}

// login is the user whom the token is of.
const login = "rehearsal"

func user() map[string]any { return map[string]any{"login": login, "id": 1, "type": "User"} }

func (s *Server) getRepository(r *http.Request, repository string) answer {
	owner, name, _ := strings.Cut(repository, "/")
	return answer{status: http.StatusOK, body: map[string]any{
		"id": 1 + slices.Index(s.options.Repositories, repository), "name": name, "full_name": repository, "private": true,
		"owner": map[string]any{"login": owner}, "default_branch": "main", "url": link(r, repository, ""),
		"permissions": map[string]bool{"admin": true, "push": true, "pull": true},
	}}
}

func (s *Server) createKey(r *http.Request, repository string) answer {
	var asked struct {
		Title    string `json:"title"`
		Key      string `json:"key"`
		ReadOnly bool   `json:"read_only"`
	}
	if problem := decode(r, &asked); problem != nil {
		return *problem
	}
	key, err := s.addKey(repository, asked.Title, asked.Key, asked.ReadOnly)
	switch {
	case errors.Is(err, errKeyInUse), errors.Is(err, errKeyInvalid):
		return invalid("PublicKey", "key", err.Error(), "/deploy-keys/deploy-keys#create-a-deploy-key")
	case err != nil:
		return broken(err)
	}
	created := answer{status: http.StatusCreated, body: keyBody(r, key)}
	created.header = http.Header{"Location": {link(r, repository, "/keys/"+strconv.FormatInt(key.ID, 10))}}
	return created
}

func (s *Server) listKeys(r *http.Request, repository string) answer {
	bodies := []map[string]any{}
	for _, key := range s.DeployKeys(repository) {
		bodies = append(bodies, keyBody(r, key))
	}
	return page(r, bodies)
}

func (s *Server) getKey(r *http.Request, repository string) answer {
	for _, key := range s.DeployKeys(repository) {
		if r.PathValue("id") == strconv.FormatInt(key.ID, 10) {
			return answer{status: http.StatusOK, body: keyBody(r, key)}
		}
	}
	return notFound()
}

func (s *Server) deleteKey(r *http.Request, repository string) answer {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		return notFound()
	}
	found, err := s.removeKey(repository, id)
	switch {
	case err != nil:
		return broken(err)
	case !found:
		return notFound()
	default:
		return answer{status: http.StatusNoContent}
	}
}

func keyBody(r *http.Request, key DeployKey) map[string]any {
	body := map[string]any{
		"id": key.ID, "key": key.Key, "title": key.Title, "read_only": key.ReadOnly, "verified": true,
		"url":        link(r, key.Repository, "/keys/"+strconv.FormatInt(key.ID, 10)),
		"created_at": key.CreatedAt, "added_by": login, "enabled": true, "last_used": nil,
	}
	if !key.LastUsed.IsZero() {
		body["last_used"] = key.LastUsed
	}
	return body
}

func (s *Server) createStatus(r *http.Request, repository string) answer {
	var asked struct {
		State       string `json:"state"`
		TargetURL   string `json:"target_url"`
		Description string `json:"description"`
		Context     string `json:"context"`
	}
	if problem := decode(r, &asked); problem != nil {
		return *problem
	}
	sha := r.PathValue("sha")
	const page = "/commits/statuses#create-a-commit-status"
	switch {
	case s.options.HasCommit != nil && !s.options.HasCommit(r.Context(), repository, sha):
		return failed(http.StatusUnprocessableEntity, "No commit found for SHA: "+sha, page)
	case !slices.Contains([]string{"error", "failure", "pending", "success"}, asked.State):
		return invalid("Status", "state", "state is not included in the list", page)
	case len([]rune(asked.Description)) > maxDescription:
		return invalid("Status", "description", "description is too long (maximum is 140 characters)", page)
	}
	status, err := s.addStatus(Status{
		Repository: repository, SHA: sha, State: asked.State,
		Context: cmp.Or(asked.Context, "default"), Description: asked.Description, TargetURL: asked.TargetURL,
	})
	if err != nil {
		return broken(err)
	}
	return answer{status: http.StatusCreated, body: statusBody(r, status)}
}

func (s *Server) listStatuses(r *http.Request, repository string) answer {
	bodies := []map[string]any{}
	for _, status := range slices.Backward(s.Statuses(repository, r.PathValue("sha"))) {
		bodies = append(bodies, statusBody(r, status))
	}
	return page(r, bodies)
}

// combinedStatus is the newest status of each context, and what they come to.
func (s *Server) combinedStatus(r *http.Request, repository string) answer {
	sha, bodies, seen, combined := r.PathValue("sha"), []map[string]any{}, map[string]bool{}, "success"
	for _, status := range slices.Backward(s.Statuses(repository, sha)) {
		if seen[status.Context] {
			continue
		}
		seen[status.Context] = true
		bodies = append(bodies, statusBody(r, status))
		switch {
		case status.State == "error" || status.State == "failure":
			combined = "failure"
		case status.State == "pending" && combined == "success":
			combined = "pending"
		}
	}
	if len(bodies) == 0 {
		combined = "pending"
	}
	return answer{status: http.StatusOK, body: map[string]any{
		"state": combined, "sha": sha, "total_count": len(bodies), "statuses": bodies, "url": link(r, repository, "/commits/"+sha+"/status"),
	}}
}

func statusBody(r *http.Request, status Status) map[string]any {
	return map[string]any{
		"id": status.ID, "state": status.State, "context": status.Context, "description": status.Description,
		"target_url": status.TargetURL, "created_at": status.CreatedAt, "updated_at": status.CreatedAt,
		"creator": user(), "url": link(r, status.Repository, "/statuses/"+status.SHA),
	}
}

func decode(r *http.Request, into any) *answer {
	if err := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxBody)).Decode(into); err != nil {
		return new(failed(http.StatusBadRequest, "Problems parsing JSON", ""))
	}
	return nil
}

func link(r *http.Request, repository, rest string) string {
	return "http://" + r.Host + "/api/v3/repos/" + repository + rest
}

// page answers with the part of a list that was asked for, and links to the others.
func page(r *http.Request, all []map[string]any) answer {
	query := r.URL.Query()
	number := func(name string, otherwise int) int {
		if n, err := strconv.Atoi(query.Get(name)); err == nil && n > 0 {
			return n
		}
		return otherwise
	}
	size, current := min(number("per_page", 30), 100), number("page", 1)
	last := max(1, (len(all)+size-1)/size)
	from := min((current-1)*size, len(all))
	a := answer{status: http.StatusOK, body: all[from:min(from+size, len(all))]}
	var links []string
	relate := func(rel string, to int) {
		query.Set("page", strconv.Itoa(to))
		path, _, _ := strings.Cut(r.RequestURI, "?")
		links = append(links, fmt.Sprintf(`<http://%s%s?%s>; rel="%s"`, r.Host, path, query.Encode(), rel))
	}
	if current > 1 {
		relate("prev", min(current-1, last))
		relate("first", 1)
	}
	if current < last {
		relate("next", current+1)
		relate("last", last)
	}
	if len(links) > 0 {
		a.header = http.Header{"Link": {strings.Join(links, ", ")}}
	}
	return a
}

// admin is what steers the stand-in.
func (s *Server) admin() http.Handler {
	mux := http.NewServeMux()
	route := func(pattern string, handle func(r *http.Request) answer) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if !local(r) {
				failed(http.StatusForbidden, "only this machine may ask that", "").write(w, r)
				return
			}
			handle(r).write(w, r)
		})
	}
	route("GET /-/github/keys", func(*http.Request) answer {
		return answer{status: http.StatusOK, body: s.DeployKeys("")}
	})
	route("DELETE /-/github/keys/{owner}/{repo}/{id}", func(r *http.Request) answer {
		return s.deleteKey(r, r.PathValue("owner")+"/"+r.PathValue("repo"))
	})
	route("GET /-/github/statuses", func(*http.Request) answer {
		return answer{status: http.StatusOK, body: s.Statuses("", "")}
	})
	route("POST /-/faults", func(r *http.Request) answer {
		var fault Fault
		if problem := decode(r, &fault); problem != nil {
			return *problem
		}
		if err := fault.Validate(); err != nil {
			return failed(http.StatusBadRequest, err.Error(), "")
		}
		s.Fail(fault)
		return answer{status: http.StatusNoContent}
	})
	route("DELETE /-/faults", func(*http.Request) answer {
		s.Heal()
		return answer{status: http.StatusNoContent}
	})
	return mux
}

// local says whether the request comes from this machine.
func local(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return false
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.Unmap().IsLoopback()
}
