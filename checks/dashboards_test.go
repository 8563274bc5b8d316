package checks_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/util/teststorage"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

const (
	grafanaFiles = "../workloads/files/grafana"
	samples      = "testdata/metrics"

	datasourceUID   = "prometheus"
	dashboardsMount = "/var/lib/grafana/dashboards"
	// schemaVersion is the last one of the form that Grafana 12 has its dashboards in.
	schemaVersion = 42
)

// Sample scrapes are written for an hour up to now, as often as Prometheus scrapes.
var (
	now      = time.Date(2026, 1, 15, 12, 0, 0, 0, time.UTC)
	recorded = time.Hour
)

// dashboard has those fields of a dashboard that are judged here.
type dashboard struct {
	UID           string `json:"uid"`
	Title         string `json:"title"`
	Description   string `json:"description"`
	SchemaVersion int    `json:"schemaVersion"`
	Refresh       string `json:"refresh"`
	Time          struct {
		From string `json:"from"`
		To   string `json:"to"`
	} `json:"time"`
	Templating struct {
		List []variable `json:"list"`
	} `json:"templating"`
	Panels []panel `json:"panels"`
}

type variable struct {
	Name       string `json:"name"`
	Definition string `json:"definition"`
	Query      struct {
		Query string `json:"query"`
	} `json:"query"`
}

type panel struct {
	ID          int      `json:"id"`
	Type        string   `json:"type"`
	Title       string   `json:"title"`
	Description string   `json:"description"`
	Interval    string   `json:"interval"`
	GridPos     gridPos  `json:"gridPos"`
	Targets     []target `json:"targets"`
	Panels      []panel  `json:"panels"`
	FieldConfig struct {
		Defaults struct {
			Unit string `json:"unit"`
		} `json:"defaults"`
		Overrides []struct {
			Matcher struct {
				ID      string `json:"id"`
				Options string `json:"options"`
			} `json:"matcher"`
		} `json:"overrides"`
	} `json:"fieldConfig"`
}

type gridPos struct {
	X int `json:"x"`
	Y int `json:"y"`
	W int `json:"w"`
	H int `json:"h"`
}

func (g gridPos) overlaps(o gridPos) bool {
	return g.X < o.X+o.W && o.X < g.X+g.W && g.Y < o.Y+o.H && o.Y < g.Y+g.H
}

type target struct {
	RefID        string `json:"refId"`
	Expr         string `json:"expr"`
	LegendFormat string `json:"legendFormat"`
	Instant      bool   `json:"instant"`
	Range        bool   `json:"range"`
}

// dashboards are those of the files, by their names without .json.
func dashboards(t *testing.T) map[string]dashboard {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(grafanaFiles, "dashboards", "*.json"))
	require.NoError(t, err)
	all := map[string]dashboard{}
	for _, file := range files {
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		var d dashboard
		require.NoError(t, json.Unmarshal(content, &d), file)
		all[strings.TrimSuffix(filepath.Base(file), ".json")] = d
	}
	require.ElementsMatch(t, []string{"hvac", "edge-router", "vdsl", "cluster"}, slices.Collect(maps.Keys(all)))
	return all
}

func TestDashboards_AreWellFormed(t *testing.T) {
	for name, d := range dashboards(t) {
		t.Run(name, func(t *testing.T) {
			content, err := os.ReadFile(filepath.Join(grafanaFiles, "dashboards", name+".json"))
			require.NoError(t, err)
			require.NoError(t, uniqueKeys(json.NewDecoder(bytes.NewReader(content)), "$"))
			var indented bytes.Buffer
			require.NoError(t, json.Indent(&indented, bytes.TrimSpace(content), "", "  "))
			assert.Equal(t, indented.String()+"\n", string(content), "format: two spaces, a line break at the end")

			var fields map[string]any
			require.NoError(t, json.Unmarshal(content, &fields))
			id, present := fields["id"]
			assert.True(t, present && id == nil, "id is %v: Grafana numbers dashboards itself, so it is null here", id)
			for _, p := range datasources(fields, "$") {
				t.Errorf("%s: a datasource is named by type prometheus and uid %s, and by nothing else", p, datasourceUID)
			}

			assert.Equal(t, name, d.UID, "uid")
			assert.NotEmpty(t, d.Title)
			assert.NotEmpty(t, d.Description)
			assert.Equal(t, schemaVersion, d.SchemaVersion)
			assert.Equal(t, "now-24h", d.Time.From)
			assert.Equal(t, "now", d.Time.To)
			assert.Equal(t, loadPrometheus(t).GlobalConfig.ScrapeInterval.String(), d.Refresh, "refresh: as often as there is anything new")
		})
	}
}

// uniqueKeys reads one JSON value and reports a key that its object has twice, which
// encoding/json lets pass.
func uniqueKeys(decoder *json.Decoder, at string) error {
	token, err := decoder.Token()
	if err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	switch token {
	case json.Delim('{'):
		seen := map[string]bool{}
		for decoder.More() {
			key, err := decoder.Token()
			if err != nil {
				return fmt.Errorf("%s: %w", at, err)
			}
			name := fmt.Sprint(key)
			if seen[name] {
				return fmt.Errorf("%s has %s twice", at, name)
			}
			seen[name] = true
			if err := uniqueKeys(decoder, at+"."+name); err != nil {
				return err
			}
		}
	case json.Delim('['):
		for i := 0; decoder.More(); i++ {
			if err := uniqueKeys(decoder, fmt.Sprintf("%s[%d]", at, i)); err != nil {
				return err
			}
		}
	default:
		return nil
	}
	_, err = decoder.Token()
	return err
}

// datasources are the places that name a datasource in any other way than by the one uid.
func datasources(value any, at string) []string {
	var wrong []string
	switch v := value.(type) {
	case map[string]any:
		for key, field := range v {
			if key == "datasource" && !assert.ObjectsAreEqual(map[string]any{"type": "prometheus", "uid": datasourceUID}, field) {
				wrong = append(wrong, at+".datasource")
			}
			wrong = append(wrong, datasources(field, at+"."+key)...)
		}
	case []any:
		for i, element := range v {
			wrong = append(wrong, datasources(element, fmt.Sprintf("%s[%d]", at, i))...)
		}
	}
	return wrong
}

func TestDashboards_PanelsAreCompleteAndDoNotOverlap(t *testing.T) {
	for name, d := range dashboards(t) {
		t.Run(name, func(t *testing.T) {
			ids, titles := map[int]bool{}, map[string]bool{}
			for i, p := range d.Panels {
				label := fmt.Sprintf("panel %d, %s", p.ID, p.Title)
				assert.NotZero(t, p.ID, label)
				assert.False(t, ids[p.ID], "%s: the id is another panel's", label)
				assert.NotEmpty(t, p.Title, label)
				assert.False(t, titles[p.Title], "%s: the title is another panel's", label)
				ids[p.ID], titles[p.Title] = true, true

				g := p.GridPos
				assert.True(t, g.X >= 0 && g.Y >= 0 && g.W > 0 && g.H > 0 && g.X+g.W <= 24, "%s: %+v is not within 24 columns", label, g)
				for _, other := range d.Panels[:i] {
					assert.False(t, g.overlaps(other.GridPos), "%s lies over panel %d, %s", label, other.ID, other.Title)
				}
				if p.Type == "row" {
					assert.Empty(t, p.Panels, "%s: panels of a row stand beside it, or nothing here judges them", label)
					continue
				}
				assert.NotEmpty(t, p.Description, label)
				assert.NotEmpty(t, p.FieldConfig.Defaults.Unit, "%s: unit", label)
				assert.NotEmpty(t, p.Targets, "%s: queries", label)
				for _, q := range p.Targets {
					assert.NotEqual(t, q.Instant, q.Range, "%s, query %s is either instant or over a range", label, q.RefID)
				}
			}
		})
	}
}

// recording is what Prometheus has after scraping the samples for a while.
type recording struct {
	storage *teststorage.TestStorage
	engine  *promql.Engine
	parser  parser.Parser
	step    time.Duration
	// exported has every metric that anything exports, and kept those that relabelling leaves.
	exported, kept map[string]bool
	// ruled has those kept by the jobs that have rules of what to keep.
	ruled map[string]map[string]bool
}

// record scrapes the samples: from the targets that Prometheus finds in the sample cluster, under
// the labels that it gives them, less what its rules drop.
func record(t *testing.T) *recording {
	t.Helper()
	cfg := loadPrometheus(t)
	groups := discover(t, cfg, newCluster(t))
	promQL := parser.NewParser(parser.Options{})
	r := &recording{
		storage: teststorage.New(t), parser: promQL, step: time.Duration(cfg.GlobalConfig.ScrapeInterval),
		engine: promql.NewEngine(promql.EngineOpts{
			MaxSamples: 1e6, Timeout: time.Minute, EnableAtModifier: true, EnableNegativeOffset: true, Parser: promQL,
		}),
		exported: map[string]bool{}, kept: map[string]bool{}, ruled: map[string]map[string]bool{},
	}
	unused := map[string]bool{}
	for _, file := range glob(t, filepath.Join(samples, "*.prom")) {
		unused[strings.TrimSuffix(filepath.Base(file), ".prom")] = true
	}
	for name, job := range scrapeConfigs(t, cfg) {
		for _, target := range targets(t, job, groups[name]) {
			sample := sampleOf(target)
			delete(unused, sample)
			r.scrape(t, job, target, filepath.Join(samples, sample+".prom"))
		}
	}
	assert.Empty(t, unused, "samples that no target has")
	return r
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	require.NoError(t, err)
	return files
}

// sampleOf names the sample that a target answers with: that of its app, or else of its job.
func sampleOf(target *scrape.Target) string {
	set := target.Labels(labels.NewBuilder(labels.EmptyLabels()))
	if app := set.Get("app"); app != "" {
		return app
	}
	return set.Get(model.JobLabel)
}

// series is one line of an exposition.
type series struct {
	labels labels.Labels
	value  float64
	// growth is what a counter gains from one scrape to the next.
	growth float64
}

func (r *recording) scrape(t *testing.T, job *config.ScrapeConfig, target *scrape.Target, sample string) {
	t.Helper()
	content, err := os.ReadFile(sample)
	answers := err == nil
	if !answers {
		require.ErrorIs(t, err, fs.ErrNotExist)
	}
	found := parse(t, sample, content)
	var kept []series
	seen := map[string]bool{}
	for _, s := range found {
		r.exported[s.labels.Get(model.MetricNameLabel)] = true
		s.labels = relabelled(s.labels, target, job.MetricRelabelConfigs)
		if s.labels.IsEmpty() {
			continue
		}
		name := s.labels.Get(model.MetricNameLabel)
		r.kept[name] = true
		if len(job.MetricRelabelConfigs) > 0 {
			if r.ruled[job.JobName] == nil {
				r.ruled[job.JobName] = map[string]bool{}
			}
			r.ruled[job.JobName][name] = true
		}
		require.False(t, seen[s.labels.String()], "%s: relabelling makes %s of two series", sample, s.labels)
		seen[s.labels.String()] = true
		kept = append(kept, s)
	}
	// What Prometheus adds to each scrape.
	for name, value := range map[string]float64{
		"up": map[bool]float64{true: 1}[answers], "scrape_duration_seconds": 0.5, "scrape_samples_scraped": float64(len(found)),
		"scrape_samples_post_metric_relabeling": float64(len(kept)), "scrape_series_added": 0,
	} {
		r.exported[name], r.kept[name] = true, true
		kept = append(kept, series{labels: relabelled(labels.FromStrings(model.MetricNameLabel, name), target, nil), value: value})
	}

	appender := r.storage.Appender(t.Context())
	for i := range int(recorded/r.step) + 1 {
		at := now.Add(-recorded + time.Duration(i)*r.step)
		for _, s := range kept {
			_, err := appender.Append(0, s.labels, at.UnixMilli(), s.value+float64(i)*s.growth)
			require.NoError(t, err, s.labels)
		}
	}
	require.NoError(t, appender.Commit())
}

// parse reads an exposition, in which every metric has its type.
func parse(t *testing.T, sample string, content []byte) []series {
	t.Helper()
	var list []series
	types := map[string]model.MetricType{}
	exposition, err := textparse.New(content, "text/plain", labels.NewSymbolTable(), textparse.ParserOptions{})
	require.NoError(t, err)
	for {
		entry, err := exposition.Next()
		if errors.Is(err, io.EOF) {
			return list
		}
		require.NoError(t, err, sample)
		switch entry {
		case textparse.EntryType:
			name, kind := exposition.Type()
			types[string(name)] = kind
		case textparse.EntrySeries:
			s := series{}
			exposition.Labels(&s.labels)
			_, _, s.value = exposition.Series()
			name := s.labels.Get(model.MetricNameLabel)
			kind, known := types[name]
			for _, suffix := range []string{"_bucket", "_count", "_sum"} {
				if family, found := strings.CutSuffix(name, suffix); found && !known {
					kind, known = types[family]
				}
			}
			require.True(t, known, "%s: %s has no TYPE", sample, name)
			if kind != model.MetricTypeGauge {
				s.growth = math.Max(1, s.value/1000)
			}
			list = append(list, s)
		default:
		}
	}
}

// relabelled gives a sample its target's labels, renames those of its own that are in the way, as
// the scrape loop does, and applies rules to the result.
func relabelled(set labels.Labels, target *scrape.Target, rules []*relabel.Config) labels.Labels {
	builder := labels.NewBuilder(set)
	target.LabelsRange(func(l labels.Label) {
		if own := set.Get(l.Name); own != "" {
			builder.Set(model.ExportedLabelPrefix+l.Name, own)
		}
		builder.Set(l.Name, l.Value)
	})
	if !relabel.ProcessBuilder(builder, rules...) {
		return labels.EmptyLabels()
	}
	return builder.Labels()
}

var (
	placeholder = regexp.MustCompile(`{{\s*([^}\s]*)\s*}}`)
	metricName  = regexp.MustCompile(`[a-zA-Z_:][a-zA-Z0-9_:]*`)
	labelValues = regexp.MustCompile(`^label_values\((.+), (\w+)\)$`)
)

// Every query is run on the sample scrapes by Prometheus's own engine.
func TestDashboards_QueriesFindSomething(t *testing.T) {
	r := record(t)
	for name, d := range dashboards(t) {
		t.Run(name, func(t *testing.T) {
			values := []string{"$__rate_interval", (4 * r.step).String(), "$__range", recorded.String()}
			for _, v := range d.Templating.List {
				assert.Equal(t, v.Definition, v.Query.Query, "variable %s", v.Name)
				values = append(values, "$"+v.Name, r.firstValue(t, v))
			}
			for _, p := range d.Panels {
				variables := strings.NewReplacer(append(values, "$__interval", p.Interval)...)
				legends, refs := map[string]bool{}, map[string]bool{}
				for _, q := range p.Targets {
					where := fmt.Sprintf("panel %d, %s, query %s", p.ID, p.Title, q.RefID)
					assert.False(t, refs[q.RefID], "%s: there are two of them", where)
					refs[q.RefID] = true
					if strings.Contains(q.Expr, "$__interval") {
						window, err := time.ParseDuration(p.Interval)
						require.NoError(t, err, "%s: the panel's interval", where)
						assert.GreaterOrEqual(t, window, 2*r.step, "%s: nothing grows within one scrape", where)
					}
					query := variables.Replace(q.Expr)
					assert.NotContains(t, query, "$", "%s: variables", where)
					r.usesKept(t, where, query)
					r.run(t, where, query, q, legends)
				}
				for _, o := range p.FieldConfig.Overrides {
					switch o.Matcher.ID {
					case "byName":
						assert.True(t, legends[o.Matcher.Options], "panel %s has an override for %q, but only %q", p.Title, o.Matcher.Options, slices.Sorted(maps.Keys(legends)))
					case "byFrameRefID":
						assert.True(t, refs[o.Matcher.Options], "panel %s has an override for a query %s", p.Title, o.Matcher.Options)
					default:
						t.Errorf("panel %s has an override by %s, which nothing here judges", p.Title, o.Matcher.ID)
					}
				}
			}
		})
	}
}

// firstValue is what Grafana chooses for a variable: the first of its label's values.
func (r *recording) firstValue(t *testing.T, v variable) string {
	t.Helper()
	parts := labelValues.FindStringSubmatch(v.Definition)
	require.NotNil(t, parts, "variable %s: %s", v.Name, v.Definition)
	r.usesKept(t, "variable "+v.Name, parts[1])
	var found []string
	query, err := r.engine.NewInstantQuery(t.Context(), r.storage, nil, parts[1], now)
	require.NoError(t, err)
	defer query.Close()
	vector, err := query.Exec(t.Context()).Vector()
	require.NoError(t, err)
	for _, sample := range vector {
		found = append(found, sample.Metric.Get(parts[2]))
	}
	require.NotEmpty(t, found, "variable %s has no values", v.Name)
	require.NotEmpty(t, found[0], "variable %s: nothing has a label %s", v.Name, parts[2])
	return slices.Min(found)
}

// usesKept wants every metric of a query to be one that is exported, and not dropped.
func (r *recording) usesKept(t *testing.T, where, query string) {
	t.Helper()
	expression, err := r.parser.ParseExpr(query)
	require.NoError(t, err, where)
	parser.Inspect(expression, func(node parser.Node, _ []parser.Node) error {
		selector, ok := node.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		assert.NotEmpty(t, selector.Name, "%s: %s names no metric", where, selector)
		if assert.True(t, r.exported[selector.Name], "%s: nothing exports %s", where, selector.Name) {
			assert.True(t, r.kept[selector.Name], "%s: prometheus.yml drops %s", where, selector.Name)
		}
		return nil
	})
}

// run wants a number from a query, and the labels of its legend; it adds the names of its lines.
func (r *recording) run(t *testing.T, where, expression string, q target, legends map[string]bool) {
	t.Helper()
	var query promql.Query
	var err error
	if q.Instant {
		query, err = r.engine.NewInstantQuery(t.Context(), r.storage, nil, expression, now)
	} else {
		query, err = r.engine.NewRangeQuery(t.Context(), r.storage, nil, expression, now.Add(-recorded/2), now, r.step)
	}
	require.NoError(t, err, where)
	defer query.Close()
	result := query.Exec(t.Context())
	require.NoError(t, result.Err, where)

	var found []labels.Labels
	numbers := false
	switch value := result.Value.(type) {
	case promql.Vector:
		for _, sample := range value {
			found = append(found, sample.Metric)
			numbers = numbers || !math.IsNaN(sample.F)
		}
	case promql.Matrix:
		for _, line := range value {
			found = append(found, line.Metric)
			for _, point := range line.Floats {
				numbers = numbers || !math.IsNaN(point.F)
			}
		}
	default:
		t.Fatalf("%s gives a %s", where, value.Type())
	}
	if !assert.True(t, numbers, "%s finds nothing: %s", where, expression) {
		return
	}
	names := map[string]bool{}
	for _, set := range found {
		name := placeholder.ReplaceAllStringFunc(q.LegendFormat, func(match string) string {
			return set.Get(placeholder.FindStringSubmatch(match)[1])
		})
		names[name] = true
	}
	maps.Copy(legends, names)
	for _, match := range placeholder.FindAllStringSubmatch(q.LegendFormat, -1) {
		has := func(set labels.Labels) bool { return set.Get(match[1]) != "" }
		assert.True(t, slices.ContainsFunc(found, has), "%s: the legend has %s, and no result does", where, match[0])
	}
	if q.LegendFormat != "" {
		assert.Len(t, names, len(found), "%s: lines with the same name: %q", where, slices.Sorted(maps.Keys(names)))
	}
}

// What stays of a controller is all that it costs: a metric more is a series more for each of its
// label values.
func TestPrometheus_KeepsOfAControllerWhatIsSeen(t *testing.T) {
	cfg := loadPrometheus(t)
	job := scrapeConfigs(t, cfg)["pods"]
	sample := filepath.Join(samples, "kustomize-controller.prom")
	content, err := os.ReadFile(sample)
	require.NoError(t, err)
	kept := map[string]bool{}
	for _, s := range parse(t, sample, content) {
		builder := labels.NewBuilder(s.labels)
		if relabel.ProcessBuilder(builder, job.MetricRelabelConfigs...) {
			kept[builder.Get(model.MetricNameLabel)] = true
		}
	}
	assert.Equal(t, []string{
		"controller_runtime_reconcile_errors_total", "controller_runtime_reconcile_total",
		"gotk_reconcile_duration_seconds_count", "gotk_reconcile_duration_seconds_sum",
		"process_resident_memory_bytes", "process_start_time_seconds",
	}, slices.Sorted(maps.Keys(kept)))
}

// What the rules keep is drawn somewhere, or it would cost memory for nothing. Flux's own metrics
// are few, and kept whole.
func TestPrometheus_KeepsWhatDashboardsShow(t *testing.T) {
	r := record(t)
	shown := map[string]bool{}
	for _, d := range dashboards(t) {
		for _, p := range d.Panels {
			for _, q := range p.Targets {
				for _, word := range metricName.FindAllString(q.Expr, -1) {
					shown[word] = true
				}
			}
		}
	}
	for job, metrics := range r.ruled {
		for metric := range metrics {
			if !strings.HasPrefix(metric, "gotk_") {
				assert.True(t, shown[metric], "job %s keeps %s, which no dashboard shows", job, metric)
			}
		}
	}
}

// The samples of devices are what snmp.yml makes of them: the same metrics with the same labels.
func TestSamples_AreWhatSNMPExporterGives(t *testing.T) {
	exporter := snmpSeries(t)
	for module, sample := range map[string]string{"ubiquiti_edgemax": "edgemax", "vdsl": "vdsl"} {
		file := filepath.Join(samples, sample+".prom")
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		got := map[string][]string{}
		for _, s := range parse(t, file, content) {
			metric := s.labels.Get(model.MetricNameLabel)
			if strings.HasPrefix(metric, "snmp_scrape_") {
				continue
			}
			names := append([]string{}, got[metric]...)
			s.labels.Range(func(l labels.Label) {
				if l.Name != model.MetricNameLabel {
					names = append(names, l.Name)
				}
			})
			slices.Sort(names)
			got[metric] = slices.Compact(names)
		}
		assert.Equal(t, exporter[module], got, "module %s", module)
	}
}

func TestGrafana_ProvisionsTheDatasourceOfTheDashboards(t *testing.T) {
	var file struct {
		APIVersion  int `json:"apiVersion"`
		Datasources []struct {
			Name, UID, Type, Access, URL string
			IsDefault, Editable          bool
			JSONData                     struct {
				TimeInterval, HTTPMethod, PrometheusType string
			}
		} `json:"datasources"`
	}
	readYAML(t, "provisioning/datasources/prometheus.yml", &file)
	assert.Equal(t, 1, file.APIVersion)
	require.Len(t, file.Datasources, 1)
	d := file.Datasources[0]
	assert.Equal(t, "Prometheus", d.Name)
	assert.Equal(t, datasourceUID, d.UID)
	assert.Equal(t, "prometheus", d.Type)
	assert.Equal(t, "proxy", d.Access)
	assert.Equal(t, "http://prometheus.service-metrics-v1.svc.cluster.local:9090", d.URL)
	assert.True(t, d.IsDefault)
	assert.False(t, d.Editable)
	assert.Equal(t, loadPrometheus(t).GlobalConfig.ScrapeInterval.String(), d.JSONData.TimeInterval,
		"rates are taken over four of these, so it must be Prometheus's scrape_interval")
}

func TestGrafana_FindsTheDashboards(t *testing.T) {
	var file struct {
		APIVersion int `json:"apiVersion"`
		Providers  []struct {
			Name, Folder, FolderUID, Type string
			AllowUIUpdates                bool
			UpdateIntervalSeconds         int
			Options                       struct{ Path string }
		} `json:"providers"`
	}
	readYAML(t, "provisioning/dashboards/dashboards.yml", &file)
	assert.Equal(t, 1, file.APIVersion)
	require.Len(t, file.Providers, 1)
	p := file.Providers[0]
	assert.Equal(t, "file", p.Type)
	assert.NotEmpty(t, p.Name)
	assert.NotEmpty(t, p.Folder)
	assert.False(t, p.AllowUIUpdates)
	assert.Equal(t, dashboardsMount, p.Options.Path)

	home := readINI(t)["dashboards.default_home_dashboard_path"]
	assert.Equal(t, dashboardsMount, path.Dir(home))
	assert.FileExists(t, filepath.Join(grafanaFiles, "dashboards", path.Base(home)))
}

func readYAML(t *testing.T, name string, into any) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(grafanaFiles, name))
	require.NoError(t, err)
	require.NoError(t, yaml.UnmarshalStrict(content, into), name)
}

func TestGrafana_KeepsToItself(t *testing.T) {
	ini := readINI(t)
	for key, want := range map[string]string{
		"auth.anonymous.enabled":                "true",
		"auth.anonymous.org_role":               "Viewer",
		"users.allow_sign_up":                   "false",
		"security.disable_gravatar":             "true",
		"analytics.reporting_enabled":           "false",
		"analytics.check_for_updates":           "false",
		"analytics.check_for_plugin_updates":    "false",
		"news.news_feed_enabled":                "false",
		"plugins.preinstall_disabled":           "true",
		"plugins.public_key_retrieval_disabled": "true",
		"snapshots.external_enabled":            "false",
		"unified_alerting.enabled":              "false",
	} {
		assert.Equal(t, want, ini[key], key)
	}
	refresh, err := time.ParseDuration(ini["dashboards.min_refresh_interval"])
	require.NoError(t, err)
	for name, d := range dashboards(t) {
		own, err := time.ParseDuration(d.Refresh)
		require.NoError(t, err)
		assert.GreaterOrEqual(t, own, refresh, "dashboard %s refreshes more often than Grafana allows", name)
	}
}

// readINI reads grafana.ini as section.key = value, and wants nothing in it that only some readers
// of that format understand.
func readINI(t *testing.T) map[string]string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(grafanaFiles, "grafana.ini"))
	require.NoError(t, err)
	values, section := map[string]string{}, ""
	for number, line := range strings.Split(string(content), "\n") {
		switch {
		case line == "", strings.HasPrefix(line, ";"):
		case strings.HasPrefix(line, "["):
			require.Regexp(t, `^\[[a-z_.]+\]$`, line, "line %d", number+1)
			section = strings.Trim(line, "[]")
		default:
			require.Regexp(t, `^[a-z_]+ = [^";#]+$`, line, "line %d", number+1)
			key, value, _ := strings.Cut(line, " = ")
			require.NotEmpty(t, section, "line %d has no section", number+1)
			require.NotContains(t, values, section+"."+key, "line %d", number+1)
			values[section+"."+key] = value
		}
	}
	return values
}
