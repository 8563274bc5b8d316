package checks_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/grafana/alloy/syntax/ast"
	"github.com/grafana/alloy/syntax/parser"
	"github.com/grafana/alloy/syntax/printer"
	"github.com/grafana/alloy/syntax/token"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery"
	"github.com/prometheus/prometheus/discovery/file"
	"github.com/prometheus/prometheus/discovery/kubernetes"
	"github.com/prometheus/prometheus/model/relabel"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

const (
	alloyFile      = "../workloads/files/alloy/config.alloy"
	prometheusFile = "../workloads/files/prometheus/prometheus.yml"
)

func parseAlloy(t *testing.T) (*ast.File, []byte) {
	t.Helper()
	content, err := os.ReadFile(alloyFile)
	require.NoError(t, err)
	file, err := parser.ParseFile(path.Base(alloyFile), content)
	require.NoError(t, err)
	return file, content
}

// alloyBlock is a block with its values worked out as far as they can be without running Alloy:
// constants are Go's, the rest is an alloyReference or an alloyCall.
type alloyBlock struct {
	id         string // discovery.relabel.pods; inside of a component, the name: basic_auth
	kind       string // discovery.relabel
	attributes map[string]any
	blocks     []alloyBlock
}

type alloyReference struct{ component, export string }

type alloyCall struct {
	function  string
	arguments []any
}

// all gives the blocks of a kind, in order.
func (b alloyBlock) all(kind string) []alloyBlock {
	return slices.Collect(func(yield func(alloyBlock) bool) {
		for _, inner := range b.blocks {
			if inner.kind == kind && !yield(inner) {
				return
			}
		}
	})
}

// loadAlloy gives the whole file as one block without a name.
func loadAlloy(t *testing.T) alloyBlock {
	t.Helper()
	file, _ := parseAlloy(t)
	return readAlloy(t, alloyBlock{}, file.Body)
}

func readAlloy(t *testing.T, block alloyBlock, body ast.Body) alloyBlock {
	t.Helper()
	block.attributes = map[string]any{}
	for _, statement := range body {
		switch statement := statement.(type) {
		case *ast.AttributeStmt:
			require.NotContains(t, block.attributes, statement.Name.Name, block.id)
			block.attributes[statement.Name.Name] = evaluateAlloy(t, statement.Value)
		case *ast.BlockStmt:
			inner := alloyBlock{id: statement.GetBlockName(), kind: statement.GetBlockName()}
			if statement.Label != "" {
				inner.id += "." + statement.Label
			}
			block.blocks = append(block.blocks, readAlloy(t, inner, statement.Body))
		}
	}
	return block
}

func evaluateAlloy(t *testing.T, expression ast.Expr) any {
	t.Helper()
	switch expression := expression.(type) {
	case *ast.LiteralExpr:
		var value any
		var err error
		switch expression.Kind {
		case token.STRING:
			value, err = strconv.Unquote(expression.Value)
		case token.BOOL:
			value, err = strconv.ParseBool(expression.Value)
		case token.NUMBER:
			value, err = strconv.Atoi(expression.Value)
		default:
			require.Fail(t, "a kind of literal that is not used so far: "+expression.Value)
		}
		require.NoError(t, err)
		return value
	case *ast.ArrayExpr:
		values := []any{}
		for _, element := range expression.Elements {
			values = append(values, evaluateAlloy(t, element))
		}
		return values
	case *ast.ObjectExpr:
		values := map[string]any{}
		for _, field := range expression.Fields {
			values[field.Name.Name] = evaluateAlloy(t, field.Value)
		}
		return values
	case *ast.CallExpr:
		call := alloyCall{function: dotted(t, expression.Value)}
		for _, argument := range expression.Args {
			call.arguments = append(call.arguments, evaluateAlloy(t, argument))
		}
		return call
	default:
		name := dotted(t, expression)
		dot := strings.LastIndex(name, ".")
		require.Positive(t, dot, name)
		return alloyReference{component: name[:dot], export: name[dot+1:]}
	}
}

func dotted(t *testing.T, expression ast.Expr) string {
	t.Helper()
	switch expression := expression.(type) {
	case *ast.IdentifierExpr:
		return expression.Ident.Name
	case *ast.AccessExpr:
		return dotted(t, expression.Value) + "." + expression.Name.Name
	}
	require.Failf(t, "an expression that is not used so far", "%T", expression)
	return ""
}

func TestAlloy_IsFormattedAsAlloyFormats(t *testing.T) {
	file, content := parseAlloy(t)
	var formatted bytes.Buffer
	require.NoError(t, printer.Fprint(&formatted, file))
	assert.Equal(t, formatted.String()+"\n", string(content))
}

func TestAlloy_NamesOnlyWhatTheReleaseKnows(t *testing.T) {
	schema := loadAlloySchema(t)
	ids := map[string]bool{}
	root := loadAlloy(t)
	assert.Empty(t, root.attributes)
	for _, component := range root.blocks {
		if known, found := schema.Components[component.kind]; assert.True(t, found, "component %s", component.kind) {
			knowsAlloy(t, schema, component.id, known.Arguments, component)
		}
		assert.NotContains(t, ids, component.id)
		ids[component.id] = true
	}
}

func knowsAlloy(t *testing.T, schema alloySchema, where, typeName string, block alloyBlock) {
	t.Helper()
	known, found := schema.Types[typeName]
	require.True(t, found, typeName)
	given := map[string]bool{}
	for name, value := range block.attributes {
		given[name] = true
		if field, found := known.Attributes[name]; assert.True(t, found, "%s has no attribute %s", where, name) {
			assert.True(t, fitsAlloy(field.Type, value), "%s: %s is no %s: %v", where, name, field.Type, value)
		}
	}
	for _, inner := range block.blocks {
		given[inner.kind] = true
		if field, found := known.Blocks[inner.kind]; assert.True(t, found, "%s has no block %s", where, inner.kind) {
			knowsAlloy(t, schema, where+" > "+inner.kind, field.Type, inner)
		}
	}
	for _, fields := range []map[string]alloyField{known.Attributes, known.Blocks} {
		for name, field := range fields {
			assert.True(t, field.Optional || given[name], "%s needs %s", where, name)
		}
	}
}

// fitsAlloy says whether a value can become one of the type. What references bring is judged
// where they resolve.
func fitsAlloy(typeName string, value any) bool {
	switch value := value.(type) {
	case alloyReference, alloyCall:
		return true
	case []any:
		element, isList := strings.CutPrefix(typeName, "[]")
		return isList && !slices.ContainsFunc(value, func(item any) bool { return !fitsAlloy(element, item) })
	case map[string]any:
		return strings.HasPrefix(typeName, "map[") || typeName == "url.Values"
	case bool:
		return typeName == "bool"
	case int:
		return slices.Contains([]string{"int", "uint", "uint64", "float64"}, typeName)
	case string:
		switch typeName {
		case "time.Duration":
			_, err := time.ParseDuration(value)
			return err == nil
		case "bool", "int", "uint", "uint64", "float64", "url.Values":
			return false
		}
		return !strings.Contains(typeName, "[") // neither a list nor a map
	}
	return false
}

// What is exported must be of the type that is wanted: targets where targets go, logs where logs.
func TestAlloy_ReferencesResolveAndNothingIsUnused(t *testing.T) {
	schema := loadAlloySchema(t)
	root := loadAlloy(t)
	exports := map[string]map[string]alloyField{}
	for _, component := range root.blocks {
		exports[component.id] = schema.Types[schema.Components[component.kind].Exports].Attributes
	}
	used := map[string]bool{}
	for _, component := range root.blocks {
		typed(schema, schema.Components[component.kind].Arguments, component, func(name string, field alloyField, value any) {
			list, isList := value.([]any)
			if !isList {
				list = []any{value}
			}
			for _, item := range list {
				reference, isReference := item.(alloyReference)
				if !isReference {
					continue
				}
				used[reference.component] = true
				exported, found := exports[reference.component][reference.export]
				if !assert.True(t, found, "%s: nothing is %s.%s", component.id, reference.component, reference.export) {
					continue
				}
				wanted := field.Type
				if isList {
					wanted = strings.TrimPrefix(wanted, "[]")
				}
				if exported.Type == "alloytypes.OptionalSecret" {
					wanted = strings.Replace(wanted, "alloytypes.Secret", exported.Type, 1)
				}
				assert.Equal(t, wanted, exported.Type, "%s: %s", component.id, name)
			}
		})
	}
	for id, exported := range exports {
		if len(exported) > 0 {
			assert.True(t, used[id], "%s is used by nothing", id)
		}
	}
}

// typed visits every attribute of a block, and of those inside of it, with what is known of it.
func typed(schema alloySchema, typeName string, block alloyBlock, visit func(name string, field alloyField, value any)) {
	for name, value := range block.attributes {
		visit(name, schema.Types[typeName].Attributes[name], value)
	}
	for _, inner := range block.blocks {
		typed(schema, schema.Types[typeName].Blocks[inner.kind].Type, inner, visit)
	}
}

func TestAlloy_SecretsComeFromAFileAndAddressesFromTheEnvironment(t *testing.T) {
	schema := loadAlloySchema(t)
	root := loadAlloy(t)
	secrets := map[any]bool{}
	for _, file := range root.all("local.file") {
		if file.attributes["is_secret"] == true {
			secrets[alloyReference{component: file.id, export: "content"}] = true
		}
	}
	assert.Len(t, secrets, 1)
	environment := map[any]bool{}
	for _, component := range root.blocks {
		typed(schema, schema.Components[component.kind].Arguments, component, func(name string, field alloyField, value any) {
			if strings.Contains(field.Type, "Secret") {
				assert.Contains(t, secrets, value, "%s: %s", component.id, name)
			}
			if name == "url" || name == "username" {
				assert.IsType(t, alloyCall{}, value, "%s: %s", component.id, name)
			}
			if values, isMap := value.(map[string]any); isMap {
				value = slices.Collect(maps.Values(values))
			}
			list, isList := value.([]any)
			if !isList {
				list = []any{value}
			}
			for _, item := range list {
				if call, isCall := item.(alloyCall); isCall {
					assert.Equal(t, "sys.env", call.function)
					environment[call.arguments[0]] = true
				}
			}
		})
	}
	assert.Equal(t, map[any]bool{
		"CLUSTER": true, "METRICS_URL": true, "METRICS_USERNAME": true, "LOGS_URL": true, "LOGS_USERNAME": true,
	}, environment)
}

func TestAlloy_BothEndpointsNameTheClusterAndLogIn(t *testing.T) {
	root := loadAlloy(t)
	writers := append(root.all("prometheus.remote_write"), root.all("loki.write")...)
	require.Len(t, writers, 2)
	for _, writer := range writers {
		assert.Equal(t, map[string]any{"cluster": alloyCall{"sys.env", []any{"CLUSTER"}}}, writer.attributes["external_labels"], writer.id)
		endpoints := writer.all("endpoint")
		if assert.Len(t, endpoints, 1, writer.id) {
			assert.Len(t, endpoints[0].all("basic_auth"), 1, writer.id)
		}
	}
}

func TestAlloy_LogsCarryFourLabelsAndAreBounded(t *testing.T) {
	root := loadAlloy(t)
	component := componentsOfAlloy(root)
	source := root.all("loki.source.kubernetes")
	require.Len(t, source, 1)
	targets := component[source[0].attributes["targets"].(alloyReference).component]
	process := component[source[0].attributes["forward_to"].([]any)[0].(alloyReference).component]
	require.Equal(t, "discovery.relabel", targets.kind)
	require.Equal(t, "loki.process", process.kind)

	kept := map[any]bool{}
	for _, label := range process.all("stage.label_keep")[0].attributes["values"].([]any) {
		kept[label] = true
	}
	assert.Equal(t, map[any]bool{"namespace": true, "pod": true, "container": true, "app": true}, kept)

	made, app := map[any]bool{}, []scrapeRule{}
	for _, rule := range alloyRules(targets) {
		made[rule.target] = true
		if rule.target == "app" {
			app = append(app, rule)
		}
	}
	assert.Equal(t, kept, made, "the labels that are kept are those that are made")
	metrics := slices.DeleteFunc(alloyRules(component["discovery.relabel.pods"]), func(rule scrapeRule) bool { return rule.target != "app" })
	assert.Equal(t, metrics, app, "an app has one name in metrics and logs")

	bounds := map[string]bool{}
	for _, stage := range process.blocks {
		for name := range stage.attributes {
			bounds[stage.kind+"."+name] = true
		}
	}
	for _, bound := range []string{"stage.drop.longer_than", "stage.drop.older_than", "stage.limit.rate"} {
		assert.Contains(t, bounds, bound)
	}
}

func componentsOfAlloy(root alloyBlock) map[string]alloyBlock {
	components := map[string]alloyBlock{}
	for _, component := range root.blocks {
		components[component.id] = component
	}
	return components
}

// scrapeJob is what both files say of a job, in the words of neither.
type scrapeJob struct {
	discovery         string
	interval, timeout time.Duration
	scheme, path      string
	params            map[string][]string
	tokenFile, caFile string
	trackStaleness    bool
	rules, metrics    []scrapeRule
}

type scrapeRule struct {
	sources                     []string
	separator, regex            string
	modulus                     int
	target, replacement, action string
}

// The two files can't drift apart: what is in one of them and not compared is an error as well.
func TestAlloy_ScrapesWhatPrometheusScrapes(t *testing.T) {
	prometheus, limits := prometheusJobs(t)
	alloy, alloyLimits := alloyJobs(t)
	assert.Equal(t, slices.Sorted(maps.Keys(prometheus)), slices.Sorted(maps.Keys(alloy)))
	for name, job := range prometheus {
		for i, rule := range job.metrics {
			// In Alloy, up and its like pass through the rules as well.
			if rule.action == "keep" {
				job.metrics[i].regex += "|up|scrape_.+"
			}
		}
		assert.Equal(t, job, alloy[name], name)
		if len(job.metrics) == 0 {
			assert.Equal(t, limits[name], alloyLimits[name], name)
			continue
		}
		// Prometheus counts what its rules have left, Alloy's scrape what comes in.
		assert.Equal(t, 10*limits[name], alloyLimits[name], name)
	}
}

func prometheusJobs(t *testing.T) (jobs map[string]scrapeJob, limits map[string]int) {
	t.Helper()
	loaded, err := config.LoadFile(prometheusFile, false, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	onlyKnownToPrometheusJobs(t)
	jobs, limits = map[string]scrapeJob{}, map[string]int{}
	for _, scrape := range loaded.ScrapeConfigs {
		job := scrapeJob{
			discovery: discoveryOf(t, scrape.ServiceDiscoveryConfigs),
			interval:  time.Duration(scrape.ScrapeInterval), timeout: time.Duration(scrape.ScrapeTimeout),
			scheme: scrape.Scheme, path: scrape.MetricsPath, params: scrape.Params,
			caFile: scrape.HTTPClientConfig.TLSConfig.CAFile, trackStaleness: scrape.TrackTimestampsStaleness,
			rules: prometheusRules(scrape.RelabelConfigs), metrics: prometheusRules(scrape.MetricRelabelConfigs),
		}
		if authorization := scrape.HTTPClientConfig.Authorization; authorization != nil {
			job.tokenFile = authorization.CredentialsFile
		}
		jobs[scrape.JobName], limits[scrape.JobName] = job, int(scrape.SampleLimit)
	}
	return jobs, limits
}

func discoveryOf(t *testing.T, configs discovery.Configs) string {
	t.Helper()
	require.Len(t, configs, 1)
	switch found := configs[0].(type) {
	case *kubernetes.SDConfig:
		return "kubernetes " + string(found.Role)
	case *file.SDConfig:
		require.Len(t, found.Files, 1)
		return "file " + mountedFile(found.Files[0])
	default:
		require.Failf(t, "a discovery that is not compared", "%T", found)
		return ""
	}
}

// mountedFile leaves out the folder of the program: /etc/prometheus/x and /etc/alloy/x are one
// ConfigMap.
func mountedFile(name string) string { return strings.Join(strings.Split(name, "/")[3:], "/") }

func prometheusRules(configs []*relabel.Config) []scrapeRule {
	rules := []scrapeRule{}
	for _, config := range configs {
		rule := scrapeRule{
			sources: []string{}, separator: config.Separator, regex: config.Regex.String(), modulus: int(config.Modulus),
			target: config.TargetLabel, replacement: config.Replacement, action: string(config.Action),
		}
		for _, source := range config.SourceLabels {
			rule.sources = append(rule.sources, string(source))
		}
		rules = append(rules, rule)
	}
	return rules
}

// onlyKnownToPrometheusJobs fails for a key of a job that prometheusJobs doesn't read.
func onlyKnownToPrometheusJobs(t *testing.T) {
	t.Helper()
	content, err := os.ReadFile(prometheusFile)
	require.NoError(t, err)
	type only struct {
		Global struct {
			Interval   string `yaml:"scrape_interval"`
			Timeout    string `yaml:"scrape_timeout"`
			Evaluation string `yaml:"evaluation_interval"`
			Limit      int    `yaml:"sample_limit"`
		} `yaml:"global"`
		Storage map[string]any `yaml:"storage"`
		Jobs    []struct {
			Name          string              `yaml:"job_name"`
			Interval      string              `yaml:"scrape_interval"`
			Timeout       string              `yaml:"scrape_timeout"`
			Scheme        string              `yaml:"scheme"`
			Path          string              `yaml:"metrics_path"`
			Params        map[string][]string `yaml:"params"`
			Limit         int                 `yaml:"sample_limit"`
			Staleness     bool                `yaml:"track_timestamps_staleness"`
			Rules         []any               `yaml:"relabel_configs"`
			Metrics       []any               `yaml:"metric_relabel_configs"`
			Authorization struct {
				File string `yaml:"credentials_file"`
			} `yaml:"authorization"`
			TLS struct {
				CA string `yaml:"ca_file"`
			} `yaml:"tls_config"`
			Kubernetes []struct {
				Role string `yaml:"role"`
			} `yaml:"kubernetes_sd_configs"`
			Files []struct {
				Files []string `yaml:"files"`
			} `yaml:"file_sd_configs"`
		} `yaml:"scrape_configs"`
	}
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	decoder.KnownFields(true)
	require.NoError(t, decoder.Decode(new(only)), "compare it with Alloy's, then add it here")
}

func alloyJobs(t *testing.T) (jobs map[string]scrapeJob, limits map[string]int) {
	t.Helper()
	root := loadAlloy(t)
	components := componentsOfAlloy(root)
	jobs, limits = map[string]scrapeJob{}, map[string]int{}
	for _, scrape := range root.all("prometheus.scrape") {
		// Where they say nothing, both have the same default.
		job := scrapeJob{timeout: 10 * time.Second, scheme: "http", path: "/metrics", metrics: []scrapeRule{}}
		name, named := scrape.attributes["job_name"].(string)
		require.True(t, named, "%s: a default would be Alloy's own name", scrape.id)
		for attribute, value := range scrape.attributes {
			switch attribute {
			case "job_name": // what they are compared by
			case "targets":
				relabelled := components[value.(alloyReference).component]
				require.Equal(t, "discovery.relabel", relabelled.kind, scrape.id)
				job.rules = alloyRules(relabelled)
				job.discovery = alloyDiscovery(t, components[relabelled.attributes["targets"].(alloyReference).component])
			case "forward_to":
				require.Len(t, value, 1, scrape.id)
				next := components[value.([]any)[0].(alloyReference).component]
				if next.kind == "prometheus.relabel" {
					job.metrics = alloyRules(next)
					require.Len(t, next.attributes["forward_to"], 1, next.id)
					next = components[next.attributes["forward_to"].([]any)[0].(alloyReference).component]
				}
				assert.Equal(t, "prometheus.remote_write", next.kind, scrape.id)
			case "scheme":
				job.scheme = value.(string)
			case "metrics_path":
				job.path = value.(string)
			case "params":
				job.params = map[string][]string{}
				for key, list := range value.(map[string]any) {
					job.params[key] = texts(list)
				}
			case "bearer_token_file":
				job.tokenFile = value.(string)
			case "track_timestamps_staleness":
				job.trackStaleness = value.(bool)
			case "scrape_interval":
				job.interval = duration(t, value)
			case "scrape_timeout":
				job.timeout = duration(t, value)
			case "sample_limit":
				limits[name] = value.(int)
			default:
				assert.Fail(t, "compare it with Prometheus's, then add it here", "%s: %s", scrape.id, attribute)
			}
		}
		for _, block := range scrape.blocks {
			require.Equal(t, "tls_config", block.kind, scrape.id)
			require.Len(t, block.attributes, 1, scrape.id)
			job.caFile = block.attributes["ca_file"].(string)
		}
		require.NotContains(t, jobs, name)
		jobs[name] = job
	}
	return jobs, limits
}

func alloyDiscovery(t *testing.T, found alloyBlock) string {
	t.Helper()
	require.Len(t, found.attributes, 1, found.id)
	require.Empty(t, found.blocks, found.id)
	switch found.kind {
	case "discovery.kubernetes":
		return "kubernetes " + found.attributes["role"].(string)
	case "discovery.file":
		files := texts(found.attributes["files"])
		require.Len(t, files, 1)
		return "file " + mountedFile(files[0])
	default:
		require.Fail(t, "a discovery that is not compared", found.kind)
		return ""
	}
}

func alloyRules(component alloyBlock) []scrapeRule {
	rules := []scrapeRule{}
	for _, block := range component.all("rule") {
		rule := scrapeRule{sources: []string{}, separator: ";", regex: "(.*)", replacement: "$1", action: "replace"}
		for name, value := range block.attributes {
			switch name {
			case "source_labels":
				rule.sources = texts(value)
			case "separator":
				rule.separator = value.(string)
			case "regex":
				rule.regex = value.(string)
			case "modulus":
				rule.modulus = value.(int)
			case "target_label":
				rule.target = value.(string)
			case "replacement":
				rule.replacement = value.(string)
			case "action":
				rule.action = value.(string)
			}
		}
		rules = append(rules, rule)
	}
	return rules
}

func texts(list any) []string {
	values := []string{}
	for _, value := range list.([]any) {
		values = append(values, fmt.Sprint(value))
	}
	return values
}

func duration(t *testing.T, value any) time.Duration {
	t.Helper()
	parsed, err := time.ParseDuration(value.(string))
	require.NoError(t, err)
	return parsed
}
