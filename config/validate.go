package config

import (
	"fmt"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"
)

var (
	labelPattern     = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	notLabelPattern  = regexp.MustCompile(`[^a-z0-9]+`)
	subdomainPattern = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$`)
	devicePattern    = regexp.MustCompile(`^[0-9]{1,20}$`)
	geohashPattern   = regexp.MustCompile(`^[0-9b-hjkmnp-z]+$`)
	channelPattern   = regexp.MustCompile(`^[a-z0-9_-]{1,80}$`)
	releasePattern   = regexp.MustCompile(`^v[0-9]+\.[0-9]+\.[0-9]+$`)
)

// Validate reports every rule that the configuration breaks, as Problems. now is what
// certificates are judged by.
func (c *Config) Validate(now time.Time) error {
	v := validator{Config: c, now: now, report: newReport()}
	v.validate()
	return v.report.err()
}

// validator holds a configuration against the rules.
type validator struct {
	*Config

	now    time.Time
	report *report
	// hidden holds the top-level keys whose values may not be shown.
	hidden      map[string]bool
	skipSecrets bool
}

func (v *validator) validate() {
	v.tags()
	v.cluster()
	v.domain()
	v.hvac()
	v.snmp()
	v.cloud()
	v.images()
	v.flux()
	v.git()
	v.between("readyTimeout", v.ReadyTimeout, 10*time.Second, time.Hour)
	if !v.skipSecrets {
		v.sealing()
		v.secrets()
	}
	v.misplaced()
}

// misplaced: what looks like a secret is one, whatever key it was put under.
func (v *validator) misplaced() {
	for path, field := range leaves(reflect.ValueOf(v.Config).Elem()) {
		if field.value.Kind() != reflect.String || has(field.tag, "secret") || v.hidden[topLevel(path)] {
			continue
		}
		if showText(field.value.String()) == secretValue && v.report.sound(path) {
			v.say(path, secretValue, "it looks like a token or a private key, and this is no key for one",
				"whoever could read the stack file knows it now: make a new one, and "+removeCommand(path))
		}
	}
}

// add reports the value at a path, shown as it is unless its key is a secret one.
func (v *validator) add(path, value, reason, mend string) {
	shown := showText(value)
	if v.hidden[topLevel(path)] {
		shown = secretValue
	}
	if shown == secretValue {
		mend = setCommand(path, v.hidden[topLevel(path)], "") // what was given may hint at the value
	}
	v.say(path, shown, reason, mend)
}

// say reports what is wrong at a path in words of the rule's own.
func (v *validator) say(path, what, reason, mend string) {
	v.report.add(Problem{Path: path, Value: what, Reason: reason, Mend: mend})
}

// tags enforces what the fields' own tags say: required and enum.
func (v *validator) tags() {
	for path, field := range leaves(reflect.ValueOf(v.Config).Elem()) {
		if v.skipSecrets && (within(path, "sealing") || within(path, "secrets")) {
			continue
		}
		enum := enumOf(field.tag)
		switch {
		case field.value.IsZero() && has(field.tag, "required"):
			v.say(path, missing, "it is required ("+field.tag.Get("doc")+")", setCommand(path, has(field.tag, "secret"), ""))
		case enum != nil && !slices.Contains(enum, field.value.String()):
			v.enum(path, field.value.String(), enum)
		}
	}
}

func (v *validator) enum(path, value string, enum []string) {
	reason := "it must be one of " + enumerate(enum, "or")
	meant, _ := closest(value, enum)
	switch {
	case len(enum) == 1:
		reason, meant = "it can only be "+enum[0], enum[0]
	case value == "":
		v.say(path, missing, reason, setCommand(path, false, defaultOf(path)))
		return
	}
	v.add(path, value, reason, setCommand(path, false, meant))
}

func (v *validator) domain() {
	const path = "domain"
	const reason = "it must be a DNS suffix: labels of lower-case letters, digits and hyphens, joined by dots"
	const example = "for example localtest.me"
	// longest leaves room for a label before it.
	const longest = 253 - 64
	domain, bare := v.Domain, bareDomain(v.Domain)
	_, notAddress := netip.ParseAddr(domain)
	switch {
	case domain == "":
	case notAddress == nil:
		v.add(path, domain, "an address has no names below it", example)
	case subdomainPattern.MatchString(domain) && len(domain) <= longest:
	case bare != domain && subdomainPattern.MatchString(bare):
		v.add(path, domain, reason, setCommand(path, false, bare))
	default:
		v.add(path, domain, reason, example)
	}
}

// bareDomain strips what is often written around a domain.
func bareDomain(domain string) string {
	bare := strings.ToLower(strings.TrimSpace(domain))
	if _, rest, found := strings.Cut(bare, "://"); found {
		bare = rest
	}
	bare, _, _ = strings.Cut(bare, "/")
	return strings.Trim(strings.TrimPrefix(bare, "*"), ".")
}

func (v *validator) hvac() {
	v.between("hvac.interval", v.HVAC.Interval, 10*time.Second, time.Hour)
	v.between("hvac.weatherInterval", v.HVAC.WeatherInterval, 10*time.Second, time.Hour)
	if device := string(v.HVAC.Device); device != "" && !devicePattern.MatchString(device) {
		v.add("hvac.device", device, "a device's number is 1 to 20 digits", "for example 127934703953")
	}
	v.location()
	v.channel("hvac.slackChannel", v.HVAC.SlackChannel)
}

func (v *validator) location() {
	const path, shortest, longest = "hvac.location", 6, 7
	location := v.HVAC.Location
	lower := strings.ToLower(location)
	switch {
	case location == "":
	case !geohashPattern.MatchString(location) && geohashPattern.MatchString(lower) && len(lower) >= shortest:
		v.add(path, location, "a geohash is lower-case", setCommand(path, false, lower[:min(len(lower), longest)]))
	case !geohashPattern.MatchString(location):
		v.add(path, location, "a geohash has only digits and the letters b to z without i, l and o", "for example r3fup88")
	case len(location) < shortest:
		v.add(path, location, "observations are known by geohashes of 6 or 7 characters", "give a more exact one, for example r3fup88")
	case len(location) > longest:
		v.add(path, location, "observations are known by geohashes of 6 or 7 characters", setCommand(path, false, location[:longest]))
	}
}

func (v *validator) channel(path, channel string) {
	const reason = "a Slack channel has 1 to 80 lower-case letters, digits, hyphens and underscores"
	bare := strings.ToLower(strings.TrimLeft(channel, "#"))
	switch {
	case channelPattern.MatchString(channel):
	case channel == "":
		v.say(path, missing, reason, setCommand(path, false, defaultOf(path)))
	case channelPattern.MatchString(bare):
		v.add(path, channel, reason, setCommand(path, false, bare))
	default:
		v.add(path, channel, reason, "for example "+defaultOf(path))
	}
}

func (v *validator) flux() {
	v.between("flux.interval", v.Flux.Interval, time.Minute, 24*time.Hour)
	v.between("flux.imageInterval", v.Flux.ImageInterval, time.Minute, 24*time.Hour)
	const path = "flux.version"
	const reason = "a Flux release has the form v2.9.4"
	switch version := v.Flux.Version; {
	case version == "" || releasePattern.MatchString(version):
	case releasePattern.MatchString("v" + version):
		v.add(path, version, reason, setCommand(path, false, "v"+version))
	default:
		v.add(path, version, reason, removeCommand(path))
	}
}

// between holds a duration against its bounds, both included.
func (v *validator) between(path string, span Duration, shortest, longest time.Duration) {
	if span.Duration >= shortest && span.Duration <= longest {
		return
	}
	shown := span.String()
	if v.hidden[topLevel(path)] {
		shown = secretValue
	}
	reason := fmt.Sprintf("it must be from %s to %s", Duration{shortest}, Duration{longest})
	v.say(path, shown, reason, setCommand(path, false, defaultOf(path)))
}

// toLabel makes a DNS label of a name, or nothing.
func toLabel(name string) string {
	label := notLabelPattern.ReplaceAllString(strings.ToLower(name), "-")
	return strings.Trim(label[:min(len(label), 63)], "-")
}
