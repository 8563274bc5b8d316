// Package graph draws the graph of workloads as a Mermaid picture, which GitHub shows where it
// stands in a Markdown file. It is a pure function of catalogs: no file, no cluster.
package graph

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/workloads"
)

// View is a catalog, and the configuration that it was made from.
type View struct {
	Config  *config.Config
	Catalog []workloads.Workload
}

// Every is all that a stack can be: a configuration for either delivery with either
// observability, with each secret that a workload is there for, and with a sealing key.
func Every(cfg *config.Config) []*config.Config {
	var every []*config.Config
	for _, delivery := range []config.Delivery{config.Direct, config.FluxCD} {
		for _, observability := range []config.Observability{config.Local, config.Cloud} {
			one := *cfg
			one.Delivery, one.Observability = delivery, observability
			one.Flux.Notifications, one.Flux.ImageAutomation = true, true
			one.Secrets.Notifications.SlackWebhook = config.Encrypted
			one.Secrets.Intesis = config.Intesis{Username: config.Encrypted, Password: config.Encrypted}
			one.Secrets.Slack = config.Slack{AppToken: config.Encrypted, BotToken: config.Encrypted}
			one.Secrets.SNMP.Community = config.Encrypted
			one.Secrets.Grafana = config.GrafanaAdmin{Username: config.Encrypted, Password: config.Encrypted}
			one.Secrets.Cloud.Token = config.Encrypted
			one.Sealing.Keys = []config.SealingKey{{PrivateKey: config.Encrypted}}
			every = append(every, &one)
		}
	}
	return every
}

// What is no workload, and what the frames are called: no name of a workload has an underscore.
const (
	clusterBox     = "the_cluster"
	sealingKeysBox = "sealing_keys"
	deployKeyBox   = "deploy_key"
	pulledFrame    = "pulled_by_flux"
	sealedFrame    = "with_secrets"
)

// Mermaid draws what any of the views has. An arrow is a wait; it is dashed where no view with
// direct delivery has it, and there is one. An arrow at a frame is one at each box in it.
func Mermaid(views ...View) string {
	p := picture{views: views, direct: map[edge]bool{}}
	for _, view := range views {
		p.read(view)
	}
	p.gather(pulledFrame, p.pulled)
	p.gather(sealedFrame, p.sealed)
	return "graph LR\n" + p.boxes() + p.arrows()
}

type edge struct{ from, to string }

type picture struct {
	views                 []View
	names, pulled, sealed []string // workloads, each in the order of the catalogs
	edges                 []edge
	direct                map[edge]bool // those that a view with direct delivery has
}

// read finds the boxes and arrows of a view. What the sealing keys and the deploy key come before
// is main.go's to say.
func (p *picture) read(view View) {
	pulls := view.Config.Delivery == config.FluxCD
	if pulls || len(view.Config.Sealing.Keys) > 0 {
		p.wait(view, clusterBox, sealingKeysBox)
		p.wait(view, sealingKeysBox, workloads.SealedSecretsWorkload)
	}
	if pulls && view.Config.Git.API() != "" {
		p.wait(view, deployKeyBox, workloads.SourceWorkload)
	}
	for _, workload := range view.Catalog {
		p.names = add(p.names, workload.Name)
		if pulls && !workload.Direct {
			p.pulled = add(p.pulled, workload.Name)
			if slices.Contains(workload.After, workloads.SealedSecretsWorkload) {
				p.sealed = add(p.sealed, workload.Name)
			}
		}
		if len(workload.After) == 0 {
			p.wait(view, clusterBox, workload.Name)
		}
		for _, before := range workload.After {
			p.wait(view, before, workload.Name)
		}
	}
}

func (p *picture) wait(view View, from, to string) {
	p.edges = add(p.edges, edge{from, to})
	if view.Config.Delivery == config.Direct {
		p.direct[edge{from, to}] = true
	}
}

func add[T comparable](list []T, one T) []T {
	if slices.Contains(list, one) {
		return list
	}
	return append(list, one)
}

// gather puts one arrow at a frame in place of the arrows at its boxes, where each has one of the
// same kind. The cluster needs no more than one of them, since what has none waits for it anyway.
func (p *picture) gather(frame string, members []string) {
	for _, from := range append([]string{clusterBox}, p.names...) {
		var all []edge
		for _, e := range p.edges {
			if e.from == from && slices.Contains(members, e.to) {
				all = append(all, e)
			}
		}
		each := len(all) == len(members) && !slices.Contains(members, from) || from == clusterBox
		if len(all) == 0 || len(members) < 2 || !each || slices.ContainsFunc(all, func(e edge) bool { return p.direct[e] != p.direct[all[0]] }) {
			continue
		}
		first := slices.Index(p.edges, all[0])
		p.edges[first] = edge{from, frame}
		p.direct[p.edges[first]] = p.direct[all[0]]
		p.edges = slices.DeleteFunc(p.edges, func(e edge) bool { return slices.Contains(all, e) })
	}
}

func (p *picture) boxes() string {
	var out strings.Builder
	box := func(indent, name string) { fmt.Fprintf(&out, "%s%s[\"%s\"]\n", indent, name, p.label(name)) }
	for _, name := range []string{clusterBox, sealingKeysBox, deployKeyBox} {
		if slices.ContainsFunc(p.edges, func(e edge) bool { return e.from == name }) {
			box("  ", name)
		}
	}
	for _, name := range p.names {
		if !slices.Contains(p.pulled, name) {
			box("  ", name)
		}
	}
	if len(p.pulled) == 0 {
		return out.String()
	}
	fmt.Fprintf(&out, "  subgraph %s[\"%s\"]\n", pulledFrame, p.label(pulledFrame))
	for _, name := range p.pulled {
		if !slices.Contains(p.sealed, name) {
			box("    ", name)
		}
	}
	if len(p.sealed) > 0 {
		fmt.Fprintf(&out, "    subgraph %s[\"%s\"]\n", sealedFrame, p.label(sealedFrame))
		for _, name := range p.sealed {
			box("      ", name)
		}
		out.WriteString("    end\n")
	}
	out.WriteString("  end\n")
	return out.String()
}

func (p *picture) label(name string) string {
	switch name {
	case clusterBox:
		var kinds []string
		for _, view := range p.views {
			kinds = add(kinds, string(view.Config.Cluster.Kind))
		}
		return "cluster: " + strings.Join(kinds, " or ")
	case sealingKeysBox:
		return "sealing keys"
	case deployKeyBox:
		return "deploy key at GitHub"
	case pulledFrame:
		return "pulled by Flux, with delivery: flux"
	case sealedFrame:
		return "with secrets, sealed in Git"
	}
	where := map[config.Observability]bool{}
	for _, view := range p.views {
		has := slices.ContainsFunc(view.Catalog, func(workload workloads.Workload) bool { return workload.Name == name })
		where[view.Config.Observability] = where[view.Config.Observability] || has
	}
	for _, observability := range []config.Observability{config.Local, config.Cloud} {
		if has, asked := where[observability]; asked && !has {
			return name + "<br>observability: " + string(other(observability))
		}
	}
	return name
}

func other(observability config.Observability) config.Observability {
	if observability == config.Local {
		return config.Cloud
	}
	return config.Local
}

func (p *picture) arrows() string {
	direct := slices.ContainsFunc(p.views, func(view View) bool { return view.Config.Delivery == config.Direct })
	var out strings.Builder
	for _, e := range p.edges {
		line := "-->"
		if direct && !p.direct[e] {
			line = "-.->"
		}
		fmt.Fprintf(&out, "  %s %s %s\n", e.from, line, e.to)
	}
	return out.String()
}
