package checks_test

import (
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/snmp_exporter/collector"
	"github.com/prometheus/snmp_exporter/config"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	snmpFile      = "../workloads/files/snmp-exporter/snmp.yml"
	snmpCommunity = "canary-community"
)

// snmpAuthFile is the form of the Secret's file, which the exporter reads beside snmp.yml.
const snmpAuthFile = `auths:
  home:
    community: ` + snmpCommunity + `
    version: 2
`

// loadSNMP reads the two files as the exporter does: strictly, into one configuration.
func loadSNMP(t *testing.T, auth string) (*config.Config, error) {
	t.Helper()
	authFile := filepath.Join(t.TempDir(), "auth.yml")
	require.NoError(t, os.WriteFile(authFile, []byte(auth), 0o600))
	return config.LoadFile(slog.New(slog.DiscardHandler), []string{snmpFile, authFile}, false)
}

func mustLoadSNMP(t *testing.T) *config.Config {
	t.Helper()
	loaded, err := loadSNMP(t, snmpAuthFile)
	require.NoError(t, err)
	return loaded
}

// snmpSeries gives, per module of snmp.yml, its metrics and their label names in order. To them
// Prometheus adds job and instance, and what the devices' targets carry.
func snmpSeries(t *testing.T) map[string]map[string][]string {
	t.Helper()
	modules := map[string]map[string][]string{}
	for name, module := range mustLoadSNMP(t).Modules {
		modules[name] = map[string][]string{}
		for _, metric := range module.Metrics {
			require.Contains(t, []string{"counter", "gauge", "Float"}, metric.Type,
				"%s: the exporter names series of other types in other ways", metric.Name)
			labels := []string{}
			for _, index := range metric.Indexes {
				labels = append(labels, index.Labelname)
			}
			for _, lookup := range metric.Lookups {
				labels = append(labels, lookup.Labelname)
			}
			slices.Sort(labels)
			modules[name][metric.Name] = labels
		}
	}
	return modules
}

func TestSNMP_LoadsBesideTheSecretsFile(t *testing.T) {
	loaded := mustLoadSNMP(t)
	assert.Equal(t, []string{"ubiquiti_edgemax", "vdsl"}, slices.Sorted(maps.Keys(loaded.Modules)))
	require.Contains(t, loaded.Auths, "home")
	assert.Equal(t, config.Auth{
		Community: snmpCommunity, Version: 2, SecurityLevel: "noAuthNoPriv", AuthProtocol: "MD5", PrivProtocol: "DES",
	}, *loaded.Auths["home"])
}

func TestSNMP_UnknownKeysAreRefused(t *testing.T) {
	_, err := loadSNMP(t, strings.Replace(snmpAuthFile, "community:", "comunity:", 1))
	assert.ErrorContains(t, err, "comunity")
}

func TestSNMP_FileHoldsNoAuth(t *testing.T) {
	loaded, err := config.LoadFile(slog.New(slog.DiscardHandler), []string{snmpFile}, false)
	require.NoError(t, err)
	assert.Empty(t, loaded.Auths)
}

// What the exporter is released with is generated from the MIBs, so it can be asked.
func TestSNMP_IdentifiersAndTypesAreThoseOfTheMIBs(t *testing.T) {
	folder, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/prometheus/snmp_exporter").Output()
	require.NoError(t, err)
	released, err := config.LoadFile(slog.New(slog.DiscardHandler), []string{filepath.Join(strings.TrimSpace(string(folder)), "snmp.yml")}, false)
	require.NoError(t, err)
	official := map[string]*config.Metric{}
	for _, module := range released.Modules {
		for _, metric := range module.Metrics {
			official[metric.Name] = metric
		}
	}
	for name, module := range mustLoadSNMP(t).Modules {
		for _, metric := range module.Metrics {
			if strings.HasPrefix(metric.Name, "vdsl") {
				continue // VDSL-LINE-MIB is not among them
			}
			if assert.Contains(t, official, metric.Name, name) {
				assert.Equal(t, official[metric.Name].Oid, metric.Oid, metric.Name)
				assert.Equal(t, official[metric.Name].Type, metric.Type, metric.Name)
			}
		}
	}
}

// An object that is asked for and not used costs the device; one that is used and not asked for
// is a metric, or a label, that never comes.
func TestSNMP_AsksForWhatItUsesAndNothingElse(t *testing.T) {
	for name, module := range mustLoadSNMP(t).Modules {
		asked, used := map[string]bool{}, map[string]bool{}
		for _, oid := range module.Walk {
			asked[oid] = true
		}
		for _, oid := range module.Get {
			asked[strings.TrimSuffix(oid, ".0")] = true
		}
		for _, metric := range module.Metrics {
			used[metric.Oid] = true
			for _, lookup := range metric.Lookups {
				used[lookup.Oid] = true
			}
		}
		assert.Equal(t, used, asked, name)
	}
}

// A Prometheus that hangs up says only that time ran out; the exporter, which device did not
// answer.
func TestSNMP_GivesUpBeforePrometheusDoes(t *testing.T) {
	jobs, _ := prometheusJobs(t)
	require.Contains(t, jobs, "snmp")
	for name, module := range mustLoadSNMP(t).Modules {
		params := module.WalkParams
		patience := time.Duration(*params.Retries+1) * params.Timeout
		assert.Less(t, patience, jobs["snmp"].timeout, name)
	}
}

// edgeRouter holds what an EdgeRouter tells about itself: two interfaces, one of them without an
// alias, and things that nobody asked for.
func edgeRouter() map[string]object {
	return map[string]object{
		"1.3.6.1.2.1.1.1.0":              text("EdgeOS"),
		"1.3.6.1.2.1.1.3.0":              timeTicks(4711),
		"1.3.6.1.2.1.2.2.1.1.1":          integer(1),
		"1.3.6.1.2.1.2.2.1.1.2":          integer(2),
		"1.3.6.1.2.1.2.2.1.2.1":          text("lo"),
		"1.3.6.1.2.1.2.2.1.2.2":          text("eth0"),
		"1.3.6.1.2.1.2.2.1.8.1":          integer(1),
		"1.3.6.1.2.1.2.2.1.8.2":          integer(7),
		"1.3.6.1.2.1.2.2.1.10.2":         counter32(999),
		"1.3.6.1.2.1.2.2.1.14.1":         counter32(0),
		"1.3.6.1.2.1.2.2.1.14.2":         counter32(3),
		"1.3.6.1.2.1.2.2.1.20.1":         counter32(0),
		"1.3.6.1.2.1.2.2.1.20.2":         counter32(4),
		"1.3.6.1.2.1.25.1.1.0":           timeTicks(8640000),
		"1.3.6.1.2.1.25.1.6.0":           gauge32(87),
		"1.3.6.1.2.1.31.1.1.1.6.1":       counter64(1500),
		"1.3.6.1.2.1.31.1.1.1.6.2":       counter64(1 << 40),
		"1.3.6.1.2.1.31.1.1.1.10.1":      counter64(1500),
		"1.3.6.1.2.1.31.1.1.1.10.2":      counter64(1<<33 + 1),
		"1.3.6.1.2.1.31.1.1.1.18.1":      text(""),
		"1.3.6.1.2.1.31.1.1.1.18.2":      text("Internet"),
		"1.3.6.1.4.1.2021.4.5.0":         integer(251904),
		"1.3.6.1.4.1.2021.4.6.0":         integer(61440),
		"1.3.6.1.4.1.2021.4.11.0":        integer(61441),
		"1.3.6.1.4.1.2021.10.1.2.1":      text("Load-1"),
		"1.3.6.1.4.1.2021.10.1.2.2":      text("Load-5"),
		"1.3.6.1.4.1.2021.10.1.2.3":      text("Load-15"),
		"1.3.6.1.4.1.2021.10.1.3.1":      text("0.25"),
		"1.3.6.1.4.1.2021.10.1.6.1":      float(0.25),
		"1.3.6.1.4.1.2021.10.1.6.2":      float(1.5),
		"1.3.6.1.4.1.2021.10.1.6.3":      float(0.125),
		"1.3.6.1.4.1.2021.11.9.0":        integer(7),
		"1.3.6.1.4.1.2021.11.10.0":       integer(5),
		"1.3.6.1.4.1.2021.11.11.0":       integer(88),
		"1.3.6.1.4.1.41112.1.5.1.2.1.0":  text("vendor"),
		"1.3.6.1.4.1.41112.1.5.1.2.10.0": integer(42),
	}
}

var edgeRouterSeries = []string{
	`hrSystemProcesses{} 87`,
	`hrSystemUptime{} 8640000`,
	`ifHCInOctets{ifAlias="",ifDescr="lo",ifIndex="1"} 1500`,
	`ifHCInOctets{ifAlias="Internet",ifDescr="eth0",ifIndex="2"} 1099511627776`,
	`ifHCOutOctets{ifAlias="",ifDescr="lo",ifIndex="1"} 1500`,
	`ifHCOutOctets{ifAlias="Internet",ifDescr="eth0",ifIndex="2"} 8589934593`,
	`ifInErrors{ifAlias="",ifDescr="lo",ifIndex="1"} 0`,
	`ifInErrors{ifAlias="Internet",ifDescr="eth0",ifIndex="2"} 3`,
	`ifOperStatus{ifAlias="",ifDescr="lo",ifIndex="1"} 1`,
	`ifOperStatus{ifAlias="Internet",ifDescr="eth0",ifIndex="2"} 7`,
	`ifOutErrors{ifAlias="",ifDescr="lo",ifIndex="1"} 0`,
	`ifOutErrors{ifAlias="Internet",ifDescr="eth0",ifIndex="2"} 4`,
	`laLoadFloat{laIndex="1",laNames="Load-1"} 0.25`,
	`laLoadFloat{laIndex="2",laNames="Load-5"} 1.5`,
	`laLoadFloat{laIndex="3",laNames="Load-15"} 0.125`,
	`memAvailReal{} 61440`,
	`memTotalFree{} 61441`,
	`memTotalReal{} 251904`,
	`ssCpuIdle{} 88`,
	`ssCpuSystem{} 5`,
	`ssCpuUser{} 7`,
}

// modem has one line, whose ifIndex is 4, and both of its ends: .1 vtuc, .2 vtur.
func modem() map[string]object {
	return map[string]object{
		"1.3.6.1.2.1.1.1.0":                   text("modem"),
		"1.3.6.1.2.1.1.3.0":                   timeTicks(360000),
		"1.3.6.1.2.1.10.97.1.1.1.1.1.4":       integer(2),
		"1.3.6.1.2.1.10.97.1.1.2.1.2.4.1":     text("serial"),
		"1.3.6.1.2.1.10.97.1.1.2.1.2.4.2":     text("serial"),
		"1.3.6.1.2.1.10.97.1.1.2.1.5.4.1":     integer(-2),
		"1.3.6.1.2.1.10.97.1.1.2.1.5.4.2":     integer(37),
		"1.3.6.1.2.1.10.97.1.1.2.1.6.4.1":     gauge32(60),
		"1.3.6.1.2.1.10.97.1.1.2.1.6.4.2":     gauge32(71),
		"1.3.6.1.2.1.10.97.1.1.2.1.7.4.1":     text("\x80\x00"),
		"1.3.6.1.2.1.10.97.1.1.2.1.7.4.2":     text("\x80\x00"),
		"1.3.6.1.2.1.10.97.1.1.2.1.8.4.1":     integer(123),
		"1.3.6.1.2.1.10.97.1.1.2.1.8.4.2":     integer(45),
		"1.3.6.1.2.1.10.97.1.1.2.1.9.4.1":     gauge32(61000),
		"1.3.6.1.2.1.10.97.1.1.2.1.9.4.2":     gauge32(22000),
		"1.3.6.1.2.1.10.97.1.1.2.1.10.4.1":    gauge32(54000),
		"1.3.6.1.2.1.10.97.1.1.2.1.10.4.2":    gauge32(20000),
		"1.3.6.1.2.1.10.97.1.1.3.1.1.4.1":     gauge32(8),
		"1.3.6.1.2.1.10.97.1.1.8.1.2.4.1.1.1": gauge32(8),
	}
}

var modemSeries = []string{
	`sysUpTime{} 360000`,
	`vdslPhysCurrAtn{ifIndex="4",vdslPhysSide="vtuc"} 60`,
	`vdslPhysCurrAtn{ifIndex="4",vdslPhysSide="vtur"} 71`,
	`vdslPhysCurrAttainableRate{ifIndex="4",vdslPhysSide="vtuc"} 61000`,
	`vdslPhysCurrAttainableRate{ifIndex="4",vdslPhysSide="vtur"} 22000`,
	`vdslPhysCurrLineRate{ifIndex="4",vdslPhysSide="vtuc"} 54000`,
	`vdslPhysCurrLineRate{ifIndex="4",vdslPhysSide="vtur"} 20000`,
	`vdslPhysCurrOutputPwr{ifIndex="4",vdslPhysSide="vtuc"} 123`,
	`vdslPhysCurrOutputPwr{ifIndex="4",vdslPhysSide="vtur"} 45`,
	`vdslPhysCurrSnrMgn{ifIndex="4",vdslPhysSide="vtuc"} -2`,
	`vdslPhysCurrSnrMgn{ifIndex="4",vdslPhysSide="vtur"} 37`,
}

// scrapeSNMP lets the exporter's own collector ask a device, and gives the series of the module,
// and how many packets it took.
func scrapeSNMP(t *testing.T, loaded *config.Config, module, address string) (series []string, packets int, err error) {
	t.Helper()
	const unread = "nobody reads it"
	exporter := collector.Metrics{
		SNMPCollectionDuration: prometheus.NewHistogramVec(
			prometheus.HistogramOpts{Name: "collection_seconds", Help: unread}, []string{"module"}),
		SNMPUnexpectedPduType: prometheus.NewCounter(prometheus.CounterOpts{Name: "unexpected_total", Help: unread}),
		SNMPDuration:          prometheus.NewHistogram(prometheus.HistogramOpts{Name: "packet_seconds", Help: unread}),
		SNMPPackets:           prometheus.NewCounter(prometheus.CounterOpts{Name: "packets_total", Help: unread}),
		SNMPRetries:           prometheus.NewCounter(prometheus.CounterOpts{Name: "retries_total", Help: unread}),
		SNMPInflight:          prometheus.NewGauge(prometheus.GaugeOpts{Name: "inflight", Help: unread}),
	}
	require.Contains(t, loaded.Modules, module)
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector.New(t.Context(), address, "home", "", "", loaded.Auths["home"],
		[]*collector.NamedModule{collector.NewNamedModule(module, loaded.Modules[module])},
		slog.New(slog.DiscardHandler), exporter, 1, false))
	families, err := registry.Gather()
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			value := metric.GetGauge().GetValue() + metric.GetCounter().GetValue()
			if family.GetName() == "snmp_scrape_packets_sent" {
				packets = int(value)
			}
			if strings.HasPrefix(family.GetName(), "snmp_scrape_") {
				continue
			}
			var labels []string
			for _, label := range metric.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", label.GetName(), label.GetValue()))
			}
			series = append(series, fmt.Sprintf("%s{%s} %.15g", family.GetName(), strings.Join(labels, ","), value))
		}
	}
	slices.Sort(series)
	return series, packets, err
}

var snmpDevices = []struct {
	module  string
	objects map[string]object
	series  []string
	packets int // one for what is got, and one a column
}{
	{"ubiquiti_edgemax", edgeRouter(), edgeRouterSeries, 1 + 9},
	{"vdsl", modem(), modemSeries, 1 + 5},
}

func TestSNMP_ModulesYieldExactlyTheseSeries(t *testing.T) {
	for _, device := range snmpDevices {
		t.Run(device.module, func(t *testing.T) {
			agent := startAgent(t, snmpCommunity, device.objects)
			series, packets, err := scrapeSNMP(t, mustLoadSNMP(t), device.module, agent.address)
			require.NoError(t, err)
			assert.Equal(t, device.series, series)
			assert.Equal(t, device.packets, packets)
		})
	}
}

func TestSNMP_SeriesAreAllThatSnmpSeriesNames(t *testing.T) {
	for _, device := range snmpDevices {
		named := map[string][]string{}
		for _, series := range device.series {
			name, rest, _ := strings.Cut(series, "{")
			labels, _, _ := strings.Cut(rest, "}")
			named[name] = []string{}
			for pair := range strings.SplitSeq(labels, ",") {
				if label, _, found := strings.Cut(pair, "="); found {
					named[name] = append(named[name], label)
				}
			}
		}
		assert.Equal(t, named, snmpSeries(t)[device.module], device.module)
	}
}

func TestSNMP_WithoutTheRightCommunityThereIsNothing(t *testing.T) {
	for _, device := range snmpDevices {
		t.Run(device.module, func(t *testing.T) {
			agent := startAgent(t, "another-community", device.objects)
			loaded := mustLoadSNMP(t)
			params := &loaded.Modules[device.module].WalkParams
			params.Retries, params.Timeout = new(0), 200*time.Millisecond
			series, _, err := scrapeSNMP(t, loaded, device.module, agent.address)
			require.ErrorContains(t, err, "timeout")
			assert.Empty(t, series)
		})
	}
}

// A modem whose line is down has no rows: that is no failure of the scrape.
func TestSNMP_LineThatIsDownIsNoError(t *testing.T) {
	agent := startAgent(t, snmpCommunity, map[string]object{"1.3.6.1.2.1.1.3.0": timeTicks(1)})
	series, _, err := scrapeSNMP(t, mustLoadSNMP(t), "vdsl", agent.address)
	require.NoError(t, err)
	assert.Equal(t, []string{`sysUpTime{} 1`}, series)
}
