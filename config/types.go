package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
)

var errText = errors.New("reading a text: it is neither a string nor an integer")

var integerPattern = regexp.MustCompile(`^-?[0-9]+$`)

// Duration is a span of time, written as Go writes one: 90s, 2m, 1h30m.
type Duration struct{ time.Duration }

// String is the shortest form that decodes to the same span: 2m rather than 2m0s.
func (d Duration) String() string {
	text := d.Duration.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// MarshalText is String, for encoders.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads a Go duration. It overrides nothing of time.Duration, which would
// decode from a count of nanoseconds.
func (d *Duration) UnmarshalText(text []byte) error {
	span, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("reading a duration: %w", err)
	}
	d.Duration = span
	return nil
}

// Text is a string of digits or anything else. It decodes from a JSON integer too, digit by
// digit: `pulumi config set --path hvac.device 127934703953` stores a number.
type Text string

// UnmarshalJSON accepts a string or an integer.
func (t *Text) UnmarshalJSON(data []byte) error {
	if integerPattern.Match(data) {
		*t = Text(data)
		return nil
	}
	var text *string
	if err := json.Unmarshal(data, &text); err != nil || text == nil {
		return errText
	}
	*t = Text(*text)
	return nil
}

// Allocatable is the memory that pods may use: the machine's less what is reserved. It is
// zero when either is no quantity, which Validate reports.
func (n Node) Allocatable() resource.Quantity {
	memory, err := parseQuantity(n.Memory)
	if err != nil {
		return resource.Quantity{}
	}
	reserved, err := parseQuantity(n.Reserved)
	if err != nil {
		return resource.Quantity{}
	}
	memory.Sub(reserved)
	return memory
}

// RunsWorkloads says whether workloads may run on the node: so unless it says otherwise.
func (n Node) RunsWorkloads() bool { return n.Workloads == nil || *n.Workloads }

// ChecksMemory says whether a preview refuses pods that have no room: so unless it says
// otherwise.
func (c Cluster) ChecksMemory() bool { return c.MemoryCheck == nil || *c.MemoryCheck }

// Given says whether both tokens are set.
func (s Slack) Given() bool { return s.AppToken != "" && s.BotToken != "" }

// Given says whether both halves of the account are set.
func (i Intesis) Given() bool { return i.Username != "" && i.Password != "" }

// Port is the one that the URL names, or that of https.
func (e Endpoint) Port() int32 {
	const https = 443
	target, err := url.Parse(e.URL)
	if err != nil || target.Port() == "" {
		return https
	}
	port, err := strconv.ParseInt(target.Port(), 10, 32)
	if err != nil {
		return https // Validate refuses it
	}
	return int32(port)
}

// Given says whether both halves of the account are set.
func (g GrafanaAdmin) Given() bool { return g.Username != "" && g.Password != "" }

const redacted = "[secret]"

// String keeps the tokens out of logs.
func (Slack) String() string { return redacted }

// GoString keeps the tokens out of logs.
func (Slack) GoString() string { return redacted }

// String keeps the account out of logs.
func (Intesis) String() string { return redacted }

// GoString keeps the account out of logs.
func (Intesis) GoString() string { return redacted }

// String keeps the private key out of logs.
func (SealingKey) String() string { return redacted }

// GoString keeps the private key out of logs.
func (SealingKey) GoString() string { return redacted }

// String keeps the account out of logs.
func (GrafanaAdmin) String() string { return redacted }

// GoString keeps the account out of logs.
func (GrafanaAdmin) GoString() string { return redacted }

// String keeps the community out of logs.
func (SNMPAuth) String() string { return redacted }

// GoString keeps the community out of logs.
func (SNMPAuth) GoString() string { return redacted }

// String keeps the token out of logs.
func (CloudAuth) String() string { return redacted }

// GoString keeps the token out of logs.
func (CloudAuth) GoString() string { return redacted }

// String keeps the deploy key out of logs, and with it everything else.
func (Secrets) String() string { return redacted }

// GoString keeps the deploy key out of logs, and with it everything else.
func (Secrets) GoString() string { return redacted }

// String keeps the credentials out of logs.
func (Notifications) String() string { return redacted }

// GoString keeps the credentials out of logs.
func (Notifications) GoString() string { return redacted }
