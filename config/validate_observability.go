package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// snmp judges the devices, each by itself and then all together.
func (v *validator) snmp() {
	names, targets := map[string]int{}, map[string]int{}
	for i, device := range v.SNMP.Devices {
		path := fmt.Sprintf("snmp.devices[%d]", i)
		v.label(path+".name", device.Name)
		if slices.Contains([]string{"snmp", "endpoints", "pods", "cadvisor"}, device.Name) {
			v.add(path+".name", device.Name, "it would be the job label of its metrics, and a job has that name already", "give it another")
		}
		v.address(path+".address", device.Address)
		if first, taken := names[device.Name]; taken && device.Name != "" {
			v.add(path+".name", device.Name, fmt.Sprintf("snmp.devices[%d] has that name too", first), "give each device a name of its own")
		}
		target := device.Address + " " + device.Module
		if first, taken := targets[target]; taken && device.Address != "" && device.Module != "" {
			v.add(path+".address", device.Address, fmt.Sprintf("snmp.devices[%d] asks it for the same module", first), "remove one of the two")
		}
		names[device.Name], targets[target] = i, i
	}
}

// address: a device is reached through a NetworkPolicy, which takes no names.
func (v *validator) address(path, text string) {
	address, err := netip.ParseAddr(text)
	switch {
	case text == "":
	case err != nil || !address.Is4():
		v.add(path, text, "it must be an IPv4 address, without a port", "for example 192.168.0.1")
	case !address.IsPrivate() && !address.IsLinkLocalUnicast():
		v.add(path, text, "SNMP version 2c sends its community in the clear, so it stays in the house: it must be a private address",
			"for example 192.168.0.1")
	}
}

// cloud: the endpoints may stand in the file while observability is local, so that the pivot
// is one key; what stands there must be right.
func (v *validator) cloud() {
	v.endpoint("cloud.metrics", v.Cloud.Metrics, "https://prometheus.example.net/api/prom/push")
	v.endpoint("cloud.logs", v.Cloud.Logs, "https://logs.example.net/loki/api/v1/push")
}

func (v *validator) endpoint(path string, endpoint Endpoint, example string) {
	needed := v.Observability == Cloud
	switch target, err := url.Parse(endpoint.URL); {
	case endpoint.URL == "" && needed:
		v.say(path+".url", missing, "observability: cloud pushes to it", setCommand(path+".url", false, example))
	case endpoint.URL == "":
	case strings.Contains(endpoint.URL, "@"):
		// What stands before it may be a token: it is not shown.
		v.say(path+".url", secretValue, "it holds a user name or a password", "give them as "+path+".username and secrets.cloud.token")
	case err != nil || target.Host == "" || strings.TrimSpace(endpoint.URL) != endpoint.URL:
		v.add(path+".url", endpoint.URL, "it is no URL", "for example "+example)
	case target.Scheme != "https":
		v.add(path+".url", endpoint.URL, "a token goes there, so it must begin with https://", "for example "+example)
	case target.Path == "" || target.Path == "/" || target.RawQuery != "" || target.Fragment != "":
		v.add(path+".url", endpoint.URL, "it must have the path that takes pushes, and nothing after it", "for example "+example)
	case !validPort(target.Port()):
		v.add(path+".url", endpoint.URL, "a port is a number from 1 to 65535", "for example "+example)
	}
	switch name := string(endpoint.Username); {
	case name == "" && needed:
		v.say(path+".username", missing, "observability: cloud logs in with it", setCommand(path+".username", false, ""))
	case strings.TrimSpace(name) != name || strings.ContainsAny(name, "\r\n"):
		v.add(path+".username", name, "it holds a line break, or white space at an end", setCommand(path+".username", false, ""))
	}
}

// validPort says whether the port of a URL is one, or there is none.
func validPort(text string) bool {
	port, err := strconv.ParseUint(text, 10, 16)
	return text == "" || err == nil && port > 0
}
