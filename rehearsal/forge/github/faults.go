package github

import (
	"cmp"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Kind is a way to fail that GitHub has.
type Kind string

// The ways to fail.
const (
	// RateLimit is 403, with no request remaining until the reset.
	RateLimit Kind = "rate-limit"
	// TooManyRequests is 429, with no request remaining until the reset.
	TooManyRequests Kind = "too-many-requests"
	// SecondaryLimit is 403, with requests remaining: too many at once.
	SecondaryLimit Kind = "secondary-limit"
	// ServerError is 502, or the Status of the fault.
	ServerError Kind = "server-error"
	// BadCredentials is 401: the token has expired, or was revoked.
	BadCredentials Kind = "bad-credentials"
)

// Fault makes requests fail.
type Fault struct {
	Kind Kind `json:"kind"`
	// Times is how many requests fail; 0 is one.
	Times int `json:"times,omitempty"`
	// Method fails only requests of that method; empty fails any.
	Method string `json:"method,omitempty"`
	// Path fails only requests that have it in their path; empty fails any.
	Path string `json:"path,omitempty"`
	// Status is that of a server error.
	Status int `json:"status,omitempty"`
	// RetryAfter is in seconds, for the limits; 0 is one second.
	RetryAfter int `json:"retryAfter,omitempty"`
	// AnswerLost carries the request out, and loses only its answer.
	AnswerLost bool `json:"answerLost,omitempty"`
}

// Validate says everything that is wrong with the fault.
func (f Fault) Validate() error {
	switch f.Kind {
	case RateLimit, TooManyRequests, SecondaryLimit, ServerError, BadCredentials:
	default:
		return fmt.Errorf("the fault's kind is %q: it is one of %q", f.Kind,
			[]Kind{RateLimit, TooManyRequests, SecondaryLimit, ServerError, BadCredentials})
	}
	if f.Status != 0 && (f.Status < 500 || f.Status > 599) {
		return fmt.Errorf("the fault's status is %d: a server error has 500 to 599", f.Status)
	}
	return nil
}

// Fail makes the next requests that fit fail. Faults that fit the same request fail one after
// the other, in the order in which they were given.
func (s *Server) Fail(fault Fault) {
	fault.Times = max(fault.Times, 1)
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.faults = append(s.faults, fault)
}

// Heal takes back every fault that has not struck yet.
func (s *Server) Heal() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.faults = nil
}

// strike is the fault that this request meets.
func (s *Server) strike(r *http.Request) (Fault, bool) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for i := range s.faults {
		fault := &s.faults[i]
		if fault.Times > 0 && (fault.Method == "" || fault.Method == r.Method) && strings.Contains(r.URL.Path, fault.Path) {
			fault.Times--
			return *fault, true
		}
	}
	return Fault{}, false
}

// answer is how GitHub says it.
func (f Fault) answer() answer {
	after := time.Duration(max(f.RetryAfter, 1)) * time.Second
	limited := http.Header{
		"Retry-After":           {strconv.Itoa(int(after.Seconds()))},
		"X-Ratelimit-Remaining": {"0"},
		"X-Ratelimit-Used":      {strconv.Itoa(rateLimit)},
		// The next whole second, so that it is never too early.
		"X-Ratelimit-Reset": {strconv.FormatInt(time.Now().Add(after).Unix()+1, 10)},
	}
	switch f.Kind {
	case RateLimit, TooManyRequests:
		a := failed(http.StatusForbidden, "API rate limit exceeded for user ID 1.", "/using-the-rest-api/rate-limits-for-the-rest-api#primary-rate-limits")
		if f.Kind == TooManyRequests {
			a.status = http.StatusTooManyRequests
		}
		a.header = limited
		return a
	case SecondaryLimit:
		a := failed(http.StatusForbidden, "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.",
			"/using-the-rest-api/rate-limits-for-the-rest-api#about-secondary-rate-limits")
		a.header = http.Header{"Retry-After": limited["Retry-After"]}
		return a
	case BadCredentials:
		return badCredentials()
	default:
		status := cmp.Or(f.Status, http.StatusBadGateway)
		return failed(status, http.StatusText(status), "")
	}
}
