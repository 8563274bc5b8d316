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

// says is the first error that the run names.
func (p *progress) says() string { return firstError(p.text()) }

// urn is how Pulumi names a resource where it reports an error; the last part is enough for a reader.
var urn = regexp.MustCompile(`"urn:[^"]*::([^":]+)"`)

// firstError is the first error that says more than that there was one.
func firstError(text string) string {
	const nothing = "update failed"
	first := ""
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		_, message, found := strings.Cut(line, "error: ")
		if message = strings.TrimSpace(message); !found || message == "" {
			continue
		}
		if strings.HasSuffix(message, " occurred:") { // a list follows
			var listed []string
			for _, next := range lines[i+1:] {
				item, isItem := strings.CutPrefix(strings.TrimSpace(next), "* ")
				if !isItem {
					break
				}
				listed = append(listed, item)
			}
			message = strings.Join(listed, "; ")
		}
		if message != nothing {
			return urn.ReplaceAllString(message, "$1")
		}
		first = message
	}
	return first
}
