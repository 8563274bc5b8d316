package forge

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"
)

// Message is what somebody posted to a webhook of Slack's.
type Message struct {
	Time time.Time       `json:"time"`
	Path string          `json:"path"`
	Body json.RawMessage `json:"body"`
}

// slack takes messages as its incoming webhooks do.
type slack struct {
	file     string
	mutex    sync.Mutex
	messages []Message
}

func newSlack(file string) (*slack, error) {
	s := &slack{file: file, messages: []Message{}}
	text, err := readLines(file)
	if err != nil {
		return nil, fmt.Errorf("reading Slack's messages: %w", err)
	}
	for decoder := json.NewDecoder(bytes.NewReader(text)); ; {
		var message Message
		switch err := decoder.Decode(&message); {
		case errors.Is(err, io.EOF):
			return s, nil
		case err != nil:
			return nil, fmt.Errorf("reading Slack's messages from %s: %w", file, err)
		}
		s.messages = append(s.messages, message)
	}
}

func (s *slack) all() []Message {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return slices.Clone(s.messages)
}

func (s *slack) receive(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil || !json.Valid(body) {
		http.Error(w, "invalid_payload", http.StatusBadRequest)
		return
	}
	if err := s.keep(Message{Time: time.Now().UTC(), Path: r.URL.Path, Body: body}); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = io.WriteString(w, "ok") // the client has gone: nobody is left to tell
}

func (s *slack) keep(message Message) error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if err := appendLine(s.file, message); err != nil {
		return fmt.Errorf("keeping a message: %w", err)
	}
	s.messages = append(s.messages, message)
	return nil
}

// appendLine adds a value to a file of one a line, or nothing: the disk may be full.
func appendLine(name string, value any) error {
	line, err := json.Marshal(value)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	before, err := file.Stat()
	if err != nil {
		return errors.Join(err, file.Close())
	}
	if _, err = file.Write(append(line, '\n')); err != nil {
		err = errors.Join(err, file.Truncate(before.Size()))
	}
	return errors.Join(err, file.Close())
}

// readLines reads such a file, which may be missing. A last line that was cut off, as its writer was killed, is
// taken away.
func readLines(name string) ([]byte, error) {
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	whole := bytes.LastIndexByte(text, '\n') + 1
	if whole < len(text) {
		err = os.Truncate(name, int64(whole))
	}
	return text[:whole], err
}
