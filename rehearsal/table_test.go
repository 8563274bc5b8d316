package rehearsal

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nullify005/manager-cluster-state/internal/flux"
)

func TestBuildWorkloads_JoinsTheStateWithTheCluster(t *testing.T) {
	start := time.Unix(1000, 0)
	up := objectID{"Deployment", "a", "up"}
	down := objectID{"Deployment", "a", "down"}
	gone := objectID{"Deployment", "b", "gone"}
	stray := objectID{"Deployment", "c", "stray"}
	state := &stackState{workloads: []workload{
		{name: "one", created: start, objects: []objectID{up}},
		{name: "two", created: start, objects: []objectID{down, gone}},
		{name: "crds", created: start},
	}}
	got := buildWorkloads(state, []readiness{
		{object: up, ready: true, since: start.Add(4 * time.Second)},
		{object: down, reason: "Unschedulable: no room"},
		{object: stray, reason: "no idea"},
	})
	require.Len(t, got, 4)
	assert.Equal(t, WorkloadState{Name: "one", Ready: 1, Total: 1, Took: 4 * time.Second}, got[0])
	assert.Equal(t, WorkloadState{Name: "two", Total: 2, Reasons: []string{
		"Deployment a/down: Unschedulable: no room",
		"Deployment b/gone is in Pulumi's state but not in the cluster",
	}}, got[1])
	assert.Equal(t, WorkloadState{Name: "crds"}, got[2])
	assert.Equal(t, []string{"Deployment c/stray: no idea"}, got[3].Reasons, "what the state lacks is told too")
}

func TestRender_IsForPeople(t *testing.T) {
	report := &Report{
		Workloads: []WorkloadState{
			{Name: "flux-system", Ready: 6, Total: 6, Took: 12 * time.Second},
			{Name: "namespaces"},
			{Name: "service-intesis", Total: 1, Reasons: []string{"Deployment n/x: Unschedulable: no room"}},
		},
		Controllers: []ControllerState{
			{Name: "helm-controller", PID: 4711, Healthy: true},
			{Name: "source-controller", Problem: "ended; the end of the log:\npanic"},
		},
		Flux: []flux.State{
			{
				Ref: flux.GitRepository("flux-system", "source"), Ready: flux.True, Since: time.Now().Add(-25 * time.Hour),
				Revision: "main@sha1:1f99694cec60f383d0228a941a518a832e0c75c0", Message: "Succeeded: stored artifact",
			},
			{
				Ref: flux.Kustomization("flux-system", "chat-hvac"), Ready: flux.False, Since: time.Now().Add(-30 * time.Minute),
				Message: "BuildFailed: no such file",
			},
			{Ref: flux.Kustomization("flux-system", "off"), Ready: flux.Suspended, Since: time.Now().Add(-30 * time.Minute)},
		},
		URLs:       []string{"http://a.local"},
		Kubeconfig: "/some one/kubeconfig",
	}
	var out strings.Builder
	require.NoError(t, report.Render(&out))
	assert.Equal(t, `WORKLOAD            READY     TOOK
flux-system         6/6       12s
namespaces          -         -
service-intesis     0/1       -

CONTROLLER          HEALTHY   PROCESS
helm-controller     yes       4711
source-controller   no        -

FLUX            NAME                    READY       REVISION             AGE   MESSAGE
GitRepository   flux-system/source      True        main@sha1:1f99694c   25h   Succeeded: stored artifact
Kustomization   flux-system/chat-hvac   False       -                    30m   BuildFailed: no such file
Kustomization   flux-system/off         Suspended   -                    30m   -

Not ready:
  service-intesis: Deployment n/x: Unschedulable: no room
  Kustomization flux-system/chat-hvac (false): BuildFailed: no such file
  source-controller ended; the end of the log:
    panic

URLs of the real cluster:
  http://a.local

export KUBECONFIG='/some one/kubeconfig'
`, out.String())
	assert.False(t, report.OK())
}

func TestReport_IsOKOnlyWhenAllIsReady(t *testing.T) {
	good := func() *Report {
		return &Report{
			Workloads:   []WorkloadState{{Ready: 1, Total: 1}, {}},
			Controllers: []ControllerState{{Healthy: true}},
			Nodes:       []NodeState{{Ready: true}},
			Flux:        []flux.State{{Ready: flux.True}, {Ready: flux.Suspended}},
		}
	}
	assert.True(t, good().OK())
	for name, spoil := range map[string]func(*Report){
		"workload":      func(r *Report) { r.Workloads[0].Ready = 0 },
		"stray":         func(r *Report) { r.Workloads[1].Reasons = []string{"x"} },
		"controller":    func(r *Report) { r.Controllers[0].Healthy = false },
		"kustomization": func(r *Report) { r.Flux[0].Ready = flux.False },
		"release":       func(r *Report) { r.Flux[0].Ready = flux.Stalled },
		"node":          func(r *Report) { r.Nodes[0].Ready = false },
		"update":        func(r *Report) { r.Incomplete = true },
		"control plane": func(r *Report) { r.Missing = []string{"etcd"} },
	} {
		report := good()
		spoil(report)
		assert.False(t, report.OK(), name)
		assert.NotEmpty(t, name)
	}
}
