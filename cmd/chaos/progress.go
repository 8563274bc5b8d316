package main

import (
	"bytes"
	"regexp"
	"strings"
	"sync"
	"time"
)

// step is a line in which Pulumi says that it begins or ends a resource.
var step = regexp.MustCompile(`^ *[+~-]+ .+ (creating|created|updating|updated|deleting|deleted)\b`)

// progress reads along what an update says, and counts its steps.
type progress struct {
	mutex   sync.Mutex
	partial []byte
	started time.Time
	at      []time.Duration // of each step, since the first line
	lines   []string
	wanted  int
	reached chan struct{}
}

// begin forgets the run before; reached is closed as soon as that many steps have been seen, or, for
// none, something has been said.
func (p *progress) begin(steps int) (reached <-chan struct{}) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.partial, p.lines, p.at, p.started = nil, nil, nil, time.Time{}
	p.wanted, p.reached = steps, make(chan struct{})
	return p.reached
}

func (p *progress) Write(data []byte) (int, error) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.partial = append(p.partial, data...)
	for {
		line, rest, whole := bytes.Cut(p.partial, []byte{'\n'})
		if !whole {
			return len(data), nil
		}
		p.partial = rest
		p.line(string(line))
	}
}

func (p *progress) line(line string) {
	if p.started.IsZero() {
		p.started = time.Now()
	}
	p.lines = append(p.lines, line)
	if step.MatchString(line) {
		p.at = append(p.at, time.Since(p.started))
	}
	if p.reached != nil && len(p.at) >= p.wanted {
		close(p.reached)
		p.reached = nil
	}
}

// steps are the times of all so far.
func (p *progress) steps() []time.Duration {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return append([]time.Duration(nil), p.at...)
}

func (p *progress) text() string {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return strings.Join(p.lines, "\n")
}

// says is the first line in which the run names an error.
func (p *progress) says() string { return firstError(p.text()) }

func firstError(text string) string {
	for line := range strings.Lines(text) {
		if _, message, found := strings.Cut(line, "error: "); found && strings.TrimSpace(message) != "" {
			return strings.TrimSpace(message)
		}
	}
	return ""
}
