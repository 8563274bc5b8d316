package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/internal/report"
	"github.com/nullify005/manager-cluster-state/rehearsal"
	"github.com/nullify005/manager-cluster-state/workloads"
)

func quiet(runs int) *bench {
	return &bench{runs: runs, out: io.Discard, log: slog.New(slog.DiscardHandler)}
}

func TestDocument_HasAPlaceForEachPart(t *testing.T) {
	document, err := os.ReadFile(filepath.Join("..", "..", "docs", "benchmarks.md"))
	require.NoError(t, err)
	for _, p := range parts() {
		_, err := report.Replace(string(document), "bench:"+p.name, "")
		require.NoError(t, err)
	}
}

func TestChoose_NamesTheOnesThereAre(t *testing.T) {
	all, err := choose(nil)
	require.NoError(t, err)
	assert.Len(t, all, len(parts()))
	some, err := choose([]string{"preview", "growth"})
	require.NoError(t, err)
	require.Len(t, some, 2)
	assert.Equal(t, "preview", some[0].name)
	_, err = choose([]string{"speed"})
	require.ErrorContains(t, err, "--only speed: there is no such part")
	require.ErrorContains(t, err, "bring-up")
}

func TestCommand_WritesNoTableOfFewRuns(t *testing.T) {
	for _, args := range [][]string{{"--runs", "4"}, {"--runs", "4", "--only", "preview", "--write"}} {
		c := command(quiet(0))
		c.SetArgs(args)
		require.ErrorContains(t, c.Execute(), "--runs is 4: a table in the document is of 5 at least")
	}
}

func TestTell_APartialRunLeavesTheDocumentAlone(t *testing.T) {
	b := quiet(1)
	b.document = filepath.Join(t.TempDir(), "page.md")
	const before = "<!-- bench:a -->\nold\n<!-- /bench:a -->\n"
	require.NoError(t, os.WriteFile(b.document, []byte(before), 0o600))
	require.NoError(t, b.tell("a", "new", false))
	content, err := os.ReadFile(b.document)
	require.NoError(t, err)
	assert.Equal(t, before, string(content))
	require.NoError(t, b.tell("a", "new", true))
	content, err = os.ReadFile(b.document)
	require.NoError(t, err)
	assert.Contains(t, string(content), "new\n")
	assert.Contains(t, string(content), report.Machine())
	assert.NotContains(t, string(content), "old")
}

func TestInTurn_MeasuresTheWaysOneAfterTheOther(t *testing.T) {
	var did []string
	note := func(what string) func(context.Context) error {
		return func(context.Context) error {
			did = append(did, what)
			return nil
		}
	}
	all, err := quiet(2).inTurn(t.Context(), way{name: "a", before: note("ready"), run: note("a"), after: note("read")}, way{name: "b", run: note("b")})
	require.NoError(t, err)
	assert.Equal(t, []string{"ready", "a", "read", "b", "ready", "a", "read", "b"}, did)
	require.Len(t, all, 2)
	assert.Equal(t, "b", all[1].name)
	assert.Len(t, all[0].values, 2)
	assert.Len(t, all[1].values, 2)
}

func TestInTurn_EndsWithTheFirstFailure(t *testing.T) {
	broken := errors.New("broken")
	fails := func(context.Context) error { return broken }
	works := func(context.Context) error { return nil }
	for _, w := range []way{{name: "w", before: fails, run: works}, {name: "w", run: fails}, {name: "w", run: works, after: fails}} {
		all, err := quiet(2).inTurn(t.Context(), w)
		require.ErrorIs(t, err, broken)
		assert.Empty(t, all, "half a measurement is none")
	}
}

func TestCompared_TellsMedianSpreadAndRatioOfPairs(t *testing.T) {
	ours := figures{name: "ours", values: []time.Duration{3 * time.Second, 8 * time.Second, 2 * time.Second}}
	theirs := figures{name: "theirs", values: []time.Duration{2 * time.Second, 2 * time.Second, 4 * time.Second}}
	assert.Equal(t, []float64{1.5, 4, 0.5}, ours.to(&theirs))
	assert.Equal(t, `|  | median | min – max | runs | to theirs |
| --- | --- | --- | --- | --- |
| ours | 3.00 s | 2.00 s – 8.00 s | 3 | 1.50 (0.50 – 4.00) |
| theirs | 2.00 s | 2.00 s – 4.00 s | 3 | 1 |
`, compared([]figures{ours, theirs}))
}

func TestVerdict_IsOfTheMedian(t *testing.T) {
	assert.Equal(t, "Goal: quick. Met: 1.00.\n", verdict("quick", []float64{0.5, 1, 9}, 1))
	assert.Equal(t, "Goal: quick. Not met: 1.10.\n", verdict("quick", []float64{0.5, 1.1, 9}, 1))
}

func TestGrownTable_TellsWhatAWorkloadCostsBeyondAStackWithout(t *testing.T) {
	run := func(size int) *grown {
		took := []time.Duration{time.Second + time.Duration(size)*10*time.Millisecond}
		memory := []map[string]int64{{"engine": mib, "plugin": 2 * mib, "program": mib + int64(size)*1024, "language host": 99 * mib}}
		return &grown{up: took, noOp: took, preview: took, memory: memory}
	}
	table := grownTable(map[int]*grown{0: run(0), 10: run(10), 1000: run(1000)})
	assert.Contains(t, table, "| 0 | 1.00 s (1.00 s – 1.00 s) |  |")
	assert.Contains(t, table, "| 10 | 1.10 s (1.10 s – 1.10 s) | 10.0 (10.0 – 10.0) ms |")
	assert.Contains(t, table, "| 1000 | 11.00 s (11.00 s – 11.00 s) | 10.0 (10.0 – 10.0) ms |")
	assert.Contains(t, table, "| 1, 2, 2 MiB | 1 (1 – 1) KiB | 1 |")
}

func TestFlatness_ComparesTheMostWithTheFewestThatStandOut(t *testing.T) {
	run := func(size int, up, noOp, preview float64, memory int64) *grown {
		each := func(ms float64) []time.Duration {
			took := time.Duration(ms * float64(size) * float64(time.Millisecond))
			return []time.Duration{time.Second + took, time.Second + took}
		}
		one := map[string]int64{"engine": mib + int64(size)*memory*1024, "plugin": mib, "program": mib}
		return &grown{up: each(up), noOp: each(noOp), preview: each(preview), memory: []map[string]int64{one, one}}
	}
	all := map[int]*grown{0: run(0, 0, 0, 0, 0), 10: run(10, 100, -1, -1, 50), 100: run(100, 100, 10, -1, 40), 1000: run(1000, 130, 12, 9, 10)}
	assert.Equal(t, `Goal: a workload's `+"`up`"+` at most 1.2 times as dear at 1000 as at 10. Not met: 1.30.

Goal: a workload's no-op `+"`up`"+` at most 1.2 times as dear at 1000 as at 100. Met: 1.20.

Goal: a workload's preview flat within 20 %. Not told: runs differ by more than workloads take.

Goal: a workload's memory at most 1.2 times as dear at 1000 as at 10. Met: 0.20.

`, flatness(all))
}

func meta(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name}
}

func small(name string, after ...string) workloads.Workload {
	return workloads.Workload{Name: name, Namespace: name, After: after, Objects: []client.Object{
		&appsv1.Deployment{TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"}, ObjectMeta: meta(name, name)},
		&apiextensionsv1.CustomResourceDefinition{
			TypeMeta: metav1.TypeMeta{APIVersion: "apiextensions.k8s.io/v1", Kind: "CustomResourceDefinition"}, ObjectMeta: meta("", name),
		},
		&corev1.Namespace{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}, ObjectMeta: meta("", name)},
	}}
}

func names(items []*unstructured.Unstructured) []string {
	var found []string
	for _, item := range items {
		found = append(found, item.GetKind()+" "+item.GetName())
	}
	return found
}

func TestInSteps_AreAsFewAsTheOrderAllows(t *testing.T) {
	steps, err := inSteps([]workloads.Workload{small("a"), small("b", "a"), small("c"), small("d", "b", "c")})
	require.NoError(t, err)
	require.Len(t, steps, 3)
	assert.Equal(t, []string{
		"Namespace a", "Namespace c", "CustomResourceDefinition a", "CustomResourceDefinition c", "Deployment a", "Deployment c",
	}, names(steps[0].objects))
	assert.Equal(t, []string{"Deployment a", "Deployment c"}, names(steps[0].before))
	assert.Equal(t, []string{"Deployment b"}, names(steps[1].before))
	assert.Empty(t, steps[2].before)
	assert.Equal(t, []string{"Deployment d"}, names(steps[2].others), "waited for at the end")
	assert.Equal(t, []string{"CustomResourceDefinition a", "CustomResourceDefinition c"}, names(steps[0].definitions))
	_, err = inSteps([]workloads.Workload{small("b", "a"), small("a")})
	require.ErrorContains(t, err, "workload b comes after a")
}

func TestPlan_WaitsForWhatIsNeededThenForTheRest(t *testing.T) {
	r, err := rehearsal.New(rehearsal.Options{Project: filepath.Join("..", ".."), Stack: development, Folder: filepath.Join(t.TempDir(), "r")})
	require.NoError(t, err)
	steps, err := inSteps([]workloads.Workload{small("a"), small("b", "a"), small("c")})
	require.NoError(t, err)
	k := &kubectl{r: r}
	require.NoError(t, k.plan(steps))
	var said []string
	for _, c := range k.calls {
		said = append(said, fmt.Sprint(c[0], " ", c[1]))
		assert.FileExists(t, c[len(c)-1])
	}
	assert.Equal(t, []string{
		"apply --server-side", "wait --for=condition=Established", "wait --for=condition=Available", "apply --server-side", "wait --for=condition=Available",
	}, said)
	all, err := os.ReadFile(k.all)
	require.NoError(t, err)
	for _, want := range []string{`"name":"a"`, `"name":"b"`, `"name":"c"`} {
		assert.Contains(t, string(all), want)
	}
}

func TestHasRolled_OnlyWhenNoPodIsOfTheValueBefore(t *testing.T) {
	d := &appsv1.Deployment{}
	d.Generation, d.Status.ObservedGeneration = 2, 2
	d.Spec.Template.Spec.Containers = []corev1.Container{{Args: []string{"watch", "--interval", "3m"}}}
	d.Status.Replicas, d.Status.UpdatedReplicas, d.Status.AvailableReplicas = 1, 1, 1
	assert.True(t, hasRolled(d, "3m"))
	assert.False(t, hasRolled(d, "4m"))
	d.Status.Replicas = 2
	assert.False(t, hasRolled(d, "3m"), "the pod before is still there")
	d.Status.Replicas, d.Status.ObservedGeneration = 1, 1
	assert.False(t, hasRolled(d, "3m"), "the status is of what was before")
}

func TestMachines_AreAValidCluster(t *testing.T) {
	for _, count := range nodeCounts() {
		r, err := rehearsal.New(rehearsal.Options{
			Project: filepath.Join("..", ".."), Stack: development, Folder: filepath.Join(t.TempDir(), "r"),
			Overrides: map[string]any{"cluster.nodes": machines(count), "sealing.keys": []any{}},
		})
		require.NoError(t, err)
		cfg, err := r.Rehearsed()
		require.NoError(t, err)
		assert.Len(t, cfg.Cluster.Nodes, count)
		assert.Empty(t, cfg.Sealing.Keys)
	}
}

func TestProgramOf_TellsTheProcessesApart(t *testing.T) {
	for name, want := range map[string]string{
		"pulumi": "engine", "pulumi-resource-kubernetes": "plugin", "pulumi-language-go": "language host", "pulumi-go.123": "program",
	} {
		assert.Equal(t, want, programOf(name))
	}
}
