package main

import (
	"bytes"
	"io"
	"strings"
	"sync"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
)

// Constants of no type, for maps of both kinds of key.
const (
	stdoutKey = "stdout"
	stderrKey = "stderr"
)

// outcome is what a command that succeeded has said, without the last line's end.
type outcome struct{ stdout, stderr string }

func outcomeOf(state resource.PropertyMap) outcome {
	said := func(key resource.PropertyKey) string {
		if value := plain(state[key]); value.IsString() {
			return value.StringValue()
		}
		return ""
	}
	return outcome{stdout: said(stdoutKey), stderr: said(stderrKey)}
}

// into is a resource's state: its inputs, and what was said. It is the resource's options that
// make that secret.
func (o outcome) into(inputs resource.PropertyMap) resource.PropertyMap {
	state := inputs.Copy()
	state[stdoutKey], state[stderrKey] = resource.NewProperty(o.stdout), resource.NewProperty(o.stderr)
	return state
}

// streams hear a command, and say its lines to the engine as they come.
type streams struct {
	mutex           sync.Mutex
	out, err, mixed bytes.Buffer
	logging         string
	say             speaker
	unsaid          map[string]*bytes.Buffer
}

func newStreams(logging string, say speaker) *streams {
	return &streams{logging: logging, say: say, unsaid: map[string]*bytes.Buffer{stdoutKey: {}, stderrKey: {}}}
}

func (s *streams) stdout() io.Writer { return stream{s, stdoutKey, &s.out} }
func (s *streams) stderr() io.Writer { return stream{s, stderrKey, &s.err} }

// logs tells whether a stream is said to the engine: both are where nothing is said of it.
func (s *streams) logs(name string) bool {
	return s.logging == "" || s.logging == name || s.logging == "stdoutAndStderr"
}

// end is the outcome of a command, or its failure.
func (s *streams) end(err error, command string) (outcome, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for _, name := range []string{stdoutKey, stderrKey} {
		if rest := s.unsaid[name].String(); rest != "" {
			s.say.status(rest)
		}
	}
	if err != nil {
		return outcome{}, failed(err, command, s.mixed.String())
	}
	return outcome{stdout: strings.TrimSuffix(s.out.String(), "\n"), stderr: strings.TrimSuffix(s.err.String(), "\n")}, nil
}

type stream struct {
	*streams

	name string
	kept *bytes.Buffer
}

func (s stream) Write(data []byte) (int, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.kept.Write(data)
	s.mixed.Write(data)
	if s.logs(s.name) {
		unsaid := s.unsaid[s.name]
		unsaid.Write(data)
		for bytes.ContainsRune(unsaid.Bytes(), '\n') {
			line, _ := unsaid.ReadString('\n')
			s.say.status(strings.TrimRight(line, "\r\n"))
		}
	}
	return len(data), nil
}
